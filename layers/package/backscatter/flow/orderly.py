"""Which TCP flows were captured in order, and the numbers that need no account of sequence space for these.

Most conversations have nothing to tell about order: each side's segments follow each other without overlap or hole,
and every ack names bytes that were captured before it. Then nothing was sent again, nothing is missing, and only the
trailing segments may be unacknowledged. A few passes find these flows, so that what must look at intervals and at
rulers (`losses`, and the letters T and G of `histories`) looks at the few others only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backscatter.decode.columns import FIN, RST, SYN
from backscatter.flow.halves import opposite
from backscatter.flow.held import absorbed_by
from backscatter.flow.runs import order_within, run_starts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.flow.halves import Halves
    from backscatter.flow.runs import Bools, Ints

#: Sides that sent as many bytes as this may run round the sequence space: they go the long way.
_MUCH = 1 << 30

_DST, _FIVE, _WORD = np.uint64(1), np.uint64(5), np.uint64(32)


class Orderly(NamedTuple):
    """What is known without looking at intervals.

    flows       which flows are in order; what is below means nothing for the others
    mutual      flows of which both sides sent something that is no RST
    segments    one entry a half: segments with sequence space that the other side acknowledged
    ack_beyond  one entry a half: highest ack beyond the first, in bytes
    acked       one entry a packet: bytes of the other side that it acknowledges
    end         one entry a packet: bytes of its own side up to its end
    """

    flows: Bools
    mutual: Bools
    segments: Ints
    ack_beyond: Ints
    acked: NDArray[np.uint32]
    end: NDArray[np.uint32]


def orderly(halves: Halves, told: Bools, first_told: Ints) -> Orderly:
    """Find the flows in order; `told` are the packets that tell an ack, `first_told` each half's first of them.

    A flow of which only one side has a ruler (the other sent nothing, or nothing but RST) is in order as soon as its
    payload is, and its acks are all the same: nobody acknowledges anything that was captured.
    """
    segments, beyond = np.zeros(halves.count, np.int64), np.zeros(halves.count, np.int64)
    known = np.zeros(halves.count, np.bool_)
    known[halves.present] = True
    if len(resets := np.flatnonzero(halves.flags & RST)):
        known &= halves.counted(resets) < halves.shape.length
    spoken = known.reshape(-1, 2)
    mutual = spoken[:, 0] & spoken[:, 1]
    length = halves.payload.astype(np.uint32)
    length += (halves.flags >> np.uint8(1) & np.uint8(1)) + (halves.flags & np.uint8(1))
    torn = _torn(halves, length)
    torn_flow = _flows_of(halves, np.flatnonzero(torn))
    torn_flow |= halves.sent.reshape(-1, 2).max(axis=1, initial=0) >= _MUCH
    if halves.payload.min(initial=0) < 0:
        torn_flow |= halves.reduced(np.minimum, halves.payload).reshape(-1, 2).min(axis=1) < 0
    tried = settled = mutual & ~torn_flow & _shaken(halves)
    if not mutual.all():
        settled = np.where(mutual, tried, _alone(halves, told & halves.spread(~mutual.repeat(2)), torn))
    if not tried.any():
        nothing = np.zeros(len(length), np.uint32)
        return Orderly(settled, mutual, segments, beyond, nothing, nothing)
    origin = np.zeros(halves.count, np.uint32)
    origin[halves.present] = halves.seq[halves.start]
    told = told & halves.spread(tried.repeat(2))
    acked = (halves.ack - halves.spread(opposite(origin))) * told
    settled = settled & ~(tried & _acked_too_early(halves, acked, length))
    top = halves.reduced(np.maximum, acked)
    first = first_told[told[first_told]]
    beyond[halves.half[first]] = top[halves.half[first]] - acked[first].astype(np.int64)
    begin = halves.seq - halves.spread(origin)
    counts = np.flatnonzero((length > 0) & (begin < halves.spread(opposite(top))) & ((halves.flags & RST) == 0))
    segments[:] = halves.counted(counts)
    more, absorbed = absorbed_by(halves.packets, halves.shape.packet[counts])
    np.add.at(segments, halves.half[counts[more]], absorbed["segments"])
    return Orderly(settled, mutual, segments, beyond, acked, begin + length)


def _torn(halves: Halves, length: NDArray[np.uint32]) -> Bools:
    """Packets that do not simply go on where their half's packet before ended.

    An RST may have any number, if it is its half's last packet. A SYN is in order as the first packet and without
    payload.
    """
    flags = halves.flags
    torn = np.zeros(len(flags), np.bool_)
    np.not_equal(halves.seq[1:], halves.seq[:-1] + length[:-1], out=torn[1:])
    control = halves.control
    rst, syn = (flags[control] & RST) != 0, (flags[control] & SYN) != 0
    torn[control[rst]] = False
    torn[control[syn]] = True
    behind = control[rst] + 1
    torn[behind[behind < len(flags)]] = True
    torn[halves.start] = False
    odd = (halves.payload[control] > 0) & (rst | syn)
    odd |= rst & ((flags[control] & (SYN | FIN)) != 0)
    torn[control[odd]] = True
    torn |= halves.opaque
    return torn


def _alone(halves: Halves, told: Bools, torn: Bools) -> Bools:
    """Flows that are in order if only one side has a ruler; `told` are their packets that tell an ack."""
    index = np.flatnonzero(told)
    half, ack = halves.half[index], halves.ack[index]
    differs = np.flatnonzero((half[1:] == half[:-1]) & (ack[1:] != ack[:-1]))
    unruly = _flows_of(halves, index[differs])
    # what was sent again has payload, and lies in a half with a tear
    half_torn = np.zeros(halves.count, np.bool_)
    half_torn[halves.half[np.flatnonzero(torn)]] = True
    half_torn &= halves.sent != 0
    return ~(unruly | half_torn.reshape(-1, 2).any(axis=1))


def _shaken(halves: Halves) -> Bools:
    """Flows that have no SYN at all, or whose sides both begin with one: no lost SYN is to be told of."""
    opens = np.zeros(halves.count, np.bool_)
    opens[halves.present] = (halves.flags[halves.start] & SYN) != 0
    any_syn = _flows_of(halves, halves.control[(halves.flags[halves.control] & SYN) != 0])
    shaken: Bools = ~any_syn | opens.reshape(-1, 2).all(axis=1)
    return shaken


def _acked_too_early(halves: Halves, acked: NDArray[np.uint32], length: NDArray[np.uint32]) -> Bools:
    """Flows with an ack of bytes that were not captured before it. Means nothing for those that are not tried.

    In the order of time, what a side has sent so far is a running sum, because its segments follow each other. One sum
    holds both sides: dst's bytes in its upper half, src's in its lower. It runs on from flow to flow and may run over:
    the difference within a flow does not, since neither side of one that is tried sent as much.
    """
    order = order_within(halves.half >> 1, halves.pos)
    half = halves.half.take(order)
    flow, ours = half >> 1, (half.view(np.uint64) & _DST) << _FIVE
    sent = length.take(order).astype(np.uint64) << ours
    total = np.cumsum(sent)
    start = np.flatnonzero(run_starts(flow))
    before = np.zeros(halves.count // 2, np.uint64)
    before[flow[start]] = total[start] - sent[start]
    total -= before.take(flow)
    total >>= _WORD - ours
    early = np.flatnonzero(acked.take(order) > total.astype(np.uint32))
    return _flows_of(halves, order[early])


def _flows_of(halves: Halves, index: Ints) -> Bools:
    """Which flows some packets belong to."""
    flows = np.zeros(halves.count // 2, np.bool_)
    flows[halves.half[index] >> 1] = True
    return flows
