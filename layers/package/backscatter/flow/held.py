"""Packets that are kept while their flows may go on, and what they absorbed of the packets that need not be kept.

A flow's row follows from few of its packets: the first ones, those with SYN, FIN or RST, the highest ack, the last. Of
the packets in between, where a conversation simply runs on, only sums matter. `condensed` drops those and adds them to
the kept packet before them, which then stands for the whole stretch of sequence space. Rows built from what is left,
and from whatever comes behind it, are the same as from all packets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import ACK, CWR, ECE, PACKET, PSH, QUOTE, URG, Packets
from backscatter.flow.runs import run_starts
from backscatter.flow.table import PLACES

if TYPE_CHECKING:
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

_NONE_ABSORBED = np.full(1, -1, np.int32)

_SUMS = ("packets", "data", "acks", "segments")


@dataclass(slots=True)
class Held(Packets):
    """A packet table of kept packets.

    absorbed  array of ABSORBED; the column `absorbed` (i4) has a packet's row in it, -1 for none
    settled   one entry a packet: no packet will come that is earlier, and between those of one tuple was no silence
    """

    absorbed: NDArray[np.void]
    settled: Bools

    @classmethod
    def of(cls, packets: Packets) -> Held:
        """A table as it was decoded."""
        columns = {**packets.columns, "absorbed": np.broadcast_to(np.int32(-1), len(packets))}
        return cls(columns, packets.quotes, np.zeros(0, ABSORBED), np.zeros(len(packets), np.bool_))

    def only(self, index: Ints) -> Held:
        """Some of the packets, in that order, with their quotes and what they absorbed."""
        columns = {
            name: np.broadcast_to(column[0], len(index))
            if column.strides == (0,) and len(column)
            else column.take(index)
            for name, column in self.columns.items()
        }
        quotes, absorbed = self.quotes[:0], self.absorbed[:0]
        if len(self.quotes):
            columns["quote"], quoted = renumbered(columns["quote"])
            # opaque items: NumPy would copy them field by field
            quotes = self.quotes.view(f"V{QUOTE.itemsize}")[quoted].view(QUOTE)
            quotes["packet"] = np.flatnonzero(columns["quote"] >= 0)
        if len(self.absorbed):
            columns["absorbed"], absorbing = renumbered(columns["absorbed"])
            absorbed = self.absorbed[absorbing]
        return Held(columns, quotes, absorbed, self.settled[index])


class Gathered:
    """Packets one behind the other, in columns with room for more: each packet is copied once, and lies nowhere twice.

    There is room for the first packets, and for `room` as soon as others follow: memory that was never written to costs
    next to nothing. A column that holds one value has room for one.
    """

    def __init__(self, held: Held | None = None, room: int = 0) -> None:
        self._length, self._room, self._wanted = 0, 0, room
        self._columns: dict[str, NDArray[Any]] = {}
        self._quotes: list[NDArray[np.void]] = []
        self._quoted = 0
        self._absorbed, self._settled = np.zeros(0, ABSORBED), np.zeros(0, np.bool_)
        if held is not None and len(held):
            self._room = room
            self.add(held)
            self._absorbed, self._settled = held.absorbed, held.settled

    def __len__(self) -> int:
        return self._length

    def column(self, name: str) -> NDArray[Any]:
        """One column of all packets so far."""
        return self._columns[name][: self._length]

    def add(self, packets: Packets) -> None:
        """Put packets behind the others."""
        begin, end = self._length, self._length + len(packets)
        if end > self._room:
            self._room = max(end, self._wanted if begin else 0, 2 * self._room)
            self._columns = {name: self._moved(name) for name in self._columns}
        for name in PACKET:
            values = packets[name]
            if name == "quote" and len(packets.quotes):
                values = np.where(values >= 0, values + np.int32(self._quoted), values)
            self._put(name, begin, end, values)
        self._put("absorbed", begin, end, packets["absorbed"] if isinstance(packets, Held) else _NONE_ABSORBED)
        self._quotes.append(packets.quotes)
        self._quoted += len(packets.quotes)
        self._length = end

    def clear(self) -> None:
        """Forget all packets; others may be put in their room."""
        self._length = self._quoted = 0
        self._quotes.clear()
        self._absorbed, self._settled = np.zeros(0, ABSORBED), np.zeros(0, np.bool_)
        self._columns = {name: column for name, column in self._columns.items() if column.strides != (0,)}

    def held(self) -> Held:
        """The table of all packets, good until others are added."""
        columns = {name: self.column(name) for name in self._columns} or _no_columns()
        quotes = np.concatenate([np.zeros(0, QUOTE), *self._quotes])
        if len(quotes):
            quotes["packet"] = np.flatnonzero(columns["quote"] >= 0)
        settled = np.zeros(self._length, np.bool_)
        settled[: len(self._settled)] = self._settled
        return Held(columns, quotes, self._absorbed, settled)

    def _put(self, name: str, begin: int, end: int, values: NDArray[Any]) -> None:
        mine = self._columns.get(name)
        if mine is None:
            mine = self._columns[name] = self._begun(name, values)
        elif name in _NARROW and mine.dtype != values.dtype and not _fits(values, mine.dtype):
            mine = self._columns[name] = self._moved(name, values.dtype)
        elif mine.strides == (0,) and not (values == mine[0]).all():
            whole = self._columns[name] = np.empty(self._room, mine.dtype)
            whole[:begin] = mine[0]
            mine = whole
        if mine.strides != (0,):
            mine[begin:end] = values

    def _begun(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """A column for values of which these are the first, in as little room as they need."""
        if name in _OFTEN_ONE and len(values) and (values == values[0]).all():
            return np.broadcast_to(values[0], self._room)
        narrow = _NARROW.get(name)
        return np.empty(self._room, narrow if narrow is not None and _fits(values, narrow) else values.dtype)

    def _moved(self, name: str, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
        """The column with more room, or with more room for each value."""
        mine = self._columns[name]
        if mine.strides == (0,):
            return np.broadcast_to(mine[0], self._room)
        larger = np.empty(self._room, dtype or mine.dtype)
        larger[: self._length] = mine[: self._length]
        return larger


def _fits(values: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    bounds = np.iinfo(dtype)
    return not len(values) or (int(values.min()) >= bounds.min and int(values.max()) <= bounds.max)


def _no_columns() -> dict[str, NDArray[Any]]:
    return {name: np.zeros(0, form) for name, (form, _) in PACKET.items()} | {"absorbed": np.zeros(0, np.int32)}


def slimmed(packets: Packets) -> Packets:
    """The same packets with those columns that hold one value only in the room of one value."""
    columns = dict(packets.columns)
    for name in _OFTEN_ONE:
        column = columns.get(name)
        if column is not None and len(column) and column.strides != (0,) and (column == column[0]).all():
            columns[name] = np.broadcast_to(column[0], len(column))
    return Packets(columns, packets.quotes)


def renumbered(rows: NDArray[np.int32]) -> tuple[NDArray[np.int32], Ints]:
    """Rows of a smaller table that holds only those that are named, in that order; -1 stays."""
    named = rows >= 0
    fresh = np.full(len(rows), -1, np.int32)
    fresh[named] = np.arange(int(np.count_nonzero(named)))
    return fresh, rows[named].astype(np.int64)


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
    keep |= np.repeat(~simple.repeat(2), halves.shape.length)
    keep[halves.control] = True
    keep[first_told] = True
    keep |= ((halves.flags & ACK) == 0) | (halves.window == 0)
    data = halves.payload > 0
    silent = ~data
    data[halves.control] = silent[halves.control] = False
    for some in (data, silent):
        keep[halves.first(np.flatnonzero(some))] = True
    top = halves.reduced(np.maximum, order.acked)
    keep[halves.first(np.flatnonzero(told & (order.acked == np.repeat(top, halves.shape.length))))] = True
    keep |= data & (order.end > np.repeat(top.reshape(-1, 2)[:, ::-1].reshape(-1), halves.shape.length))
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
        packets.columns[name] = packets[name].astype(np.int64, copy=False)
        packets[name][taker] += np.add.reduceat(packets[name][given], start)
    packets["speech"][taker] |= np.bitwise_or.reduceat(packets["speech"][given], start)
    if packets["names"].strides != (0,):
        packets["names"][taker] |= np.bitwise_or.reduceat(packets["names"][given], start)
    packets["flags"][taker] |= np.bitwise_or.reduceat(packets["flags"][given] & _MERE, start)
    if packets["absorbed"].strides == (0,):
        packets.columns["absorbed"] = packets["absorbed"].copy()
    packets["absorbed"][taker] = len(packets.absorbed) + np.arange(len(taker))
    packets.absorbed = np.concatenate((packets.absorbed, mine))


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
