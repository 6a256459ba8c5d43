"""Link layers: from a LINKTYPE_ number to what the frame carries.

The numbers and formats are those of https://www.tcpdump.org/linktypes.html. A new link type is a row of LINKS and a
function of a screen.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

IPV4, IPV6, TRANSPARENT_ETHERNET = 0x0800, 0x86DD, 0x6558

#: EtherTypes of VLAN tags: 802.1Q, 802.1ad, and the older QinQ.
VLAN_TAGS = frozenset({0x8100, 0x88A8, 0x9100})

#: An EtherType below this is a length: the frame is 802.3 with LLC behind it.
FIRST_ETHERTYPE = 0x0600

#: `kind` of what is no EtherType.
OTHER = -1

SNAP = b"\xaa\xaa\x03\0\0\0"

#: Address families of null and loopback frames; BSDs never agreed on the number of IPv6.
FAMILIES = {2: IPV4, 10: IPV6, 24: IPV6, 28: IPV6, 30: IPV6}


class Network(NamedTuple):
    """What a link layer or a tunnel carries.

    kind   its EtherType, OTHER if it has none
    start  index of its first byte in the frame
    end    index behind its last byte as it was on the wire: may lie behind the captured bytes
    vlans  VLAN numbers on the way, outermost first
    """

    kind: int
    start: int
    end: int
    vlans: tuple[int, ...] = ()


def tagged(frame: bytes, kind: int, start: int, end: int) -> Network | None:
    """Follows VLAN tags and SNAP from the EtherType `kind`, whose payload is at `start`. None if it is cut."""
    vlans: list[int] = []
    while kind in VLAN_TAGS:
        if len(frame) < start + 4:
            return None
        tag, kind = struct.unpack_from(">HH", frame, start)
        # number 0 is no VLAN but a priority (802.1Q): taking it for one would part the two directions
        if tag & 0xFFF:
            vlans.append(tag & 0xFFF)
        start += 4
    if 0 <= kind < FIRST_ETHERTYPE:
        if frame[start : start + 6] != SNAP or len(frame) < start + 8:
            return Network(OTHER, start, end, tuple(vlans))
        (kind,) = struct.unpack_from(">H", frame, start + 6)
        start += 8
    return Network(kind, start, end, tuple(vlans))


def ethernet(frame: bytes, start: int, end: int) -> Network | None:
    """Two addresses and an EtherType."""
    if len(frame) < start + 14:
        return None
    (kind,) = struct.unpack_from(">H", frame, start + 12)
    return tagged(frame, kind, start + 14, end)


def raw_ip(frame: bytes, start: int, end: int) -> Network | None:
    """An IP packet, whose first nibble tells the version."""
    if len(frame) <= start:
        return None
    kind = {4: IPV4, 6: IPV6}.get(frame[start] >> 4)
    return Network(OTHER if kind is None else kind, start, end)


def _only(kind: int) -> Callable[[bytes, int, int], Network | None]:
    def link(_frame: bytes, start: int, end: int) -> Network | None:
        return Network(kind, start, end)

    return link


def linux_sll(frame: bytes, start: int, end: int) -> Network | None:
    """Linux cooked capture: the protocol is the last of 16 bytes' fields."""
    if len(frame) < start + 16:
        return None
    (kind,) = struct.unpack_from(">H", frame, start + 14)
    return tagged(frame, kind, start + 16, end)


def linux_sll2(frame: bytes, start: int, end: int) -> Network | None:
    """Linux cooked capture, version 2: the protocol is the first of 20 bytes' fields."""
    if len(frame) < start + 20:
        return None
    (kind,) = struct.unpack_from(">H", frame, start)
    return tagged(frame, kind, start + 20, end)


def null(frame: bytes, start: int, end: int) -> Network | None:
    """BSD loopback: an address family in the byte order of the capturing machine, whichever that was."""
    if len(frame) < start + 4:
        return None
    little, big = struct.unpack_from("<I", frame, start)[0], struct.unpack_from(">I", frame, start)[0]
    return Network(FAMILIES.get(little, FAMILIES.get(big, OTHER)), start + 4, end)


#: LINKTYPE_ number -> reader of (frame, start, end on the wire). None is for a header that cannot be read.
LINKS: dict[int, Callable[[bytes, int, int], Network | None]] = {
    0: null,
    1: ethernet,
    12: raw_ip,
    14: raw_ip,
    101: raw_ip,
    108: null,
    113: linux_sll,
    228: _only(IPV4),
    229: _only(IPV6),
    276: linux_sll2,
}
