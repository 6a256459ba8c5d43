"""The vectorised decoder: whole blocks of packets of the common shapes, one NumPy pass a field.

Common are Ethernet with up to two VLAN tags, Linux cooked and raw IP; IPv4 without options, unfragmented, and IPv6
without extension headers; TCP, UDP and ICMP whose fields were all captured; the same inside VXLAN and GENEVE. Nothing
is guessed here: whatever is cut, contradicts itself, or is only unusual is left to the reference decoder, packet by
packet, and what is not left gets the very columns that the reference decoder gives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode import tunnels
from backscatter.decode.columns import NON_IP
from backscatter.decode.link import IPV4, IPV6, TRANSPARENT_ETHERNET, VLAN_TAGS, Network
from backscatter.decode.transport import UDP
from backscatter.decode.tunnels import Path, Tunnel
from backscatter.decode.vector.heads import NUMBER, OVERLAY, TAG, Group, heads
from backscatter.decode.vector.ip import ip_columns, ipv4, ipv6
from backscatter.decode.vector.paths import Paths
from backscatter.decode.vector.transport import quotes, readable, transport_columns, udp_payloads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from backscatter.capture.record import RecordBlock
    from backscatter.decode.vector.heads import Bytes, Ints, Mask
    from backscatter.decode.vector.ip import Carried

    Columns = dict[str, NDArray[Any]]

#: Packets decoded together: their heads and temporary columns should stay in a core's own cache.
TILE = 16384

#: VLAN tags followed, and tunnels in tunnels.
MOST_TAGS, MOST_TUNNELS = 2, 3

#: EtherTypes as small numbers. ARP is the one that is surely no IP; any other may be a way to it.
OTHER_KIND, IPV4_KIND, IPV6_KIND, VLAN_KIND, ARP_KIND = range(5)
KINDS = np.zeros(2**16, np.uint8)
KINDS[IPV4], KINDS[IPV6], KINDS[0x0806] = IPV4_KIND, IPV6_KIND, ARP_KIND
KINDS[list(VLAN_TAGS)] = VLAN_KIND

IP_READERS = {IPV4_KIND: ipv4, IPV6_KIND: ipv6}

#: link type -> where its EtherType is, and its length; of those without one, version of IP -> kind.
LINKS: dict[int, tuple[int, int]] = {1: (12, 14), 113: (14, 16), 276: (0, 20)}
RAW_LINKS: dict[int, dict[int, int]] = {
    **{link: {4: IPV4_KIND, 6: IPV6_KIND} for link in (12, 14, 101)},
    228: {4: IPV4_KIND},
    229: {6: IPV6_KIND},
}

#: UDP port -> tunnel as a small number
NO_TUNNEL, VXLAN, GENEVE, OTHER_TUNNEL = range(4)
TUNNELS = np.zeros(2**16, np.uint8)
for _port, _opener in tunnels.BY_UDP_PORT.items():
    TUNNELS[_port] = VXLAN if _opener is tunnels.vxlan else GENEVE if _opener is tunnels.geneve else OTHER_TUNNEL


def _tag(path: Path, number: int) -> Path:
    """The way behind a VLAN tag; number 0 is a priority and no VLAN."""
    return path._replace(vlans=(*path.vlans, number)) if number else path


def _into(name: str) -> Callable[[Path, int], Path]:
    """The way into a tunnel with a network number; it does not depend on what is inside."""
    nothing = Network(0, 0, 0)
    return lambda path, vni: path.into(Tunnel(name, vni, nothing))


#: tunnel -> the step into it
STEPS = {VXLAN: _into("vxlan"), GENEVE: _into("geneve")}


def tunnel_sorts(carried: Carried) -> NDArray[np.uint8] | None:
    """Which sort of tunnel each packet may be by its ports; None where none is any."""
    udp = np.flatnonzero(carried.proto == UDP)
    by_destination = TUNNELS[carried.body["dport"][udp]]
    by_port = np.where(by_destination, by_destination, TUNNELS[carried.body["sport"][udp]])
    if not by_port.any():
        return None
    sorts = np.zeros(len(carried), np.uint8)
    sorts[udp] = by_port
    return sorts


class VectorDecoder:
    """Decodes what is common in one block into `columns`, whose length is that of the block and which are zero.

    done    the packets that were decoded; the others are for the reference decoder
    path    numbers in `paths` of the ways of those that were
    quotes  what ICMP errors among them quote: tables as QUOTE, in any order
    """

    def __init__(self, block: RecordBlock, data: Bytes, columns: Columns) -> None:
        count = len(block)
        self.paths = Paths()
        self.path = np.zeros(count, np.int64)
        self.done = np.zeros(count, np.bool_)
        self._data = data
        self._columns = columns
        self.quotes: list[NDArray[np.void]] = []
        for start in range(0, count, TILE):
            self._tile(block, slice(start, min(count, start + TILE)))

    def _tile(self, block: RecordBlock, span: slice) -> None:
        links = block.linktype[span]
        tile = Tile({name: column[span] for name, column in self._columns.items()}, self.path[span], self.done[span])
        size = len(links)
        everything = Group(
            np.arange(size), block.body[span], block.caplen[span], block.wirelen[span], np.zeros(size, np.int64)
        )
        # with that, and with what tunnels cut off, no packet in here has more captured than it has on the wire
        possible = everything.captured <= everything.wire
        for link in [links[0]] if (links == links[0]).all() else np.unique(links):
            for kind, group in self._linked(int(link), everything.where(possible & (links == link))):
                if kind == ARP_KIND:
                    tile.write(group, {"status": NON_IP})
                else:
                    self._network(tile, kind, group, MOST_TUNNELS)
        for table in tile.quotes:
            table["packet"] += span.start
            self.quotes.append(table)

    def _linked(self, link: int, group: Group) -> Iterator[tuple[int, Group]]:
        """What frames of a link type carry, sorted by kind."""
        if link in LINKS:
            yield from self._framed(group, *LINKS[link])
        elif link in RAW_LINKS:
            group = group.where(group.captured > 0)
            version = self._data[group.at] >> 4
            for number, kind in RAW_LINKS[link].items():
                yield kind, group.where(version == number)

    def _framed(self, group: Group, kind_at: int, size: int) -> Iterator[tuple[int, Group]]:
        """What frames with a header of `size` bytes and its EtherType at `kind_at` carry."""
        group = group.where(group.captured >= size)
        kinds = heads(self._data, group.at + kind_at, NUMBER)
        yield from self._tagged(group.inward(size), kinds, MOST_TAGS)

    def _tagged(self, group: Group, kinds: NDArray[Any], most: int) -> Iterator[tuple[int, Group]]:
        """Sorts by EtherType, behind at most `most` VLAN tags.

        Tags inside a tunnel are noted too, which the reference decoder does not do; but the scope of what VXLAN or
        GENEVE carries is the network's number, whatever the tags.
        """
        sorts = KINDS[kinds]
        for kind in (IPV4_KIND, IPV6_KIND, ARP_KIND):
            yield kind, group.where(sorts == kind)
        group = group.where((sorts == VLAN_KIND) & (group.captured >= TAG.itemsize))
        if not len(group) or not most:
            return
        tag = heads(self._data, group.at, TAG)
        group = group.along(self.paths.step(group.path, (tag["number"] & 0xFFF).astype(np.int64), _tag))
        yield from self._tagged(group.inward(TAG.itemsize), tag["kind"], most - 1)

    def _network(self, tile: Tile, kind: int, group: Group, tunnels_left: int) -> None:
        """Decodes packets that begin at their IP headers, and what is in those that are tunnels."""
        read = IP_READERS.get(kind)
        if read is None or not len(group):
            return
        carried = read(self._data, group)
        sorts = tunnel_sorts(carried)
        if sorts is not None:
            for which in (VXLAN, GENEVE) if tunnels_left else ():
                for inner_kind, inner in self._opened(carried.where(sorts == which), which):
                    self._network(tile, inner_kind, inner, tunnels_left - 1)
            carried = carried.where(sorts == NO_TUNNEL)
        if len(carried):
            carried = carried.where(readable(self._data, carried))
        if len(carried):
            columns = ip_columns(carried) | transport_columns(self._data, carried)
            tile.write(carried.group, columns, quotes(self._data, carried))

    def _opened(self, outer: Carried, which: int) -> Iterator[tuple[int, Group]]:
        """What tunnels of one sort carry, sorted by kind."""
        if not len(outer):
            return
        length = outer.body["udp_length"].astype(np.int64)
        wire = udp_payloads(outer.length - outer.size, length)
        inner = outer.group.inward(outer.size + 8)
        # what was captured behind the end of the datagram was never in the tunnel
        inner = Group(inner.rows, inner.at, np.minimum(inner.captured, wire), wire, inner.path)
        inner = inner.where(inner.captured >= OVERLAY.itemsize)
        overlay = heads(self._data, inner.at, OVERLAY)
        inner = inner.along(self.paths.step(inner.path, (overlay["vni"] >> 8).astype(np.int64), STEPS[which]))
        if which == VXLAN:
            yield from self._framed(inner.inward(OVERLAY.itemsize), 12, 14)
            return
        words = overlay["words"]
        inner = inner.inward(OVERLAY.itemsize + (words & 0x3F).astype(np.int64) * 4)
        current = words >> 6 == 0
        yield from self._framed(inner.where(current & (overlay["kind"] == TRANSPARENT_ETHERNET)), 12, 14)
        for kind, number in ((IPV4_KIND, IPV4), (IPV6_KIND, IPV6)):
            yield kind, inner.where(current & (overlay["kind"] == number))


@dataclass(slots=True)
class Tile:
    """The columns of a run of packets, as they fill: columns by name, ways, whether they are decoded, and quotes."""

    columns: Columns
    path: Ints
    done: Mask
    quotes: list[NDArray[np.void]] = field(default_factory=list)

    def write(self, group: Group, values: dict[str, Any], quoted: NDArray[np.void] | None = None) -> None:
        """Writes the columns of a group's packets, which are decoded then."""
        # ascending and as many as there are: all of them, and a slice is written much faster
        rows = slice(None) if len(group) == len(self.done) else group.rows
        for name, value in values.items():
            self.columns[name][rows] = value
        self.path[rows] = group.path
        self.done[rows] = True
        if quoted is not None and len(quoted):
            self.quotes.append(quoted)
