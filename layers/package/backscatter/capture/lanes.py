"""Finding records in a large buffer, by walking many stretches of it in step.

Each record says where the next one begins, so that a walk is sequential, and slow in Python. But it can begin in many
places at once: a lane starts where a chain of plausible records is found by looking for bytes that all of them have,
and all lanes take each of their steps together in NumPy. Nothing rests on the guess: a lane counts only if the walk
that comes from the buffer's beginning arrives exactly at its start. What no lane leads through is walked singly.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Container

    from numpy.typing import NDArray

    Places = NDArray[np.int64]
    Mask = NDArray[np.bool_]
    Heads = NDArray[Any]

#: Records walked singly before lanes are worth setting up.
FIRST = 256

#: Lanes cover at most this many times the bytes walked before: where a lie ends the walk, little was done in vain.
GROWTH = 8

#: Lanes walked in step, and the records that each should have at least.
MOST_LANES, LEAST_RECORDS = 512, 64

#: Steps that all lanes take before it is looked whether they have arrived, and how many times the steps that are to be
#: expected they take at most: what is longer is walked singly.
STEPS, UNEVEN = 16, 8

#: Plausible headers that make a chain, and the places looked at before a lane is given up.
CHAIN, TRIES = 4, 16


class Step(NamedTuple):
    """How a record's size is told, if it is believed: by a field of its head, plus `more`, and at least `least`."""

    field: str
    more: int
    least: int


class Records(Protocol):
    """A container's records, as far as a walk has to know them."""

    @property
    def head(self) -> np.dtype[np.void]:
        """The fields that a record begins with."""

    @property
    def step(self) -> Step:
        """How a record's size is told."""

    def size(self, data: bytearray, at: int) -> int:
        """Bytes of the record at `at`; 0 if the walk must not pass it, or it is not whole."""

    def sound(self, data: bytearray, heads: Heads, ends: Places) -> Mask:
        """Which `heads` are of records of other than size 0, if they end at `ends`, which may be anywhere."""

    def mark(self, data: bytearray, at: int) -> tuple[bytes, int]:
        """Bytes that the records near the one at `at` are likely to have, and how far from their beginning."""

    def plausible(self, data: bytearray, places: Places, mark: bytes) -> Places:
        """Bytes of what may be a record at each place, since it has the mark and makes sense; 0 where it does not."""


class Run(NamedTuple):
    """Records that follow each other in a buffer.

    places  int64, index of each
    heads   the fields that each begins with
    at      index behind the last
    """

    places: Places
    heads: Heads
    at: int

    def first(self, count: int) -> Run:
        """The run without what is behind its first `count` records."""
        if count >= len(self.places):
            return self
        return Run(self.places[:count], self.heads[:count], int(self.places[count]))


@dataclass(slots=True)
class Trust:
    """How many records, of how many bytes, were walked since anything was a lie; in the buffers before this one too."""

    records: int = 0
    size: int = 0


def walk_records(data: bytearray, start: int, records: Records, most: int, trust: Trust | None = None) -> Run:
    """The records from index `start` on, at most `most`.

    The walk ends early before a record of size 0. It begins slowly unless there is `trust`, which it adds to.
    """
    trust = trust or Trust()
    runs, at, found, goes_on = list[Run](), start, 0, True
    while goes_on and found < most:
        if trust.records < FIRST:
            run = _singly(data, at, records, min(most, FIRST))
            goes_on = len(run.places) == FIRST
        else:
            mean = trust.size // trust.records
            until = min(len(data), at + GROWTH * trust.size, at + 2 * mean * (most - found))
            # where there are no lanes they are looked for ever more seldom
            run, goes_on = _stretch(data, at, until, records, mean, max(FIRST, found))
        runs.append(run)
        found += len(run.places)
        trust.records += len(run.places)
        trust.size += run.at - at
        at = run.at
    places, heads = runs[0].places, runs[0].heads
    if len(runs) > 1:
        places, heads = np.concatenate([run.places for run in runs]), np.concatenate([run.heads for run in runs])
    return Run(places, heads.view(records.head), at).first(most)


def heads(data: bytearray, places: Places, layout: np.dtype[np.void]) -> Heads:
    """A copy of the `layout` at each of `places`."""
    return _opaque(data, places, layout.itemsize).view(layout)


def _opaque(data: bytearray, places: Places, size: int) -> Heads:
    """The `size` bytes at each of `places`, as items that NumPy copies whole: a structure it copies by its fields."""
    return _windows(data, size)[places] if len(places) else np.zeros(0, f"V{size}")


def _windows(data: bytearray, size: int) -> Heads:
    return np.ndarray((len(data) - size + 1,), f"V{size}", data, strides=(1,))


def _singly(data: bytearray, at: int, records: Records, most: int, stops: Container[int] = frozenset()) -> Run:
    """Walks from `at` record by record, at most `most`, until it arrives at one of `stops` or cannot go on."""
    size_of = records.size
    walked: list[int] = []
    while len(walked) < most and (size := size_of(data, at)):
        walked.append(at)
        at += size
        if at in stops:
            break
    places = np.array(walked, np.int64)
    return Run(places, _opaque(data, places, records.head.itemsize), at)


def _stretch(data: bytearray, at: int, until: int, records: Records, mean: int, most: int) -> tuple[Run, bool]:
    """The records from `at` on, up to the first behind `until`, and whether the walk can go on.

    Before there were records of `mean` bytes. Where no lanes are found it is at most `most` records.
    """
    starts = _starts(data, at, until, records, min(MOST_LANES, (until - at) // (mean * LEAST_RECORDS)))
    if len(starts) < 2:
        run = _singly(data, at, records, most)
        return run, len(run.places) == most
    opaque, arrived = _along(data, starts, until, records, UNEVEN * (until - at) // (mean * len(starts)))
    told = opaque.view(records.head)
    # lanes that lead to each other leave nothing between their records
    ends = at + np.cumsum(_sizes(told, records.step))
    run = Run(np.concatenate([starts[:1], ends[:-1]]), opaque, int(ends[-1]))
    sound = records.sound(data, told, ends)
    if not sound.all():  # what lies behind a lie was made up
        return run.first(int(np.argmin(sound))), False
    return run, arrived and until < len(data)


def _sizes(heads: Heads, step: Step) -> Places:
    """Bytes of the records, if their heads are believed."""
    sizes: Places = heads[step.field].astype(np.int64)
    sizes += step.more
    return sizes if step.more >= step.least else np.maximum(sizes, step.least)


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


def _along(data: bytearray, starts: Places, until: int, records: Records, steps: int) -> tuple[Heads, bool]:
    """The heads of the records from the first of `starts` on, and whether the walk arrived behind `until`.

    Lanes take about so many steps at most. Sizes are believed as they stand: behind the first record that is not sound nothing of this holds.
    """
    ends = np.append(starts[1:], min(until, len(data) - records.head.itemsize + 1))
    opaque, places = _in_step(data, starts, ends, records, steps)
    inside = places < ends
    walked = np.count_nonzero(inside, axis=0)
    arrivals = places[np.minimum(walked, len(places) - 1), np.arange(len(ends))]
    if (arrivals[:-1] == ends[:-1]).all() and arrivals[-1] >= ends[-1]:
        return opaque.T[inside[:-1].T], True
    number = {start: lane for lane, start in enumerate(starts.tolist())}
    pieces, lane, last = [], 0, len(starts) - 1
    while True:
        pieces.append(opaque[: walked[lane], lane])
        at = int(arrivals[lane])
        if lane == last and at >= ends[last]:
            return np.concatenate(pieces), True
        if at not in number:
            run = _singly(data, at, records, len(data), number)
            pieces.append(run.heads)
            at = run.at
        if at not in number:
            return np.concatenate(pieces), False
        lane = number[at]


def _in_step(data: bytearray, starts: Places, ends: Places, records: Records, most: int) -> tuple[Heads, Places]:
    """Heads and places of records, a column for each lane, down to its end or beyond it, or for about `most` steps.

    There is a row of places more: where the last step led.
    """
    step, size = records.step, records.head.itemsize
    windows, last = _windows(data, size), len(data) - size
    at, rows = starts, [starts]
    heads: list[Heads] = []
    while len(heads) < most and (at < ends).any():
        at = np.minimum(at, ends)
        for _ in range(STEPS):
            # beyond its end a lane may run into anything, but not read outside of the buffer
            head = windows[np.minimum(at, last)]
            at = at + _sizes(head.view(records.head), step)
            heads.append(head)
            rows.append(at)
    shape = (-1, len(starts))
    return np.concatenate(heads).reshape(shape), np.concatenate(rows).reshape(shape)
