"""Arithmetic on sorted runs: the segmented reductions that the flow table is made of.

A *run* is a stretch of equal ids in an array sorted by id. Everything works on whole arrays; nothing loops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

# Which way a mask goes is as good as random, and `np.where` and indexing by it cost a processor's wrong guesses: ten
# times what a multiplication costs, four times what `np.flatnonzero` and indexing by its result do.

#: Odd constants from the digits of pi: they only spread keys, results never depend on them.
MIX, STIR = np.uint64(0x243F6A8885A308D3), np.uint64(0x9E3779B97F4A7C15)

#: Bits of a small integer.
_SMALL = 32

#: Sequence numbers run within +-2^35 of where their side began (32 GiB): so a run's id and a number fit one int64.
_SPAN = 36
_HALF_SPAN = 1 << (_SPAN - 1)


def median(values: Ints) -> int:
    """The median, rounded down, of one value at least: `np.median` loads masked arrays for it, which takes longer."""
    middle = (len(values) - 1) // 2, len(values) // 2
    low, high = np.partition(values, middle)[list(middle)].tolist()
    return int((low + high) // 2)


def run_starts(ids: NDArray[Any]) -> Bools:
    """True where an id differs from the one before; the first is always True."""
    new = np.ones(len(ids), np.bool_)
    np.not_equal(ids[1:], ids[:-1], out=new[1:])
    return new


def rank_in_run(ids: NDArray[Any]) -> Ints:
    """How many of the same run stand before, for sorted ids."""
    index = np.arange(len(ids), dtype=np.int64)
    begin: Ints = np.maximum.accumulate(index * run_starts(ids)) if len(ids) else index
    return index - begin


def tallies(one: Bools, other: Bools, begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """How many True lie in each stretch [begin, end) of two masks; one running sum, 32 bits each, counts both."""
    before = np.zeros(len(one) + 1, np.int64)
    np.left_shift(other, 32, out=before[1:], dtype=np.int64)
    before[1:] |= one
    np.cumsum(before, out=before)
    counts = before[end] - before[begin]
    return counts & 0xFFFFFFFF, counts >> 32


def sorted_order(ids: NDArray[np.integer[Any]]) -> Ints:
    """The stable order that sorts small non-negative ids: same ids keep their order.

    Id and index go into one integer, because sorting values is several times faster than a stable argsort.
    """
    bits = max(len(ids), 1).bit_length()
    needed = bits + (int(ids.max()).bit_length() if len(ids) else 0)
    if needed > 63:
        return np.argsort(ids, kind="stable")
    # the smaller the integers the faster
    keys: NDArray[Any] = ids.astype(np.uint32 if needed <= _SMALL else np.int64)
    keys <<= bits
    keys |= np.arange(len(ids), dtype=keys.dtype)
    keys.sort()
    keys &= (1 << bits) - 1
    order: Ints = keys.astype(np.int64, copy=False)
    return order


def order_within(ids: Ints, numbers: Ints) -> Ints:
    """The order that sorts by small non-negative ids, then by non-negative numbers that no two entries share."""
    count = len(ids)
    if not count:
        return np.zeros(0, np.int64)
    index_bits, number_bits = count.bit_length(), int(numbers.max()).bit_length()
    if int(ids.max()).bit_length() + number_bits + index_bits > 63:
        return np.lexsort((numbers, ids))
    keys = (ids << number_bits | numbers) << index_bits
    keys |= np.arange(count)
    keys.sort()
    keys &= (1 << index_bits) - 1
    return keys


def packed(ids: Ints, numbers: Ints) -> Ints:
    """Run id and number in one sortable integer; numbers are clipped to +-2^35."""
    clipped: Ints = np.clip(numbers, -_HALF_SPAN, _HALF_SPAN - 1)
    return (ids << _SPAN) + (clipped + _HALF_SPAN)


def unpacked(keys: Ints) -> Ints:
    """The numbers that `packed` put in."""
    return (keys & ((1 << _SPAN) - 1)) - _HALF_SPAN


#: What `packed` makes of "no number yet": the lowest number that it holds.
NO_NUMBER = -_HALF_SPAN


def highest_so_far(ids: Ints, numbers: Ints) -> Ints:
    """Running maximum within each run, this entry included, for sorted ids; NO_NUMBER stands for none."""
    if not len(ids):
        return numbers
    return unpacked(np.maximum.accumulate(packed(ids, numbers)))


def unwrapped(ids: NDArray[Any], numbers: NDArray[np.uint32], anchor: NDArray[np.uint32]) -> Ints:
    """32-bit sequence numbers as distances from each run's anchor, over any number of wraps.

    Each number is taken as the nearest (RFC 9293, modulo 2^32) to the one before it in its run, the first as the
    nearest to the anchor. `anchor` has one entry a number; only those at the starts of runs are used.
    """
    if not len(numbers):
        return np.zeros(0, np.int64)
    start = run_starts(ids)
    step = np.empty(len(numbers), np.uint32)
    step[0] = 0
    np.subtract(numbers[1:], numbers[:-1], out=step[1:])
    step[start] = numbers[start] - anchor[start]
    total: Ints = np.cumsum(step.view(np.int32), dtype=np.int64)
    before = np.zeros(len(numbers), np.int64)
    heads = np.flatnonzero(start)
    before[heads[1:]] = total[heads[1:] - 1]
    return total - before[np.maximum.accumulate(np.arange(len(numbers)) * start)]
