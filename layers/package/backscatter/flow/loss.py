"""How much the capture itself lost, estimated from the traffic as Zeek's capture-loss does: acknowledged, never seen.

What a side's peer acknowledges was sent and did arrive, so bytes of it that are in no captured packet were lost by the
capture. The order of packets plays no role, so neither reordering nor retransmission is taken for loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backscatter.decode.columns import ACK, RST, SYN
from backscatter.flow.held import absorbed_by
from backscatter.flow.runs import NO_NUMBER, run_starts
from backscatter.flow.sequence import FAR, highest_ack, holes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.flow.halves import Halves
    from backscatter.flow.runs import Bools, Ints
    from backscatter.flow.sequence import Sequence

#: Payload bytes of a full segment, for sides of which no payload was captured (Ethernet's 1500 less headers).
FULL_SEGMENT = 1460


def losses(halves: Halves, sequence: Sequence) -> tuple[Ints, Ints]:
    """Opportunities to notice a loss, and losses, of each half: arrays over the halves.

    segments: TCP segments that take sequence space and that the other side acknowledged, captured or lost.
    lost: how many of them were not captured; a hole counts max(1, bytes / the half's largest payload, rounded up).

    A side is judged from its SYN on, or from the SYN that the other side's SYN+ACK acknowledges, so a lost SYN is a
    hole too. Without a handshake it is judged from its first packet on: what came before was sent before the capture
    began. Nothing is said (0, 0) of a side whose peer acknowledged nothing, of one that sent nothing but RST, and of
    one whose handshake has several sequence numbers, since then there is no telling what an ack means.
    """
    floor, ceiling = _floor(halves, sequence), highest_ack(sequence, halves)
    unclear = _several_numbers(halves, (halves.flags & (SYN | RST)) == SYN, halves.seq)
    asked = _several_numbers(halves, (halves.flags & (SYN | ACK | RST)) == (SYN | ACK), halves.ack)
    unclear |= asked.reshape(-1, 2)[:, ::-1].reshape(-1)
    ceiling = np.where(unclear | ~sequence.known, NO_NUMBER, ceiling)
    takes = sequence.end > sequence.begin
    half, begin, end = sequence.half[takes], sequence.begin[takes], sequence.end[takes]
    where, low, high = holes(half, begin, end, floor, ceiling)
    largest = np.maximum(halves.reduced(np.maximum, _single_payloads(halves)), 0)
    largest = np.where(largest > 0, largest, FULL_SEGMENT)
    count = -((low - high) // largest[where])
    count[_is_keepalive(halves, sequence, where, low, high)] = 0
    lost = np.bincount(where, count, halves.count).astype(np.int64)
    counts = begin < ceiling[half]
    seen = np.bincount(half[counts], minlength=halves.count)
    more, absorbed = absorbed_by(halves.packets, halves.shape.packet[sequence.index[takes][counts]])
    np.add.at(seen, half[counts][more], absorbed["segments"])
    return seen + lost, lost


def _single_payloads(halves: Halves) -> Ints:
    """Payload of each packet: of one that absorbed others, the largest."""
    more, absorbed = absorbed_by(halves.packets, halves.shape.packet)
    if not len(more):
        return halves.payload
    single = halves.payload.copy()
    single[more] = absorbed["largest"]
    return single


def _floor(halves: Halves, sequence: Sequence) -> Ints:
    """From where on each half is judged, on its ruler."""
    floor = np.zeros(halves.count, np.int64)
    flags = halves.flags & (SYN | ACK | RST)
    own = halves.first(np.flatnonzero((flags & (SYN | RST)) == SYN))
    has_syn = np.zeros(halves.count, np.bool_)
    has_syn[halves.half[own]] = True
    # A side that answered a SYN and went on, without a SYN of its own: its SYN+ACK was lost.
    opened = np.zeros(halves.count, np.bool_)
    opened[halves.half[flags == SYN] ^ 1] = True
    floor[opened & ~has_syn] = -1
    asking = halves.first(np.flatnonzero(flags == (SYN | ACK)))
    asked = halves.half[asking] ^ 1
    asking, asked = asking[sequence.known[asked]], asked[sequence.known[asked]]
    syn = sequence.on_ruler(asked, halves.ack[asking].astype(np.int64) - 1)
    near = np.abs(syn) <= FAR
    floor[asked[near]] = syn[near]
    floor[halves.half[own]] = sequence.on_ruler(halves.half[own], halves.seq[own].astype(np.int64))
    return floor


def _several_numbers(halves: Halves, mask: Bools, column: NDArray[np.uint32]) -> Bools:
    """Halves whose packets of the mask differ in a column."""
    index = np.flatnonzero(mask)
    half, value = halves.half[index], column[index]
    differs = (half[1:] == half[:-1]) & (value[1:] != value[:-1])
    several = np.zeros(halves.count, np.bool_)
    several[half[1:][differs]] = True
    return several


def _is_keepalive(halves: Halves, sequence: Sequence, half: Ints, low: Ints, high: Ints) -> Bools:
    """Holes of one byte at the begin of a half that was first seen in a packet without payload.

    A keep-alive probe has the seq of the last byte that was acknowledged long before: that byte was not lost.
    """
    head = np.zeros(halves.count, np.bool_)
    heads = np.flatnonzero(run_starts(sequence.half)) if len(sequence.half) else sequence.half
    head[sequence.half[heads]] = sequence.end[heads] == sequence.begin[heads]
    shaken = np.zeros(halves.count, np.bool_)
    opened = halves.half[(halves.flags & (SYN | RST)) == SYN]
    shaken[opened] = True
    shaken[opened ^ 1] = True
    keepalive: Bools = head[half] & ~shaken[half] & (low == 0) & (high == 1)
    return keepalive
