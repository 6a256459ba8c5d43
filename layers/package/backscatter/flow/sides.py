"""What each side of each flow sent: the columns of SIDE as arrays with one entry a half (2 * flow + side)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backscatter.decode.columns import ACK, FIN, NOWHERE, RST, SYN
from backscatter.flow.conversation import SECOND
from backscatter.flow.held import absorbed_by
from backscatter.flow.runs import run_starts, tallies, unwrapped
from backscatter.flow.table import HAS_RST, HAS_SYN, HAS_SYNACK, PLACES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.decode.columns import Packets
    from backscatter.flow.halves import Halves, Shape
    from backscatter.flow.runs import Bools, Ints

#: How long after an RST the SYN+ACK that it answers may still arrive: load balancers' targets deliver out of order.
LATE_SYNACK = 3 * SECOND

#: Where more than one in so many packets has another value than the one before, all are looked at.
_OFTEN = 16


def side_columns(packets: Packets, shape: Shape) -> dict[str, NDArray[Any]]:
    """The columns of SIDE that flows of every protocol have."""
    present = np.flatnonzero(shape.length)
    end = np.cumsum(shape.length)
    start, last = (end - shape.length)[present], end[present] - 1

    def dense(values: NDArray[Any]) -> NDArray[Any]:
        whole = np.zeros(len(shape.length), values.dtype)
        whole[present] = values
        return whole

    def reduced(by: np.ufunc, name: str) -> NDArray[Any]:
        return dense(by.reduceat(packets[name].take(shape.packet), start))

    def bound(by: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
        """Lowest, highest or joint bits: what is as the packet before has nothing to add, and most are."""
        differs = values[1:] != values[:-1]
        differs[start[1:] - 1] = False
        few = np.flatnonzero(differs) + 1
        if len(few) > len(values) // _OFTEN:
            return dense(by.reduceat(values, start))
        whole = dense(values[start])
        by.at(whole, np.searchsorted(end, few, side="right"), values[few])
        return whole

    ttl = packets["ttl"].take(shape.packet)
    ttl_low, ttl_high, count = ttl, ttl, shape.length
    more, absorbed = absorbed_by(packets, shape.packet)
    if len(more):
        ttl_low, ttl_high, count = ttl.copy(), ttl.copy(), count.copy()
        ttl_low[more], ttl_high[more] = absorbed["ttl_low"], absorbed["ttl_high"]
        np.add.at(count, np.searchsorted(end, more, side="right"), absorbed["packets"])
    time = packets["time"]
    return {
        "packets": count,
        "bytes": reduced(np.add, "ip_bytes"),
        "payload": reduced(np.add, "payload"),
        "ttl_low": bound(np.minimum, ttl_low),
        "ttl_high": bound(np.maximum, ttl_high),
        "first": dense(time[shape.packet[start]]),
        "last": dense(time[shape.packet[last]]),
        "speech": bound(np.bitwise_or, packets["speech"].take(shape.packet)),
        # most tables have no DNS answer; one value for all may still be an answer's
        **({"names": reduced(np.bitwise_or, "names")} if len(start) and _is_told(packets["names"]) else {}),
        "places": _places(packets, shape, end - shape.length),
    }


def _is_told(column: NDArray[Any]) -> bool:
    """Whether a column may hold anything but zeros; quick where one value stands for all."""
    return column.strides != (0,) or bool(column[0])


def _places(packets: Packets, shape: Shape, begin: Ints) -> Ints:
    """Where each half's first packets are, (halves, PLACES)."""
    places = np.full((len(begin), PLACES), NOWHERE, np.int64)
    for nth in range(PLACES):
        has_it = np.flatnonzero(shape.length > nth)
        places[has_it, nth] = packets["place"][shape.packet[begin[has_it] + nth]]
    return places


class Firsts(NamedTuple):
    """Of each half the first packet of a sort: its index in Halves, -1 where the half has none."""

    syn: Ints
    synack: Ints
    rst: Ints
    told: Ints

    def moved(self, halves: Halves, some: Halves, like: Ints) -> Firsts:
        """As index in `halves`, where each half is like one of `some`: found as far behind its begin."""
        nowhere = -1 - len(halves.half)
        behind = (np.where(at < 0, nowhere, at - some.begin) for at in self)
        return Firsts(*(np.maximum(halves.begin + those.take(like), -1) for those in behind))


def first_packets(halves: Halves, first_told: Ints) -> Firsts:
    """The packets whose numbers are kept; `first_told` are those that tell each half's first ack."""
    control = halves.control
    flags = halves.flags[control]
    syn, ack = (flags & SYN) != 0, (flags & ACK) != 0
    sorts = control[syn & ~ack], control[syn & ack], control[(flags & RST) != 0]
    return Firsts(*(halves.at(first, first, -1) for first in (*map(halves.first, sorts), first_told)))


def number_columns(halves: Halves, firsts: Firsts) -> dict[str, NDArray[Any]]:
    """The columns of SIDE that are numbers and times of single packets of TCP."""
    columns: dict[str, NDArray[Any]] = {"has": np.zeros(halves.count, np.uint8)}
    for name, at, bit, fields in (
        ("syn", firsts.syn, HAS_SYN, ("seq", "time")),
        ("synack", firsts.synack, HAS_SYNACK, ("seq", "ack", "time")),
        ("rst", firsts.rst, HAS_RST, ("seq", "ack")),
        ("ack", firsts.told, 0, ("first",)),
    ):
        there = np.flatnonzero(at >= 0)
        index = at[there]
        columns["has"][there] |= bit
        for field in fields:
            values = halves.time(index) if field == "time" else getattr(halves, field if bit else "ack")[index]
            column = columns[f"{name}_{field}"] = np.zeros(halves.count, values.dtype)
            column[there] = values
    return columns


def tcp_columns(halves: Halves) -> dict[str, NDArray[Any]]:
    """The columns of SIDE that only flows of TCP have, except single packets' numbers and what `losses` tells."""
    control = halves.control
    flags = halves.flags[control]
    fin, syn, rst, ack = ((flags & bit) != 0 for bit in (FIN, SYN, RST, ACK))
    quiet = ~(rst | fin)
    synack, bare_rst = control[syn & ack & quiet], control[rst & ~(ack | syn | fin)]
    resets = control[rst & ack & ~(syn | fin)]
    data = halves.data.copy()
    data[control[rst]] = False
    counts = tallies(data, halves.bare, halves.begin, halves.end)
    more, absorbed = absorbed_by(halves.packets, halves.shape.packet)
    for column, name in zip(counts, ("data", "acks"), strict=True):
        np.add.at(column, halves.half[more], absorbed[name])
    return {
        "flags": halves.reduced(np.bitwise_or, halves.flags),
        "syns": halves.counted(control[syn & ~ack & quiet]),
        "synacks": halves.counted(synack),
        "synack_repeats": _synack_repeats(halves, synack),
        "rsts": halves.counted(control[rst]),
        "bare_rsts": halves.counted(bare_rst),
        "exact_rsts": _exact_rsts(halves, bare_rst, synack),
        "reset_syns": halves.counted(resets[halves.seq[resets] == 0]),
        "fins": halves.counted(control[fin]),
        "data": counts[0],
        "acks": counts[1],
        "opaque": halves.counted(np.flatnonzero(halves.opaque)),
    }


def _synack_repeats(halves: Halves, synack: Ints) -> Ints:
    """SYN+ACKs that carry the seq and ack of their half's first one again."""
    half, seq, ack = halves.half[synack], halves.seq[synack], halves.ack[synack]
    first = run_starts(half)
    original = np.flatnonzero(first)[np.cumsum(first) - 1]
    again = ~first & (seq == seq[original]) & (ack == ack[original])
    return np.bincount(half[again], minlength=halves.count)


def _exact_rsts(halves: Halves, answer: Ints, asked: Ints) -> Ints:
    """Bare RSTs whose seq is the ack of a SYN+ACK of the other side, which came before or at most 3 s after."""
    if not len(asked) or not len(answer):
        return np.zeros(halves.count, np.int64)
    question = (halves.half[asked] ^ 1) << 32 | halves.ack[asked]
    # SYN+ACKs of one half stand in order of time, so the first of equal questions is the earliest
    by_question = np.argsort(question, kind="stable")
    earliest = by_question[run_starts(question[by_question])]
    question, when = question[earliest], halves.time(asked[earliest])
    given = halves.half[answer] << 32 | halves.seq[answer]
    found = np.minimum(np.searchsorted(question, given), len(question) - 1)
    exact = (question[found] == given) & (when[found] <= halves.time(answer) + LATE_SYNACK)
    return halves.counted(answer[exact])


def first_acks(halves: Halves) -> tuple[Bools, Ints]:
    """Which packets tell an ack (RST off), and each half's first of them."""
    told = (halves.flags & (ACK | RST)) == ACK
    return told, halves.first(np.flatnonzero(told))


def ack_beyond(halves: Halves) -> Ints:
    """How far, in bytes, each half's highest ack lies beyond its first one."""
    index = np.flatnonzero((halves.flags & (ACK | RST)) == ACK)
    beyond = np.zeros(halves.count, np.int64)
    if len(index):
        half, ack = halves.half[index], halves.ack[index]
        start = np.flatnonzero(run_starts(half))
        beyond[half[start]] = np.maximum.reduceat(unwrapped(half, ack, ack), start)
    return beyond
