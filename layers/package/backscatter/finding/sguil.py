"""Sguil's text of events, as its client mails and exports them (client/lib/report.tcl).

    Count:2 Event#1.204541 2007-03-20 18:04:19
    BLEEDING-EDGE DROP Known Bot C&C Server Traffic (group 1)
    69.143.202.28 -> 193.109.122.67
    IPVer=4 hlen=5 tos=0 dlen=40 ID=2644 flags=2 offset=0 ttl=64 chksum=58655
    Protocol: 6 sport=1024 -> dport=6667

    Seq=2934031229 Ack=0 Off=5 Res=0 Flags=*****R** Win=0 urp=54297 chksum=0
    Payload:
    None.

Times are UTC. Events of Suricata carry no packet numbers: Seq, Ack, Win and ttl are all 0 there, which means unknown.
Only the first event of an aggregated `Count:N` is shown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backscatter.finding.fields import TITLE_CHARS, Fields, Place, clean
from backscatter.finding.model import AlertedPacket, End, Finding, Tuple
from backscatter.finding.tcpflags import PLACES, parse_flags

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The first line of an event.
HEADER = re.compile(
    r"[ \t]*Count:[ \t]*(?P<count>[0-9]{1,12})[ \t]+Event[ \t]*#[ \t]*(?P<event>[0-9]{1,12}\.[0-9]{1,12})[ \t]+"
    r"(?:First seen:[ \t]*)?(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(?P<second>:[0-9]{2})?)"
    r"[ \t]*(?:UTC|GMT|Z)?[ \t]*"
)

_ENDS = re.compile(r"(?P<src_ip>\S{1,100})[ \t]*->[ \t]*(?P<dst_ip>\S{1,100})")
_PAIR = re.compile(r"(?P<name>[A-Za-z]{1,12})[=:][ \t]*(?P<value>\S{1,40})")

#: Lines before the payload's dump: no attacker writes further up than that, except for nothing.
_HEAD_LINES = 12

_MINUTE = 60 * 10**9
_SECOND = 10**9


def read(lines: list[str], place: Place) -> Iterator[Finding]:
    """The finding of one event, its header first. Raises FindingError naming the field."""
    header = HEADER.fullmatch(lines[0].rstrip())
    if header is None:
        raise place.error("field Count: an event begins `Count:N Event#S.E YYYY-MM-DD HH:MM:SS`")
    head = [line.strip() for line in lines[1:] if line.strip()][:_HEAD_LINES]
    ends = next((found for line in head if (found := _ENDS.fullmatch(line))), None)
    if ends is None:
        raise place.error("field `A -> B`: an event without its addresses")
    title = head[0] if head[0] != ends.group(0) else ""
    told = Fields({**header.groupdict(), **ends.groupdict(), **_numbers(head)}, place)
    proto = told.protocol("Protocol")
    first = told.moment("time")
    yield Finding(
        id=told.text("event"),
        source="sguil",
        type=clean(title, 200),
        title=clean(title, TITLE_CHARS),
        severity=None,
        first_seen=first,
        # A time without seconds means any moment of that minute.
        last_seen=first if first is None or "second" in told else first + _MINUTE - _SECOND,
        count=told.integer("count", 0, 10**12) or 1,
        tuples=(
            Tuple(
                proto,
                End(told.address("src_ip"), told.port("sport")),
                End(told.address("dst_ip"), told.port("dport")),
            ),
        ),
        packet=_packet(told, proto),
        origin=str(place),
    )


def _numbers(head: list[str]) -> dict[str, str]:
    """Name -> value of the header lines; of a name that comes twice (chksum, ID) the first. The message is left out."""
    numbers: dict[str, str] = {}
    for line in head:
        if line.startswith("Payload"):
            break
        if line.startswith(("IPVer", "Protocol", "Seq")):
            for pair in _PAIR.finditer(line):
                numbers.setdefault(pair["name"], pair["value"])
    return numbers


def _packet(told: Fields, proto: str | None) -> AlertedPacket | None:
    ttl = told.integer("ttl", 0, 255)
    if proto != "tcp":
        return AlertedPacket(ttl=ttl) if ttl else None
    flags = _flags(told)
    seq, ack = told.integer("Seq", 0, 2**32 - 1), told.integer("Ack", 0, 2**32 - 1)
    if not (flags or seq or ack):
        return AlertedPacket(ttl=ttl) if ttl else None
    return AlertedPacket(flags, seq, ack, told.integer("Win", 0, 65535), ttl or None)


def _flags(told: Fields) -> int | None:
    text = told.text("Flags")
    if len(text) != len(PLACES) or "." in text:
        return None
    try:
        return parse_flags(text)
    except ValueError as error:
        raise told.place.error(f"field Flags: {error}") from error
