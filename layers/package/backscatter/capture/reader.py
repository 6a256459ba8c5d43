"""Opening a capture: what it is, told by its content, and its records block by block."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from backscatter.capture.buffers import Buffers
from backscatter.capture.expand import Expanded
from backscatter.capture.lanes import Trust
from backscatter.capture.layout import NANO, Layout
from backscatter.capture.limits import Limits
from backscatter.capture.pcap import FILE_HEADER, pcap_layout, walk_pcap
from backscatter.capture.pcapng import PcapngWalker, section_order
from backscatter.capture.record import Damage, RecordBlock
from backscatter.capture.records import Walk
from backscatter.capture.resync import CHAIN, CUT_SHORT, Blocks, Headers, Inspection, cut_short
from backscatter.capture.seems import seems
from backscatter.errors import LimitExceeded, NotACapture

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from typing import Any

#: Bytes of the expanded stream held at a time, and records in one block. Every block costs some work by itself,
#: whatever its size: where records are so long that there are few in a block, more is held, up to LARGEST_CHUNK. Most
#: captures are small: at first FIRST_CHUNK has to do.
FIRST_CHUNK, CHUNK, LARGEST_CHUNK = 2**19, 8 * 2**20, 16 * 2**20
FEW_RECORDS, MOST_RECORDS = 16384, 131072

#: Records walked behind a hole, and how many times as many whenever that went well: little of it is in vain where there
#: is one hole behind the other.
BEHIND_HOLE, GROWTH = 512, 8

#: Holes that are read on behind; a capture that has more was made so.
MOST_HOLES = 10000

#: Bytes of the longest header of a record of pcap.
LONGEST_HEADER = 24

NO_TIMES = np.zeros(0, np.int64)

#: Damage entries kept; the bytes of those beyond are added to the last.
MOST_DAMAGE = 1000


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a reader stands between two records: what somebody who reads on from there has to know.

    at      offset of the next record's header in the expanded stream
    last    time (ns) of the record before, None where there is none
    walker  of pcapng: `PcapngWalker.standing`; None of pcap
    member  where the compressed member begins that `at` lies in, or one before it: offset in the object and in the
            expanded stream
    """

    at: int
    last: int | None = None
    walker: Mapping[str, Any] | None = None
    member: tuple[int, int] = (0, 0)


class Reader:
    """A capture being read. Everything but `blocks` is complete once the last block was taken.

    name      as given, for messages
    layout    how its records can be read again by offset; where it was told to stop, once it is closed
    damage    what could not be read, in order of offset
    stopped   the limit that ended the reading early, if one did; it is in `damage` too
    begin     offset of the first record, None where none was looked for or found
    standing  where it stopped, if it was told to stop somewhere and did not come to the end before
    """

    def __init__(self, source: Expanded, name: str, layout: Layout, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._walker = PcapngWalker(layout, limits) if layout.container == "pcapng" else None
        self._trust = Trust()
        self._most = sys.maxsize  # records that the next walk may find
        self._chunk = min(FIRST_CHUNK, CHUNK)  # bytes to hold
        self._until = sys.maxsize
        self._buffers = Buffers()
        self._last: int | None = None
        self._hole: tuple[int, str] | None = None  # offset and reason of damage whose end was not found yet
        self._held: RecordBlock | None = None  # the record before it, which may be damaged too
        self._holes = 0
        self.name = name
        self.layout = layout
        self.damage: list[Damage] = []
        self.stopped: LimitExceeded | None = None
        self.begin: int | None = None
        self.standing: Standing | None = None
        self._searching = self._going_on = False

    def go_on(self, standing: Standing) -> None:
        """Read on where another reader stood. The source has to be there."""
        self._going_on, self.begin, self._last = True, standing.at, standing.last
        if self._walker and standing.walker:
            self._walker.resume(standing.walker)

    def search(self, walker: Mapping[str, Any] | None) -> None:
        """Begin at the first record that is found in the source, which may begin anywhere in a capture.

        `walker` is what is believed of the section that it begins in (`Standing.walker`).
        """
        self._going_on = self._searching = True
        if self._walker and walker:
            self._walker.resume(walker)

    def pass_over(self, first: int, standing: Standing, drops: Mapping[tuple[int, int], int]) -> None:
        """Go on behind records that another reader has read from here on, and found nothing wrong with.

        The first of them is of time `first` (ns). The stream must be one that can be sought, and not compressed. What
        the walker of pcapng knows here still has to hold where it goes on.
        """
        self._close_gaps(first)
        self._source.jump(standing.at)
        self._last, self.standing = standing.last, standing
        if self._walker and standing.walker:
            self._walker.resume(standing.walker)
            self._walker.add_drops(drops)

    def stop(self) -> None:
        """Let `blocks` end before the next block, as if it had not been told to go any further."""
        self._until = 0

    def close(self) -> None:
        """Note in the layout the section that it stands in."""
        if self._walker:
            self._walker.close()

    @property
    def drops(self) -> Mapping[tuple[int, int], int]:
        """What the interfaces say was dropped, by the number of the section and of the interface."""
        return self._walker.drops if self._walker else {}

    @property
    def source(self) -> Expanded:
        """The expanded stream; once `standing` is told, it is there."""
        return self._source

    @property
    def expanded(self) -> int:
        """Bytes of the expanded stream read so far."""
        return self._source.position

    @property
    def dropped(self) -> int | None:
        """Packets that the capturing side says it dropped; None where it says nothing, as pcap always does."""
        return self._walker.dropped if self._walker else None

    def blocks(self, until: int = sys.maxsize) -> Generator[RecordBlock, None, None]:
        """The records, at most LARGEST_CHUNK bytes (or one record, if it is longer) and MOST_RECORDS at a time.

        Those only whose header begins before byte `until` of the expanded stream, or until somebody calls `stop`; then
        `standing` tells where it goes on, and more blocks may be asked for. Never raises for what the capture says:
        what cannot be read goes into `damage`, what came before is kept.
        """
        data, base, self.standing = bytearray(), self._source.position, None
        if not self._walker and not self._going_on:
            base = len(self._source.read(FILE_HEADER))
        if not self._searching and self.begin is None:
            self.begin = base
        wants, ended, self._until = 1, False, until
        while not ended:
            held = data
            # little more than it is to read, but enough behind that to know records for some
            enough = self._until - base + 2 * (CHAIN + 1) * (self._limits.record_bytes + LONGEST_HEADER)
            data = self._buffers.take(max(min(self._chunk, enough), wants))
            data[: len(held)] = held
            got = self._source.fill(memoryview(data)[len(held) :])
            ended = len(held) + got < len(data)
            del data[len(held) + got :]
            self._chunk = max(self._chunk, CHUNK)
            at, wants = 0, 0
            while not wants:
                if base + at >= self._until and self._hole is None:
                    self._source.give_back(data[at:])
                    self._stand(base + at)
                    return
                if self._hole is None and not self._searching:
                    walk = _cut(self._walk(data, at, base, self._until, ended=ended), data, base, self._until)
                    if len(data) >= self._chunk and not at and walk.wants and len(walk.told(data) or ()) < FEW_RECORDS:
                        self._chunk = min(2 * self._chunk, LARGEST_CHUNK)
                    yield from self._told(data, base, walk)
                    at, wants = self._astray(walk, data, base, ended=ended)
                else:
                    at, wants = self._look(data, at, base, ended=ended)
            data, base = data[at:], base + at
        yield from self._end()
        self.close()

    def _stand(self, at: int) -> None:
        """Notes where it stops: before the record at `at`, or without having found any."""
        if not self._searching:
            walker = self._walker.standing if self._walker else None
            self.standing = Standing(at, self._last, walker, self._source.member_of(at))
            self._going_on = True

    def _walk(self, data: bytearray, at: int, base: int, until: int, *, ended: bool) -> Walk:
        if self._walker:
            return self._walker.walk(data, at, base, MOST_RECORDS, until - base)
        most = min(self._most, MOST_RECORDS)
        walk = walk_pcap(data, at, base, self.layout, self._limits, most, self._trust)
        if walk.told(data):
            headers, short = self._headers(data, ended=ended), most < MOST_RECORDS
            walk = Inspection(walk, headers, self._last, short=short).mended()
        self._most = BEHIND_HOLE if walk.lie else min(GROWTH * self._most, sys.maxsize)
        return walk

    def _headers(self, data: bytearray, *, ended: bool) -> Headers:
        layout, section = self.layout, self.layout.sections[0]
        ticks, longest = section.interfaces[0].ticks, self._limits.record_bytes
        return Headers(data, section.order, layout.header, ticks, longest, layout.swapped, ended)

    def _astray(self, walk: Walk, data: bytearray, base: int, *, ended: bool) -> tuple[int, int]:
        """Where to go on after a walk, and how many bytes are needed from there; notes a hole where it cannot go on."""
        at, lie = walk.at, walk.lie
        if not lie and ended and walk.wants and at < len(data):
            lie = cut_short(walk, len(data))
        if walk.over:
            self.stopped = LimitExceeded(self.name, base + at, lie)
        if not lie:
            return at, walk.wants
        self._hole, self._held, self._trust = (base + at, lie), walk.held, Trust()
        self._holes += 1
        if walk.over or self._holes > MOST_HOLES:
            self._source.skip(sys.maxsize)
            return at, 1
        if walk.found >= 0:
            return self._closed(base, walk.found), 0
        return at + 1, 0

    def _look(self, data: bytearray, at: int, base: int, *, ended: bool) -> tuple[int, int]:
        """Where records begin again from `at` on, or how far it was looked for them and the bytes needed from there."""
        candidates: Headers | Blocks
        if self._walker:
            longest = self._limits.record_bytes + 65536
            candidates = Blocks(data, self._walker.order, self._walker.interfaces, longest, ended)
        else:
            candidates = self._headers(data, ended=ended)
        last = None if self._last is None else self._last // NANO
        # whole windows from where the hole was found on: what is found does not depend on where buffers end
        end = len(data) if ended else len(data) - candidates.reach - candidates.window + 1
        while at < end:
            found = candidates.find(at, at + candidates.window, last)
            if found >= 0:
                return self._closed(base, found), 0
            at += candidates.window
        return min(at, len(data)), 2 * candidates.reach

    def _closed(self, base: int, found: int) -> int:
        """Notes what the hole that ends at index `found` cost."""
        if self._searching:
            self._searching, self.begin = False, base + found
        if self._hole:
            offset, lie = self._hole
            if self._held:
                offset = int(self._held.offset[0])
            self._hole = self._held = None
            self._note(Damage(offset, base + found - offset, lie, self._last))
            if self._walker:
                self._walker.tear()
        return found

    def _told(self, data: bytearray, base: int, walk: Walk) -> Iterator[RecordBlock]:
        """The walk's records as a block; what it skipped goes into `damage` between its neighbours' times."""
        block = walk.told(data)
        times = block.time if block else NO_TIMES
        if block:
            self._close_gaps(int(times[0]))
        for index, length, reason in walk.skipped:
            following = int(np.searchsorted(block.offset, base + index)) if block else 0
            after = int(times[following - 1]) if following else self._last
            before = int(times[following]) if following < len(times) else None
            self._note(Damage(base + index, length, reason, after, before))
        if block:
            self._last = int(times[-1])
            yield block

    def _close_gaps(self, before: int) -> None:
        """Tells damage at the end of the block before that a record follows it: it is a hole and no end."""
        for index in range(len(self.damage) - 1, -1, -1):
            if self.damage[index].before is not None:
                break
            self.damage[index] = replace(self.damage[index], before=before)

    def _note(self, damage: Damage) -> None:
        if len(self.damage) < MOST_DAMAGE:
            self.damage.append(damage)
            return
        last = self.damage[-1]
        length = last.length + damage.length
        self.damage[-1] = Damage(last.offset, length, "damage in many places", last.after, damage.before)

    def _end(self) -> Iterator[RecordBlock]:
        """The stream is over: notes how, unless it is with the last record. Gives what was held back."""
        if self._held:
            self._last = int(self._held.time[0])
            yield self._held
        self.stopped = self.stopped or self._source.stopped
        trouble, end = self._source.trouble, self._source.position
        offset, lie = self._hole or (end, "")
        if lie and not lie.startswith(CUT_SHORT):
            lie += "; nothing behind it was read"
        if trouble and not lie.startswith(CUT_SHORT):
            lie = "; ".join(filter(None, [lie, CUT_SHORT + trouble]))
        elif trouble:
            lie = f"{CUT_SHORT}{trouble}; {lie.removeprefix(CUT_SHORT)}"
        if lie:
            self._note(Damage(offset, end - offset, lie, self._last))


def _cut(walk: Walk, data: bytearray, base: int, until: int) -> Walk:
    """The walk as if it had stopped at the first record that begins at byte `until` of the stream or behind it."""
    block = walk.told(data)
    if walk.held is not None and walk.held.offset[0] < until:
        return walk  # the damage may begin before that: where it ends is where the rest begins
    places = [base + walk.at, *(base + index for index, _, _ in walk.skipped)]
    places += [] if walk.held is None else walk.held.offset.tolist()
    if block is not None:
        behind = int(np.searchsorted(block.offset, until))
        places += block.offset[behind : behind + 1].tolist()
    at = min((place for place in places if place >= until), default=None)
    if at is None:
        return walk
    kept = None if block is None else block.part(slice(int(np.searchsorted(block.offset, at))))
    skipped = [some for some in walk.skipped if base + some[0] < at]
    return Walk(at=at - base, block=kept if kept is not None and len(kept) else None, skipped=skipped)


def is_capture(head: bytes) -> bool:
    """Whether the first bytes of a file, expanded, begin a capture: somebody may have named it in another's place."""
    return _layout(head[:FILE_HEADER]) is not None


def _layout(head: bytes) -> Layout | None:
    layout = pcap_layout(head)
    if layout is None and head.startswith(b"\n\r\r\n") and section_order(head, 0):
        layout = Layout("pcapng")
    return layout


def open_capture(stream: BinaryIO, name: str, limits: Limits | None = None) -> Reader:
    """Opens a capture of any container and compression that we read, told by its content.

    The stream is read forward only, by `readinto` where it has that and else by `read`. Raises NotACapture, which
    says what the bytes seem to be.
    """
    limits = limits or Limits()
    source = Expanded(stream, name, limits)
    layout = _layout(source.peek(FILE_HEADER))
    if layout is None:
        raise NotACapture(name, 0, f"no capture, it seems to be {seems(source)}")
    layout.compression = source.compression
    return Reader(source, name, layout, limits)
