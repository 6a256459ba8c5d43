"""What each side of each flow sent: the columns of SIDE as arrays with one entry a half (2 * flow + side)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import ACK, FIN, NO_FLAGS, NOWHERE, RST, SYN
from backscatter.flow.conversation import SECOND, TCP
from backscatter.flow.runs import run_starts, unwrapped
from backscatter.flow.table import HAS_RST, HAS_SYN, HAS_SYNACK, PLACES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.decode.columns import Packets
    from backscatter.flow.conversation import Traffic
    from backscatter.flow.runs import Bools, Ints

#: How long after an RST the SYN+ACK that it answers may still arrive: load balancers' targets deliver out of order.
LATE_SYNACK = 3 * SECOND


class Halves:
    """The packets of all flows by half, with the reductions that turn them into columns.

    `time`, `flags`, `seq`, `ack`, `payload` and so on are packet columns in the order of `Traffic`; `flags` is 0 for
    what is not TCP.
    """

    def __init__(self, packets: Packets, traffic: Traffic) -> None:
        index = traffic.packet
        self.traffic = traffic
        self.count = 2 * traffic.flows
        self.half = traffic.half
        self.pos = traffic.pos
        self.start: Ints = np.flatnonzero(run_starts(self.half)) if len(index) else np.zeros(0, np.int64)
        self.present: Ints = self.half[self.start]
        self.time: Ints = packets["time"][index]
        self.place: Ints = packets["place"][index]
        self.tcp: Bools = packets["proto"][index] == TCP
        self.flags: NDArray[np.uint8] = np.where(self.tcp, packets["flags"][index], np.uint8(0))
        self.seq: NDArray[np.uint32] = packets["seq"][index]
        self.ack: NDArray[np.uint32] = packets["ack"][index]
        self.window: NDArray[np.uint16] = packets["window"][index]
        self.payload: Ints = packets["payload"][index]
        self.ip_bytes: Ints = packets["ip_bytes"][index]
        self.ttl: NDArray[np.uint8] = packets["ttl"][index]
        self.opaque: Bools = self.tcp & (packets["traits"][index] & NO_FLAGS != 0)
        self.speech: NDArray[np.uint8] = packets["speech"][index]

    def dense(self, values: NDArray[Any], default: int = 0) -> NDArray[Any]:
        """Values of the halves that sent something, as an array over all halves."""
        whole = np.full((self.count, *values.shape[1:]), default, values.dtype)
        whole[self.present] = values
        return whole

    def reduced(self, by: np.ufunc, column: NDArray[Any]) -> NDArray[Any]:
        """A column reduced over each half, 0 where it sent nothing."""
        if not len(self.start):
            return np.zeros(self.count, column.dtype)
        return self.dense(by.reduceat(column, self.start))

    def counted(self, mask: Bools) -> Ints:
        """How many packets of the mask each half sent."""
        return np.bincount(self.half[mask], minlength=self.count)

    def first(self, mask: Bools) -> Ints:
        """Index of each half's first packet of the mask, for the halves that have one, in the order of halves."""
        index = np.flatnonzero(mask)
        return index[run_starts(self.half[index])]

    def at(self, index: Ints, column: NDArray[Any], default: int = 0) -> NDArray[Any]:
        """A column's values at one packet a half, as an array over all halves."""
        whole = np.full(self.count, default, column.dtype)
        whole[self.half[index]] = column[index]
        return whole


def side_columns(halves: Halves) -> dict[str, NDArray[Any]]:
    """The columns of SIDE by name, except those of loss: arrays over the halves."""
    flags, payload = halves.flags, halves.payload
    fin, syn, rst, ack = ((flags & bit) != 0 for bit in (FIN, SYN, RST, ACK))
    quiet = ~(rst | fin)
    pure_syn, synack = syn & ~ack & quiet, syn & ack & quiet
    bare_rst = rst & ~(ack | syn | fin)
    told = ack & ~rst
    first_syn, first_synack, first_rst = halves.first(syn & ~ack), halves.first(syn & ack), halves.first(rst)
    first_ack = halves.first(told)
    has = np.zeros(halves.count, np.uint8)
    for index, bit in ((first_syn, HAS_SYN), (first_synack, HAS_SYNACK), (first_rst, HAS_RST)):
        has[halves.half[index]] |= bit
    ends = np.append(halves.start[1:], len(halves.half)) - 1
    return {
        "packets": halves.dense(ends - halves.start + 1) if len(halves.start) else np.zeros(halves.count, np.int64),
        "bytes": halves.reduced(np.add, halves.ip_bytes),
        "payload": halves.reduced(np.add, payload),
        "flags": halves.reduced(np.bitwise_or, flags),
        "ttl_low": halves.reduced(np.minimum, halves.ttl),
        "ttl_high": halves.reduced(np.maximum, halves.ttl),
        "first": halves.dense(halves.time[halves.start]),
        "last": halves.dense(halves.time[ends[: len(halves.start)]]),
        "has": has,
        "syn_seq": halves.at(first_syn, halves.seq),
        "synack_seq": halves.at(first_synack, halves.seq),
        "synack_ack": halves.at(first_synack, halves.ack),
        "rst_seq": halves.at(first_rst, halves.seq),
        "rst_ack": halves.at(first_rst, halves.ack),
        "syn_time": halves.at(first_syn, halves.time),
        "synack_time": halves.at(first_synack, halves.time),
        "syns": halves.counted(pure_syn),
        "synacks": halves.counted(synack),
        "synack_repeats": _synack_repeats(halves, synack),
        "rsts": halves.counted(rst),
        "bare_rsts": halves.counted(bare_rst),
        "exact_rsts": _exact_rsts(halves, bare_rst, synack),
        "reset_syns": halves.counted(rst & ack & ~(syn | fin) & (halves.seq == 0)),
        "fins": halves.counted(fin),
        "data": halves.counted((payload > 0) & halves.tcp & ~rst),
        "acks": halves.counted(told & ~(syn | fin) & (payload == 0)),
        "ack_first": halves.at(first_ack, halves.ack),
        "ack_beyond": _ack_beyond(halves, told),
        "opaque": halves.counted(halves.opaque),
        "speech": halves.reduced(np.bitwise_or, halves.speech),
        "places": _places(halves),
    }


def _places(halves: Halves) -> Ints:
    """Where each half's first packets are, (halves, PLACES)."""
    places = np.full((halves.count, PLACES), NOWHERE, np.int64)
    length = np.diff(np.append(halves.start, len(halves.half)))
    for nth in range(PLACES):
        has_it = length > nth
        places[halves.present[has_it], nth] = halves.place[halves.start[has_it] + nth]
    return places


def _synack_repeats(halves: Halves, synack: Bools) -> Ints:
    """SYN+ACKs that carry the seq and ack of their half's first one again."""
    first = halves.first(synack)
    seq, ack = halves.at(first, halves.seq), halves.at(first, halves.ack)
    same = synack & (halves.seq == seq[halves.half]) & (halves.ack == ack[halves.half])
    same[first] = False
    return halves.counted(same)


def _exact_rsts(halves: Halves, bare_rst: Bools, synack: Bools) -> Ints:
    """Bare RSTs whose seq is the ack of a SYN+ACK of the other side, which came before or at most 3 s after."""
    asked = np.flatnonzero(synack)
    answer = np.flatnonzero(bare_rst)
    if not len(asked) or not len(answer):
        return np.zeros(halves.count, np.int64)
    question = (halves.half[asked] ^ 1) << 32 | halves.ack[asked]
    by_question = np.lexsort((halves.time[asked], question))
    earliest = by_question[run_starts(question[by_question])]
    question, when = question[earliest], halves.time[asked][earliest]
    given = halves.half[answer] << 32 | halves.seq[answer]
    found = np.minimum(np.searchsorted(question, given), len(question) - 1)
    exact = (question[found] == given) & (when[found] <= halves.time[answer] + LATE_SYNACK)
    return np.bincount(halves.half[answer[exact]], minlength=halves.count)


def _ack_beyond(halves: Halves, told: Bools) -> Ints:
    """How far, in bytes, each half's highest ack lies beyond its first one."""
    index = np.flatnonzero(told)
    beyond = np.zeros(halves.count, np.int64)
    if len(index):
        half, ack = halves.half[index], halves.ack[index]
        start = np.flatnonzero(run_starts(half))
        beyond[half[start]] = np.maximum.reduceat(unwrapped(half, ack, ack), start)
    return beyond
