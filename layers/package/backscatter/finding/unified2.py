"""Snort's unified2: binary records of events, of the packets behind them, and of what else was known.

Big endian throughout; each record has a type and a length (u32 each) before it. Events and packets come in any order
and belong together by sensor, event id and event second.
Format: src/sfutil/Unified2_common.h of Snort 2.9; https://docs.snort.org unified2.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from backscatter.errors import FindingError
from backscatter.finding.alerted import alerted_packet
from backscatter.finding.fields import ORIGINAL_CHARS, Fields, Place, clean, icmp_of, protocol_name
from backscatter.finding.model import End, Finding, Tuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backscatter.finding.model import AlertedPacket

PACKET, EXTRA = 2, 110

#: Type of an event -> bytes of an address in it, and the least length of the record. 7 and 72 are the older ones; 104
#: and 105 add an MPLS label and a VLAN, 111 and 112 the application's name behind these.
EVENTS = {7: (4, 52), 72: (16, 76), 104: (4, 60), 105: (16, 84), 111: (4, 60), 112: (16, 84)}
_WITH_VLAN = frozenset({104, 105, 111, 112})
_LEAST = {kind: least for kind, (_, least) in EVENTS.items()} | {PACKET: 28, EXTRA: 8}

_HEADER = struct.Struct(">II")
#: sensor_id, event_id, event_second, event_microsecond, signature_id, generator_id, signature_revision,
#: classification_id, priority_id
_EVENT = struct.Struct(">9I")
#: behind the addresses: source port or ICMP type, destination port or ICMP code, protocol, impact flag, impact, blocked
_BEHIND = struct.Struct(">HHBBBB")
#: mpls_label, vlan_id, and what pads it
_TAGS = struct.Struct(">IHH")
#: sensor_id, event_id, event_second, packet_second, packet_microsecond, linktype, packet_length
_PACKET = struct.Struct(">7I")

#: The longest record that is believed: no packet and no HTTP body in one is longer.
_LONGEST = 1 << 20
#: Events and packets that wait for each other, at most; and bytes of packets that do.
_MOST_WAITING = 4096
_MOST_BYTES = 1 << 24
#: Packets looked at for one event: those behind the first are of the same session, logged with it.
_MOST_PACKETS = 4

#: The start of an event of a usual length: where reading goes on behind damage.
_START = re.compile(
    b"|".join(re.escape(_HEADER.pack(kind, _LEAST[kind])) for kind in (7, 72, 104, 105)),
)
_STEP = 1 << 16

#: sensor_id, event_id, event_second
Key = tuple[int, int, int]


def is_unified2(head: bytes) -> bool:
    """Whether a file that begins with these bytes is unified2."""
    if len(head) < _HEADER.size:
        return False
    kind, length = _HEADER.unpack_from(head)
    return kind in _LEAST and _LEAST[kind] <= length <= _LONGEST


@dataclass(slots=True)
class _Waiting:
    """An event as far as it is known: its finding, the packets told so far (link type and bytes)."""

    finding: Finding | None = None
    packets: list[tuple[int, bytes]] = field(default_factory=list)
    offset: int = 0
    size: int = 0


def read(take: Callable[[int], bytes], place: Place) -> Iterator[Finding | FindingError]:
    """The findings of a file, and an error for every record that could not be read or belongs to nothing.

    Args:
        take: gives the next bytes of the file, as many as asked for unless it ends.
        place: the file.
    """
    waiting: OrderedDict[Key, _Waiting] = OrderedDict()
    size = 0
    for offset, kind, body in _records(take, place):
        here = replace(place, within=f"byte {offset}")
        if isinstance(body, FindingError):
            yield body
            continue
        if kind == EXTRA:
            continue  # what a proxy or a mail said of the event: no packet of it
        key, told = _told(kind, body, here)
        if isinstance(told, FindingError):
            yield told
            continue
        one = waiting.get(key)
        if one is not None and one.finding is not None and isinstance(told, Finding):
            yield from _joined(waiting.pop(key), place)  # the sensor counts from the beginning again
            size -= one.size
            one = None
        if one is None:
            one = waiting[key] = _Waiting(offset=offset)
        if isinstance(told, Finding):
            one.finding = told
        elif len(one.packets) < _MOST_PACKETS:
            one.packets.append(told)
            one.size += len(told[1])
            size += len(told[1])
        while len(waiting) > _MOST_WAITING or size > _MOST_BYTES:
            _, oldest = waiting.popitem(last=False)
            size -= oldest.size
            yield from _joined(oldest, place)
    for one in waiting.values():
        yield from _joined(one, place)


def _joined(one: _Waiting, place: Place) -> Iterator[Finding | FindingError]:
    """The event with its packet; an error where there is only a packet."""
    if one.finding is None:
        yield replace(place, within=f"byte {one.offset}").error(
            "a packet of an event that the file does not hold: it was cut or rotated"
        )
        return
    if not one.packets:
        yield one.finding
        return
    packet = next(filter(None, (_shown(frame, one.finding) for frame in one.packets)), None)
    note = (
        ()
        if packet
        else ("the packet in the alert is not of the alert's conversation, or unreadable: it was not used",)
    )
    record = f"{one.finding.original} packet {base64.b64encode(one.packets[0][1]).decode()}"
    yield replace(one.finding, packet=packet, notes=one.finding.notes + note, original=clean(record, ORIGINAL_CHARS))


def _shown(packet: tuple[int, bytes], finding: Finding) -> AlertedPacket | None:
    linktype, frame = packet
    return alerted_packet(frame, linktype, finding.tuples[0]) if finding.tuples else None


def _records(take: Callable[[int], bytes], place: Place) -> Iterator[tuple[int, int, bytes | FindingError]]:
    """Offset, type and body of each record; an error in place of the body of one that cannot be read.

    A length is believed up to a bound. Behind damage reading goes on at the next event.
    """
    data, at, base, ended = b"", 0, 0, False

    def hold(size: int) -> bool:
        """Whether that many bytes are there from the place that is read."""
        nonlocal data, at, base, ended
        if len(data) - at < size and not ended:
            rest = data[at:]
            more = take(max(size, _STEP) - len(rest))
            ended = len(rest) + len(more) < max(size, _STEP)
            data, base, at = rest + more, base + at, 0
        return len(data) - at >= size

    while hold(1):
        offset = base + at
        fault = ""
        if not hold(_HEADER.size):
            fault = "the file ends inside of a record's header: it was cut"
        else:
            kind, length = _HEADER.unpack_from(data, at)
            if not _LEAST.get(kind, 0) <= length <= _LONGEST:
                fault = f"a record of type {kind} and {length} bytes: damaged"
            elif not hold(_HEADER.size + length):
                fault = f"the file ends inside of a record of {length} bytes: it was cut, or damaged"
            else:
                body = data[at + _HEADER.size : at + _HEADER.size + length]
                at += _HEADER.size + length
                if kind in _LEAST:
                    yield offset, kind, body
                else:
                    here = replace(place, within=f"byte {offset}")
                    yield offset, kind, here.error(f"a record of type {kind}, which we do not read, was passed over")
                continue
        at += 1
        while not (found := _START.search(data, at)) and not ended:
            at = max(at, len(data) - _HEADER.size + 1)  # one may begin in what is held
            hold(_STEP)
        at = found.start() if found else len(data)
        skipped = base + at - offset
        yield offset, 0, replace(place, within=f"byte {offset}").error(f"{fault}; {skipped} bytes were passed over")


def _told(kind: int, body: bytes, place: Place) -> tuple[Key, Finding | tuple[int, bytes] | FindingError]:
    """What a record says, and of which event; an error where it contradicts itself."""
    if kind != PACKET:
        sensor, event, second = _EVENT.unpack_from(body)[:3]
        try:
            return (sensor, event, second), _finding(kind, body, place)
        except FindingError as error:
            return (sensor, event, second), error
    sensor, event, second, _, _, linktype, length = _PACKET.unpack_from(body)
    frame = body[_PACKET.size :]
    if length > len(frame) or linktype > 0xFFFF:
        return (sensor, event, second), place.error(f"a packet of {length} bytes in a record that has {len(frame)}")
    return (sensor, event, second), (linktype, frame[:length])


def _finding(kind: int, body: bytes, place: Place) -> Finding:
    sensor, event, second, microsecond, sid, gid, rev, _, priority = _EVENT.unpack_from(body)
    width = EVENTS[kind][0]
    ends = [body[_EVENT.size + width * number :][:width] for number in (0, 1)]
    source_port, target_port, number, _, _, _ = _BEHIND.unpack_from(body, _EVENT.size + 2 * width)
    vlan = _TAGS.unpack_from(body, _EVENT.size + 2 * width + _BEHIND.size)[1] & 0xFFF if kind in _WITH_VLAN else 0
    if microsecond >= 10**6:
        raise place.error(f"field event_microsecond: {microsecond} is no fraction of a second")
    a, b = (Fields({"ip": _address(end)}, place).address("ip") for end in ends)
    proto = icmp_of(protocol_name(number), a)
    ports = proto in ("tcp", "udp", "sctp")
    conversation = Tuple(
        proto,
        End(a, source_port or None if ports else None),
        End(b, target_port or None if ports else None),
    )
    rule = f"{gid}:{sid}:{rev}"
    moment = second * 10**9 + microsecond * 1000
    essence = [sensor, event, moment, rule, proto, a, source_port, b, target_port]
    return Finding(
        id=hashlib.sha256(json.dumps(essence).encode()).hexdigest()[:32],
        source="snort",
        type=f"{gid}:{sid}",
        title=f"rule {rule}",
        severity=priority,
        first_seen=moment,
        last_seen=moment,
        tuples=(conversation,),
        vlan=(vlan,) if vlan else (),
        origin=str(place),
        original=f"unified2 record, base64: event {base64.b64encode(_HEADER.pack(kind, len(body)) + body).decode()}",
    )


def _address(packed: bytes) -> str:
    if len(packed) == 4:
        return ".".join(map(str, packed))
    return ":".join(f"{packed[at]:02x}{packed[at + 1]:02x}" for at in range(0, 16, 2))
