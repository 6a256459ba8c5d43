"""The vectorised decoder: whole blocks of packets of the common shapes, one NumPy pass a field.

Common are Ethernet with up to two VLAN tags, Linux cooked and raw IP; IPv4 without options, unfragmented, and IPv6
without extension headers; TCP, UDP and ICMP whose fields were all captured; the same inside VXLAN and GENEVE. Nothing
is guessed here: whatever is cut, contradicts itself, or is only unusual is left to the reference decoder, packet by
packet, and what is not left gets the very columns that the reference decoder gives.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import NON_IP, QUOTE, picked
from backscatter.decode.link import IPV4, IPV6, TRANSPARENT_ETHERNET, VLAN_TAGS, Network
from backscatter.decode.tunnels import Path, Tunnel, may_be_tunnel
from backscatter.decode.vector.heads import BEFORE, IP4, NUMBER, OVERLAY, TAG, Group, heads
from backscatter.decode.vector.ip import MOST, ip_columns, ipv4, ipv6
from backscatter.decode.vector.paths import Paths
from backscatter.decode.vector.protocols import GENEVE, NO_TUNNEL, VXLAN, protocols
from backscatter.decode.vector.transport import (
    Errors,
    Talk,
    errors,
    quotes,
    readable,
    said,
    talk,
    transport_columns,
    udp_payloads,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from backscatter.capture.record import RecordBlock
    from backscatter.decode.filling import Filling
    from backscatter.decode.vector.heads import Bytes
    from backscatter.decode.vector.ip import Carried
    from backscatter.decode.vector.protocols import Protocols, Sorts

    #: Packets at their IP headers, by kind; with their heads, IP4, where they were read.
    Found = tuple[int, Group, NDArray[Any] | None]

#: Packets decoded together: their heads and temporary columns should stay in a core's own cache.
TILE = 24576

#: VLAN tags followed, and tunnels in tunnels.
MOST_TAGS, MOST_TUNNELS = 2, 3

#: Packets of a tile whose ports are a tunnel's that are looked into one by one, since they are none most probably.
FEW_TUNNELS = 256

#: EtherTypes as small numbers. ARP is the one that is surely no IP; any other may be a way to it.
OTHER_KIND, IPV4_KIND, IPV6_KIND, VLAN_KIND, ARP_KIND = range(5)
ARP = 0x0806
KINDS = np.zeros(2**16, np.uint8)
KINDS[IPV4], KINDS[IPV6], KINDS[ARP] = IPV4_KIND, IPV6_KIND, ARP_KIND
KINDS[list(VLAN_TAGS)] = VLAN_KIND

#: Bytes of an EtherType, and of an Ethernet header.
ETHER_TYPE, ETHERNET = 2, 14

#: link type -> where its EtherType is, and its length; of those without one, version of IP -> kind.
LINKS: dict[int, tuple[int, int]] = {1: (12, ETHERNET), 113: (14, 16), 276: (0, 20)}
RAW_LINKS: dict[int, dict[int, int]] = {
    **{link: {4: IPV4_KIND, 6: IPV6_KIND} for link in (12, 14, 101)},
    228: {4: IPV4_KIND},
    229: {6: IPV6_KIND},
}


def _tag(path: Path, number: int) -> Path:
    """The way behind a VLAN tag; number 0 is a priority and no VLAN."""
    return path._replace(vlans=(*path.vlans, number)) if number else path


def _into(name: str) -> Callable[[Path, int], Path]:
    """The way into a tunnel with a network number; it does not depend on what is inside."""
    nothing = Network(0, 0, 0)
    return lambda path, vni: path.into(Tunnel(name, vni, nothing))


#: tunnel -> the step into it
STEPS = {VXLAN: _into("vxlan"), GENEVE: _into("geneve")}


class VectorDecoder:
    """Decodes what is common in one block into `filling`, which needs a column `path` too.

    done    the packets that were decoded; the others are for the reference decoder, and hold anything
    paths   what the numbers in the column `path` say
    quotes  what ICMP errors among them quote: QUOTE, in any order
    """

    def __init__(self, block: RecordBlock, data: Bytes, filling: Filling) -> None:
        count = len(block)
        self.paths = Paths()
        self.done = np.zeros(count, np.bool_)
        self._data, self._filling = data, filling
        self._talks: list[Talk] = []
        self._errors: list[Errors] = []
        for start in range(0, count, TILE):
            self._tile(block, slice(start, min(count, start + TILE)))
        self._listen()
        self.quotes = self._quoted()

    def _tile(self, block: RecordBlock, span: slice) -> None:
        links, captured, wire = block.linktype[span], block.caplen[span], block.wirelen[span]
        # with that, and with what tunnels cut off, no packet in here has more captured than it has on the wire
        everything = Group(span, block.body[span], 0, captured, wire, 0, captured <= wire)
        one = (links == links[0]).all()
        for link in [links[0]] if one else np.unique(links):
            group = everything if one else everything.where(links == link)
            for kind, inside, head in self._linked(int(link), group):
                if kind == ARP_KIND:
                    self._filling.write(inside.rows, {"status": NON_IP, "path": inside.path})
                    self.done[inside.rows] = True
                else:
                    self._network(kind, inside, head, MOST_TUNNELS)

    def _linked(self, link: int, group: Group) -> Iterator[Found]:
        """What frames of a link type carry, sorted by kind."""
        if link in LINKS:
            yield from self._framed(group, *LINKS[link])
        elif link in RAW_LINKS and group.sound.any():
            head, group = group.read(self._data, IP4, BEFORE)
            group = group.only(group.captured > 0)
            version = head["first"] >> 4
            for number, kind in RAW_LINKS[link].items():
                yield kind, group.where(version == number), None

    def _framed(self, group: Group, kind_at: int, size: int) -> Iterator[Found]:
        """What frames with a header of `size` bytes and its EtherType at `kind_at` carry."""
        behind = group.skip + size
        inside = group.only(group.captured >= behind, behind)
        if kind_at == size - ETHER_TYPE:
            yield from self._tagged(inside, MOST_TAGS)
        elif inside.sound.any():
            inside = inside.where(inside.sound)
            kinds = heads(self._data, inside.base, NUMBER, group.skip + kind_at)
            yield from self._sorted(inside, kinds.astype(np.uint16), None, MOST_TAGS)

    def _tagged(self, group: Group, tags: int) -> Iterator[Found]:
        """What is behind an EtherType, sorted by it, behind at most so many VLAN tags."""
        if not group.sound.any():
            return
        head, whole = group.read(self._data, IP4, BEFORE)
        yield from self._sorted(whole, head["kind"].astype(np.uint16), head, tags)
        if whole is not group:
            # where the block ends, there may be less than that: of a packet that is no IP either
            edge = group.where(~whole.sound)
            kinds = heads(self._data, edge.base, NUMBER, edge.skip - ETHER_TYPE)
            yield ARP_KIND, edge.where(kinds == ARP), None

    def _sorted(self, group: Group, kinds: NDArray[np.uint16], head: NDArray[Any] | None, tags: int) -> Iterator[Found]:
        """Packets by the EtherType before them. IPv4 comes first, since it may have the others among it.

        Tags inside a tunnel are noted too, which the reference decoder does not do; but the scope of what VXLAN or
        GENEVE carries is the network's number, whatever the tags.
        """
        if (kinds == IPV4).all():
            yield IPV4_KIND, group, head
            return
        sorts = KINDS.take(kinds)
        sorts[~group.sound] = OTHER_KIND
        if np.count_nonzero(sorts == IPV4_KIND) >= MOST * len(sorts):
            yield IPV4_KIND, group.only(sorts == IPV4_KIND), head
        else:
            yield IPV4_KIND, group.where(sorts == IPV4_KIND), None
        for kind in (IPV6_KIND, ARP_KIND):
            yield kind, group.where(sorts == kind), None
        tagged = (sorts == VLAN_KIND) & (group.captured >= group.skip + TAG)
        if not tags or not tagged.any():
            return
        numbers = heads(self._data, group.base[tagged], NUMBER, group.skip)
        group = group.where(tagged)
        path = self.paths.step(group.path, (numbers & 0xFFF).astype(np.int64), _tag)
        yield from self._tagged(replace(group, skip=group.skip + TAG, path=path), tags - 1)

    def _network(self, kind: int, group: Group, head: NDArray[Any] | None, tunnels_left: int) -> None:
        """Decodes packets that begin at their IP headers, and what is in those that are tunnels."""
        if kind == ARP_KIND or not group.sound.any():  # a tunnel with ARP in it stays what it is outside
            return
        if kind == IPV6_KIND:
            carried = ipv6(self._data, group)
        else:
            if head is None:
                head, group = group.read(self._data, IP4, BEFORE)
            carried = ipv4(group, head)
        carried = readable(carried)
        where = protocols(carried)
        if not where.tunnel.any():
            self._write(carried, where)
            return
        sorts = self._looked_into(carried, where.tunnels(len(carried)))
        plain = sorts == NO_TUNNEL
        if plain.any():
            # tunnels may stay among the others: they come later
            rest = carried.only(plain)
            self._write(rest, protocols(rest, opened=True))
        for which in (VXLAN, GENEVE) if tunnels_left else ():
            those = sorts == which
            if those.any():
                for found in self._opened(carried.where(those), which):
                    self._network(*found, tunnels_left - 1)

    def _looked_into(self, carried: Carried, sorts: Sorts) -> Sorts:
        """The sorts of tunnels without those that are none, if only few may be: mere chance chose their ports."""
        which = np.flatnonzero(sorts)
        if len(which) > FEW_TUNNELS:
            return sorts
        at, captured = carried.inside(which, carried.size + 8)
        body = picked(carried.head, which)["body"]
        length = udp_payloads(
            carried.length[which].astype(np.int64) - carried.size, body["udp_length"].astype(np.int64)
        )
        told = body["sport"].tolist(), body["dport"].tolist(), at.tolist(), (at + captured).tolist(), length.tolist()
        are = [
            may_be_tunnel(sport, dport, self._data[begin : min(end, begin + size)].tobytes(), size)
            for sport, dport, begin, end, size in zip(*told, strict=True)
        ]
        sorts = sorts.copy()
        sorts[which[~np.array(are, np.bool_)]] = NO_TUNNEL
        return sorts

    def _opened(self, outer: Carried, which: int) -> Iterator[Found]:
        """What tunnels of one sort carry, sorted by kind."""
        group, begin = outer.group, outer.group.skip + outer.size + 8
        # what was captured behind the end of the datagram was never in the tunnel
        length = outer.body["udp_length"].astype(outer.length.dtype)
        wire = udp_payloads(outer.length - outer.size, length).astype(np.int64) + begin
        captured = np.minimum(group.captured, wire)
        inner = replace(group, skip=begin + OVERLAY, captured=captured, wire=wire)
        outer = replace(outer, group=inner).where(captured >= begin + OVERLAY)
        inner, body = outer.group, outer.body
        if not len(inner):
            return
        path = self.paths.step(inner.path, (body["vni"] >> 8).astype(np.int64), STEPS[which])
        inner = replace(inner, path=path)
        if which == VXLAN:
            yield from self._framed(inner, ETHERNET - ETHER_TYPE, ETHERNET)
            return
        words, kinds = body["overlay_words"], body["overlay_kind"].astype(np.uint16)
        options = (words & 0x3F).astype(np.int64) * 4
        inner = replace(inner, base=inner.base + options, captured=inner.captured - options, wire=inner.wire - options)
        current = words >> 6 == 0
        yield from self._framed(inner.where(current & (kinds == TRANSPARENT_ETHERNET)), ETHERNET - ETHER_TYPE, ETHERNET)
        for kind, number in ((IPV4_KIND, IPV4), (IPV6_KIND, IPV6)):
            yield kind, inner.where(current & (kinds == number)), None

    def _write(self, carried: Carried, where: Protocols) -> None:
        """Writes the columns of packets that are no tunnels, but for what can be told of many at once later."""
        group = carried.group
        if not group.sound.any():
            return
        columns, differing = transport_columns(carried, where)
        self._filling.write(group.rows, ip_columns(carried) | columns | {"path": group.path})
        for which, values in differing:
            self._filling.put(group.rows_of(which), values)
        self.done[group.rows] = group.sound
        if where.speaks.any():
            self._talks.append(talk(carried, where.udp[where.speaks]))
        if len(where.icmp):
            found = errors(carried, where.icmp)
            if carried.version == 6:
                self.done[found.rows] = False
            elif len(found.rows):
                self._errors.append(found)

    def _listen(self) -> None:
        """Writes what UDP payloads say."""
        if not self._talks:
            return
        found = Talk(*map(np.concatenate, zip(*self._talks, strict=True)))
        self._filling.put(found.rows, said(self._data, found))

    def _quoted(self) -> NDArray[np.void]:
        """What ICMP errors quote."""
        if not self._errors:
            return np.zeros(0, QUOTE)
        found = Errors(*map(np.concatenate, zip(*self._errors, strict=True)))
        table, fits = quotes(self._data, found)
        self.done[found.rows[~fits]] = False
        return table
