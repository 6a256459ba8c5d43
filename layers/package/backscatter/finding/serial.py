"""Findings as JSON text and back, bounded: what is kept of an alert while it waits for its capture."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from backscatter.errors import FindingError
from backscatter.finding.model import AlertedPacket, End, Finding, Tuple

#: Characters of the text. An alert may carry megabytes; a table's item may not.
LARGEST = 100_000

_CUT = "… (cut: the original is longer than what is kept)"


def finding_text(finding: Finding, largest: int = LARGEST) -> str:
    """The finding as JSON of at most `largest` ASCII characters. Its original is cut to fit, and says so.

    Raises FindingError where it is too large without its original: nothing that a judge reads is cut.
    """
    text = _dumped(finding)
    original = finding.original
    while len(text) > largest and original:
        # How many characters an escaped character takes is not known beforehand, so the cut converges from above.
        original = original[: min(len(original) - 1, int(len(original) * largest / len(text) * 0.9))]
        text = _dumped(dataclasses.replace(finding, original=original + _CUT))
    if len(text) > largest:
        raise FindingError(finding.origin, 0, f"the finding has {len(text)} characters, {largest} are kept")
    return text


def finding_from(text: str) -> Finding:
    """The finding that `finding_text` wrote. Raises ValueError where the text is something else."""
    try:
        record: dict[str, Any] = json.loads(text)
        packet, tunnel = record["packet"], record.get("tunnel")
        return Finding(
            **record
            | {
                "tuples": tuple(_tuple(each) for each in record["tuples"]),
                "packet": None if packet is None else AlertedPacket(**packet),
                "tunnel": None if tunnel is None else _tuple(tunnel),
                "vlan": tuple(record["vlan"]),
                "notes": tuple(record["notes"]),
                "aliases": tuple((public, private) for public, private in record["aliases"]),
            }
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no finding: {error!r}") from error


def _dumped(finding: Finding) -> str:
    record = dataclasses.asdict(finding)
    if isinstance(finding.severity, float) and not math.isfinite(finding.severity):
        record["severity"] = str(finding.severity)  # JSON has no infinity
    return json.dumps(record, separators=(",", ":"), allow_nan=False)


def _tuple(record: dict[str, Any]) -> Tuple:
    return Tuple(**record | {"a": End(**record["a"]), "b": End(**record["b"])})
