"""The reference decoder: one record at a time, every link type, tunnel and header that we know."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backscatter.decode.columns import NON_IP, OK, PLACE_BITS, QUOTE, UNDECODABLE, Names, Packets
from backscatter.decode.fragments import Fragments
from backscatter.decode.ip import Ip, read_ip
from backscatter.decode.link import IPV4, IPV6, LINKS, Network
from backscatter.decode.transport import Row, addresses, later_fragment, quote, transport
from backscatter.decode.tunnels import DEPTH, Path, open_tunnel

if TYPE_CHECKING:
    from backscatter.capture.record import RecordBlock

#: The fields of a quote behind `packet`.
QUOTED: tuple[str, ...] = tuple(QUOTE.fields or ())[1:]


class Found(NamedTuple):
    """The innermost packet of a record: status as in the columns, the way to it, its IP header where it is OK."""

    status: int
    path: Path
    ip: Ip | None = None


def innermost(linktype: int, frame: bytes, wirelen: int) -> Found:
    """The innermost packet of a record of `wirelen` bytes, of which `frame` was captured."""
    link = LINKS.get(linktype)
    if link is None:
        return Found(NON_IP, Path())
    network = link(frame, 0, wirelen)
    if network is None:
        return Found(UNDECODABLE, Path())
    return _inside(frame, network, Path(network.vlans))


def _inside(frame: bytes, network: Network, path: Path) -> Found:
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
        found = _inside(frame, tunnel.inside, path.into(tunnel))
        if found.status == OK:
            return found
    return Found(OK, path, ip)


class Decoder:
    """Fills packet columns. Keeps, across blocks and pieces, the names of scopes and tunnels and first fragments."""

    def __init__(self) -> None:
        self.scopes: Names[str] = Names("")
        self.tunnels: Names[tuple[str, ...]] = Names(())
        self._fragments = Fragments()

    def decode(self, block: RecordBlock, piece: int = 0) -> Packets:
        """The packets of `block`, one a record in its order; `piece`, at most 2**15 - 1, goes into their `place`.

        Never raises for what the records hold.
        """
        packets = Packets.empty(len(block))
        columns = packets.columns
        columns["time"][:] = block.time
        columns["place"][:] = block.offset | np.int64(piece << PLACE_BITS)
        columns["quote"][:] = -1
        view = np.ascontiguousarray(block.data).data
        records = zip(
            block.body.tolist(),
            block.caplen.tolist(),
            block.wirelen.tolist(),
            block.time.tolist(),
            block.linktype.tolist(),
            strict=True,
        )
        quotes: list[tuple[int, ...]] = []
        for index, (body, caplen, wirelen, time, linktype) in enumerate(records):
            frame = bytes(view[body : body + caplen])
            found = innermost(linktype, frame, wirelen)
            row, quoted = self._row(frame, found, time)
            if quoted is not None:
                row["quote"] = len(quotes)
                quotes.append((index, *(quoted[name] for name in QUOTED)))
            for name, value in row.items():
                columns[name][index] = value
        if quotes:
            packets.quotes = np.array(quotes, QUOTE)
        return packets

    def _row(self, frame: bytes, found: Found, time: int) -> tuple[Row, Row | None]:
        """The columns of one packet, and what it quotes."""
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
            row |= self._fragments.later(scope, ip, time)
            return row | later_fragment(ip, row["proto"], row["traits"]), None
        row |= transport(frame, ip)
        if ip.more:
            self._fragments.first(scope, ip, row, time)
        return row, quote(frame, ip)
