"""IP headers of many packets: those without options, extension headers and fragments, whose payload is common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import picked
from backscatter.decode.icmp import ICMP, ICMP6
from backscatter.decode.transport import TCP, UDP
from backscatter.decode.vector.heads import IP6, Group

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.decode.vector.heads import Bytes, Ints, Mask

#: ICMP by version of IP, and the bytes of an IP header.
ICMP_OF = {4: ICMP, 6: ICMP6}
SIZE = {4: 20, 6: 40}

#: IPv4: the first byte that says version 4 and no options; more fragments, and the fragment offset.
PLAIN, FRAGMENTED = 0x45, 0x3FFF

#: The share of packets that stay where others are left out, for it to be cheaper to carry those along.
MOST = 0.75


#: By version of IP and protocol, the bytes from the IP header on that have columns, of those that are decoded here.
NEEDS = {version: {TCP: size + 20, UDP: size + 8, ICMP_OF[version]: size + 2} for version, size in SIZE.items()}


@dataclass(slots=True)
class Carried:
    """IP packets of one version, at their IP headers.

    version  4 or 6
    head     IP4 or IP6, one a packet
    proto    protocol of the payload
    length   bytes of the IP packet by its own field, or as the frame has it where that is 0
    """

    version: int
    group: Group
    head: NDArray[Any]
    proto: NDArray[np.uint8]
    length: NDArray[np.int32] | Ints

    def __len__(self) -> int:
        return len(self.group)

    @property
    def size(self) -> int:
        """Bytes of the IP header."""
        return SIZE[self.version]

    @property
    def body(self) -> NDArray[Any]:
        """The payloads' first bytes, as BODY."""
        body: NDArray[Any] = self.head["body"]
        return body

    def inside(self, which: NDArray[np.intp], skip: int) -> tuple[Ints, Ints]:
        """Of some packets, indices into the data `skip` bytes behind the IP header, and the bytes captured from there.

        What was captured behind the end of the packet was never in it.
        """
        group, skip = self.group, self.group.skip + skip
        captured = np.minimum(group.captured[which] - group.skip, self.length[which]) - (skip - group.skip)
        return group.base[which] + skip, captured

    def where(self, mask: Mask) -> Carried:
        """Those sound ones for which `mask` is true, and no others."""
        mask = mask & self.group.sound
        if mask.all():
            return self
        which = np.flatnonzero(mask)
        return Carried(
            self.version, self.group.take(which), picked(self.head, which), self.proto[which], self.length[which]
        )

    def only(self, mask: Mask) -> Carried:
        """Those sound ones for which `mask` is true; if they are the most, with the others among them."""
        group = self.group.only(mask)
        if np.count_nonzero(group.sound) < MOST * len(mask):
            return self.where(mask)
        return Carried(self.version, group, self.head, self.proto, self.length)


def ipv4(group: Group, head: NDArray[Any]) -> Carried:
    """Those of a group of packets, whose heads are IP4, that are IPv4 and common."""
    short = head["length"].astype(np.uint16)
    length = short.astype(np.int32)
    if not short.all():  # offloaded segmentation has 0: the frame knows
        length = np.where(length, length, group.wire - group.skip)
    plain = (head["first"].copy() == PLAIN) & (head["fragment"].astype(np.uint16) & FRAGMENTED == 0)
    return _captured(Carried(4, group, head, head["proto"].copy(), length), plain)


def ipv6(data: Bytes, group: Group) -> Carried:
    """Those of a group of packets that are IPv6 and common."""
    head, group = group.read(data, IP6)
    length = head["length"].astype(np.int32)
    # 0 as in IPv4, and in jumbograms
    length = length + 40 if length.all() else np.where(length, length + 40, group.wire - group.skip)
    return _captured(Carried(6, group, head, head["proto"].copy(), length), head["first"] >> 4 == 6)


def _captured(carried: Carried, mask: Mask) -> Carried:
    """Those for which `mask` is true and of whose payload enough was captured."""
    group, sizes = carried.group, NEEDS[carried.version]
    # 0 for all other protocols
    needs = np.add.reduce([(carried.proto == proto) * np.uint8(size) for proto, size in sizes.items()], dtype=np.uint8)
    mask = mask & (needs > 0) & (carried.length >= needs)
    if group.captured.min() < group.skip + max(sizes.values()):
        mask &= group.captured >= needs + np.int64(group.skip)
    return carried.only(mask)


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
