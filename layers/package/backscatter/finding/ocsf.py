"""Findings in OCSF, as Security Hub tells and exports them: Detection Finding, class 2004.

Format: https://schema.ocsf.io/classes/detection_finding; by EventBridge in `Findings Imported V2` events, whose
detail.findings they are (https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-v2-cwe-event-formats.html).
Times are milliseconds. The conversations are evidence: each has two endpoints and says who of them is ours by its
direction, or by naming an instance or an interface of AWS at that end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backscatter.finding.fields import TITLE_CHARS, Fields, Place, icmp_of
from backscatter.finding.model import End, Finding, Tuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DETECTION_FINDING = 2004
#: The category Findings: classes 2001 to 2999.
_FINDINGS = range(2001, 3000)

#: Evidence of these is about no conversation of a host.
_NOT_NETWORK = ("api", "query", "file", "database", "email")
#: What only a resource of ours has.
_OURS = ("instance_uid", "interface_uid", "vpc_uid", "subnet_uid")
#: connection_info.direction_id: which end of a conversation is ours.
_DIRECTIONS = {1: "b", 2: "a"}
_INBOUND, _OUTBOUND = "inbound", "outbound"

_MOST_EVIDENCES = 1000
_MILLISECOND = 10**6


def is_finding(document: Mapping[str, object]) -> bool:
    """Whether a JSON object has the shape of a finding in OCSF."""
    return "class_uid" in document and isinstance(document.get("finding_info"), dict)


def read(document: Mapping[str, object], place: Place) -> Iterator[Finding]:
    """The finding of one OCSF document. Raises FindingError naming the field.

    Findings of other classes (compliance, vulnerability, posture) are about no network conversation.
    """
    fields = Fields(document, place)
    class_uid = fields.integer("class_uid", _FINDINGS.start, _FINDINGS.stop - 1)
    info, cloud = fields.child("finding_info"), fields.child("cloud")
    evidences = list(fields.children("evidences", _MOST_EVIDENCES))
    tuples = tuple(dict.fromkeys(_tuples(evidences)))
    seen = [
        time
        for time in (
            _moment(info, "first_seen_time"),
            _moment(info, "last_seen_time"),
        )
        if time is not None
    ] or [time for time in (_moment(fields, "start_time"), _moment(fields, "end_time")) if time is not None]
    told = _moment(fields, "time") if not seen else None
    finding_id = info.identifier("uid")
    if not finding_id:
        raise place.error("field finding_info.uid: an OCSF finding without it")
    yield Finding(
        id=finding_id,
        source="security_hub",
        type=next(iter(info.texts("types", 50)), "") or fields.text("class_name"),
        title=info.text("title", TITLE_CHARS) or fields.text("message", TITLE_CHARS),
        severity=fields.measure("severity") or fields.measure("severity_id"),
        first_seen=min(seen, default=told),
        last_seen=max(seen, default=told),
        updated=info.text("modified_time_dt") or info.text("modified_time") or fields.text("time"),
        count=fields.integer("count", 0, 2**53) or 1,
        sample=info.text("title").upper().startswith("[SAMPLE"),
        tuples=tuples,
        is_network=class_uid == DETECTION_FINDING and (bool(tuples) or not _is_all_else(evidences)),
        account=cloud.child("account").text("uid"),
        region=cloud.text("region"),
        origin=str(place),
    )


def _tuples(evidences: list[Fields]) -> Iterator[Tuple]:
    for evidence in evidences:
        source, target = evidence.child("src_endpoint"), evidence.child("dst_endpoint")
        if not ("ip" in source and "ip" in target) and any(name in evidence for name in _NOT_NETWORK):
            continue  # who called an API, or asked for a name
        a, b = source.address("ip"), target.address("ip")
        if a is None and b is None:
            continue
        connection = evidence.child("connection_info")
        proto = connection.protocol("protocol_num") or connection.protocol("protocol_name")
        proto = icmp_of(proto, a or b)
        ports = proto not in ("icmp", "icmp6")
        yield Tuple(
            proto,
            End(a, source.port("port") if ports else None),
            End(b, target.port("port") if ports else None),
            _ours(source, target, connection),
        )


def _ours(source: Fields, target: Fields, connection: Fields) -> str | None:
    """Which end is the resource: the one that AWS names, else by the direction; None where neither tells."""
    named = [side for side, end in (("a", source), ("b", target)) if any(name in end for name in _OURS)]
    if len(named) == 1:
        return named[0]
    told = connection.integer("direction_id", 0, 99)
    if told in _DIRECTIONS:
        return _DIRECTIONS[told]
    return {_INBOUND: "b", _OUTBOUND: "a"}.get(connection.text("direction").lower())


def _is_all_else(evidences: list[Fields]) -> bool:
    """Whether there is evidence, and none of it is of a conversation."""
    return bool(evidences) and all(any(name in evidence for name in _NOT_NETWORK) for evidence in evidences)


def _moment(fields: Fields, name: str) -> int | None:
    """A time: as text under its name and `_dt`, or in milliseconds."""
    told = fields.moment(f"{name}_dt")
    if told is not None:
        return told
    milliseconds = fields.integer(name, 0, 2**63 // _MILLISECOND - 1)
    return None if milliseconds is None else milliseconds * _MILLISECOND
