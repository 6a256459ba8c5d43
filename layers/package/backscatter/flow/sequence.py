"""TCP sequence space: what each side sent and what the other acknowledged, as distances in bytes on one ruler a side.

The ruler of a half begins at the seq of its first packet that is no RST. Numbers are unwrapped from packet to packet in
time, so a conversation may run round the 32-bit space as often as it likes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backscatter.decode.columns import ACK, FIN, RST, SYN
from backscatter.flow.runs import NO_NUMBER, highest_so_far, packed, run_starts, unwrapped

if TYPE_CHECKING:
    from backscatter.flow.halves import Halves
    from backscatter.flow.runs import Bools, Ints

#: An ack further than this (bytes) ahead of everything that was sent is garbage, not loss.
FAR = 1 << 30


@dataclass(frozen=True, slots=True)
class Sequence:
    """Sequence space of all TCP halves; one entry for each TCP packet that is no RST, in the order of halves.

    index  into the packets of Halves
    half   the sender's
    begin  where its first byte lies on its half's ruler; a SYN is the byte at its seq
    end    one behind its last byte: payload, SYN and FIN count
    heard  (acks only) index of the entries that acknowledge something plausible
    other  (acks only) the half that they acknowledge
    acked  (acks only) one behind the last byte that they acknowledge, on that half's ruler
    """

    index: Ints
    half: Ints
    begin: Ints
    end: Ints
    heard: Ints
    other: Ints
    acked: Ints
    known: Bools  # halves that have a ruler
    origin: Ints  # one entry a half: seq at the ruler's begin

    def on_ruler(self, half: Ints, number: Ints) -> Ints:
        """Where sequence numbers near the begin of a half's ruler lie on it."""
        distance: Ints = (number - self.origin[half]).astype(np.uint32).view(np.int32).astype(np.int64)
        return distance


def sequence_space(halves: Halves) -> Sequence:
    """Lay the TCP packets of every half on its ruler."""
    flags = halves.flags
    index = np.flatnonzero((flags & RST) == 0)
    half, seq, flags = halves.half[index], halves.seq[index], flags[index]
    heads = np.flatnonzero(run_starts(half))
    origin, known = np.zeros(halves.count, np.int64), np.zeros(halves.count, np.bool_)
    origin[half[heads]], known[half[heads]] = seq[heads], True
    begin = unwrapped(half, seq, seq)
    length = halves.payload[index] + ((flags & SYN) != 0) + ((flags & FIN) != 0)
    heard = np.flatnonzero(((flags & ACK) != 0) & known[half ^ 1])
    other = half[heard] ^ 1
    acks = halves.ack[index[heard]]
    acked = unwrapped(other, acks, origin[other].astype(np.uint32))
    end = begin + length
    top = np.full(halves.count, NO_NUMBER, np.int64)
    if len(heads):
        top[half[heads]] = np.maximum.reduceat(end, heads)
    plausible = np.abs(acked - top[other]) <= FAR
    plausible |= (acked >= 0) & (acked <= top[other])
    return Sequence(index, half, begin, end, heard[plausible], other[plausible], acked[plausible], known, origin)


def highest_ack(sequence: Sequence, halves: Halves) -> Ints:
    """The highest plausible ack that each half got, on its ruler; NO_NUMBER where it got none."""
    highest = np.full(halves.count, NO_NUMBER, np.int64)
    # acks stand in the order of their senders' halves, so those of one half stand together
    start = np.flatnonzero(run_starts(sequence.other)) if len(sequence.other) else sequence.other
    if len(start):
        highest[sequence.other[start]] = np.maximum.reduceat(sequence.acked, start)
    return highest


def holes(half: Ints, begin: Ints, end: Ints, floor: Ints, ceiling: Ints) -> tuple[Ints, Ints, Ints]:
    """What the intervals leave uncovered between floor and ceiling.

    The intervals [begin, end) lie on the rulers of their halves. `floor` and `ceiling` have one entry a half; nothing
    is looked for where the ceiling is not above the floor. Returns half, begin and end of every uncovered stretch.
    """
    # A last interval at the ceiling closes every half's account, so that what is missing at the end shows too.
    open_halves = np.flatnonzero(ceiling > floor)
    wanted = ceiling[half] > floor[half]
    half = np.concatenate((half[wanted], open_halves))
    begin = np.concatenate((begin[wanted], ceiling[open_halves]))
    end = np.concatenate((end[wanted], ceiling[open_halves]))
    order = np.argsort(packed(half, begin), kind="stable")
    half, begin, end = half[order], begin[order], end[order]
    begin = np.minimum(begin, ceiling[half])
    covered = np.roll(highest_so_far(half, end), 1)
    covered[run_starts(half)] = NO_NUMBER
    covered = np.maximum(covered, floor[half])
    hole = begin > covered
    return half[hole], covered[hole], begin[hole]
