"""A capture shared out among workers, all in memory: what `cloud.large` does with objects, queues and a table."""

import dataclasses
import io
import json
import random

import numpy as np

from backscatter.capture.layout import Layout
from backscatter.capture.ranges import going_on, guessing, source_at
from backscatter.capture.reader import open_capture
from backscatter.decode.columns import Packets
from backscatter.flow.build import build_flows
from backscatter.flow.ranges import PartLosses, read_range
from backscatter.flow.read import Piece, read_sensor
from backscatter.flow.table import FlowTable
from backscatter.store.catalogue import CaptureObject
from backscatter.store.hosts import HostHash
from backscatter.store.shares import deal, gather, parts_of
from backscatter.store.sharing import Plan, Tail, counts_of, joined, names_of, range_item, read_record, record_of, whole

NAME = "s3://bucket/capture"
HASH = HostHash(bytes(32))


def planned(body, step, head=1 << 16):
    reader = open_capture(io.BytesIO(body), NAME)
    list(reader.blocks(head))
    standing = reader.standing
    return Plan(
        "c",
        CaptureObject("bucket", "capture", "v"),
        len(body),
        step,
        0 if reader.layout.compression else max(1, -(-len(body) // step)),
        reader.layout.to_json(),
        standing.walker if standing else None,
        0,
    )


class Workers:
    """They read ranges, leave records and objects behind, and look whether all join; `redone` counts second readings."""

    def __init__(self, body, step, head=1 << 16):
        self.body, self.plan = body, planned(body, step, head)
        self.layout = Layout.from_json(self.plan.layout)
        self.records, self.objects, self.redone = {}, {}, 0

    def tail_of(self, record):
        data = self.objects[record.object]
        return Tail.from_bytes(data[len(data) - record.tail :])

    def look(self):
        return joined(self.plan, self.records.values(), self.tail_of)

    def read(self, index, state=None):
        until = self.plan.until(index)
        if index == 0:
            reader = open_capture(io.BytesIO(self.body), NAME)
        elif state is None:
            at = index * self.plan.step
            reader = guessing(io.BytesIO(self.body[at:]), at, NAME, self.layout, self.plan.walker)
        else:
            standing = state.standing
            begin = standing.member[0] if self.layout.compression else standing.at
            source = source_at(io.BytesIO(self.body[begin:]), NAME, self.layout, standing)
            source.skip(standing.at - source.position)
            assert source.position == standing.at
            reader = going_on(source, NAME, self.layout, standing)
        read = read_range(reader, until, state.firsts if state else ())
        slots = list(deal(read.packets, HASH))
        tail = Tail.of(read).to_bytes()
        record = record_of(read, index, state.digest if state else "", slots, f"{index}-{bool(state)}", len(tail))
        self.objects[record.object] = b"".join(data for _, data in slots) + tail
        self.records[index, record.given] = read_record(range_item(self.plan, record, 0))

    def work(self, seed=0):
        """All ranges in some order, some of them twice, then whatever does not join."""
        order = list(range(self.plan.ranges)) * 2
        random.Random(seed).shuffle(order)
        for index in order[: self.plan.ranges + 1] + list(range(self.plan.ranges)):
            if (index, "") not in self.records:
                self.read(index)
        while (found := self.look()).missing is not None:
            self.redone += found.missing > 0
            self.read(found.missing, found.state)
        return found.ranges

    def flows(self, ranges, most):
        """The flows and the census of all parts."""
        counts = counts_of(ranges)
        scopes, tunnels = names_of(ranges)
        tables, losses = [], PartLosses()
        for begin, end in parts_of(counts, most):
            packets = []
            for record in ranges:
                at = sum(record.lengths[:begin])
                lengths = record.lengths[begin:end]
                some = gather(self.objects[record.object][at : at + sum(lengths)], lengths)
                for column, names, own in (("scope", scopes, record.scopes), ("tunnels", tunnels, record.tunnels)):
                    numbers = np.array([names.number(name) for name in own], np.uint32)
                    some.columns[column] = numbers[some[column]]
                packets.append(some)
            table = build_flows(Packets.joined(packets), scopes.values, tunnels.values, sensor="s", pieces=(NAME,))
            here = PartLosses()
            here.add(table)
            losses.join(PartLosses.from_json(json.loads(json.dumps(here.to_json()))))
            tables.append(table)
        total = whole(self.plan, ranges, self.tail_of)
        census = total.tally.census(
            total.scopes, losses, 0, piece=NAME, sensor="s", damage=total.damage, dropped=total.dropped
        )
        return FlowTable.joined(tables), census, total.layout


def single(body):
    """The same read by one reader: flows, census, layout."""
    flows = read_sensor("s", [Piece(NAME, lambda: io.BytesIO(body))])
    return FlowTable.joined([flows.table]), flows.censuses, flows.pieces[0].layout


def in_order(body):
    """Whether the packets of a capture stand in the order of time."""
    times = np.concatenate([np.zeros(0, np.int64), *(b.time for b in open_capture(io.BytesIO(body), NAME).blocks())])
    return bool((np.diff(times) >= 0).all())


def same(body, step, seed=0, most=50, head=1 << 16):
    """Hold the flows of a capture that is shared out equal to those of a single pass; returns the workers."""
    workers = Workers(body, step, head)
    table, census, layout = workers.flows(workers.work(seed), most)
    expected, censuses, whole_layout = single(body)
    for name in expected.rows.dtype.names:
        mine, theirs = table.rows[name], expected.rows[name]
        if name in ("scope", "tunnels"):  # numbers follow the blocks in which packets were decoded, names are the same
            names = [getattr(one, name.removesuffix("s") + "s") for one in (table, expected)]
            mine, theirs = ([known[at] for at in numbers] for known, numbers in zip(names, (mine, theirs), strict=True))
            assert mine == theirs
            continue
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
    np.testing.assert_array_equal(table.quotes, expected.quotes)
    if censuses:
        if not in_order(body):  # gaps are taken within blocks, in the order of time, and blocks end elsewhere
            census = dataclasses.replace(census, median_gap=censuses[0].median_gap)
        assert dataclasses.asdict(census) == dataclasses.asdict(censuses[0])
    assert layout.to_json() == whole_layout.to_json()
    return workers
