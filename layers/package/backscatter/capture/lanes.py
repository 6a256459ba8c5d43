"""Finding records in a large buffer, by walking many stretches of it in step.

Each record says where the next one begins, so that a walk is sequential, and slow in Python. But it can begin in many
places at once: a lane starts where a chain of plausible records is found by looking for bytes that all of them have,
and all lanes take each of their steps together in NumPy. Nothing rests on the guess: a lane counts only if the walk
that comes from the buffer's beginning arrives exactly at its start. What no lane leads through is walked singly.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Container

    from numpy.typing import NDArray

    Places = NDArray[np.int64]
    Mask = NDArray[np.bool_]
    Opaque = NDArray[np.void]
    Fields = NDArray[np.uint32]

#: Records walked singly before lanes are worth setting up.
FIRST = 256

#: Lanes cover at most this many times the bytes walked before: where a lie ends the walk, little was done in vain.
GROWTH = 8

#: Lanes walked in step, and the records that each should have at least.
MOST_LANES, LEAST_RECORDS = 512, 96

#: Steps that all lanes take before it is looked whether they have arrived, and how many times the steps that are to be
#: expected they take at most: what is longer is walked singly.
STEPS, UNEVEN = 16, 8

#: Plausible headers that make a chain, and the places looked at before a lane is given up.
CHAIN, TRIES = 2, 16


class Head(NamedTuple):
    """What a record begins with: 32-bit numbers. One of them, believed as it stands, tells the record's size.

    order   byte order, "<" or ">"
    width   how many numbers
    length  which of them, from 0 on, tells the size
    more    bytes of the size that it does not tell
    least   bytes that a record has at least
    """

    order: str
    width: int
    length: int
    more: int
    least: int


class Records(Protocol):
    """A container's records, as far as a walk has to know them."""

    @property
    def head(self) -> Head:
        """What a record begins with."""

    def size(self, data: bytearray, at: int) -> int:
        """Bytes of the record at `at`; 0 if the walk must not pass it, or it is not whole."""

    def sound(self, data: bytearray, fields: Fields, ends: Places) -> Mask:
        """Which records are not of size 0, if they begin with `fields` and end at `ends`, which may be anywhere."""

    def mark(self, data: bytearray, at: int) -> tuple[bytes, int]:
        """Bytes that the records near the one at `at` are likely to have, and how far from their beginning."""

    def plausible(self, data: bytearray, places: Places, mark: bytes) -> Places:
        """Bytes of what may be a record at each place, since it has the mark and makes sense; 0 where it does not."""


class Run(NamedTuple):
    """Records that follow each other in a buffer.

    places  int64, index of each
    fields  uint32, the numbers that each begins with: a row for each number
    at      index behind the last
    """

    places: Places
    fields: Fields
    at: int

    def first(self, count: int) -> Run:
        """The run without what is behind its first `count` records."""
        if count >= len(self.places):
            return self
        return Run(self.places[:count], self.fields[:, :count], int(self.places[count]))


@dataclass(slots=True)
class Trust:
    """How many records, of how many bytes, were walked since anything was a lie; in the buffers before this one too."""

    records: int = 0
    size: int = 0


def walk_records(data: bytearray, start: int, records: Records, most: int, trust: Trust) -> Run:
    """The records from index `start` on, at most `most`.

    The walk ends early before a record of size 0. It begins slowly unless `trust` was earned, and adds to that.
    """
    runs, at, found, goes_on = list[Run](), start, 0, True
    while goes_on and found < most:
        if trust.records < FIRST:
            run = _singly(data, at, records, min(most, FIRST), len(data))
            goes_on = len(run.places) == FIRST
        else:
            mean = trust.size // trust.records
            until = min(len(data), at + GROWTH * trust.size, at + 2 * mean * (most - found))
            # where there are no lanes they are looked for ever more seldom
            run, goes_on = _stretch(data, at, until, records, mean, max(FIRST, found))
            if goes_on and run.at < until:  # lanes were looked for in vain behind it
                trust.records = trust.size = 0
        runs.append(run)
        found += len(run.places)
        trust.records += len(run.places)
        trust.size += run.at - at
        at = run.at
    if len(runs) == 1:
        return runs[0].first(most)
    places, fields = (np.concatenate([run[column] for run in runs], axis=-1) for column in (0, 1))
    return Run(places, fields, at).first(most)


def fields_at(data: bytearray, places: Places, head: Head) -> Fields:
    """The numbers that records at `places` begin with, all of which lie in the buffer: a row for each number."""
    size = 4 * head.width
    return _fields(_windows(data, size)[places] if len(places) else np.zeros(0, f"V{size}"), head)


def _windows(data: bytearray, size: int) -> Opaque:
    """The `size` bytes at each place, as items that NumPy copies whole: a structure it copies field by field."""
    return np.ndarray((len(data) - size + 1,), f"V{size}", data, strides=(1,))


def _fields(opaque: Opaque, head: Head) -> Fields:
    return opaque.view(head.order + "u4").reshape(-1, head.width).T.astype(np.uint32, order="C")


def _singly(
    data: bytearray, at: int, records: Records, most: int, end: int, stops: Container[int] = frozenset()
) -> Run:
    """Walks from `at` record by record, at most `most`, until it arrives behind `end`, at one of `stops`, or cannot."""
    size_of = records.size
    walked: list[int] = []
    while len(walked) < most and at < end and (size := size_of(data, at)):
        walked.append(at)
        at += size
        if at in stops:
            break
    places = np.array(walked, np.int64)
    return Run(places, fields_at(data, places, records.head), at)


def _stretch(data: bytearray, at: int, until: int, records: Records, mean: int, most: int) -> tuple[Run, bool]:
    """The records from `at` on towards `until`, and whether the walk can go on.

    Before there were records of `mean` bytes. Where no lanes are found it is at most `most` records.
    """
    lanes = min(MOST_LANES, (until - at) // (mean * LEAST_RECORDS))
    starts = _starts(data, at, until, records, lanes)
    if len(starts) < 2:
        run = _singly(data, at, records, most, len(data))
        return run, len(run.places) == most
    width, room = (until - at) // lanes, len(data) - 4 * records.head.width
    # where no starts are found to the last, they are looked for anew
    end = min(until, int(starts[-1]) + 2 * width, room + 1)
    fields, arrived = _along(data, starts, end, records, UNEVEN * width // mean)
    # lanes that lead to each other leave nothing between their records
    bounds = np.empty(fields.shape[1] + 1, np.int64)
    bounds[0], bounds[1:] = at, fields[records.head.length]
    bounds[1:] += records.head.more
    if records.head.more < records.head.least:
        np.maximum(bounds[1:], records.head.least, out=bounds[1:])
    np.cumsum(bounds, out=bounds)
    run = Run(bounds[:-1], fields, int(bounds[-1]))
    sound = records.sound(data, fields, bounds[1:])
    if not sound.all():  # what lies behind a lie was made up
        return run.first(int(np.argmin(sound))), False
    return run, arrived and run.at <= room


def _starts(data: bytearray, at: int, until: int, records: Records, lanes: int) -> Places:
    """Where lanes seem to begin, ascending, the first of them `at`; about as many as `lanes`."""
    starts = [np.array([at], np.int64)]
    if lanes < 2:
        return starts[0]
    mark, mark_at = records.mark(data, at)
    step = (until - at) // lanes
    # where to look on, and where the lane is given up, of every lane that has no start yet
    begins = np.arange(at + step, until - step + 1, step)
    ends = begins + step
    for _ in range(TRIES):
        seen = map(data.find, repeat(mark), (begins + mark_at).tolist(), ends.tolist())
        places = np.fromiter(seen, np.int64, len(begins)) - mark_at
        ends, places = ends[places >= 0], places[places >= 0]
        chains = _are_chains(data, places, mark, records)
        starts.append(places[chains])
        begins, ends = places[~chains] + 1, ends[~chains]
        if not len(begins):
            break
    return np.sort(np.concatenate(starts))


def _are_chains(data: bytearray, places: Places, mark: bytes, records: Records) -> Mask:
    """Whether plausible records follow each other from each place on."""
    chains = np.zeros(len(places), np.bool_)
    which = np.arange(len(places))
    for _ in range(CHAIN):
        size = records.plausible(data, places, mark)
        going = size > 0
        which, places = which[going], (places + size)[going]
    chains[which] = True
    return chains


def _along(data: bytearray, starts: Places, end: int, records: Records, steps: int) -> tuple[Fields, bool]:
    """What the records from the first of `starts` on begin with, and whether the walk arrived at `end` or behind it.

    Lanes take about so many steps at most. Sizes are believed as they stand: behind the first record that is not sound
    nothing of this holds.
    """
    head = records.head
    ends = np.append(starts[1:], end)
    opaque, places = _in_step(data, starts, ends, head, steps)
    inside = places < ends
    walked = np.count_nonzero(inside, axis=0)
    arrivals = places[np.minimum(walked, len(places) - 1), np.arange(len(ends))]
    if (arrivals[:-1] == ends[:-1]).all() and arrivals[-1] >= end:
        return _fields(opaque.T[inside[:-1].T], head), True
    number = {start: lane for lane, start in enumerate(starts.tolist())}
    pieces: list[Fields] = []
    lane = 0
    while True:
        pieces.append(_fields(np.ascontiguousarray(opaque[: walked[lane], lane]), head))
        at = int(arrivals[lane])
        if at not in number:
            run = _singly(data, at, records, len(data), end, number)
            pieces.append(run.fields)
            at = run.at
        if at not in number:
            return np.concatenate(pieces, axis=1), at >= end
        lane = number[at]


def _in_step(data: bytearray, starts: Places, ends: Places, head: Head, most: int) -> tuple[Opaque, Places]:
    """Heads and places of records, a column for each lane, down to its end or beyond it, or for about `most` steps.

    There is a row of places more: where the last step led.
    """
    size, lanes = 4 * head.width, len(starts)
    windows, last, inside = _windows(data, size), len(data) - size, np.empty(lanes, np.int64)
    opaque = np.empty((STEPS + 3 * most // (2 * UNEVEN), lanes), windows.dtype)
    at, rows = starts, [starts]
    while len(rows) <= most and (at < ends).any():
        if len(rows) + STEPS > len(opaque) + 1:
            opaque = np.concatenate([opaque, np.empty_like(opaque)])
        at = np.minimum(at, ends)
        lengths = opaque.view(head.order + "u4").reshape(-1, lanes, head.width)[..., head.length]
        for row in range(len(rows) - 1, len(rows) - 1 + STEPS):
            # beyond its end a lane may run into anything, but not read outside of the buffer
            opaque[row] = windows[np.minimum(at, last, out=inside)]
            length = lengths[row]
            if head.more < head.least:
                length = np.maximum(length, head.least - head.more)
            at = at + length
            at += head.more
            rows.append(at)
    return opaque[: len(rows) - 1], np.concatenate(rows).reshape(-1, lanes)
