"""The flow table: one row a conversation in one scope, each field declared once with its meaning and unit.

`src` is whoever sent the first packet that was seen; rows are never flipped. Fields named `side_*` in SIDE stand
twice in FLOW, as `src_*` and `dst_*`: what that side sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from backscatter.decode.columns import MOST_PIECES, PLACE_BITS, picked
from backscatter.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

#: How many of each side's first packets a row can point at.
PLACES = 4

#: What one side sent.
SIDE: list[tuple[str, str, str]] = [
    ("packets", "i8", "packets"),
    ("bytes", "i8", "bytes of the innermost IP packets"),
    ("payload", "i8", "TCP or UDP payload bytes"),
    ("flags", "u1", "OR of the TCP flags"),
    ("ttl_low", "u1", "lowest TTL or hop limit; 0 where the side sent nothing"),
    ("ttl_high", "u1", "highest TTL or hop limit"),
    ("first", "i8", "time of its first packet (ns); 0 where it sent nothing"),
    ("last", "i8", "time of its last packet (ns); 0 where it sent nothing"),
    ("has", "u1", "which of the numbers below are there: bits HAS_SYN, HAS_SYNACK, HAS_RST"),
    ("syn_seq", "u4", "seq of its first SYN (ACK bit off)"),
    ("synack_seq", "u4", "seq of its first SYN+ACK"),
    ("synack_ack", "u4", "ack of its first SYN+ACK"),
    ("rst_seq", "u4", "seq of its first RST"),
    ("rst_ack", "u4", "ack field of its first RST"),
    ("syn_time", "i8", "time of its first SYN (ns); 0 for none"),
    ("synack_time", "i8", "time of its first SYN+ACK (ns); 0 for none"),
    ("syns", "u4", "SYNs (ACK bit off, RST and FIN off)"),
    ("synacks", "u4", "SYN+ACKs (RST and FIN off)"),
    ("synack_repeats", "u4", "SYN+ACKs after the first that carry its seq and ack again: retransmissions"),
    ("rsts", "u4", "packets with RST"),
    ("bare_rsts", "u4", "packets with RST and no ACK bit, SYN and FIN off"),
    (
        "exact_rsts",
        "u4",
        "bare RSTs whose seq is the ack of a SYN+ACK of the other side, before it or within 3 s after",
    ),
    ("reset_syns", "u4", "RST+ACKs with seq 0: what a closed port answers to a SYN"),
    ("fins", "u4", "packets with FIN"),
    ("data", "u4", "packets with payload, RST off"),
    ("acks", "u4", "pure ACKs: ACK on, SYN FIN RST off, no payload"),
    ("ack_first", "u4", "ack of its first ACK-bearing packet, RST off"),
    ("ack_beyond", "i8", "highest ack of such packets beyond ack_first, in bytes; 0 where none goes beyond"),
    ("segments", "u4", "TCP segments with sequence space that the other side acknowledged, captured or lost"),
    ("lost", "u4", "estimate of its segments that the other side acknowledged and nobody captured"),
    ("opaque", "u4", "TCP packets whose flags are unknown: cut before them, malformed, or a later fragment"),
    ("speech", "u1", "OR of what its UDP payloads say"),
    ("names", "u8", "marks of the addresses that its DNS answers give names (decode.names)"),
    ("places", f"({PLACES},)i8", "where its first packets are; NOWHERE fills up"),
]

HAS_SYN, HAS_SYNACK, HAS_RST = 1, 2, 4

#: conn_state values, in the order of their codes; "" for what is not TCP.
CONN_STATES = ("", "S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH")

FLOW = np.dtype(
    [
        ("sensor", "u2"),  # index into FlowTable.sensors: which view of the network this is
        ("scope", "u4"),  # index into FlowTable.scopes
        ("tunnels", "u4"),  # index into FlowTable.tunnels: of the first packet
        ("version", "u1"),  # 4 or 6
        ("proto", "u1"),  # IP protocol number
        ("has_ports", "u1"),  # 1 where the ports are known (ICMP: types and codes)
        ("src_hi", "u8"),
        ("src_lo", "u8"),
        ("dst_hi", "u8"),
        ("dst_lo", "u8"),
        ("src_port", "u2"),  # ICMP: the first packet's type
        ("dst_port", "u2"),  # ICMP: the counterpart's type, or the code where it has none
        ("icmp_type", "u1"),  # of the first packet
        ("icmp_code", "u1"),
        ("start", "i8"),  # ns
        ("end", "i8"),  # ns
        ("history", "S40"),  # Zeek's letters, cut at 40: attackers write them
        ("conn_state", "u1"),  # index into CONN_STATES
        ("quote", "i8"),  # row of FlowTable.quotes that the first packet quotes, -1 for none
        *((f"{side}_{name}", dtype) for side in ("src", "dst") for name, dtype, _ in SIDE),
    ]
)

#: What ICMP errors of a flow quote: one row for each quoted tuple of each flow.
FLOW_QUOTE = np.dtype(
    [
        ("flow", "i8"),  # row of the flow table
        ("version", "u1"),
        ("proto", "u1"),
        ("has_ports", "u1"),
        ("src_hi", "u8"),
        ("src_lo", "u8"),
        ("dst_hi", "u8"),
        ("dst_lo", "u8"),
        ("src_port", "u2"),
        ("dst_port", "u2"),
        ("seq", "u4"),  # of the first such quote
        ("icmp_type", "u1"),  # of the quoting packet
        ("icmp_code", "u1"),
        ("time", "i8"),  # of the first quoting packet (ns)
        ("place", "i8"),
        ("count", "u4"),  # packets that quote this tuple
    ]
)


#: Rows that are read or filled together: fields of one column lie far apart, and stay in a core's own cache.
TOGETHER = 1 << 10


class Flows(Protocol):
    """Flows in the order of their start, as rows or otherwise."""

    @property
    def scopes(self) -> tuple[str, ...]:
        """Names of scopes that the field `scope` refers to."""

    def __len__(self) -> int:
        """How many there are."""

    def columns(self, names: Iterable[str], which: NDArray[np.int64] | None = None) -> dict[str, NDArray[Any]]:
        """Some fields of FLOW, an array each: of all flows, or of those that an ascending index picks."""

    def select(self, which: NDArray[np.int64]) -> FlowTable:
        """The flows that an ascending index picks, with their quotes."""


@dataclass(slots=True)
class FlowTable:
    """Flows with the names that their rows refer to.

    rows      array of FLOW, ordered by start, then by the place of the first packet
    quotes    array of FLOW_QUOTE, those of one flow together
    scopes    names of scopes: "" first
    tunnels   tunnel stacks, outermost first: () first
    sensors   names of the views
    pieces    names of the capture objects that places refer to
    """

    rows: NDArray[np.void]
    quotes: NDArray[np.void]
    scopes: tuple[str, ...] = ("",)
    tunnels: tuple[tuple[str, ...], ...] = ((),)
    sensors: tuple[str, ...] = ("",)
    pieces: tuple[str, ...] = ("",)

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def empty(cls) -> FlowTable:
        """A table without flows."""
        return cls(np.zeros(0, FLOW), np.zeros(0, FLOW_QUOTE))

    def columns(self, names: Iterable[str], which: NDArray[np.int64] | None = None) -> dict[str, NDArray[Any]]:
        """Some fields, an array each, of all flows or of some. Rows are long: they are fetched once for all fields."""
        count = len(self.rows) if which is None else len(which)
        columns = {name: np.empty(count, FLOW[name]) for name in names}
        for begin in range(0, count, TOGETHER):
            some = slice(begin, begin + TOGETHER)
            part = self.rows[some] if which is None else picked(self.rows, which[some])
            for name, column in columns.items():
                column[some] = part[name]
        return columns

    def select(self, which: NDArray[np.bool_] | NDArray[np.int64], owner: NDArray[np.int64] | None = None) -> FlowTable:
        """The flows that a mask or an index picks, in that order, with their quotes.

        owner: the quotes' column `flow` by itself, where somebody who selects often keeps it and it is ascending; then
        this costs what is selected, whatever the rest of the table quotes.
        """
        index = np.flatnonzero(which) if which.dtype == np.bool_ else np.asarray(which, np.int64)
        rows = picked(self.rows, index)
        quotes = quotes_of(rows, index, self.quotes, owner)
        return FlowTable(rows, quotes, self.scopes, self.tunnels, self.sensors, self.pieces)

    @classmethod
    def joined(cls, tables: Sequence[FlowTable]) -> FlowTable:
        """All rows of all tables with one set of names, ordered by start. Nothing is summed.

        Raises RequestError where they are of more captures than can be told apart.
        """
        if not tables:
            return cls.empty()
        scopes: dict[str, int] = {"": 0}
        tunnels: dict[tuple[str, ...], int] = {(): 0}
        sensors: dict[str, int] = {}
        pieces: dict[str, int] = {}
        rows, quotes = [], []
        flows_before = quotes_before = 0
        for table in tables:
            row, quote = table.rows.copy(), table.quotes.copy()
            for field, names, known in (
                ("scope", table.scopes, scopes),
                ("tunnels", table.tunnels, tunnels),
                ("sensor", table.sensors, sensors),
            ):
                row[field] = _renumber(names, known)[row[field]]
            piece = _renumber(table.pieces, pieces)
            for side in ("src", "dst"):
                row[f"{side}_places"] = _moved(row[f"{side}_places"], piece)
            quote["place"] = _moved(quote["place"], piece)
            quote["flow"] += flows_before
            row["quote"] += np.where(row["quote"] >= 0, quotes_before, 0)
            flows_before += len(row)
            quotes_before += len(quote)
            rows.append(row)
            quotes.append(quote)
        if len(pieces) > MOST_PIECES:
            raise RequestError(f"{len(pieces)} captures are more than the {MOST_PIECES} that can be joined: narrow it")
        whole = cls(
            np.concatenate(rows), np.concatenate(quotes), tuple(scopes), tuple(tunnels), tuple(sensors), tuple(pieces)
        )
        return whole.select(np.lexsort((whole.rows["src_places"][:, 0], whole.rows["start"])))


def quotes_of(
    rows: NDArray[np.void],
    index: NDArray[np.int64],
    quotes: NDArray[np.void],
    owner: NDArray[np.int64] | None = None,
) -> NDArray[np.void]:
    """The quotes of flows that an index picked, numbered anew, as in `rows` of these flows. `owner`: see `select`."""
    if not len(quotes):
        rows["quote"] = -1
        return quotes
    by_flow = None
    if owner is None:
        owner = np.ascontiguousarray(quotes["flow"])
        if (owner[1:] < owner[:-1]).any():
            by_flow = np.argsort(owner, kind="stable")
            owner = owner[by_flow]
    begin, end = np.searchsorted(owner, index), np.searchsorted(owner, index, side="right")
    count = end - begin
    new_begin = np.cumsum(count) - count
    kept = np.repeat(begin - new_begin, count) + np.arange(count.sum())
    kept = kept if by_flow is None else by_flow[kept]
    quotes = picked(quotes, kept)
    quotes["flow"] = np.repeat(np.arange(len(index)), count)
    order = np.argsort(kept, kind="stable")
    first = np.searchsorted(kept[order], rows["quote"]) if len(kept) else np.zeros(len(rows), np.int64)
    place = order[np.minimum(first, len(kept) - 1)] if len(kept) else first
    found = (rows["quote"] >= 0) & (kept[place] == rows["quote"]) if len(kept) else np.zeros(len(rows), np.bool_)
    rows["quote"] = np.where(found, place, -1)
    return quotes


def _renumber(names: Sequence[object], known: dict) -> NDArray[np.int64]:  # type: ignore[type-arg]
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)


def _moved(places: NDArray[np.int64], piece: NDArray[np.int64]) -> NDArray[np.int64]:
    offset = places & ((1 << PLACE_BITS) - 1)
    moved: NDArray[np.int64] = np.where(places < 0, places, piece[places >> PLACE_BITS] << PLACE_BITS | offset)
    return moved
