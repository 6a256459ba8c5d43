"""A verdict as the JSON object that `triage --json` prints. Field names are a contract."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from backscatter.flow.record import flow_records, rfc3339

if TYPE_CHECKING:
    from backscatter.finding.model import End, Finding
    from backscatter.verdict.model import Evidence, Told, Verdict

#: Flows that are printed; `flows_total` says how many there were.
MOST_FLOWS = 100


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """The object of one verdict, of JSON's own types only; times are RFC 3339 with nine decimals."""
    victim = verdict.victim
    return {
        "finding": _finding(verdict.finding),
        "proto": verdict.proto,
        "local": _end(verdict.local),
        "remote": _end(verdict.remote),
        "verdict": verdict.label.value,
        "why": verdict.why.value if verdict.why else None,
        "confidence": verdict.confidence,
        "band": verdict.band,
        "rule": verdict.rule,
        "summary": verdict.summary,
        "victim": {"ip": victim.ip, "port": victim.port, "proto": victim.proto} if victim else None,
        "conversations": {str(label): int(count) for label, count in verdict.conversations.items()},
        "evidence": [_evidence(each) for each in verdict.evidence],
        "flows": list(islice(flow_records(verdict.flows), MOST_FLOWS)),
        "flows_total": verdict.flows_total,
        "judged": [_told(one) for one in verdict.judged],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.id,
        "source": finding.source,
        "type": finding.type,
        "title": finding.title,
        "severity": finding.severity,
        "first_seen": None if finding.first_seen is None else rfc3339(finding.first_seen),
        "last_seen": None if finding.last_seen is None else rfc3339(finding.last_seen),
        "count": finding.count,
        "sample": finding.sample,
    }


def _told(one: Told) -> dict[str, Any]:
    return {
        "proto": one.proto,
        "local": _end(one.local),
        "remote": _end(one.remote),
        "start": rfc3339(one.start),
        "end": rfc3339(one.end),
        "packets": one.packets,
        "verdict": one.label.value,
        "why": one.why.value if one.why else None,
        "confidence": one.confidence,
        "rule": one.rule,
        "missing": list(one.missing),
    }


def _end(end: End) -> dict[str, Any]:
    return {"ip": end.ip, "port": end.port}


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "effect": evidence.effect.value,
        "text": evidence.text,
        "packets": [
            {"time": rfc3339(line.time), "text": line.text, "capture": line.capture, "offset": line.offset}
            for line in evidence.packets
        ],
    }
