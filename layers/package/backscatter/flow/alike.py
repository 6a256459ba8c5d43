"""Short conversations of TCP that are alike: what is worked out of one of them holds for all.

Scans and floods are millions of conversations of one to four packets that differ in nothing but their addresses, times
and initial sequence numbers. Nothing that is told of a conversation depends on where its sequence numbers begin: only
distances on either side's ruler count. So two conversations are alike if their packets have the same order, senders,
flags, payload lengths and closed windows, and the same seq and ack as distances from the first of either ruler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backscatter.decode.columns import ACK, RST
from backscatter.flow.held import absorbed_by
from backscatter.flow.runs import MIX, run_starts
from backscatter.flow.sides import LATE_SYNACK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.flow.halves import Halves
    from backscatter.flow.runs import Bools, Ints

    Words = NDArray[np.uint64]

#: Packets of a short conversation.
SHORT = 4

#: It is worth looking only where this share of conversations is short, and worth using only where as many are alike.
WORTH = 0.5

_LARGEST_PAYLOAD = 1 << 31

_HALF = np.uint64(32)


class Alike(NamedTuple):
    """Which conversations stand for all.

    few   (flows,) True for those that must be worked out
    like  (flows,) number, among these, of the one that each is like
    """

    few: Bools
    like: Ints


def alike(halves: Halves) -> Alike | None:
    """Sort conversations by likeness; None where too few are alike for it to be worth anything."""
    short = np.flatnonzero(_are_short(halves))
    flows = halves.count // 2
    if len(short) < WORTH * flows:
        return None
    words = _words(halves, short)
    original = _originals(words)
    # a hash brought them together: what is not alike word by word stands for itself
    differs = np.flatnonzero(np.logical_or.reduce([column != column[original] for column in words]))
    original[differs] = differs
    few = np.ones(flows, np.bool_)
    few[short] = original == np.arange(len(short))
    if np.count_nonzero(few) > (1 - WORTH) * flows:
        return None
    stands_for = np.arange(flows)
    stands_for[short] = short[original]
    return Alike(few, (np.cumsum(few) - 1)[stands_for])


def _are_short(halves: Halves) -> Bools:
    """Conversations of few packets of which none absorbed others, and whose exactness is no question of seconds."""
    length = halves.shape.length
    packets = length[0::2] + length[1::2]
    short: Bools = packets <= SHORT
    more, _ = absorbed_by(halves.packets, halves.shape.packet)
    short[halves.half[more] >> 1] = False
    large = np.flatnonzero((halves.payload < 0) | (halves.payload >= _LARGEST_PAYLOAD))
    short[halves.half[large] >> 1] = False
    both = np.flatnonzero(short & (length[0::2] > 0) & (length[1::2] > 0))
    first = np.minimum(*(halves.time(halves.begin[at::2][both]) for at in (0, 1)))
    last = np.maximum(*(halves.time(halves.end[at::2][both] - 1) for at in (0, 1)))
    short[both] = (last - first >= 0) & (last - first <= LATE_SYNACK)
    return short


def _words(halves: Halves, short: Ints) -> Words:
    """(1 + 2 * SHORT, short conversations): all that matters of each. Words of packets that are not there are zero."""
    length = halves.shape.length
    begin, ours = halves.begin[0::2][short], length[0::2][short]
    count = ours + length[1::2][short]
    nowhere = len(halves.half)
    at = np.stack([np.where(count > nth, begin + nth, nowhere) for nth in range(SHORT)])
    words = np.empty((1 + 2 * SHORT, len(short)), np.uint64)
    words[0] = _order(np.append(halves.pos, -1)[at]) << 6 | ours << 3 | count
    words[1 : 1 + SHORT], words[1 + SHORT :] = (some[at] for some in _packet_words(halves))
    return words


def _packet_words(halves: Halves) -> tuple[Words, Words]:
    """Of each packet all that matters but its place among the others; behind the last of them a zero."""
    flags = halves.flags
    # src's numbers and dst's acks are on one ruler, dst's numbers and src's acks on the other
    rulers = np.empty(halves.count, np.uint32)
    begin = halves.begin[0::2]
    rulers[0::2], rulers[1::2] = halves.seq[begin], halves.ack[begin]
    rulers[halves.present] = halves.seq[halves.start]
    numbers, others = np.zeros((2, len(flags) + 1, 2), np.uint32)
    numbers[:-1, 0] = halves.seq - rulers[halves.half]
    numbers[:-1, 1] = halves.ack - rulers[halves.half ^ 1]
    numbers[:-1, 1] *= (flags & (ACK | RST)) == ACK  # it means nothing elsewhere
    others[:-1, 0] = halves.payload
    traits = (halves.window == 0).view(np.uint8) | halves.opaque.view(np.uint8) << np.uint8(1)
    # a closed port's answer has the number 0 itself
    traits |= ((halves.seq == 0) & ((flags & RST) != 0)).view(np.uint8) << np.uint8(2)
    others[:-1, 1] = flags.astype(np.uint16) << np.uint16(8) | traits
    return numbers.view(np.uint64)[:, 0], others.view(np.uint64)[:, 0]


def _order(pos: Ints) -> Ints:
    """Which of two packets came first, a bit for each two; `pos` is (SHORT, conversations), -1 where there is none."""
    order = np.zeros(pos.shape[1], np.int64)
    for other in range(1, SHORT):
        for one in range(other):
            order = order << 1 | (pos[one] < pos[other])
    return order


def _originals(words: Words) -> Ints:
    """For each conversation one that is probably the same: the first by hash."""
    count = words.shape[1]
    mixed = np.zeros(count, np.uint64)
    for column in words:
        mixed ^= mixed >> _HALF
        mixed ^= column
        mixed *= MIX
    mixed ^= mixed >> _HALF
    mixed *= MIX
    bits = np.uint64(max(count, 1).bit_length())
    mixed >>= bits
    mixed <<= bits
    mixed |= np.arange(count, dtype=np.uint64)
    mixed.sort()
    order = (mixed & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64)
    new = run_starts(mixed >> bits)
    original = np.empty_like(order)
    original[order] = order[new][np.cumsum(new) - 1]
    return original
