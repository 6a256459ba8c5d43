"""What the flows of captures add up to, taken as they end: memory does not grow with their number."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backscatter.flow.builder import in_order
from backscatter.flow.record import rfc3339
from backscatter.flow.table import FlowTable
from backscatter.store.cost import Cost

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.cli.local import Captures
    from backscatter.flow.columns import FlowColumns
    from backscatter.flow.filter import Filter
    from backscatter.flow.read import SensorFlows
    from backscatter.flow.table import Flows

#: Flows of a sensor that are packed to tell what storing costs. Of more, a sample spread over the capture is: half as
#: many at most, since packing them takes long.
PACKED = 1 << 15

#: Stretches of flows that each table of a sample is made of, before it is thinned out.
STRETCHES = 64

#: How many times as many flows as are likely to be kept of a table it may contribute before it is thinned out.
_SPARE = 2

#: Items that list a capture, whatever its flows.
_LISTING = 2


class Part(NamedTuple):
    """What some flows add up to: those that are wanted, their packets and times; and a sample of all of them."""

    flows: int
    packets: int
    start: int
    end: int
    sample: Thinned


class Sums:
    """Totals of `flows --summary`: of whole files, or of the flows that a filter leaves and their packets."""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted
        self._flows = self._packets = 0
        self._start, self._end = np.iinfo(np.int64).max, np.iinfo(np.int64).min
        self._samples: dict[str, Sample] = {}

    def part(self, flows: FlowColumns, parts: int) -> Part:
        """What some flows of a sensor add up to; nothing of them is kept, but for a sample."""
        sample = self._samples.get(flows.sensors[0], Sample()).part(flows, parts)
        which = None if self._wanted.is_empty else np.flatnonzero(self._wanted.flows(flows))
        told = flows.columns(("start", "end", "src_packets", "dst_packets"), which)
        count = len(told["start"])
        if not count:
            return Part(0, 0, self._start, self._end, sample)
        packets = int(told["src_packets"].sum() + told["dst_packets"].sum())
        return Part(count, packets, int(told["start"].min()), int(told["end"].max()), sample)

    def add(self, sensor: str, part: Part) -> None:
        """Count more flows."""
        self._samples.setdefault(sensor, Sample()).add(part.sample)
        self._flows += part.flows
        self._packets += part.packets
        self._start, self._end = min(self._start, part.start), max(self._end, part.end)

    def totals(self, read: Captures) -> dict[str, Any]:
        """The summary of the captures whose flows were taken."""
        censuses = list(read.censuses)
        if self._wanted.is_empty:
            packets, span = sum(census.packets for census in censuses), read.span
        else:
            packets, span = self._packets, (self._start, self._end) if self._flows else None
        return {
            "captures": len(read.files),
            "packets": packets,
            "bytes": sum(file.source.size for file in read.files.values()),
            "flows": self._flows,
            "first": rfc3339(span[0]) if span else None,
            "last": rfc3339(span[1]) if span else None,
            "non_ip": sum(census.non_ip for census in censuses),
            "undecodable": sum(census.undecodable for census in censuses),
            "damaged_bytes": sum(damage.length for file in read.files.values() for damage in file.damage),
            "seconds": (span[1] - span[0]) / 10**9 if span else 0,
            "store": self._store(read),
        }

    def _store(self, read: Captures) -> dict[str, int | bool]:
        """What ingest would write for these files, filtered or not."""
        costs = [self._samples.get(sensor.sensor, Sample()).cost(sensor) for sensor in read.sensors]
        return {
            "items": sum(cost["items"] for cost, _ in costs),
            "bytes": sum(cost["bytes"] for cost, _ in costs),
            "write_units": sum(cost["write_units"] for cost, _ in costs),
            "estimated": any(estimated for _, estimated in costs),
        }


def _stretches(start: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many flows, ordered by start, lie in each stretch, and how many behind the last edge.

    Those that begin at once where several stretches end are shared out.
    """
    first, behind = (np.searchsorted(start, edges, side) for side in ("left", "right"))
    lowest, beyond = (np.searchsorted(edges, edges, side) for side in ("left", "right"))
    turn = np.arange(1, len(edges) + 1) - lowest
    end = first - -turn * (behind - first) // (beyond - lowest)
    lengths: NDArray[np.int64] = np.diff(end, prepend=0, append=len(start))
    return lengths


class Thinned(NamedTuple):
    """Some of the flows of a table.

    seen     how many it had
    edges    where its stretches end (ns)
    every    only one in so many stretches is there
    stretch  which of them each flow lies in
    rows, quotes  of these flows
    """

    seen: int
    edges: NDArray[np.int64]
    every: int
    stretch: NDArray[np.int64]
    rows: NDArray[np.void]
    quotes: NDArray[np.void]

    def only(self, every: int) -> Thinned:
        """One in so many stretches of it."""
        if every <= self.every:
            return self
        some = np.flatnonzero(self.stretch % every == 0)
        kept = replace(FlowTable.empty(), rows=self.rows, quotes=self.quotes).select(some)
        return Thinned(self.seen, self.edges, every, self.stretch[some], kept.rows, kept.quotes)


class Sample:
    """Flows of one sensor, thinned out evenly as they become too many: whole stretches of time, as they are stored.

    Tables hold some of the conversations each, over the same time, ordered by start: the first one tells how long
    stretches are to be, so that about as many flows begin in each. One that begins behind it all tells it anew.
    """

    def __init__(self) -> None:
        self._seen = self._tables = 0
        self._every_stretch = self._every_table = 1
        self._edges = np.zeros(0, np.int64)  # where stretches end (ns)
        self._kept: list[tuple[int, Thinned]] = []  # with the numbers of their tables

    def part(self, flows: Flows, parts: int) -> Thinned:
        """What is to be added of a table, one of so many over the same time: a few times what is likely to be kept."""
        start, edges = flows.columns(("start",))["start"], self._edges
        # a few flows do not tell how all lie in time: they are one stretch
        if len(start) >= STRETCHES and (not len(edges) or start[0] > edges[-1]):
            edges = start[np.arange(1, STRETCHES + 1) * len(start) // STRETCHES - 1]
        lengths, every = _stretches(start, edges), self._every_stretch
        while lengths[::every].sum() > _SPARE * PACKED // parts and every < STRETCHES:
            every *= 2
        stretch = np.repeat(np.arange(len(lengths)), lengths)
        some = np.flatnonzero(stretch % every == 0)
        kept = flows.select(some)
        return Thinned(len(flows), edges, every, stretch[some], kept.rows, kept.quotes)

    def add(self, part: Thinned) -> None:
        """Take more flows."""
        if not part.seen:
            return
        self._seen += part.seen
        self._edges = part.edges
        if self._tables % self._every_table == 0:
            self._kept.append((self._tables, part))
        self._tables += 1
        self._every_stretch = max(self._every_stretch, part.every)
        self._thin()
        while self._held > self._room and (self._every_stretch < STRETCHES or len(self._kept) > 1):
            if self._every_stretch < STRETCHES:
                self._every_stretch *= 2
            else:
                self._every_table *= 2
            self._thin()

    @property
    def _room(self) -> int:
        return PACKED if self._every_stretch == self._every_table == 1 else PACKED // 2

    @property
    def _held(self) -> int:
        return sum(len(part.rows) for _, part in self._kept)

    def _thin(self) -> None:
        """Keep every so manieth stretch of every so manieth table."""
        self._kept = [
            (number, part.only(self._every_stretch)) for number, part in self._kept if number % self._every_table == 0
        ]

    def cost(self, sensor: SensorFlows) -> tuple[Cost, bool]:
        """What storing all flows of the sensor costs, by packing those that were kept; and whether some were not."""
        from backscatter.store.captures import INTENT, store_cost  # noqa: PLC0415 - only a summary tells what storing costs

        table = sensor.table
        if self._kept:
            rows, quotes = in_order([(part.rows, part.quotes) for _, part in self._kept])
            table = replace(table, rows=rows, quotes=quotes)
        cost, share = store_cost(table, *sensor.censuses), self._seen / max(len(table), 1)
        if len(table) == self._seen:
            return cost, False
        # A flow whose ends fall into one bucket lies there once. That is the rarer the more buckets there are.
        buckets = max(1, cost["items"] - _LISTING - INTENT["items"])
        share *= (2 - 1 / (buckets * share)) / (2 - 1 / buckets)
        return Cost(
            items=round(cost["items"] * share),
            bytes=round(cost["bytes"] * share),
            write_units=round(cost["write_units"] * share),
        ), True
