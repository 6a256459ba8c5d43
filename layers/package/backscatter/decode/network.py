"""What a layer carries: a step on the way from the link type of a record down to its IP packet.

A layer is a function of (frame, start of its header, end on the wire) that tells what it carries and where, without
looking into it: decode.link goes from step to step by the tables there. None is for a header that cannot be read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

#: EtherTypes, the names of most kinds.
IPV4, IPV6, TRANSPARENT_ETHERNET, PPP = 0x0800, 0x86DD, 0x6558, 0x880B
MPLS, MPLS_UPSTREAM, PPPOE_SESSION, NSH = 0x8847, 0x8848, 0x8864, 0x894F

#: EtherTypes of VLAN tags: 802.1Q, 802.1ad, and the older QinQ of several makers.
VLAN_TAGS = frozenset({0x8100, 0x88A8, 0x9100, 0x9200, 0x9300})

#: An EtherType below this is a length: the frame is 802.3 with LLC behind it.
FIRST_ETHERTYPE = 0x0600

#: `kind` of what is no EtherType and none of those below.
OTHER = -1

#: Kinds from here on are LINKTYPE_ numbers: what a header that names one carries, such as that of PPI.
LINK = 1 << 16

LLC = 0

#: What the first nibble of an IP packet says.
BY_NIBBLE = {4: IPV4, 6: IPV6}


class Network(NamedTuple):
    """What a layer carries.

    kind   its EtherType, LINK + its link type, LLC, or OTHER
    start  index of its first byte in the frame
    end    index behind its last byte as it was on the wire: may lie behind the captured bytes
    vlans  VLAN numbers on the way, outermost first
    """

    kind: int
    start: int
    end: int
    vlans: tuple[int, ...] = ()


Layer = Callable[[bytes, int, int], Network | None]


def raw_ip(frame: bytes, start: int, end: int) -> Network | None:
    """An IP packet, whose first nibble tells the version."""
    if len(frame) <= start or end <= start:
        return None
    return Network(BY_NIBBLE.get(frame[start] >> 4, OTHER), start, end)


def carries(kind: int, header: int) -> Layer:
    """A layer of a header of fixed size that always carries the same."""

    def layer(frame: bytes, start: int, end: int) -> Network | None:
        return Network(kind, start + header, end) if len(frame) >= start + header else None

    return layer


def names_at(kind_at: int, header: int) -> Layer:
    """A layer of a header of fixed size with an EtherType in it, `kind_at` bytes from its start."""

    def layer(frame: bytes, start: int, end: int) -> Network | None:
        if len(frame) < start + header:
            return None
        return Network(int.from_bytes(frame[start + kind_at : start + kind_at + 2]), start + header, end)

    return layer


#: Two addresses and an EtherType.
ethernet = names_at(12, 14)


def is_ip(frame: bytes, start: int, end: int) -> bool:
    """Whether what is at `start` is an IP packet beyond a lucky nibble: its lengths fit into what is there.

    For layers that do not name what they carry. A packet that was cut by a mirror before it was wrapped does not
    fit, so it is used only where something else would be as likely.
    """
    head = frame[start : min(end, start + 40)]
    if len(head) >= 20 and head[0] >> 4 == 4:
        length = int.from_bytes(head[2:4])
        return head[0] & 15 >= 5 and (length == 0 or (head[0] & 15) * 4 <= length <= end - start)
    if len(head) >= 40 and head[0] >> 4 == 6:
        return 40 + int.from_bytes(head[4:6]) <= end - start
    return False


def has_checksum(frame: bytes, start: int) -> bool:
    """Whether an IPv4 header is at `start` whose checksum (RFC 1071) is right."""
    if len(frame) <= start or frame[start] >> 4 != 4:
        return False
    size = (frame[start] & 15) * 4
    words = frame[start : start + size]
    return len(words) == size >= 20 and sum(struct.unpack(f">{size // 2}H", words)) % 0xFFFF == 0
