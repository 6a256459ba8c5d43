"""What the flows of captures add up to, taken as they end: memory does not grow with their number."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backscatter.flow.builder import in_order
from backscatter.flow.record import rfc3339
from backscatter.store.cost import Cost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from backscatter.cli.local import Captures
    from backscatter.flow.filter import Filter
    from backscatter.flow.read import SensorFlows
    from backscatter.flow.table import FlowTable

#: Flows of a sensor that are packed to tell what storing costs. Of more, a sample spread over the capture is.
PACKED = 1 << 15

#: Stretches of flows that each table of a sample is made of, before it is thinned out.
STRETCHES = 64

#: Items that list a capture, whatever its flows.
_LISTING = 2


class Sums:
    """Totals of `flows --summary`: of whole files, or of the flows that a filter leaves and their packets."""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted
        self._flows = self._packets = 0
        self._start, self._end = np.iinfo(np.int64).max, np.iinfo(np.int64).min
        self._samples: dict[str, Sample] = defaultdict(Sample)

    def add(self, table: FlowTable) -> None:
        """Take more flows; nothing of the table is kept, but for a copied sample."""
        self._samples[table.sensors[0]].add(table)
        kept = table if self._wanted.is_empty else table.select(self._wanted.flows(table))
        rows = kept.rows
        if len(rows):
            self._flows += len(rows)
            self._packets += int(rows["src_packets"].sum() + rows["dst_packets"].sum())
            self._start = min(self._start, int(rows["start"].min()))
            self._end = max(self._end, int(rows["end"].max()))

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
        costs = [self._samples[sensor.sensor].cost(sensor) for sensor in read.sensors]
        return {
            "items": sum(cost["items"] for cost, _ in costs),
            "bytes": sum(cost["bytes"] for cost, _ in costs),
            "write_units": sum(cost["write_units"] for cost, _ in costs),
            "estimated": any(estimated for _, estimated in costs),
        }


class _Kept(NamedTuple):
    """A table that was taken: its number, and the stretch that each of its flows lies in."""

    number: int
    stretch: NDArray[np.int64]
    table: FlowTable


class Sample:
    """Flows of one sensor, thinned out evenly as they become too many: whole stretches of time, as they are stored.

    Tables hold some of the conversations each, over the same time, ordered by start: the first one tells how long
    stretches are to be, so that about as many flows begin in each. One that begins behind it all tells it anew.
    """

    def __init__(self) -> None:
        self._seen = self._tables = self._held = 0
        self._every_stretch = self._every_table = 1
        self._edges = np.zeros(0, np.int64)  # where stretches end (ns)
        self._kept: list[_Kept] = []

    def add(self, table: FlowTable) -> None:
        """Take more flows; those that are kept are copied."""
        if not len(table):
            return
        self._seen += len(table)
        self._keep([_Kept(self._tables, self._stretches(table.rows["start"]), table)])
        self._tables += 1
        while self._held > PACKED and (self._every_stretch < STRETCHES or len(self._kept) > 1):
            if self._every_stretch < STRETCHES:
                self._every_stretch *= 2
            else:
                self._every_table *= 2
            before, self._kept, self._held = self._kept, [], 0
            self._keep(before)

    def _stretches(self, start: NDArray[np.int64]) -> NDArray[np.int64]:
        """The stretch that each flow lies in. Those that begin at once where several stretches end are shared out."""
        if not len(self._edges) or start[0] > self._edges[-1]:
            self._edges = start[np.arange(1, STRETCHES + 1) * len(start) // STRETCHES - 1]
        first, behind = (np.searchsorted(start, start, side) for side in ("left", "right"))
        lowest, beyond = (np.searchsorted(self._edges, start, side) for side in ("left", "right"))
        stretch: NDArray[np.int64] = lowest + (np.arange(len(start)) - first) * (beyond - lowest) // (behind - first)
        return stretch

    def _keep(self, tables: Sequence[_Kept]) -> None:
        """Keep every so manieth stretch of every so manieth table."""
        for number, stretch, table in tables:
            if number % self._every_table == 0:
                some = np.flatnonzero(stretch % self._every_stretch == 0)
                self._kept.append(_Kept(number, stretch[some], table.select(some)))
                self._held += len(some)

    def cost(self, sensor: SensorFlows) -> tuple[Cost, bool]:
        """What storing all flows of the sensor costs, by packing those that were kept; and whether some were not."""
        from backscatter.store.captures import INTENT, store_cost  # noqa: PLC0415 - only a summary tells what storing costs

        table = sensor.table
        if self._kept:
            rows, quotes = in_order([(kept.table.rows, kept.table.quotes) for kept in self._kept])
            table = replace(self._kept[-1].table, rows=rows, quotes=quotes)  # the last one has all the names
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
