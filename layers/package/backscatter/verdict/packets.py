"""Evidence down to packets: which ones a verdict wants to show, and the verdict with their lines filled in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from backscatter.verdict.conversation import Place
    from backscatter.verdict.model import PacketLine, Verdict


def packets_wanted(verdicts: Iterable[Verdict]) -> dict[str, list[int]]:
    """Capture name -> byte offsets of the records that the verdicts' evidence points at, ascending."""
    wanted: dict[str, set[int]] = {}
    for verdict in verdicts:
        for evidence in verdict.evidence:
            for capture, offset in evidence.places:
                wanted.setdefault(capture, set()).add(offset)
    return {capture: sorted(offsets) for capture, offsets in sorted(wanted.items())}


def with_packets(verdict: Verdict, lines: Mapping[Place, PacketLine]) -> Verdict:
    """The verdict with the packets of its evidence, in time order. A packet that could not be read is left out."""
    return replace(
        verdict,
        evidence=tuple(
            replace(
                evidence,
                packets=tuple(
                    sorted(
                        (lines[place] for place in evidence.places if place in lines),
                        key=lambda line: (line.time, line.capture, line.offset),
                    )
                ),
            )
            for evidence in verdict.evidence
        ),
    )
