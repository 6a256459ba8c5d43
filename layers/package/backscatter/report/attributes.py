"""SNS message attributes of a verdict, for filter policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backscatter.report.escape import plain

if TYPE_CHECKING:
    from backscatter.verdict.model import Verdict

#: Stands where a finding says nothing: SNS refuses empty values, and filter policies want every name there.
UNKNOWN = "unknown"


def attributes(verdict: Verdict) -> dict[str, str]:
    """Name -> value, all there, none empty: label, why, band, rule, severity, source, sample, account, region."""
    finding = verdict.finding
    values = {
        "label": verdict.label.value,
        "why": verdict.why.value if verdict.why else "none",
        "band": verdict.band,
        "rule": verdict.rule or "none",
        "severity": "" if finding.severity is None else str(finding.severity),
        "source": finding.source,
        "sample": "true" if finding.sample else "false",
        "account": finding.account,
        "region": finding.region,
    }
    return {name: plain(value.strip(), 200) or UNKNOWN for name, value in values.items()}
