"""Opening a capture: what it is, told by its content, and its records block by block."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from backscatter.capture.expand import Expanded
from backscatter.capture.layout import Layout
from backscatter.capture.limits import Limits
from backscatter.capture.pcap import FILE_HEADER, pcap_layout, walk_pcap
from backscatter.capture.pcapng import PcapngWalker, section_order
from backscatter.capture.record import Damage, RecordBlock
from backscatter.capture.seems import seems
from backscatter.errors import LimitExceeded, NotACapture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backscatter.capture.records import Walk

#: Bytes of the expanded stream held at a time, and records in one block.
CHUNK = 8 * 2**20
MOST_RECORDS = 131072

NO_TIMES = np.zeros(0, np.int64)

#: Damage entries kept; the bytes of those beyond are added to the last.
MOST_DAMAGE = 1000


class Reader:
    """A capture being read. Everything but `blocks` is complete once the last block was taken.

    name      as given, for messages
    layout    how its records can be read again by offset
    damage    what could not be read, in order of offset
    stopped   the limit that ended the reading early, if one did; it is in `damage` too
    """

    def __init__(self, source: Expanded, name: str, layout: Layout, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._walker = PcapngWalker(layout, limits) if layout.container == "pcapng" else None
        self._last: int | None = None
        self.name = name
        self.layout = layout
        self.damage: list[Damage] = []
        self.stopped: LimitExceeded | None = None

    @property
    def expanded(self) -> int:
        """Bytes of the expanded stream read so far."""
        return self._source.position

    @property
    def dropped(self) -> int | None:
        """Packets that the capturing side says it dropped; None where it says nothing, as pcap always does."""
        return self._walker.dropped if self._walker else None

    def blocks(self) -> Iterator[RecordBlock]:
        """The records, at most CHUNK bytes (or one record, if it is longer) and MOST_RECORDS at a time.

        Never raises for what the capture says: what cannot be read goes into `damage`, what came before is kept.
        """
        data, base = bytearray(), 0
        if not self._walker:
            base = len(self._source.read(FILE_HEADER))
        wants = 1
        while True:
            held = data
            data = bytearray(max(CHUNK, wants))
            data[: len(held)] = held
            got = self._source.fill(memoryview(data)[len(held) :])
            del data[len(held) + got :]
            at = 0
            while True:
                walk = self._walk(data, at, base)
                yield from self._told(data, base, walk)
                at = walk.at
                if walk.lie or walk.wants:
                    break
            data, base, wants = data[at:], base + at, walk.wants
            if walk.lie:
                self._give_up(base, len(data), walk)
                break
            if not got or self._source.stopped:
                self._end(base, data, walk)
                break
        if self._walker:
            self._walker.close()

    def _walk(self, data: bytearray, at: int, base: int) -> Walk:
        if self._walker:
            return self._walker.walk(data, at, base, MOST_RECORDS)
        return walk_pcap(data, at, base, self.layout, self._limits, MOST_RECORDS)

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

    def _give_up(self, offset: int, held: int, walk: Walk) -> None:
        """Nothing from `offset` on can be trusted. Finding the next plausible record is where this could go on."""
        if walk.over:
            self.stopped = LimitExceeded(self.name, offset, walk.lie)
        self._note(
            Damage(offset, held + self._source.skip(sys.maxsize), f"{walk.lie}; nothing behind it was read", self._last)
        )

    def _end(self, offset: int, rest: bytearray, walk: Walk) -> None:
        """The stream is over; what is left of it is a record cut short."""
        self.stopped = self._source.stopped
        reasons = [self._source.trouble] if self._source.trouble else []
        if rest:
            reasons.append(f"the last record needs {walk.wants} bytes or more, {len(rest)} are there")
        if reasons:
            self._note(Damage(offset, len(rest), "cut short: " + "; ".join(reasons), self._last))


def open_capture(stream: BinaryIO, name: str, limits: Limits | None = None) -> Reader:
    """Opens a capture of any container and compression that we read, told by its content.

    The stream is read forward only, by `readinto` where it has that and else by `read`. Raises NotACapture, which
    says what the bytes seem to be.
    """
    limits = limits or Limits()
    source = Expanded(stream, name, limits)
    head = source.peek(FILE_HEADER)
    layout = pcap_layout(head)
    if layout is None and head.startswith(b"\n\r\r\n") and section_order(head, 0):
        layout = Layout("pcapng")
    if layout is None:
        raise NotACapture(name, 0, f"no capture, it seems to be {seems(source)}")
    layout.compression = source.compression
    return Reader(source, name, layout, limits)
