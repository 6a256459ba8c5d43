"""Zeek's history: one letter for each thing that happened, upper case by src, lower case by dst, in order of time.

    S  SYN                      F  FIN                            D  payload
    H  SYN+ACK                  R  RST                            A  pure ACK
    I  FIN and RST together     Q  SYN with FIN or RST            T  payload sent again
    W  window of zero           G  content gap: acknowledged bytes that nobody captured

As Zeek's update_history, update_window, update_last_seq and TCP_Reassembler write them, by default options, except that
roles are never flipped (no ^), checksums are not judged (no C), and a snap length does not make gaps. A, D, I and Q
stand once a side; F and R again when the sequence number differs from the last; so do S and H, but only from a side
that is CLOSED or RESET, because otherwise Zeek takes the new number for the real one and begins to count anew; G, T
and W at the 1st, 10th, 100th, ... time. UDP has D once a side, other protocols nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backscatter.decode.columns import ACK, FIN, RST, SYN
from backscatter.flow.runs import NO_NUMBER, highest_so_far, packed, rank_in_run, run_starts, unwrapped
from backscatter.flow.sequence import highest_ack, holes
from backscatter.flow.state import NEVER
from backscatter.flow.table import FLOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.flow.halves import Halves
    from backscatter.flow.runs import Bools, Ints
    from backscatter.flow.sequence import Sequence
    from backscatter.flow.state import Endpoints

#: How many letters a history keeps.
LETTERS = FLOW["history"].itemsize

#: Zeek's TOO_LARGE_SEQ_DELTA: further off than this, the seq of a SYN or RST is not believed.
_FAR_SEQ = 1 << 20

#: In which order one packet's letters are written.
_FLAGS, _WINDOW, _AGAIN, _GAP = range(4)

_LETTER_BITS = 7

_POWERS = 10 ** np.arange(19, dtype=np.int64)


class Unruly(NamedTuple):
    """The flows that may have been sent again in part, or have gaps: a mask over all flows, and their halves alone."""

    flows: Bools
    halves: Halves
    sequence: Sequence


def histories(halves: Halves, ends: Endpoints, unruly: Unruly | None) -> NDArray[np.bytes_]:
    """The history of every flow of TCP, (flows,) of S40. `unruly` are those that may have T or G."""
    letters: list[Ints] = []

    def write(letter: str, flow: Ints, owner: Ints, pos: Ints, turn: int) -> None:
        # lower case is 32 behind upper case
        spelled = (owner & 1) << 5
        spelled |= turn << _LETTER_BITS | ord(letter)
        letters.append((flow << pos_bits | pos) << (2 + _LETTER_BITS) | spelled)

    pos_bits = int(halves.pos.max(initial=1)).bit_length()
    for letter, index in _flag_letters(halves, ends).items():
        half = halves.half[index]
        write(letter, half >> 1, half, halves.pos[index], _FLAGS)
    index = _scaled(halves.half, _zero_windows(halves, ends))
    write("W", halves.half[index] >> 1, halves.half[index], halves.pos[index], _WINDOW)
    if unruly is not None:
        few = unruly.halves
        few_ends = ends.only(unruly.flows)
        number = np.flatnonzero(unruly.flows)
        index = _scaled(few.half, _sent_again(few, few_ends))
        write("T", number[few.half[index] >> 1], few.half[index], few.pos[index], _AGAIN)
        owner, pos = _gaps(few, few_ends, unruly.sequence)
        tenth = _scaled(owner, np.arange(len(owner)))
        write("G", number[owner[tenth] >> 1], owner[tenth], pos[tenth], _GAP)
    return _spelled(np.concatenate(letters), pos_bits, halves.count // 2)


def udp_histories(length: Ints) -> NDArray[np.bytes_]:
    """The history of every flow of UDP: D once a side, in the order in which they spoke; `length` is packets a half."""
    return np.where(length[1::2] > 0, b"Dd", b"D")


def _spelled(letters: Ints, pos_bits: int, flows: int) -> NDArray[np.bytes_]:
    """Letters to words. Flow, position, turn and letter lie in one integer: sorting those is all the order there is."""
    letters.sort()
    flow = letters >> (pos_bits + 2 + _LETTER_BITS)
    column = rank_in_run(flow)
    words = np.zeros((flows, LETTERS), np.uint8)
    if column.max(initial=0) >= LETTERS:
        kept = column < LETTERS
        flow, column, letters = flow[kept], column[kept], letters[kept]
    words[flow, column] = letters & ((1 << _LETTER_BITS) - 1)
    return words.reshape(-1).view(f"S{LETTERS}")


def _scaled(owner: Ints, index: Ints) -> Ints:
    """Of the indices that the owners gathered, in order, each owner's 1st, 10th, 100th, ..."""
    count = rank_in_run(owner[index]) + 1
    scaled: Ints = index[_POWERS[np.searchsorted(_POWERS, count)] == count]
    return scaled


def _flag_letters(halves: Halves, ends: Endpoints) -> dict[str, Ints]:
    """Indices of the packets that write each of S H F R I Q D A."""
    index = halves.control
    flags = halves.flags[index]
    control = flags & (SYN | FIN | RST)
    ack = (flags & ACK) != 0
    several = (control & (control - np.uint8(1))) != 0
    torn = (control & (FIN | RST)) == (FIN | RST)
    is_syn = control == SYN
    syn = index[is_syn]
    written = _first_or_new_seq(halves, ends, syn)
    syn, syn_ack = syn[written], ack[is_syn][written]
    fin = index[control == FIN]
    fin_at = halves.seq[fin] + halves.payload[fin].astype(np.uint32)
    rst = index[control == RST]
    data = halves.data.copy()
    data[index] = False
    return {
        "S": syn[~syn_ack],
        "H": syn[syn_ack],
        "F": fin[run_starts(halves.half[fin]) | run_starts(fin_at)],
        "R": rst[run_starts(halves.half[rst]) | run_starts(halves.seq[rst])],
        "I": halves.first(index[torn]),
        "Q": halves.first(index[several & ~torn]),
        "D": halves.first(np.flatnonzero(data)),
        "A": halves.first(np.flatnonzero(halves.bare)),
    }


def _first_or_new_seq(halves: Halves, ends: Endpoints, syn: Ints) -> Bools:
    """Which SYNs and SYN+ACKs are written: a half's first, and new numbers once it is closed."""
    half = halves.half[syn]
    closed = halves.pos[syn] > ends.close.reshape(-1)[half]
    # A side whose very first packet is a lone RST is believed to begin with its SYN after all.
    opener = halves.dense((halves.flags & (SYN | FIN | RST))[halves.start])
    written: Bools = run_starts(half) | (run_starts(halves.seq[syn]) & closed & (opener[half] != RST))
    return written


def _zero_windows(halves: Halves, ends: Endpoints) -> Ints:
    """Packets that offer no window, unless RST, or sent after an RST, or after the other side's FIN."""
    index = np.flatnonzero(halves.window == 0)
    index = index[(halves.flags[index] & RST) == 0]
    half, pos = halves.half[index], halves.pos[index]
    told: Ints = index[~_is_reset(ends, half, pos) & ~_is_closed(ends, half ^ 1, pos)]
    return told


def _is_reset(ends: Endpoints, half: Ints, pos: Ints) -> Bools:
    """Whether a half was RESET before the packet at a position."""
    reset: Bools = (ends.reset_from.reshape(-1)[half] < pos) & (pos <= ends.reset_until.reshape(-1)[half])
    return reset


def _is_closed(ends: Endpoints, half: Ints, pos: Ints) -> Bools:
    """Whether a half was CLOSED before the packet at a position."""
    return (ends.close.reshape(-1)[half] < pos) & ~_is_reset(ends, half, pos)


def _sent_again(halves: Halves, ends: Endpoints) -> Ints:
    """Packets with payload that ends at or before the highest number that their side has reached.

    The mark begins anew with every SYN of a side that is not yet closed. SYNs behind a close and RSTs do not move it.
    """
    half, pos, flags = halves.half, halves.pos, halves.flags
    seq, payload = halves.seq, halves.payload
    syn, rst = (flags & SYN) != 0, (flags & RST) != 0
    reset = _is_reset(ends, half, pos)
    anew = run_starts(half) | (syn & (pos <= ends.close.reshape(-1)[half]))
    epoch = np.cumsum(anew, dtype=np.int64)
    begin = unwrapped(half, seq, seq)
    end = begin + syn + ((flags & FIN) != 0) + np.where(rst, 0, payload)
    mark = np.where((rst | syn) | reset, NO_NUMBER, end)
    start = np.where(syn, end, begin)
    mark = highest_so_far(epoch, np.where(anew, np.maximum(mark, start), mark))
    before = np.where(anew, start, np.roll(mark, 1))
    again = (payload > 0) & (end <= before) & ~reset
    again &= ~(syn | rst) | (end >= before - _FAR_SEQ)
    resent: Ints = np.flatnonzero(again)
    return resent


def _gaps(halves: Halves, ends: Endpoints, sequence: Sequence) -> tuple[Ints, Ints]:
    """Content gaps: the half that misses bytes, and the position of the ack that shows it; in order of both.

    A byte is missing if nobody captured it before it was acknowledged. Zeek writes this only while both sides are
    established or closing without RST.
    """
    sender = sequence.half[sequence.heard]
    heard_at = halves.pos[sequence.index[sequence.heard]]
    highest = highest_so_far(sender, sequence.acked)
    proper = np.repeat(ends.established != NEVER, 2) & sequence.known
    syns = halves.first(np.flatnonzero((halves.flags & (SYN | RST)) == SYN))
    floor = np.full(halves.count, 0, np.int64)
    floor[halves.half[syns]] = sequence.on_ruler(halves.half[syns], halves.seq[syns].astype(np.int64)) + 1
    ceiling = np.where(proper, highest_ack(sequence, halves), NO_NUMBER)
    fins = np.flatnonzero((halves.flags[sequence.index] & FIN) != 0)
    last_fin = np.full(halves.count, np.iinfo(np.int64).max)
    last_fin[sequence.half[fins]] = sequence.end[fins]
    ceiling = np.minimum(ceiling, last_fin)
    # What was acknowledged before it was captured counts as missing: Zeek has given it up by then.
    takes = np.flatnonzero((sequence.end > sequence.begin) & proper[sequence.half])
    half, at = sequence.half[takes], halves.pos[sequence.index[takes]]
    latest = np.searchsorted(_moment(halves, sender, heard_at), _moment(halves, half ^ 1, at)) - 1
    known = latest >= 0
    known[known] = sender[latest[known]] == half[known] ^ 1
    begin = sequence.begin[takes].copy()
    begin[known] = np.maximum(begin[known], highest[latest[known]])
    fresh = begin < sequence.end[takes]
    where, low, high = holes(half[fresh], begin[fresh], sequence.end[takes][fresh], floor, ceiling)
    # Every ack that reaches into a hole, for the first time so far, tells of a gap.
    raises = np.flatnonzero(run_starts(sender) | run_starts(highest))
    ladder = packed(sender[raises], highest[raises])
    first = np.searchsorted(ladder, packed(where ^ 1, low), side="right")
    last = np.searchsorted(ladder, packed(where ^ 1, high), side="left")
    times = last - first + 1
    step = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    owner = np.repeat(where, times)
    pos = heard_at[raises[np.repeat(first, times) + step]]
    flow = owner >> 1
    clean = (pos >= ends.established[flow]) & (pos < ends.reset_from.min(axis=1, initial=NEVER)[flow])
    owner, pos = owner[clean], pos[clean]
    order = np.lexsort((pos, owner))
    return owner[order], pos[order]


def _moment(halves: Halves, half: Ints, pos: Ints) -> Ints:
    """Half and position in one integer that sorts by both."""
    return half << int(halves.pos.max(initial=1)).bit_length() | pos
