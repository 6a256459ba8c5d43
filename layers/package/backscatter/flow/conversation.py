"""Which packets belong to one flow: grouping by tuple, idle time-outs, and tuples that are used again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import ACK, FIN, HAS_PORTS, OK, ONE_WAY, RST, SYN
from backscatter.flow.runs import run_starts, sorted_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.decode.columns import Packets
    from backscatter.flow.runs import Bools, Ints

TCP = 6

SECOND = 1_000_000_000

#: A silence longer than this (ns) ends a flow, as in Zeek.
TCP_IDLE = 300 * SECOND
OTHER_IDLE = 60 * SECOND

#: Odd constants from the digits of pi: they only spread keys, results never depend on them.
_MIX = np.uint64(0x243F6A8885A308D3)
_STIR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Traffic:
    """The packets of all flows, sorted by flow, then side, then time.

    flows    how many there are; numbered by start, then by the place of the first packet
    packet   int64, index into the packet table
    half     int64, 2 * flow + side; side 0 is src, the sender of the flow's first packet
    pos      int64, the packet's number in the order of (flow, time): which came first within a flow
    head     int64, one entry a flow: index into the packet table of its first packet
    """

    flows: int
    packet: Ints
    half: Ints
    pos: Ints
    head: Ints


def conversations(packets: Packets) -> Traffic:
    """Sort the packets of a table into flows. Only packets with status OK take part, in the order of (time, place).

    A flow is one tuple (scope, IP version, protocol, both endpoints with ports) without a silence longer than the
    idle time-out. Endpoints are unordered, so both directions are one flow, except for ICMP that has no counterpart.
    Later fragments, which carry no ports, are flows without ports.

    A tuple that is used again is a new flow: a SYN (ACK, RST and FIN off) begins one when its seq differs from
    that side's SYN before it (a retransmission does not) and when, since the flow's begin or the last SYN with a new
    seq, somebody sent RST or both sides sent FIN. Packets between an RST and such a SYN stay with the old flow: an RST
    may be forged or late, and then the conversation goes on behind it. SYN+ACKs never begin a flow on a tuple in use.
    Splitting hides nothing from a judge, who joins all flows of a tuple.
    """
    chosen = _in_time(packets)
    key, forward = _keys(packets, chosen)
    order = _grouped(key)
    new_key = np.zeros(len(order), np.bool_)
    for column in key:
        new_key |= run_starts(column[order])
    forward = forward[order]
    new = _flow_starts(packets, chosen[order], new_key, forward)
    heads = np.flatnonzero(new)
    flows = len(heads)
    group = np.cumsum(new, dtype=np.int64) - 1
    side = (forward != forward[heads][group]).astype(np.int64)
    # A flow's number is the rank of its first packet, and the packets are in time order already.
    number = np.empty(flows, np.int64)
    number[np.argsort(order[heads])] = np.arange(flows)
    half = number[group] << 1 | side
    by_flow = sorted_order(number[group])
    pos = np.empty(len(order), np.int64)
    pos[by_flow] = np.arange(len(order))
    by_half = by_flow[sorted_order(half[by_flow])]
    head = np.empty(flows, np.int64)
    head[number] = chosen[order[heads]]
    return Traffic(flows, chosen[order[by_half]], half[by_half], pos[by_half], head)


def _in_time(packets: Packets) -> Ints:
    """Indices of the packets with status OK, in the order of (time, place)."""
    chosen: Ints = np.flatnonzero(packets["status"] == OK)
    time, place = packets["time"][chosen], packets["place"][chosen]
    earlier = (time[1:] < time[:-1]) | ((time[1:] == time[:-1]) & (place[1:] < place[:-1]))
    return chosen[np.lexsort((place, time))] if earlier.any() else chosen


def _keys(packets: Packets, chosen: Ints) -> tuple[list[NDArray[np.uint64]], Bools]:
    """What the packets of one tuple have in common, as columns; and whether each goes from its lower endpoint."""

    def column(name: str) -> NDArray[Any]:
        values: NDArray[Any] = packets[name][chosen]
        return values

    traits = column("traits")
    one_way = (traits & ONE_WAY) != 0
    src_hi, src_lo, dst_hi, dst_lo = (column(name) for name in ("src_hi", "src_lo", "dst_hi", "dst_lo"))
    src_port, dst_port = column("src_port").astype(np.uint64), column("dst_port").astype(np.uint64)
    forward = (
        one_way
        | (src_hi < dst_hi)
        | ((src_hi == dst_hi) & ((src_lo < dst_lo) | ((src_lo == dst_lo) & (src_port <= dst_port))))
    )
    kind = (
        column("scope").astype(np.uint64) << np.uint64(24)
        | column("version").astype(np.uint64) << np.uint64(16)
        | column("proto").astype(np.uint64) << np.uint64(8)
        | (traits & (HAS_PORTS | ONE_WAY)).astype(np.uint64)
    )
    sixteen = np.uint64(16)
    ports = np.where(forward, src_port << sixteen | dst_port, dst_port << sixteen | src_port)
    key = [kind, ports, np.where(forward, src_lo, dst_lo), np.where(forward, dst_lo, src_lo)]
    if src_hi.any() or dst_hi.any():
        key += [np.where(forward, src_hi, dst_hi), np.where(forward, dst_hi, src_hi)]
    return key, forward


def _grouped(key: list[NDArray[np.uint64]]) -> Ints:
    """An order that brings equal keys together and keeps the packets of each in theirs.

    Sorted by as many bits of a mixed key as leave room for the index, since sorting plain integers is much faster than
    sorting six columns. Keys that only share those bits are then told apart by a full sort of just their packets, so
    an attacker who finds collisions costs time and changes nothing.
    """
    count = len(key[0])
    mixed = key[0] * _STIR
    for column in key[1:]:
        mixed = (mixed ^ column) * _MIX
        mixed ^= mixed >> np.uint64(32)
    mixed *= _STIR
    index_mask = np.uint64((1 << max(count, 1).bit_length()) - 1)
    sortable = (mixed & ~index_mask) | np.arange(count, dtype=np.uint64)
    sortable.sort()
    order = (sortable & index_mask).astype(np.int64)
    run = run_starts(sortable & ~index_mask)
    differs = np.zeros(count, np.bool_)
    for column in key:
        differs |= run_starts(column[order])
    collides = differs & ~run
    if collides.any():
        group = np.cumsum(run) - 1
        mixed_up = np.flatnonzero(np.isin(group, group[collides]))
        part = order[mixed_up]
        order[mixed_up] = part[np.lexsort((part, *(column[part] for column in key), group[mixed_up]))]
    return order


def _flow_starts(packets: Packets, index: Ints, new_key: Bools, forward: Bools) -> Bools:
    """True at the first packet of each flow, for packets grouped by tuple; see `conversations` for the rule."""
    time = packets["time"][index]
    idle = np.where(packets["proto"][index] == TCP, TCP_IDLE, OTHER_IDLE)
    start = new_key.copy()
    start[1:] |= time[1:] - time[:-1] > idle[1:]
    flags = np.where(packets["proto"][index] == TCP, packets["flags"][index], np.uint8(0))
    syn = np.flatnonzero((flags & (SYN | ACK | RST | FIN)) == SYN)
    if not len(syn):
        return start
    # SYNs whose number is not that of the SYN before on the same side of the same tuple
    sender = (np.cumsum(new_key, dtype=np.int64)[syn] - 1) << 1 | forward[syn]
    by_sender = sorted_order(sender)
    seq = packets["seq"][index[syn]]
    fresh_here = run_starts(sender[by_sender]) | run_starts(seq[by_sender])
    fresh = np.zeros(len(index), np.bool_)
    fresh[syn[by_sender[fresh_here]]] = True
    # what was said since the last such SYN, or the flow's begin
    restart = np.flatnonzero(start | fresh)
    ended = np.zeros(len(restart), np.bool_)
    resets = _since(restart, (flags & RST) != 0)
    fins = [_since(restart, ((flags & FIN) != 0) & way) for way in (forward, ~forward)]
    ended[1:] = (resets > 0) | ((fins[0] > 0) & (fins[1] > 0))
    start[restart[ended & fresh[restart]]] = True
    return start


def _since(restart: Ints, mask: Bools) -> Ints:
    """How many packets of the mask lie between each restart and the one before it."""
    before = np.concatenate(([0], np.cumsum(mask, dtype=np.int64)))
    return np.diff(before[restart])
