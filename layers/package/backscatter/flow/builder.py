"""Flows of a capture that is longer than memory: packets come in batches, flows go out as soon as they are over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backscatter.decode.columns import OK, Packets, picked
from backscatter.flow.build import flow_columns, portions
from backscatter.flow.conversation import OTHER_IDLE, SECOND, TCP, TCP_IDLE, conversations
from backscatter.flow.cores import over
from backscatter.flow.halves import Halves
from backscatter.flow.held import Held, absorb, plain_kept, tcp_kept
from backscatter.flow.orderly import orderly
from backscatter.flow.piles import Piles, piles_for
from backscatter.flow.runs import median
from backscatter.flow.sides import first_acks
from backscatter.flow.table import FLOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from backscatter.flow.columns import Built, FlowColumns
    from backscatter.flow.conversation import Traffic
    from backscatter.flow.halves import Shape
    from backscatter.flow.piles import Numbers, Put
    from backscatter.flow.runs import Bools

#: How far (ns) a packet may stand behind one that is later than it.
REORDERING = 3 * SECOND

#: Packets that come before flows are looked at: about 60 bytes each on disk. Looking costs as much again for every
#: packet that stays, so captures of up to this many are looked at once.
BATCH = 6_000_000

#: Packets that are gathered in memory before they are put away in piles: about 60 bytes each.
LOT = 1 << 18

#: Flows of fewer packets are kept whole: hardly any packet of theirs could go.
BRIEF = 24

#: Every so many packets one is asked for its time, to tell how far a batch has come.
_SAMPLE = 64


_LONG_AGO = np.iinfo(np.int64).min

_NOTHING = Held.joined(())


class Coming:
    """Packets that came since flows were looked at: how many, how late they are and how far they have come.

    latest  time (ns) of the latest of them
    late    how many are earlier than what was held for settled
    times   of some of them
    """

    def __init__(self) -> None:
        self.packets = self.late = 0
        self.latest = _LONG_AGO
        self.times: list[NDArray[np.int64]] = []

    def add(self, time: NDArray[np.int64], settled_to: int) -> None:
        """Count packets of these times."""
        self.packets += len(time)
        self.latest = max(self.latest, int(time.max()))
        if settled_to != _LONG_AGO:
            self.late += int(np.count_nonzero(time < settled_to))
        self.times.append(time[::_SAMPLE].copy())

    def join(self, others: Coming) -> None:
        """Count what was counted elsewhere."""
        self.packets += others.packets
        self.latest = max(self.latest, others.latest)
        self.late += others.late
        self.times += others.times


class Share(NamedTuple):
    """What a forked process has gathered."""

    coming: Coming
    put: Put


class Aside:
    """Gathers packets in a forked process, for the builder of the process that it was forked from."""

    def __init__(self, piles: Piles, settled_to: int) -> None:
        self._piles = piles
        self._settled_to = settled_to
        self._coming = Coming()

    def add(self, packets: Packets) -> None:
        """Take more packets."""
        held = _flowing(packets)
        if len(held):
            self._coming.add(held["time"], self._settled_to)
            self._piles.deal(held)

    def share(self) -> Share:
        """All that was gathered."""
        return Share(self._coming, self._piles.put())


class FlowBuilder:
    """Builds flows from packets in the order of time, give or take REORDERING.

    Rows are those that `build_flows` makes of all packets together, however they are cut into batches. What is held
    grows with the flows that may go on, not with their packets: of conversations in order the packets in between are
    absorbed. TCP flows with retransmissions or holes, of one direction only, or of more than 1 GiB a side keep their
    packets until they are over.

    Packets are gathered in lots, and those of more than a lot wait on disk (`backscatter.flow.piles`): memory is that
    of some lots and piles, whatever the batch. `take` is given the flows that are over, some at a time, each time in
    the order of their start. They are built by as many as `processes`, whichever of them then asks `part` what is to
    be given to `take` in place of these flows; it is told in how many parts flows come this time.
    """

    def __init__(
        self,
        take: Callable[[Any], object],
        *,
        part: Callable[[FlowColumns, int], Any] = lambda flows, _: flows.built(),
        reordering: int = REORDERING,
        batch: int = BATCH,
        brief: int = BRIEF,
        lot: int = LOT,
        processes: int = 1,
    ) -> None:
        self._take = take
        self._part = part
        self._brief = brief
        self._reordering = reordering
        self._batch = batch
        self._lot = lot
        self._processes = processes
        self._gathered: list[Held] = []
        self._waiting = 0  # how many these are
        self._piles: Piles | None = None
        self._held = 0  # packets that were there already when flows were looked at
        self._fresh = Coming()  # and those that came since
        self._settled_to = _LONG_AGO
        self._latest = _LONG_AGO
        self._late = 0
        self._may_look = True

    @property
    def late(self) -> int:
        """Packets that came further behind than REORDERING: their flows may have been cut."""
        return self._late + self._fresh.late

    def add(self, packets: Packets) -> None:
        """Take more packets; gives away flows that are over, every batch."""
        held = _flowing(packets)
        if len(held):
            self._fresh.add(held["time"], self._settled_to)
            self._gather(held)
            if self._may_look:
                self.look()

    def aside(self, count: int) -> list[Aside]:
        """What gathers packets for this one in so many forked processes. No flows go out until `look` is called."""
        if self._piles is None:
            self._deal(Piles(lot=self._lot))
            assert self._piles is not None
        self._may_look = False
        return [Aside(self._piles.beside(number), self._settled_to) for number in range(1, count + 1)]

    def put_away(self) -> None:
        """Write what was dealt into piles: meanwhile those that gather packets aside do so too."""
        if self._piles is not None:
            self._piles.write()

    def join(self, number: int, share: Share, numbers: Numbers) -> None:
        """Take what the process of that number, from 1 on, has gathered; `numbers` has ours in place of its own."""
        assert self._piles is not None
        assert not self._may_look  # its part of the file is that of these piles
        self._fresh.join(share.coming)
        self._piles.adopt(number, share.put, numbers)

    def look(self) -> None:
        """Nobody gathers packets aside any more: flows that are over may go out."""
        self._may_look = True
        fresh = self._fresh
        if fresh.packets >= max(self._batch, self._held):
            self._latest = max(self._latest, fresh.latest)
            # A single stray clock must not end every flow: half of a batch is never held for settled.
            halfway = median(np.concatenate(fresh.times))
            self._settled_to = max(self._settled_to, min(self._latest - self._reordering, halfway))
            self._build(self._settled_to)

    def finish(self) -> None:
        """Give away all flows that are left; nothing comes behind."""
        if self._piles is None and (number := piles_for(self._waiting)) > 1:
            self._deal(Piles(number, on_disk=False))
        self._build(None)

    def _gather(self, packets: Held) -> None:
        """Put packets by; on their piles, if there are more than a lot of them."""
        if self._piles is not None:
            self._piles.deal(packets)
            return
        self._gathered.append(packets)
        self._waiting += len(packets)
        if self._waiting > self._lot:
            self._deal(Piles(lot=self._lot))

    def _deal(self, piles: Piles) -> None:
        """Begin with piles."""
        self._piles = piles
        for packets in self._gathered:
            piles.deal(packets)
        self._gathered, self._waiting = [], 0

    def _build(self, settled_to: int | None) -> None:
        """Give away the flows that are over by then, all for None, and hold on to the packets of the others."""
        self._late += self._fresh.late
        self._held, self._fresh = 0, Coming()
        if self._piles is None:
            packets, self._gathered, self._waiting = Held.joined(self._gathered), [], 0
            made, held = self._built(packets, settled_to, 1)
            self._take(made)
            self._held = len(held)
            self._gather(held)
            return
        piles, self._piles = self._piles, Piles(lot=self._lot)
        piles.write()
        groups = piles.groups()
        for made, held in over(
            groups, lambda some: self._built(piles.take(some), settled_to, len(groups)), self._processes
        ):
            self._take(made)
            self._held += len(held)
            self._piles.deal(held)

    def _built(self, packets: Held, settled_to: int | None, parts: int) -> tuple[Any, Held]:
        """What is to be taken of the flows that are over by then, and what has to be known of the others."""
        traffic = conversations(packets, packets.settled)
        if settled_to is None:
            return self._part(flow_columns(packets, traffic), parts), _NOTHING
        live = _may_go_on(packets, traffic, settled_to)
        made = self._part(flow_columns(packets, traffic.only(~live)), parts)
        packets.settled |= packets["time"] < settled_to
        return made, _condensed(packets, traffic.only(live), self._brief)


def in_order(parts: list[Built]) -> Built:
    """Rows and quotes of all parts, by start and then by the place of the first packet. Empties `parts`."""
    if len(parts) == 1:
        return parts.pop()
    start = np.concatenate([rows["start"] for rows, _ in parts])
    place = np.concatenate([rows["src_places"][:, 0] for rows, _ in parts])
    rank = np.empty(len(start), np.int64)
    rank[np.lexsort((place, start))] = np.arange(len(start))
    whole = np.empty(len(start), FLOW)
    opaque = f"V{FLOW.itemsize}"  # rows are copied as a whole: NumPy itself would go field by field
    quotes: list[NDArray[np.void]] = []
    flows_before = 0
    for rows, some in parts:
        here = rank[flows_before : flows_before + len(rows)]
        some["flow"] = here[some["flow"]]
        quotes.append(some)
        whole.view(opaque)[here] = rows.view(opaque)
        flows_before += len(rows)
    quoted = np.concatenate(quotes)
    # the sort is stable, so quotes of one flow stay in their order; rows follow theirs
    order = np.argsort(quoted["flow"], kind="stable")
    before = np.cumsum([0, *map(len, quotes)])
    moved = np.empty(len(quoted), np.int64)
    moved[order] = np.arange(len(quoted))
    flows_before = 0
    for (rows, _), shift in zip(parts, before, strict=False):
        here = rank[flows_before : flows_before + len(rows)]
        own = rows["quote"].copy()
        quoting = own >= 0
        own[quoting] = moved[own[quoting] + shift]
        whole["quote"][here] = own
        flows_before += len(rows)
    parts.clear()
    return whole, picked(quoted, order)


def _flowing(packets: Packets) -> Held:
    """Those packets of a table that make flows."""
    ok = packets["status"] == OK
    held = Held.of(packets)
    return held if ok.all() else held.only(np.flatnonzero(ok))


def _may_go_on(packets: Held, traffic: Traffic, settled_to: int) -> Bools:
    """Flows that a packet not earlier than `settled_to` may belong to, and those of the same chain."""
    if not traffic.flows:
        return np.zeros(0, np.bool_)
    time = packets["time"][traffic.packet]
    begin = np.cumsum(traffic.length) - traffic.length
    last = np.maximum.reduceat(time, begin[0::2])
    in_chains = np.full(int(traffic.chain.max()) + 1, np.iinfo(np.int64).min)
    np.maximum.at(in_chains, traffic.chain, last)
    idle = np.where(packets["proto"][traffic.head] == TCP, TCP_IDLE, OTHER_IDLE)
    # Python's integers, so that hostile times cannot overflow
    oldest = {name: max(settled_to - name, np.iinfo(np.int64).min) for name in (TCP_IDLE, OTHER_IDLE)}
    bound = np.where(idle == TCP_IDLE, oldest[TCP_IDLE], oldest[OTHER_IDLE])
    live: Bools = in_chains[traffic.chain] >= bound
    return live


def _condensed(packets: Held, traffic: Traffic, brief: int) -> Held:
    """The packets that must be kept of flows that may go on, in the order of time."""
    kept = []
    for begin, end, shape in portions(traffic):
        is_long = shape.length[0::2] + shape.length[1::2] >= brief
        is_tcp = packets["proto"][traffic.head[begin:end]] == TCP
        for flows, keeps in ((is_long & is_tcp, _tcp_kept), (is_long & ~is_tcp, plain_kept), (~is_long, None)):
            some = shape.only(flows)
            if not len(some.packet):
                continue
            keep = keeps(packets, some) if keeps else np.ones(len(some.packet), np.bool_)
            absorb(packets, some, keep)
            kept.append(np.stack((some.pos[keep], some.packet[keep])))
    if not kept:
        return _NOTHING
    pos, packet = np.concatenate(kept, axis=1)
    return packets.only(packet[np.argsort(pos)])


def _tcp_kept(packets: Held, shape: Shape) -> Bools:
    halves = Halves(packets, shape)
    told, first_told = first_acks(halves)
    return tcp_kept(packets, halves, orderly(halves, told, first_told), told, first_told)
