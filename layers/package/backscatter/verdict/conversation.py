"""Flows as a judge sees them: from the local end, gathered into conversations.

A *flow* is one record of one view; time-outs, rotation and mirroring twice make several of one conversation.
A *conversation* is all flows of one 5-tuple (and its aliases) near the finding, in every scope and view. Views are
never summed: whatever is dangerous counts in any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backscatter.decode.columns import PLACE_BITS
from backscatter.flow.address import Address
from backscatter.flow.table import SIDE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from numpy.typing import NDArray

    from backscatter.flow.table import FlowTable

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58

#: ICMP errors quote a packet (RFC 792, RFC 4443); replies answer a request.
ICMP_ERRORS = {ICMP: frozenset({3, 4, 5, 11, 12}), ICMP6: frozenset({1, 2, 3, 4})}
ICMP_REPLIES = {ICMP: frozenset({0, 14, 16, 18}), ICMP6: frozenset({129})}


#: (capture, byte offset in its expanded stream): where a packet can be read again.
Place = tuple[str, int]


class Side(NamedTuple):
    """What one end sent in one flow; the fields of `flow.table.SIDE`, where each has its meaning and unit."""

    packets: int
    bytes: int
    payload: int
    flags: int
    ttl_low: int
    ttl_high: int
    first: int
    last: int
    has: int
    syn_seq: int
    synack_seq: int
    synack_ack: int
    rst_seq: int
    rst_ack: int
    syn_time: int
    synack_time: int
    syns: int
    synacks: int
    synack_repeats: int
    rsts: int
    bare_rsts: int
    exact_rsts: int
    reset_syns: int
    fins: int
    data: int
    acks: int
    ack_first: int
    ack_beyond: int
    segments: int
    lost: int
    opaque: int
    speech: int
    names: int
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Quote:
    """A packet that ICMP errors quote, so many as `count`. `sent_by_us`: its source is the local end."""

    sent_by_us: bool
    proto: int
    local_port: int
    remote_port: int
    remote: Address
    has_ports: bool
    time: int
    place: Place
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class SeenFlow:
    """One flow from the local end. `row` is its place in the table that it came from; times in ns.

    `said` and `heard` are the history letters (upper case) of what the local and the remote end sent, in order.
    """

    row: int
    view: tuple[str, str]  # sensor, scope
    proto: int
    icmp_type: int
    start: int
    end: int
    local_began: bool
    said: str
    heard: str
    local: Side
    remote: Side
    quotes: tuple[Quote, ...] = ()

    @property
    def is_error(self) -> bool:
        """Whether it is ICMP errors."""
        return self.icmp_type in ICMP_ERRORS.get(self.proto, frozenset())


@dataclass(frozen=True, slots=True)
class Conversation:
    """All flows of one 5-tuple near a finding.

    flows    ordered by start; empty where only errors speak of it
    earlier  flows of the tuple that ended before these began
    errors   ICMP errors, of anybody, that quote one of its packets
    quotes   those quotes
    """

    proto: int
    local: Address
    remote: Address
    local_port: int | None
    remote_port: int | None
    flows: tuple[SeenFlow, ...]
    earlier: tuple[SeenFlow, ...] = ()
    errors: tuple[SeenFlow, ...] = ()
    quotes: tuple[Quote, ...] = ()

    @property
    def start(self) -> int:
        """Time of its first packet, ns."""
        return min(flow.start for flow in self.flows or self.errors)

    @property
    def end(self) -> int:
        """Time of its last packet, ns."""
        return max(flow.end for flow in self.flows or self.errors)

    @property
    def rows(self) -> list[int]:
        """Rows of the table that it stands on."""
        return sorted({flow.row for flow in (*self.flows, *self.errors)})


def ends_at(rows: NDArray[np.void], side: str, addresses: Collection[Address]) -> NDArray[np.bool_]:
    """Mask of the rows whose `side` ("src" or "dst") is one of the addresses."""
    mask = np.zeros(len(rows), bool)
    for version, hi, lo in addresses:
        mask |= (rows["version"] == version) & (rows[f"{side}_hi"] == hi) & (rows[f"{side}_lo"] == lo)
    return mask


def seen_from(table: FlowTable, local: Collection[Address], index: NDArray[np.int64]) -> list[SeenFlow]:
    """The flows of `index`, seen from the end that is one of the `local` addresses, in that order.

    Where both ends are local, the sender of the first packet is taken for the local end.
    """
    rows = table.rows[index]
    ours = ends_at(rows, "src", local)
    sides = {
        side: [Side(*values) for values in zip(*_columns(table, rows, side), strict=True)] for side in ("src", "dst")
    }
    quotes = _quotes(table, index, local)
    scalar = {
        name: rows[name].tolist() for name in ("sensor", "scope", "proto", "icmp_type", "start", "end", "history")
    }
    flows = []
    for i, row in enumerate(index.tolist()):
        began = bool(ours[i])
        src, dst = sides["src"][i], sides["dst"][i]
        letters = scalar["history"][i].decode("ascii")
        from_src = "".join(letter for letter in letters if letter.isupper())
        from_dst = "".join(letter.upper() for letter in letters if letter.islower())
        flows.append(
            SeenFlow(
                row=row,
                view=(table.sensors[scalar["sensor"][i]], table.scopes[scalar["scope"][i]]),
                proto=scalar["proto"][i],
                icmp_type=scalar["icmp_type"][i],
                start=scalar["start"][i],
                end=scalar["end"][i],
                local_began=began,
                said=from_src if began else from_dst,
                heard=from_dst if began else from_src,
                local=src if began else dst,
                remote=dst if began else src,
                quotes=quotes.get(row, ()),
            )
        )
    return flows


def _columns(table: FlowTable, rows: NDArray[np.void], side: str) -> Iterator[list[Any]]:
    """The fields of one side, in the order of SIDE, as Python values; places resolved."""
    for name, _, _ in SIDE:
        values = rows[f"{side}_{name}"].tolist()
        yield [_places(table, some) for some in values] if name == "places" else values


def _places(table: FlowTable, places: Iterable[int]) -> tuple[Place, ...]:
    return tuple((table.pieces[place >> PLACE_BITS], place & (1 << PLACE_BITS) - 1) for place in places if place >= 0)


def _quotes(table: FlowTable, index: NDArray[np.int64], local: Collection[Address]) -> dict[int, tuple[Quote, ...]]:
    """Quotes of the flows of `index`, by row."""
    of_these = table.quotes[np.isin(table.quotes["flow"], index)]
    found: dict[int, list[Quote]] = {}
    for quote in of_these:
        version = int(quote["version"])
        src = Address(version, int(quote["src_hi"]), int(quote["src_lo"]))
        dst = Address(version, int(quote["dst_hi"]), int(quote["dst_lo"]))
        ours = src in local
        ports = int(quote["src_port"]), int(quote["dst_port"])
        found.setdefault(int(quote["flow"]), []).append(
            Quote(
                sent_by_us=ours,
                proto=int(quote["proto"]),
                local_port=ports[0] if ours else ports[1],
                remote_port=ports[1] if ours else ports[0],
                remote=dst if ours else src,
                has_ports=bool(quote["has_ports"]),
                time=int(quote["time"]),
                place=_places(table, [int(quote["place"])])[0],
                count=int(quote["count"]),
            )
        )
    return {row: tuple(quotes) for row, quotes in found.items()}
