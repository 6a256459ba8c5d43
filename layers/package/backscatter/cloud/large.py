"""A capture that no one function can take: shared out over the ingest queue, range by range, then part by part.

    begin       reads the head, writes the plan, sends a message for each range
    read        one range: its packets go into an object of the work bucket, what they say into its record
    store       one part: the flows of its share of the conversations, from the packets of all ranges

Whoever sees that all ranges are read and join (`store.sharing.joined`) sends a message for each part; whoever sees that
all parts are stored lists the capture. What each leaves behind follows from the object alone, so messages may come
again, late, and in any order. A compressed capture has no ranges to begin with: it is read from the beginning, range
after range, and whoever has no time left sends a message for the next one.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from backscatter.capture.layout import Layout
from backscatter.capture.ranges import going_on, guessing, source_at
from backscatter.capture.reader import open_capture
from backscatter.cloud.events import PART_TO_STORE, RANGE_TO_READ, of_object, our_event
from backscatter.cloud.objects import ObjectName, open_object, read_range
from backscatter.cloud.stack import GROUP
from backscatter.errors import CaptureError, Gone, Hopeless, StoreError
from backscatter.flow.builder import FlowBuilder, in_order
from backscatter.flow.ranges import PartLosses
from backscatter.flow.ranges import read_range as read_records
from backscatter.flow.table import FlowTable
from backscatter.store.captures import capture_id, list_parts, put_part, stored_parts
from backscatter.store.cleaning import Intent, declare, is_condemned
from backscatter.store.cost import item_size
from backscatter.store.hosts import HostHash
from backscatter.store.naming import sensor_of
from backscatter.store.shares import PART_PACKETS, deal, gather, parts_of
from backscatter.store.sharing import (
    Plan,
    State,
    Tail,
    counts_of,
    job_partition,
    joined,
    names_of,
    plan_item,
    range_item,
    read_plan,
    read_record,
    record_of,
    state_behind,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backscatter.capture.expand import Expanded
    from backscatter.capture.reader import Reader
    from backscatter.cloud.stack import Stack
    from backscatter.flow.columns import Built
    from backscatter.store.captures import Declare, Part
    from backscatter.store.catalogue import CaptureObject
    from backscatter.store.sharing import Joined, RangeRecord

#: Bytes of a capture that are its head: interfaces that pcapng describes later make ranges that are read twice.
HEAD = 1 << 16

#: Plans, records and work objects go by themselves after this many seconds: longer than a message lives in a queue.
WORK_SECONDS = 15 * 24 * 3600

#: Bytes of a range's record: DynamoDB takes 400 KB.
LARGEST_RECORD = 380_000

#: How often the sharing out of a capture is taken up again before it is given up.
MOST_TRIES = 3

#: Expanded bytes that are skipped between two looks at the clock.
_SKIP = 16 << 20


@dataclass(frozen=True, slots=True)
class Listed:
    """What a capture that was listed after all its parts has."""

    packets: int
    flows: int
    damaged_bytes: int
    start: int
    piece: str


class Job:
    """One capture that is shared out, as one invocation sees it.

    name, source  the object
    hurry         whether the function's time is nearly over
    """

    def __init__(
        self, stack: Stack, name: ObjectName, source: CaptureObject, hurry: Callable[[], bool] = lambda: False
    ) -> None:
        self._stack = stack
        self._name = name
        self._source = source
        self._capture = capture_id(source)
        self._hurry = hurry
        self._last_tail: tuple[str, Tail] | None = None

    # -- planning -----------------------------------------------------------------------------------------------------

    def begin(self, now: int) -> Listed | None:
        """Write the plan, unless there is one, and send a message for each range that nobody has read yet.

        What it gives is as of `store`. Raises Gone and Hopeless as opening the object does.
        """
        plan = self._plan()
        if plan is None:
            plan = self._planned(now)
            declare(self._stack.items, Intent(self._source, now, shared=True))
            self._stack.items.put_if_absent(plan_item(plan, _later(WORK_SECONDS)))
        read = {record.index for record in self._records()}
        wanted = range(plan.ranges) if plan.ranges else range(1)
        for index in wanted:
            if index not in read:
                self._send_range(index)
        return self._advance(plan, 0) if read >= set(wanted) else None

    def _planned(self, now: int) -> Plan:
        stream, reader = open_object(self._stack.s3, self._name)
        with reader:
            try:
                capture = open_capture(cast("BinaryIO", reader), self._name.url, self._stack.limits)
            except CaptureError as error:
                raise Hopeless("no_capture", str(error)) from error
            for _ in capture.blocks(HEAD):
                pass
        step, standing = self._stack.range_bytes, capture.standing
        return Plan(
            capture=self._capture,
            source=replace(self._source, modified=stream.modified),
            size=stream.size,
            step=step,
            ranges=0 if capture.layout.compression else max(1, -(-stream.size // step)),
            layout=capture.layout.to_json(),
            walker=standing.walker if standing else None,
            begun=now,
        )

    def _send_range(self, index: int, *, told: bool = False) -> None:
        self._send(RANGE_TO_READ, index=index, told=told)

    def _send(self, kind: str, **more: object) -> None:
        body = our_event(kind, of_object(self._name, **more))
        self._stack.sqs.send_message(QueueUrl=self._stack.environment["QUEUE_URL"], MessageBody=body)

    # -- ranges -------------------------------------------------------------------------------------------------------

    def read(self, index: int, *, told: bool) -> Listed | None:
        """Read a range, unless somebody has, and see whether all are read. What it gives is as of `store`."""
        plan = self._required_plan()
        if not plan.ranges:
            self._read_on(plan)
        elif told:
            found = self._joined(plan)
            if found.missing == index and found.state:
                self._read_one(plan, index, found.state)
        elif all(record.index != index for record in self._records()):
            self._read_one(plan, index, None)
        return self._advance(plan, index)

    def _read_one(self, plan: Plan, index: int, state: State | None) -> None:
        layout = Layout.from_json(dict(plan.layout))
        at = state.standing.at if state else index * plan.step
        if at >= plan.size:
            reader: io.BufferedIOBase = io.BytesIO()
        else:
            _, reader = open_object(self._stack.s3, self._name, at)
        with reader:
            stream = cast("BinaryIO", reader)
            if state:
                source = source_at(stream, self._name.url, layout, state.standing, self._stack.limits)
                capture = going_on(source, self._name.url, layout, state.standing, self._stack.limits)
            elif index:
                capture = guessing(stream, at, self._name.url, layout, plan.walker, self._stack.limits)
            else:
                capture = open_capture(stream, self._name.url, self._stack.limits)
            self._write_range(plan, index, state, capture)

    def _read_on(self, plan: Plan) -> None:
        """Read a compressed capture from where it was read to, range by range, as long as there is time."""
        found = self._joined(plan)
        index, state = found.missing, found.state
        if index is None:
            return
        layout = Layout.from_json(dict(plan.layout))
        member = state.standing.member[0] if state else 0
        _, reader = open_object(self._stack.s3, self._name, member)
        with reader:
            stream = cast("BinaryIO", reader)
            source: Expanded | None = None
            if state:
                source = source_at(stream, self._name.url, layout, state.standing, self._stack.limits)
                self._skip(source, state.standing.at)
                capture = going_on(source, self._name.url, layout, state.standing, self._stack.limits)
            else:
                capture = open_capture(stream, self._name.url, self._stack.limits)
                source = capture.source
            while True:
                record = self._write_range(plan, index, state, capture)
                if record.standing is None:
                    return
                index += 1
                if self._hurry():
                    self._send_range(index)
                    return
                state = state_behind(state, record, record.standing, self._tail)
                capture = going_on(source, self._name.url, layout, record.standing, self._stack.limits)

    def _skip(self, source: Expanded, at: int) -> None:
        """Expand what was read already. Raises Hopeless where that alone takes all the time: it never ends."""
        while source.position < at:
            if self._hurry():
                raise Hopeless(
                    "too_slow",
                    f"{self._name.url}: a function's time is over before byte {at} of the expanded stream is reached "
                    f"again; compress the capture in members of some MB (bgzip, pigz -i, zstd in frames), or rotate it",
                )
            if not source.skip(min(_SKIP, at - source.position)):
                raise StoreError(f"{self._name.url} ended before byte {at}, where it had been read to")

    def _write_range(self, plan: Plan, index: int, state: State | None, capture: Reader) -> RangeRecord:
        """Read the records of a range, put its packets into the work bucket, and then its record into the table."""
        read = read_records(capture, plan.until(index), state.firsts if state else ())
        slots = list(deal(read.packets, HostHash(self._stack.key)))
        tail = Tail.of(read).to_bytes()
        given = state.digest if state else ""
        place = f"{self._capture}/{index:06d}-{given or 'guessed'}"
        body = b"".join((*(data for _, data in slots), tail))
        item = range_item(plan, record_of(read, index, given, slots, place, len(tail)), _later(WORK_SECONDS))
        if item_size(item) > LARGEST_RECORD:
            raise Hopeless("too_big", f"{self._name.url}: range {index} has too many scopes and tunnels for its record")
        self._stack.s3.put_object(Bucket=self._stack.environment["WORK_BUCKET"], Key=place, Body=body)
        self._stack.items.put_all([item])
        return read_record(item)

    def _advance(self, plan: Plan, index: int) -> Listed | None:
        """Whatever comes next, if anything does: a range that has to be read again, the parts, or the listing.

        `index` is the range that is there now. That another one behind it does not join is its own reader's to see.
        """
        records = self._records()
        found = joined(plan, records, self._tail)
        if found.missing is not None:
            if not plan.ranges:
                return None
            if index <= found.missing and any(record.index == found.missing for record in records):
                self._send_range(found.missing, told=True)
            return None
        parts = parts_of(counts_of(found.ranges), PART_PACKETS)
        stored = stored_parts(self._stack.items, self._capture, len(parts))
        if len(stored) == len(parts):
            return self._list(plan, found.ranges, stored)
        for part in range(len(parts)):
            if part not in stored:
                self._send(PART_TO_STORE, part=part)
        return None

    # -- parts --------------------------------------------------------------------------------------------------------

    def store(self, part: int) -> Listed | None:
        """Store a part, unless somebody has. What was listed, if that was the last of them."""
        plan = self._required_plan()
        found = self._joined(plan)
        if found.missing is not None:
            raise StoreError(f"{self._name.url}: a part is to be stored, but range {found.missing} is not read")
        parts = parts_of(counts_of(found.ranges), PART_PACKETS)
        stored = stored_parts(self._stack.items, self._capture, len(parts))
        if part not in stored and part < len(parts):
            self._store(found.ranges, part, parts[part])
            stored = stored_parts(self._stack.items, self._capture, len(parts))
        return self._list(plan, found.ranges, stored) if len(stored) == len(parts) else None

    def _store(self, ranges: Sequence[RangeRecord], part: int, slots: tuple[int, int]) -> None:
        scopes, tunnels = names_of(ranges)
        losses = PartLosses()
        built: list[Built] = []
        builder = FlowBuilder(built.append)
        begin, end = slots
        for record in ranges:
            lengths = record.lengths[begin:end]
            packets = gather(self._work(record, sum(record.lengths[:begin]), sum(lengths)), lengths)
            scope = np.array([scopes.number(name) for name in record.scopes], np.uint32)
            stack = np.array([tunnels.number(name) for name in record.tunnels], np.uint32)
            packets.columns |= {"scope": scope[packets["scope"]], "tunnels": stack[packets["tunnels"]]}
            builder.add(packets)
        builder.finish()
        rows, quotes = in_order(built) if built else (FlowTable.empty().rows, FlowTable.empty().quotes)
        names = tuple(scopes.values), tuple(tunnels.values)
        table = FlowTable(rows, quotes, *names, (sensor_of(self._name.key),), (self._name.url,))
        losses.add(table)
        put_part(
            self._stack.items,
            self._stack.key,
            self._capture,
            part,
            table,
            losses=losses.to_json(),
            expires_at=_later(self._stack.keep_seconds),
            declare=declaring(self._stack, self._source, part),
        )

    def _list(self, plan: Plan, ranges: Sequence[RangeRecord], stored: Mapping[int, Part]) -> Listed:
        """List the capture, given all ranges and parts."""
        total = whole(plan, ranges, self._tail)
        losses = PartLosses()
        for part in sorted(stored):
            losses.join(PartLosses.from_json(stored[part].losses))
        listed = Listed(
            total.tally.packets,
            sum(part.flows for part in stored.values()),
            sum(one.length for one in total.damage),
            total.tally.start or 0,
            self._name.url,
        )
        if total.tally.packets:
            census = total.tally.census(
                total.scopes,
                losses,
                0,
                piece=self._name.url,
                sensor=sensor_of(self._name.key),
                damage=total.damage,
                dropped=total.dropped,
            )
            list_parts(
                self._stack.items,
                stored,
                census,
                plan.source,
                group=GROUP,
                layout=total.layout.to_json(),
                expires_at=_later(self._stack.keep_seconds),
                declare=declaring(self._stack, self._source),
            )
        return listed

    def revive(self, now: int) -> bool:
        """Take it up again, after nothing happened for hours; whether that was worth trying."""
        plan = self._plan()
        if plan is None or plan.tries >= MOST_TRIES:
            return False
        declare(self._stack.items, Intent(self._source, now, shared=True))
        self._stack.items.put_all([plan_item(replace(plan, tries=plan.tries + 1), _later(WORK_SECONDS))])
        self.begin(now)
        return True

    def stopped(self) -> str:
        """Why a limit ended the reading of a capture whose ranges are all read; "" where none did."""
        return next((record.stopped for record in self._records() if record.stopped), "")

    def tidy(self) -> None:
        """Take away what is of no use once the capture is listed, or given up: the plan last."""
        items = list(self._stack.items.query(job_partition(self._capture)))
        for item in items:
            if str(item["sk"]).startswith("range#"):
                place = read_record(item).object
                self._stack.s3.delete_object(Bucket=self._stack.environment["WORK_BUCKET"], Key=place)
        for item in sorted(items, key=lambda item: item["sk"] == "plan"):
            self._stack.items.delete(str(item["pk"]), str(item["sk"]))

    # -- what others left behind --------------------------------------------------------------------------------------

    def _plan(self) -> Plan | None:
        for item in self._stack.items.get_all([(job_partition(self._capture), "plan")]):
            return read_plan(item)
        return None

    def _required_plan(self) -> Plan:
        plan = self._plan()
        if plan is None:
            raise Gone(f"{self._name.url}: nobody shares it out any more; upload it again if it is not listed")
        if is_condemned(self._stack.items, self._capture):
            raise StoreError(f"{self._name.url} is being taken away, since nobody finished it for hours")
        return plan

    def _records(self) -> list[RangeRecord]:
        found = self._stack.items.query(job_partition(self._capture), "range#", "range#~")
        return [read_record(item) for item in found]

    def _joined(self, plan: Plan) -> Joined:
        return joined(plan, self._records(), self._tail)

    def _tail(self, record: RangeRecord) -> Tail:
        # They hold a million gaps each: only the last one is kept.
        if self._last_tail is None or self._last_tail[0] != record.object:
            tail = Tail.from_bytes(self._work(record, sum(record.lengths), record.tail))
            self._last_tail = record.object, tail
        return self._last_tail[1]

    def _work(self, record: RangeRecord, offset: int, length: int) -> bytes:
        if not length:
            return b""
        name = ObjectName(self._stack.environment["WORK_BUCKET"], record.object)
        try:
            return read_range(self._stack.s3, name, offset, length)
        except Gone as error:  # the capture was listed meanwhile, which the next delivery will see; or it took too long
            raise StoreError(str(error)) from error


def declaring(stack: Stack, source: CaptureObject, part: int = -1) -> Declare:
    """Declares what is about to be written of a capture, or of a part of it."""

    def intend(shelves: Sequence[int], listing: Sequence[tuple[str, str]]) -> None:
        intent = Intent(source, time.time_ns(), tuple(shelves), part, listing=tuple(listing))
        declare(stack.items, intent)

    return intend


def _later(seconds: int) -> int:
    return int(time.time()) + seconds
