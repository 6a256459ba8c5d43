"""What the flows of captures add up to, taken as they end: memory does not grow with their number."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.flow.builder import in_order
from backscatter.flow.record import rfc3339
from backscatter.store.cost import Cost

if TYPE_CHECKING:
    from backscatter.cli.local import Captures
    from backscatter.flow.filter import Filter
    from backscatter.flow.read import SensorFlows
    from backscatter.flow.table import FlowTable

#: Flows of a sensor that are packed to tell what storing costs. Of more, a sample spread over the capture is.
PACKED = 1 << 15

#: Stretches of time that a sample is made of, before it is thinned out.
STRETCHES = 256

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


class Sample:
    """Flows of one sensor, thinned out evenly as they become too many: whole stretches of time, as they are stored."""

    def __init__(self) -> None:
        self._seen = self._held = 0
        self._stretch, self._every = 0, 1
        self._kept: list[FlowTable] = []

    def add(self, table: FlowTable) -> None:
        """Take more flows, of any times; those that are kept are copied."""
        if not len(table):
            return
        start = table.rows["start"]
        # tables are of some of the conversations each, over the whole time
        self._stretch = self._stretch or max(1, (int(start[-1]) - int(start[0])) // STRETCHES)
        self._seen += len(table)
        self._keep(table)
        while self._held > PACKED and self._every < STRETCHES:
            self._every *= 2
            before, self._kept, self._held = self._kept, [], 0
            for kept in before:
                self._keep(kept)

    def _keep(self, table: FlowTable) -> None:
        """Keep the flows of a table that lie in every so manieth stretch."""
        self._kept.append(table.select(table.rows["start"] // self._stretch % self._every == 0))
        self._held += len(self._kept[-1])

    def cost(self, sensor: SensorFlows) -> tuple[Cost, bool]:
        """What storing all flows of the sensor costs, by packing those that were kept; and whether some were not."""
        from backscatter.store.captures import INTENT, store_cost  # noqa: PLC0415 - only a summary tells what storing costs

        table = sensor.table
        if self._kept:
            rows, quotes = in_order([(kept.rows, kept.quotes) for kept in self._kept])
            table = replace(self._kept[-1], rows=rows, quotes=quotes)  # the last one has all the names
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
