"""Packets that are kept while their flows may go on, and what they absorbed of the packets that need not be kept.

A flow's row follows from few of its packets: the first ones, those with SYN, FIN or RST, the highest ack, the last. Of
the packets in between, where a conversation simply runs on, only sums matter. `absorb` adds those to the kept packet
before them, which then stands for the whole stretch of sequence space. Rows built from what is left, and from whatever
comes behind it, are the same as from all packets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import ACK, CWR, ECE, PSH, URG, Packets, picked
from backscatter.flow.halves import opposite
from backscatter.flow.runs import run_starts
from backscatter.flow.table import PLACES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from backscatter.flow.halves import Halves, Shape
    from backscatter.flow.orderly import Orderly
    from backscatter.flow.runs import Bools, Ints

#: What a kept packet absorbed. Its bytes, payload, flags and speech are in its own columns.
ABSORBED = np.dtype(
    [
        ("packets", "i8"),
        ("data", "i8"),  # of these, with payload
        ("acks", "i8"),  # of these, pure ACKs
        ("segments", "i8"),  # of these, with sequence space; all are acknowledged
        ("largest", "i8"),  # payload bytes of the largest packet, itself included
        ("ttl_low", "u1"),  # itself included
        ("ttl_high", "u1"),
    ]
)

#: Flags that mean nothing for the state of a conversation. ACK has its first packet kept in any case.
_MERE = PSH | URG | ECE | CWR

#: Columns that often hold one value in a whole capture.
_OFTEN_ONE = frozenset(
    (
        "status",
        "scope",
        "tunnels",
        "version",
        "src_hi",
        "dst_hi",
        "icmp_type",
        "icmp_code",
        "names",
        "quote",
        "absorbed",
    )
)

#: Columns that seldom need all of their bits. Sums of what was absorbed may.
_NARROW = {
    "src_lo": np.dtype(np.uint32),
    "dst_lo": np.dtype(np.uint32),
    "ip_bytes": np.dtype(np.int32),
    "payload": np.dtype(np.int32),
}

_ALL_MARKS = 2**64 - 1

_SUMS = ("packets", "data", "acks", "segments")


@dataclass(slots=True)
class Held(Packets):
    """A packet table of kept packets.

    absorbed  array of ABSORBED; the column `absorbed` (i4) has a packet's row in it, -1 for none
    settled   one entry a packet: no packet will come that is earlier, and between those of one tuple was no silence
    """

    absorbed: NDArray[np.void]
    settled: Bools

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: a column that holds one value is sent as one, where NumPy would write it out."""
        columns = {name: column[:1] if column.strides == (0,) else column for name, column in self.columns.items()}
        return _received, (len(self), columns, self.quotes, self.absorbed, self.settled)

    @classmethod
    def of(cls, packets: Packets) -> Held:
        """A table as it was decoded, in as little room as its values need."""
        columns = {name: _narrowed(name, column) for name, column in slimmed(packets).columns.items()}
        columns["absorbed"] = np.broadcast_to(np.int32(-1), len(packets))
        return cls(columns, packets.quotes, np.zeros(0, ABSORBED), np.zeros(len(packets), np.bool_))

    @classmethod
    def joined(cls, tables: Sequence[Held]) -> Held:  # type: ignore[override]
        """The tables one behind the other, in memory of their own."""
        tables = [table for table in tables if len(table)]
        if not tables:
            return cls.of(Packets.empty(0))
        count = sum(map(len, tables))
        columns = {}
        for name in tables[0].columns:
            some = [table[name] for table in tables]
            alone = all(column.strides == (0,) and column[0] == some[0][0] for column in some)
            columns[name] = np.broadcast_to(some[0][0], count) if alone else np.concatenate(some)
        return cls.numbered(
            columns,
            np.concatenate([table.quotes for table in tables]),
            np.concatenate([table.absorbed for table in tables]),
            np.concatenate([table.settled for table in tables]),
        )

    @classmethod
    def numbered(
        cls, columns: dict[str, NDArray[Any]], quotes: NDArray[np.void], absorbed: NDArray[np.void], settled: Bools
    ) -> Held:
        """A table of packets whose quotes, and what they absorbed, stand in their order: these are numbered anew."""
        if len(quotes):
            columns["quote"] = _renumbered(columns["quote"])
            quotes["packet"] = np.flatnonzero(columns["quote"] >= 0)
        if len(absorbed):
            columns["absorbed"] = _renumbered(columns["absorbed"])
        return cls(columns, quotes, absorbed, settled)

    def only(self, index: Ints) -> Held:
        """Some of the packets, in that order, with their quotes and what they absorbed."""
        columns = {
            name: np.broadcast_to(column[0], len(index))
            if column.strides == (0,) and len(column)
            else column.take(index)
            for name, column in self.columns.items()
        }
        quotes, absorbed = self.quotes, self.absorbed
        if len(quotes):
            quotes = picked(quotes, _rows(columns["quote"]))
        if len(absorbed):
            absorbed = picked(absorbed, _rows(columns["absorbed"]))
        return Held.numbered(columns, quotes, absorbed, self.settled[index])


def _received(
    count: int,
    columns: dict[str, NDArray[Any]],
    quotes: NDArray[np.void],
    absorbed: NDArray[np.void],
    settled: Bools,
) -> Held:
    """A table that another process has sent."""
    columns = {
        name: np.broadcast_to(column, count) if len(column) != count else column for name, column in columns.items()
    }
    return Held(columns, quotes, absorbed, settled)


def slimmed(packets: Packets) -> Packets:
    """The same packets with those columns that hold one value only in the room of one value."""
    columns = dict(packets.columns)
    for name in _OFTEN_ONE:
        column = columns.get(name)
        if column is not None and len(column) and column.strides != (0,) and (column == column[0]).all():
            columns[name] = np.broadcast_to(column[0], len(column))
    return Packets(columns, packets.quotes)


def _narrowed(name: str, column: NDArray[Any]) -> NDArray[Any]:
    """The column in 32 bits, if it is one that seldom needs more and does not."""
    narrow = _NARROW.get(name)
    if narrow is None or column.dtype == narrow or not len(column):
        return column
    bounds = np.iinfo(narrow)
    fits = int(column.max()) <= bounds.max and (column.dtype.kind == "u" or int(column.min()) >= bounds.min)
    return column.astype(narrow) if fits else column


def _renumbered(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """The column of a smaller table that holds only the rows that are named, in that order; -1 stays."""
    named = np.flatnonzero(rows >= 0)
    fresh = np.full(len(rows), -1, np.int32)
    fresh[named] = np.arange(len(named), dtype=np.int32)
    return fresh


def _rows(column: NDArray[np.int32]) -> Ints:
    """The rows that are named."""
    named: Ints = column[np.flatnonzero(column >= 0)].astype(np.int64)
    return named


def absorbed_by(packets: Packets, index: Ints) -> tuple[Ints, NDArray[np.void]]:
    """Which of some packets have absorbed others, and what."""
    if not isinstance(packets, Held) or not len(packets.absorbed):
        return np.zeros(0, np.int64), np.zeros(0, ABSORBED)
    row = packets["absorbed"][index]
    have = np.flatnonzero(row >= 0)
    return have, packets.absorbed[row[have]]


def plain_kept(packets: Held, shape: Shape) -> Bools:
    """Which packets of flows that are not TCP must be kept: first ones, last ones, and those that quote others."""
    keep = _ends_kept(packets, shape)
    if len(packets.quotes):
        keep |= packets["quote"][shape.packet] >= 0
    return keep


def tcp_kept(packets: Held, halves: Halves, order: Orderly, told: Bools, first_told: Ints) -> Bools:
    """Which packets of TCP flows must be kept; all, of flows that are not in order or that only one side speaks in.

    Whatever writes a letter, whatever is not acknowledged yet, the highest ack, and the first packet of each stretch of
    payload, which absorbs the stretch.
    """
    keep = _ends_kept(packets, halves.shape)
    simple = order.flows & order.mutual
    keep |= halves.spread(~simple.repeat(2))
    keep[halves.control] = True
    keep[first_told] = True
    keep |= ((halves.flags & ACK) == 0) | (halves.window == 0)
    data = halves.payload > 0
    silent = ~data
    data[halves.control] = silent[halves.control] = False
    for some in (data, silent):
        keep[halves.first(np.flatnonzero(some))] = True
    top = halves.reduced(np.maximum, order.acked)
    keep[halves.first(np.flatnonzero(told & (order.acked == halves.spread(top))))] = True
    keep |= data & (order.end > halves.spread(opposite(top)))
    # payload is absorbed by payload only, so each stretch of it keeps its first packet
    before = np.maximum.accumulate(np.where(keep, np.arange(len(keep)), 0))
    orphans = np.flatnonzero(~keep & data & ~data[before])
    keep[orphans[run_starts(before[orphans])]] = True
    return keep


def _ends_kept(packets: Held, shape: Shape) -> Bools:
    """The first packets of each half, its last, and whatever is not settled."""
    end = np.cumsum(shape.length)
    begin = end - shape.length
    keep: Bools = ~packets.settled[shape.packet]
    # the last settled packet tells when silence began
    keep[np.maximum(np.flatnonzero(keep) - 1, 0)] = True
    some = shape.length > 0
    keep[end[some] - 1] = True
    for nth in range(PLACES):
        keep[begin[shape.length > nth] + nth] = True
    return keep


def absorb(packets: Held, shape: Shape, keep: Bools) -> None:
    """Add every packet that is not kept to the kept one before it, which is of the same half. Changes `packets`."""
    gone = np.flatnonzero(~keep)
    if not len(gone):
        return
    before = np.maximum.accumulate(np.where(keep, np.arange(len(keep)), 0))[gone]
    start = np.flatnonzero(run_starts(before))
    taker, given = shape.packet[before[start]], shape.packet[gone]
    sums = _shares(packets, given)
    mine = _own(packets, taker)
    for name in _SUMS:
        mine[name] += np.add.reduceat(sums[name], start)
    for bound, name in ((np.maximum, "largest"), (np.maximum, "ttl_high"), (np.minimum, "ttl_low")):
        mine[name] = bound(mine[name], bound.reduceat(sums[name], start))
    for name in ("payload", "ip_bytes"):
        packets.columns[name] = _own_column(packets, name).astype(np.int64, copy=False)
        packets[name][taker] += np.add.reduceat(packets[name][given], start)
    for name, bits in (("speech", 0xFF), ("names", _ALL_MARKS), ("flags", _MERE)):
        more = np.bitwise_or.reduceat(packets[name][given] & packets[name].dtype.type(bits), start)
        if more.any():
            _own_column(packets, name)[taker] |= more
    _own_column(packets, "absorbed")[taker] = len(packets.absorbed) + np.arange(len(taker))
    packets.absorbed = np.concatenate((packets.absorbed, mine))


def _own_column(packets: Held, name: str) -> NDArray[Any]:
    """A column that may be written to."""
    if packets[name].strides == (0,):
        packets.columns[name] = packets[name].copy()
    return packets[name]


def _own(packets: Held, index: Ints) -> NDArray[np.void]:
    """What packets have absorbed so far, as ABSORBED."""
    own = np.zeros(len(index), ABSORBED)
    own["largest"] = packets["payload"][index]
    own["ttl_low"] = own["ttl_high"] = packets["ttl"][index]
    have, rows = absorbed_by(packets, index)
    own[have] = rows
    return own


def _shares(packets: Held, index: Ints) -> NDArray[np.void]:
    """What packets add to the one that absorbs them: what they absorbed, and themselves."""
    shares = _own(packets, index)
    data = packets["payload"][index] > 0
    shares["packets"] += 1
    shares["data"] += data
    shares["segments"] += data
    shares["acks"] += ~data
    return shares
