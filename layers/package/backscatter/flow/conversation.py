"""Which packets belong to one flow: grouping by tuple, idle time-outs, and tuples that are used again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backscatter.decode.columns import ACK, FIN, HAS_PORTS, OK, ONE_WAY, RST, SYN
from backscatter.flow.runs import MIX, STIR, run_starts, sorted_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from backscatter.decode.columns import Packets
    from backscatter.flow.runs import Bools, Ints

TCP = 6

SECOND = 1_000_000_000

#: A silence longer than this (ns) ends a flow, as in Zeek.
TCP_IDLE = 300 * SECOND
OTHER_IDLE = 60 * SECOND


_SIXTEEN = np.uint64(16)

#: Packets that keys are made of at a time.
_STRETCH = 1 << 15


class Traffic(NamedTuple):
    """The packets of all flows, sorted by flow, then side, then time.

    flows    how many there are; numbered by start, then by the place of the first packet
    packet   int64, index into the packet table
    pos      int64, the packet's number in the order of (time, place): which came first
    length   int64, packets of each half (2 * flow + side); side 0 is src, the sender of the flow's first packet
    head     int64, one entry a flow: index into the packet table of its first packet
    chain    int64, one entry a flow: flows of one tuple that no silence parts have the same
    """

    flows: int
    packet: Ints
    pos: Ints
    length: Ints
    head: Ints
    chain: Ints

    def only(self, flows: Bools) -> Traffic:
        """The flows that a mask picks, in their order, numbered anew."""
        halves = np.repeat(flows, 2)
        packets = np.repeat(halves, self.length)
        return Traffic(
            int(np.count_nonzero(flows)),
            self.packet[packets],
            self.pos[packets],
            self.length[halves],
            self.head[flows],
            self.chain[flows],
        )


def conversations(packets: Packets, settled: Bools | None = None) -> Traffic:
    """Sort the packets of a table into flows. Only packets with status OK take part, in the order of (time, place).

    A flow is one tuple (scope, IP version, protocol, both endpoints with ports) without a silence longer than the
    idle time-out. Endpoints are unordered, so both directions are one flow, except for ICMP that has no counterpart.
    Later fragments, which carry no ports, are flows without ports.

    A tuple that is used again is a new flow: a SYN (ACK, RST and FIN off) begins one when its seq differs from
    that side's SYN before it (a retransmission does not; SYNs before a silence are forgotten) and when, since the
    flow's begin or the last SYN with a new seq, somebody sent RST or both sides sent FIN. Packets between an RST and
    such a SYN stay with the old flow: an RST may be forged or late, and then the conversation goes on behind it.
    SYN+ACKs never begin a flow on a tuple in use.
    Splitting hides nothing from a judge, who joins all flows of a tuple.

    `settled` tells packets between which there was no silence, though some that filled it may be gone.
    """
    taken = _in_time(packets)
    count = len(packets) if taken is None else len(taken)
    if not count:
        none = np.zeros(0, np.int64)
        return Traffic(0, none, none, none, none, none)
    keys = _keys(packets, taken)
    runs, forward = _grouped(keys), keys.forward
    del keys
    found = _Found.of(runs)
    if _split(packets, taken, forward, runs, found, settled):
        found = _Found.of(runs)
    at, first, head = found.at, found.first, found.head
    length = np.diff(np.append(at, count))
    new_flow = runs.new_flow[at]
    flow = np.cumsum(new_flow, dtype=np.int64) - 1
    # A flow's number is the rank of its first packet, and the packets are in time order already.
    flows = len(head)
    by_start = sorted_order(head)
    number = np.empty(flows, np.int64)
    number[by_start] = np.arange(flows)
    half = number[flow] << 1 | (first != head[flow])
    lengths, begins = np.zeros(2 * flows, np.int64), np.zeros(2 * flows, np.int64)
    lengths[half], begins[half] = length, at
    begins -= np.cumsum(lengths) - lengths
    source = np.repeat(begins, lengths)
    source += np.arange(count)
    pos = runs.order.take(source, out=source, mode="clip")  # in place: each is looked up before it is written over
    chain = np.cumsum(runs.new_chain[at][new_flow], dtype=np.int64)
    head = head[by_start]
    packet, head = (pos, head) if taken is None else (taken[pos], taken[head])
    return Traffic(flows, packet, pos, lengths, head, chain[by_start])


def _in_time(packets: Packets) -> Ints | None:
    """Indices of the packets with status OK, in the order of (time, place); None for all packets as they stand."""
    ok = packets["status"] == OK
    chosen: Ints | None = None if ok.all() else np.flatnonzero(ok)
    time, place = (packets[name] if chosen is None else packets[name][chosen] for name in ("time", "place"))
    behind = np.flatnonzero(time[1:] <= time[:-1])
    earlier = (time[behind + 1] < time[behind]) | (place[behind + 1] < place[behind])
    if not earlier.any():
        return chosen
    order = np.lexsort((place, time))
    return order if chosen is None else chosen[order]


class _Keys(NamedTuple):
    """What the packets of one tuple have in common.

    columns  (packets, 2 or 6) of uint64, equal in all of them for packets of one tuple and of no other
    mixed    uint64, a hash of these
    forward  whether a packet goes from its lower endpoint
    """

    columns: NDArray[np.uint64]
    mixed: NDArray[np.uint64]
    forward: Bools


def _keys(packets: Packets, taken: Ints | None) -> _Keys:
    """The keys of the packets taken, all for None. The fewer columns the faster: two hold the tuple of IPv4 whole."""
    count = len(packets) if taken is None else len(taken)
    high = packets["src_hi"].any() or packets["dst_hi"].any()
    low = max(packets["src_lo"].max(), packets["dst_lo"].max()) >= 1 << 32
    compact = not high and not low and packets["scope"].max() < 1 << 16
    columns = np.empty((count, 2 if compact else 6), np.uint64)  # side by side: they are looked at together
    mixed, forward = np.empty(count, np.uint64), np.empty(count, np.bool_)

    def fill(begin: int) -> None:
        some = slice(begin, begin + _STRETCH)
        tuple_columns, forward[some] = (_compact_key if compact else _wide_key)(
            packets, some if taken is None else taken[some]
        )
        hashed = np.zeros(len(tuple_columns[0]), np.uint64)
        for number, values in enumerate(tuple_columns):
            columns[some, number] = values
            hashed ^= hashed >> np.uint64(32)
            hashed ^= values
            hashed *= MIX
        hashed ^= hashed >> np.uint64(32)
        np.multiply(hashed, STIR, out=mixed[some])

    _in_stretches(fill, 0, count)
    return _Keys(columns, mixed, forward)


def _in_stretches(work: Callable[[int], None], start: int, end: int) -> None:
    """Work in stretches, so that what is computed on the way stays in a core's own cache."""
    for begin in range(start, end, _STRETCH):
        work(begin)


def _kind(packets: Packets, index: slice | Ints) -> tuple[NDArray[np.uint16], Bools]:
    """Protocol, version and traits in 11 bits; and whether the reverse tuple is another conversation."""
    traits = packets["traits"][index]
    one_way = (traits & ONE_WAY) != 0
    kind = packets["proto"][index].astype(np.uint16) << np.uint16(3)
    kind |= (packets["version"][index] == 6) << np.uint16(2)
    kind |= (traits & HAS_PORTS) | one_way << np.uint8(1)
    return kind, one_way


def _compact_key(packets: Packets, index: slice | Ints) -> tuple[list[NDArray[np.uint64]], Bools]:
    """Keys of packets whose addresses have 32 bits and whose scopes have 16."""
    kind, one_way = _kind(packets, index)
    src = packets["src_lo"][index] << _SIXTEEN | packets["src_port"][index]
    dst = packets["dst_lo"][index] << _SIXTEEN | packets["dst_port"][index]
    forward = src <= dst
    lower, upper = np.minimum(src, dst), np.maximum(src, dst)
    if len(only := np.flatnonzero(one_way & ~forward)):
        forward[only] = True
        lower[only], upper[only] = src[only], dst[only]
    lower <<= _SIXTEEN
    lower |= packets["scope"][index]
    upper <<= _SIXTEEN
    upper |= kind
    return [lower, upper], forward


def _wide_key(packets: Packets, index: slice | Ints) -> tuple[list[NDArray[np.uint64]], Bools]:
    """Keys of any packets."""
    kind, one_way = _kind(packets, index)
    src_hi, src_lo, src_port = (packets[f"src_{name}"][index] for name in ("hi", "lo", "port"))
    dst_hi, dst_lo, dst_port = (packets[f"dst_{name}"][index] for name in ("hi", "lo", "port"))
    forward = (
        one_way
        | (src_hi < dst_hi)
        | ((src_hi == dst_hi) & ((src_lo < dst_lo) | ((src_lo == dst_lo) & (src_port <= dst_port))))
    )
    ends = np.where(forward, src_port, dst_port).astype(np.uint64) << _SIXTEEN | np.where(forward, dst_port, src_port)
    key = [ends << _SIXTEEN | kind, packets["scope"][index].astype(np.uint64)]
    for one, other in ((src_lo, dst_lo), (src_hi, dst_hi)):
        key += [np.where(forward, one, other), np.where(forward, other, one)]
    return key, forward


@dataclass(slots=True)
class _Runs:
    """Packets in the order of (flow, direction, time).

    order     the packets' numbers in the order of time
    new_flow  True where another flow begins
    new_half  True where another flow or another direction begins
    new_chain True where another tuple begins, or the same one behind a silence
    """

    order: Ints
    new_flow: Bools
    new_half: Bools
    new_chain: Bools


class _Found(NamedTuple):
    """What runs begin with.

    at     where halves begin in the order of the runs
    begin  which of these begin a flow
    first  number, in the order of time, of each half's first packet
    head   the same of each flow
    """

    at: Ints
    begin: Ints
    first: Ints
    head: Ints

    @classmethod
    def of(cls, runs: _Runs) -> _Found:
        at = np.flatnonzero(runs.new_half)
        first, begin = runs.order[at], np.flatnonzero(runs.new_flow[at])
        return cls(at, begin, first, np.minimum.reduceat(first, begin))


def _grouped(keys: _Keys) -> _Runs:
    """Equal keys brought together, and of each the packets of either direction, which keep their order.

    Sorted by as many bits of the mixed key as leave room for direction and index, since sorting plain integers is much
    faster than sorting columns. Keys that only share those bits are then told apart by a full sort of just their
    packets, so an attacker who finds collisions costs time and changes nothing.
    """
    mixed, forward = keys.mixed, keys.forward
    count = len(forward)
    bits = count.bit_length()
    mixed &= ~np.uint64((2 << bits) - 1)
    mixed |= forward.astype(np.uint64) << np.uint64(bits)
    mixed |= np.arange(count, dtype=np.uint64)
    mixed.sort()
    order = (mixed & np.uint64((1 << bits) - 1)).view(np.int64)
    mixed >>= np.uint64(bits)
    new_half = run_starts(mixed)
    mixed >>= np.uint64(1)
    new_hash = run_starts(mixed)
    new_flow = _changes(keys.columns, order)
    collides = new_flow & ~new_hash
    if collides.any():
        group = np.cumsum(new_hash) - 1
        mixed_up = np.flatnonzero(np.isin(group, group[collides]))
        part = order[mixed_up]
        part = part[np.lexsort((part, forward[part], *keys.columns[part].T, group[mixed_up]))]
        order[mixed_up] = part
        new_hash[mixed_up] |= _changes(keys.columns, part)
        new_flow = new_hash
        new_half[mixed_up] = new_hash[mixed_up] | run_starts(forward[part])
    return _Runs(order, new_flow, new_half, new_flow)


def _changes(columns: NDArray[np.uint64], order: Ints) -> Bools:
    """True where, in this order, any column differs from the entry before; the first is always True."""
    changes = np.ones(len(order), np.bool_)

    def fill(begin: int) -> None:
        values = columns.take(order[begin - 1 : begin + _STRETCH], axis=0)
        some = changes[begin : begin + _STRETCH]
        some[:] = False
        for number in range(columns.shape[1]):
            some |= values[1:, number] != values[:-1, number]

    _in_stretches(fill, 1, len(order))
    return changes


def _split(
    packets: Packets, taken: Ints | None, forward: Bools, runs: _Runs, found: _Found, settled: Bools | None
) -> bool:
    """Split tuples into flows where they fell silent or were used again; see `conversations` for the rule.

    Few tuples can have been: those whose packets span more than the time-out, and those with a SYN behind a FIN or
    RST. Only their packets are looked at one after the other. Returns whether there were any.
    """
    splits = _fell_silent(packets, taken, runs, found) | _may_be_used_again(packets, taken, runs, found)
    if not splits.any():
        return False
    length = np.diff(np.append(found.at[found.begin], len(runs.order)))
    where = np.flatnonzero(np.repeat(splits, length))
    tuples = np.repeat(np.arange(np.count_nonzero(splits)), length[splits])
    part = runs.order[where]
    by_time = np.lexsort((part, tuples))
    part, tuples = part[by_time], tuples[by_time]
    index, new_tuple = part if taken is None else taken[part], run_starts(tuples)
    new_chain = new_tuple | _silences(packets, index, new_tuple, settled)
    start = new_chain | _reuses(packets, index, new_chain, forward[part])
    flow, chain = np.cumsum(start), np.cumsum(new_chain)
    by_half = np.lexsort((part, forward[part], flow))
    part, flow = part[by_half], flow[by_half]
    runs.order[where] = part
    runs.new_chain = runs.new_flow.copy()
    runs.new_chain[where] = run_starts(chain[by_half])
    runs.new_flow[where] = run_starts(flow)
    runs.new_half[where] = run_starts(flow << 1 | forward[part])
    return True


def _fell_silent(packets: Packets, taken: Ints | None, runs: _Runs, found: _Found) -> Bools:
    """Tuples whose packets span more than the time-out."""
    first = found.head
    silent = np.zeros(len(first), np.bool_)
    time = packets["time"] if taken is None else packets["time"][taken]
    whole = _elapsed(time[:1], time[-1:])[0]  # they stand in the order of time
    if whole <= OTHER_IDLE:
        return silent
    is_tcp = packets["proto"][first if taken is None else taken[first]] == TCP
    last = np.append(found.at[1:], len(runs.order)) - 1
    last = np.maximum.reduceat(runs.order[last], found.begin)
    some = np.flatnonzero(~is_tcp) if whole <= TCP_IDLE else np.arange(len(first))
    idle = np.where(is_tcp[some], TCP_IDLE, OTHER_IDLE).astype(np.uint64)
    silent[some] = _elapsed(time[first[some]], time[last[some]]) > idle
    return silent


def _may_be_used_again(packets: Packets, taken: Ints | None, runs: _Runs, found: _Found) -> Bools:
    """Tuples of TCP with a SYN behind a FIN or RST."""
    again = np.zeros(len(found.head), np.bool_)
    flags = packets["flags"] if taken is None else packets["flags"][taken]
    # others have no flags
    is_end, is_syn = (flags & (FIN | RST)) != 0, (flags & (SYN | ACK | RST | FIN)) == SYN
    if not is_end.any() or np.count_nonzero(is_syn) == np.count_nonzero(is_syn[found.head]):
        return again  # every SYN begins its tuple
    heads = found.at[found.begin]
    told = is_end.view(np.uint8) | is_syn.view(np.uint8) << np.uint8(1)
    told = told[runs.order]
    some = np.flatnonzero(told)
    told, order = told[some], runs.order[some]
    tuples = np.searchsorted(heads, some, side="right") - 1
    ends, syns = told == 1, told == 2
    first_end = np.full(len(heads), len(flags))
    np.minimum.at(first_end, tuples[ends], order[ends])
    again[tuples[syns][order[syns] > first_end[tuples[syns]]]] = True
    again &= packets["proto"][found.head if taken is None else taken[found.head]] == TCP
    return again


def _silences(packets: Packets, index: Ints, new_tuple: Bools, settled: Bools | None) -> Bools:
    """True at packets that the same tuple's packet before is further off than the time-out."""
    time = packets["time"][index]
    idle = np.where(packets["proto"][index] == TCP, TCP_IDLE, OTHER_IDLE).astype(np.uint64)
    silence = ~new_tuple
    silence[1:] &= _elapsed(time[:-1], time[1:]) > idle[1:]
    if settled is not None:
        held = settled[index]
        silence[1:] &= ~(held[1:] & held[:-1])
    return silence


def _reuses(packets: Packets, index: Ints, start: Bools, forward: Bools) -> Bools:
    """True at SYNs that begin a flow, in the chains of packets that begin at `start`; see `conversations`."""
    reuse = np.zeros(len(index), np.bool_)
    flags = np.where(packets["proto"][index] == TCP, packets["flags"][index], np.uint8(0))
    syn = np.flatnonzero((flags & (SYN | ACK | RST | FIN)) == SYN)
    if not len(syn):
        return reuse
    # SYNs whose number is not that of the SYN before on the same side of the same chain
    sender = (np.cumsum(start, dtype=np.int64)[syn] - 1) << 1 | forward[syn]
    by_sender = sorted_order(sender)
    seq = packets["seq"][index[syn]]
    fresh_here = run_starts(sender[by_sender]) | run_starts(seq[by_sender])
    fresh = np.zeros(len(index), np.bool_)
    fresh[syn[by_sender[fresh_here]]] = True
    # what was said since the last such SYN, or the chain's begin
    restart = np.flatnonzero(start | fresh)
    ended = np.zeros(len(restart), np.bool_)
    resets = _since(restart, (flags & RST) != 0)
    fins = [_since(restart, ((flags & FIN) != 0) & way) for way in (forward, ~forward)]
    ended[1:] = (resets > 0) | ((fins[0] > 0) & (fins[1] > 0))
    reuse[restart[ended & fresh[restart]]] = True
    return reuse & ~start


def _elapsed(earlier: Ints, later: Ints) -> NDArray[np.uint64]:
    """Nanoseconds from one time to a later one: right also where the difference of hostile times overflows int64."""
    elapsed: NDArray[np.uint64] = later.view(np.uint64) - earlier.view(np.uint64)
    return elapsed


def _since(restart: Ints, mask: Bools) -> Ints:
    """How many packets of the mask lie between each restart and the one before it."""
    before = np.concatenate(([0], np.cumsum(mask, dtype=np.int64)))
    return np.diff(before[restart])
