"""An alert of Snort under the names of Snort 3's fields, from whichever of its logs; and its JSON, which has them.

Fields: https://docs.snort.org, `snort --help-module alert_json`. Which of them there are is for the user to configure.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from backscatter.finding.fields import TITLE_CHARS, Fields, Place, icmp_of, normal_address
from backscatter.finding.model import AlertedPacket, End, Finding, Tuple
from backscatter.finding.moment import Logged, parse_logged
from backscatter.finding.tcpflags import parse_flags

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SECOND = 10**9

#: Protocols whose packets have ports.
_WITH_PORTS = frozenset({"tcp", "udp", "sctp"})

#: Fields that nobody else's alerts have, one of which Snort's have by default and in every sensible choice of fields.
_ITS_OWN = frozenset({"src_ap", "dst_ap", "pkt_num", "pkt_gen"})
_RULE = re.compile(r"[0-9]+:[0-9]+:[0-9]+")


def is_alert(document: Mapping[str, object]) -> bool:
    """Whether a JSON object is an alert of Snort 3's alert_json."""
    rule = document.get("rule")
    its_own = not _ITS_OWN.isdisjoint(document) or ("gid" in document and "sid" in document)
    has_rule = isinstance(rule, str) and _RULE.fullmatch(rule[:60]) is not None
    return (its_own or has_rule) and ("timestamp" in document or "seconds" in document)


def read(document: Mapping[str, object], place: Place) -> Iterator[Finding]:
    """The finding of one alert of Snort 3's alert_json. Raises FindingError naming the field."""
    yield alert(document, place)


def alert(document: Mapping[str, object], place: Place, source: str = "snort") -> Finding:
    """The finding of an alert under the names of alert_json's fields. Raises FindingError naming the field."""
    told = Fields(document, place)
    gid, sid, rev = _rule(told)
    if not sid and not told.text("msg"):
        raise place.error("field sid: an alert without a rule and without a message")
    time = _time(told)
    conversation = _conversation(told)
    rule = ":".join((gid or "1", sid, rev or "0")) if sid else ""
    return Finding(
        id=_id(told, rule, conversation),
        source=source,
        type=f"{gid}:{sid}" if gid and sid else sid,
        title=told.text("msg", TITLE_CHARS) or f"rule {rule}",
        severity=told.integer("priority", 0, 2**31),
        first_seen=time.moment,
        last_seen=time.moment,
        tuples=(conversation,) if conversation.a.ip or conversation.b.ip else (),
        vlan=(vlan & 0xFFF,) if (vlan := told.integer("vlan", 0, 0xFFFF)) else (),
        packet=_packet(told, conversation),
        origin=str(place),
        notes=(time.note,) if time.note else (),
    )


def _rule(told: Fields) -> tuple[str, str, str]:
    """Generator, signature and revision, "" for what is not told."""
    gid, sid, rev = (told.text(name, 20) for name in ("gid", "sid", "rev"))
    parts = told.text("rule", 60).split(":")
    if not sid and len(parts) == 3:
        gid, sid, rev = parts
    return gid, sid, rev


def _time(told: Fields) -> Logged:
    """When it was: by the log's time, whose year `seconds` tells where that is among the fields."""
    seconds = told.integer("seconds", 0, 2**33)
    text = told.text("timestamp").strip()
    if not text:
        return Logged(None if seconds is None else seconds * _SECOND)
    try:
        logged = parse_logged(text, told.place.unsaid)
    except ValueError as error:
        raise told.place.error(f"field timestamp: {error}") from error
    if seconds is None:
        return logged
    # The seconds are UTC; the text is of the sensor's zone, and good for the fraction of the second only.
    _, _, fraction = text.partition(".")
    return Logged(seconds * _SECOND + int(fraction.ljust(9, "0")))


def _conversation(told: Fields) -> Tuple:
    (a, source_port), (b, target_port) = _end(told, "src"), _end(told, "dst")
    proto = icmp_of(_protocol(told), a or b)
    ports = proto is None or proto in _WITH_PORTS
    return Tuple(proto, End(a, source_port if ports else None), End(b, target_port if ports else None))


def _protocol(told: Fields) -> str | None:
    """The protocol; None for `IP`, which says nothing. Those without a name are written PROTO:002."""
    text = told.text("proto", 20)
    if text.upper().startswith("PROTO:"):
        return Fields({"proto": text[6:].strip()}, told.place).protocol("proto")
    return told.protocol("proto")


def _end(told: Fields, side: str) -> tuple[str | None, int | None]:
    address, port = told.address(f"{side}_addr"), told.port(f"{side}_port")
    pair = told.text(f"{side}_ap", 80)
    if address is not None or not pair:
        return address, port
    ip, _, behind = pair.rpartition(":")
    try:
        return normal_address(ip), Fields({f"{side}_ap": behind}, told.place).port(f"{side}_ap")
    except ValueError as error:
        raise told.place.error(f"field {side}_ap: {pair!a} is no address with a port") from error


def _packet(told: Fields, conversation: Tuple) -> AlertedPacket | None:
    """What the alert shows of its packet. One that Snort put together from several is nobody's packet."""
    if told.text("pkt_gen") not in ("", "raw"):
        return None
    ttl = told.integer("ttl", 0, 255) or None
    flags = None
    if conversation.proto == "tcp" and (text := told.text("tcp_flags")):
        try:
            flags = parse_flags(text)
        except ValueError as error:
            raise told.place.error(f"field tcp_flags: {error}") from error
    if flags is None:
        return AlertedPacket(ttl=ttl) if ttl else None
    return AlertedPacket(
        flags,
        told.integer("tcp_seq", 0, 2**32 - 1),
        told.integer("tcp_ack", 0, 2**32 - 1),
        told.integer("tcp_win", 0, 65535),
        ttl,
    )


def _id(told: Fields, rule: str, conversation: Tuple) -> str:
    """An id from what makes the alert itself: not from the year, which may be told otherwise another time."""
    essence = [
        rule,
        *(told.text(name) for name in ("msg", "timestamp", "seconds", "pkt_num", "tcp_seq", "tcp_ack", "tcp_flags")),
        conversation.proto,
        conversation.a.ip,
        conversation.a.port,
        conversation.b.ip,
        conversation.b.port,
    ]
    return hashlib.sha256(json.dumps(essence).encode()).hexdigest()[:32]
