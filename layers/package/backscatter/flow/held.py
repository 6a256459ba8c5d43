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
_OFTEN_ONE = ("status", "scope", "tunnels", "version", "src_hi", "dst_hi", "icmp_type", "icmp_code")

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
    def joined_from(cls, tables: list[Packets]) -> Held:
        """Tables as they were decoded, or held, one behind the other. Empties `tables`, so that nothing lies twice."""
        lengths = [len(table) for table in tables]
        held = [table if isinstance(table, Held) else None for table in tables]
        quote = _stacked([table["quote"] for table in tables], [len(table.quotes) for table in tables])
        quotes = np.concatenate([np.zeros(0, QUOTE), *(table.quotes for table in tables)])
        quotes["packet"] = np.flatnonzero(quote >= 0)
        rows = [
            np.broadcast_to(np.int32(-1), length) if table is None else table["absorbed"]
            for table, length in zip(held, lengths, strict=True)
        ]
        absorbed = np.concatenate([np.zeros(0, ABSORBED), *(table.absorbed for table in held if table is not None)])
        settled = [
            np.zeros(length, np.bool_) if table is None else table.settled
            for table, length in zip(held, lengths, strict=True)
        ]
        columns = {
            "quote": quote,
            "absorbed": _stacked(rows, [0 if table is None else len(table.absorbed) for table in held]),
        }
        parts = [dict(table.columns) for table in tables]
        tables.clear()
        held.clear()
        for name in PACKET:
            if name not in columns:
                columns[name] = _joined(name, [part.pop(name) for part in parts])
        return cls(columns, quotes, absorbed, np.concatenate([np.zeros(0, np.bool_), *settled]))

    def only(self, index: Ints) -> Held:
        """Some of the packets, in that order, with their quotes and what they absorbed."""
        columns = {
            name: np.broadcast_to(column[:1], len(index)) if column.strides == (0,) and len(index) else column[index]
            for name, column in self.columns.items()
        }
        columns["quote"], quoted = _renumbered(columns["quote"])
        columns["absorbed"], absorbed = _renumbered(columns["absorbed"])
        quotes = self.quotes[quoted] if len(self.quotes) else np.zeros(0, QUOTE)
        if len(quotes):
            quotes["packet"] = np.flatnonzero(columns["quote"] >= 0)
        return Held(columns, quotes, self.absorbed[absorbed], self.settled[index])


def slimmed(packets: Packets) -> Packets:
    """The same packets with those columns that hold one value only in the room of one value."""
    columns = dict(packets.columns)
    for name in _OFTEN_ONE:
        column = columns[name]
        if len(column) and column.strides != (0,) and (column == column[0]).all():
            columns[name] = np.broadcast_to(column[0], len(column))
    return Packets(columns, packets.quotes)


def _joined(name: str, columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Columns one behind the other, as one value where all hold the same."""
    columns = [column for column in columns if len(column)]
    if columns and all(column.strides == (0,) and column[0] == columns[0][0] for column in columns):
        return np.broadcast_to(columns[0][0], sum(map(len, columns)))
    return np.concatenate(columns) if columns else np.zeros(0, PACKET[name][0])


def _stacked(rows: Sequence[NDArray[np.int32]], counts: Sequence[int]) -> NDArray[np.int32]:
    """Rows of small tables as rows of these tables one behind the other; -1 stays."""
    stacked = np.zeros(sum(map(len, rows)), np.int32)
    at = before = 0
    for some, count in zip(rows, counts, strict=True):
        part = stacked[at : at + len(some)]
        part[:] = some
        if count:
            part[part >= 0] += before
        else:
            part[:] = -1
        at, before = at + len(some), before + count
    return stacked


def _renumbered(rows: NDArray[np.int32]) -> tuple[NDArray[np.int32], Ints]:
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
        packets[name][taker] += np.add.reduceat(packets[name][given], start)
    packets["speech"][taker] |= np.bitwise_or.reduceat(packets["speech"][given], start)
    packets["flags"][taker] |= np.bitwise_or.reduceat(packets["flags"][given] & _MERE, start)
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
