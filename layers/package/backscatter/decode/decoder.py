"""From records to packet columns.

Common packets are decoded in columns (decode.vector), all others by the reference decoder here: one record at a time,
every link type, tunnel and header that we know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backscatter.decode.columns import NON_IP, OK, PACKET, PLACE_BITS, QUOTE, UNDECODABLE, Names, Packets, picked
from backscatter.decode.filling import Filling
from backscatter.decode.fragments import Fragments
from backscatter.decode.ip import Ip, read_ip
from backscatter.decode.link import open_link
from backscatter.decode.network import IPV4, IPV6, Network
from backscatter.decode.transport import Row, addresses, quote, transport
from backscatter.decode.tunnels import DEPTH, Path, open_tunnel
from backscatter.decode.vector.decoder import VectorDecoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from backscatter.capture.record import RecordBlock

#: The fields of a quote behind `packet`.
QUOTED: tuple[str, ...] = tuple(QUOTE.fields or ())[1:]


#: Columns that are filled packet by packet, with the number of its way there; the others are at hand.
FILLED = {name: form for name, (form, _) in PACKET.items() if name not in {"time", "place"}} | {"path": "i4"}

#: Packets whose columns are gathered before they are written.
TOGETHER = 4096


class Found(NamedTuple):
    """The innermost packet of a record: status as in the columns, the way to it, its IP header where it is OK."""

    status: int
    path: Path
    ip: Ip | None = None


def innermost(linktype: int, frame: bytes, wirelen: int) -> Found:
    """The innermost packet of a record of `wirelen` bytes, of which `frame` was captured."""
    network = open_link(linktype, frame, wirelen)
    if network is None:
        return Found(UNDECODABLE, Path())
    return _inside(frame[: network.end], network, Path(network.vlans))


def _inside(frame: bytes, network: Network, path: Path) -> Found:
    """The innermost packet in `network`, with which `frame` ends: padding behind it was in no packet."""
    if network.kind not in {IPV4, IPV6}:
        return Found(NON_IP, path)
    ip = read_ip(frame, network.kind, network.start, network.end)
    if ip is None:
        return Found(UNDECODABLE, path)
    tunnel = None
    # later fragments begin anywhere: nothing of theirs is a header
    if not ip.offset and len(path.tunnels) < DEPTH:
        tunnel = open_tunnel(frame, ip)
    if tunnel:
        found = _inside(frame[: tunnel.inside.end], tunnel.inside, path.into(tunnel))
        if found.status == OK:
            return found
    return Found(OK, path, ip)


def in_order(quotes: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    """Quotes from several sources as one table, in the order of their packets."""
    # opaque items are joined whole: NumPy would do so field by field
    opaque = f"V{QUOTE.itemsize}"
    some = [part for part in quotes if len(part)] or [np.zeros(0, QUOTE)]
    table = some[0] if len(some) == 1 else np.concatenate([part.view(opaque) for part in some]).view(QUOTE)
    packet = table["packet"]
    if (packet[1:] > packet[:-1]).all():
        return table
    return picked(table, np.argsort(packet, kind="stable"))


class Decoder:
    """Fills packet columns. Keeps, across blocks and pieces, the names of scopes and tunnels and first fragments."""

    def __init__(self, *, vectorised: bool = True) -> None:
        self.scopes: Names[str] = Names("")
        self.tunnels: Names[tuple[str, ...]] = Names(())
        self.fragments = Fragments()
        self._vectorised = vectorised

    def decode(self, block: RecordBlock, piece: int = 0) -> Packets:
        """The packets of `block`, one a record in its order; `piece`, below MOST_PIECES, goes into their `place`.

        Never raises for what the records hold. Without `vectorised` the reference decoder alone gives the same. Times,
        and places in piece 0, are the block's own arrays.
        """
        count, data = len(block), np.ascontiguousarray(block.data)
        filling = Filling(count, FILLED)
        quotes: list[NDArray[np.void]] = []
        left = np.arange(count)
        if self._vectorised:
            common = VectorDecoder(block, data, filling)
            quotes.append(common.quotes)
            left = np.flatnonzero(~common.done)
            if len(left) < count:
                self._name(common, filling)
        quotes.append(self._one_by_one(block, data.data, filling, left))
        quoted = in_order(quotes)
        if len(quoted):
            filling.hold({"quote": np.full(count, -1, np.int32)})
            filling.put(quoted["packet"], {"quote": np.arange(len(quoted))})
        else:
            filling.hold({"quote": -1})
        place = block.offset | np.int64(piece << PLACE_BITS) if piece else block.offset
        filling.hold({"time": block.time, "place": place})
        return Packets({name: filling.column(name) for name in PACKET}, quoted)

    def _name(self, common: VectorDecoder, filling: Filling) -> None:
        """Names the scopes and tunnels of the packets that were decoded in columns."""
        path = filling.column("path")
        if not common.done.all():
            # those left hold anything: it must not be named
            path = np.where(common.done, path, path[common.done.argmax()])
        scope, tunnels = common.paths.named(
            path, lambda way: self.scopes.number(way.scope), lambda way: self.tunnels.number(way.tunnels)
        )
        filling.hold({"scope": scope, "tunnels": tunnels})

    def _one_by_one(
        self, block: RecordBlock, view: memoryview, filling: Filling, which: NDArray[np.intp]
    ) -> NDArray[np.void]:
        """Decodes the packets `which`, in their order; what they quote, as QUOTE."""
        quotes: list[tuple[int, ...]] = []
        for begin in range(0, len(which), TOGETHER):
            some = which[begin : begin + TOGETHER]
            records = zip(
                some.tolist(),
                block.body[some].tolist(),
                block.caplen[some].tolist(),
                block.wirelen[some].tolist(),
                block.time[some].tolist(),
                block.linktype[some].tolist(),
                strict=True,
            )
            rows: list[Row] = []
            for index, body, caplen, wirelen, time, linktype in records:
                frame = bytes(view[body : body + caplen])
                row, quoted = self._row(frame, innermost(linktype, frame, wirelen), time, index)
                if quoted is not None:
                    quotes.append((index, *(quoted[name] for name in QUOTED)))
                rows.append(row)
            named = {name for row in rows for name in row}
            filling.write(some, {name: np.array([row.get(name, 0) for row in rows], FILLED[name]) for name in named})
        for index, row in self.fragments.late():
            filling.put(np.array([index]), row)
        return np.array(quotes, QUOTE)

    def _row(self, frame: bytes, found: Found, time: int, index: int) -> tuple[Row, Row | None]:
        """The columns of the packet `index` of its block, and what it quotes."""
        ip, scope = found.ip, found.path.scope
        row = {
            "status": found.status,
            "scope": self.scopes.number(scope),
            "tunnels": self.tunnels.number(found.path.tunnels),
        }
        if ip is None:
            return row, None
        row |= addresses(ip)
        row |= {"version": ip.version, "proto": ip.proto, "ttl": ip.ttl, "ip_bytes": ip.length}
        if ip.offset:
            return row | self.fragments.later(scope, ip, time, index), None
        row |= transport(frame, ip)
        if ip.more:
            self.fragments.first(scope, ip, row, time)
        return row, quote(frame, ip)
