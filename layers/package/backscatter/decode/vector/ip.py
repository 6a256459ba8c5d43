"""IP headers of many packets: those without options, extension headers and fragments, whose payload is common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.icmp import ICMP, ICMP6
from backscatter.decode.transport import TCP, UDP
from backscatter.decode.vector.heads import IP4, IP6, Group, chosen, heads, within

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.decode.vector.heads import Bytes, Ints, Mask

#: Bytes of the payload that have to be captured for it to be decoded here, by protocol: all that has a column. No
#: packet has as much as the other protocols ask for.
NEVER = 2**40
NEEDS = {4: {TCP: 20, UDP: 8, ICMP: 2}, 6: {TCP: 20, UDP: 8, ICMP6: 2}}

#: IPv4: the first byte that says version 4 and no options; more fragments, and the fragment offset.
PLAIN, FRAGMENTED = 0x45, 0x3FFF


def _reach(version: int, size: int) -> Ints:
    """The bytes from the IP header on that have to be captured, by protocol."""
    table = np.full(256, NEVER, np.int64)
    for proto, needs in NEEDS[version].items():
        table[proto] = size + needs
    return table


REACH4, REACH6 = _reach(4, 20), _reach(6, 40)


@dataclass(frozen=True, slots=True)
class Carried:
    """IP packets of one version, at their IP headers.

    version  4 or 6
    size     bytes of the IP header
    head     IP4 or IP6, one a packet
    proto    protocol of the payload
    length   bytes of the IP packet by its own field, or as the frame has it where that is 0
    reach    how many of them were captured
    """

    version: int
    size: int
    group: Group
    head: NDArray[Any]
    proto: NDArray[np.uint8]
    length: Ints
    reach: Ints

    def __len__(self) -> int:
        return len(self.group)

    @property
    def body(self) -> NDArray[Any]:
        """The payloads' first bytes, as BODY."""
        body: NDArray[Any] = self.head["body"]
        return body

    def where(self, mask: Mask) -> Carried:
        """Those for which `mask` is true."""
        return self if mask.all() else self.take(np.flatnonzero(mask))

    def take(self, which: NDArray[np.intp]) -> Carried:
        """Those at the positions `which`, ascending."""
        return Carried(
            self.version,
            self.size,
            self.group.take(which),
            chosen(self.head, which),
            self.proto[which],
            self.length[which],
            self.reach[which],
        )


def ipv4(data: Bytes, group: Group) -> Carried:
    """Those of a group of packets that are IPv4 and common."""
    group = group.where(within(data, group.at, IP4))
    head = heads(data, group.at, IP4)
    length = head["length"].astype(np.int64)
    if not length.all():  # offloaded segmentation has 0: the frame knows
        length = np.where(length, length, group.wire)
    proto, reach = head["proto"].copy(), np.minimum(group.captured, length)
    plain = (head["first"] == PLAIN) & (head["fragment"] & FRAGMENTED == 0)
    plain &= reach >= REACH4[proto]
    return Carried(4, 20, group, head, proto, length, reach).where(plain)


def ipv6(data: Bytes, group: Group) -> Carried:
    """Those of a group of packets that are IPv6 and common."""
    group = group.where(within(data, group.at, IP6))
    head = heads(data, group.at, IP6)
    length = head["length"].astype(np.int64)
    length = np.where(length, length + 40, group.wire)  # 0 as in IPv4, and in jumbograms
    proto, reach = head["proto"].copy(), np.minimum(group.captured, length)
    plain = (head["first"] >> 4 == 6) & (reach >= REACH6[proto])
    return Carried(6, 40, group, head, proto, length, reach).where(plain)


def ip_columns(carried: Carried) -> dict[str, Any]:
    """The columns that IP headers give."""
    head = carried.head
    names = ("src_lo", "dst_lo") if carried.version == 4 else ("src_hi", "src_lo", "dst_hi", "dst_lo")
    columns = {name: head[name] for name in names}
    return columns | {
        "version": carried.version,
        "proto": carried.proto,
        "ttl": head["ttl"],
        "ip_bytes": carried.length,
    }
