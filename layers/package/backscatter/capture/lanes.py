"""Finding records in a large buffer, by walking many stretches of it in step.

Each record says where the next one begins, so that a walk is sequential, and slow in Python. But it can begin in many
places at once: a lane starts where a chain of plausible records is found by looking for bytes that all of them have,
and all lanes take each of their steps together in NumPy. Nothing rests on the guess: a lane counts only if the walk
that comes from the buffer's beginning arrives exactly at its start. What no lane leads through is walked singly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Container

    from numpy.typing import NDArray

    Places = NDArray[np.int64]
    Mask = NDArray[np.bool_]

#: Records walked singly before lanes are worth setting up.
FIRST = 256

#: Lanes cover at most this many times the bytes walked before: where a lie ends the walk, little was done in vain.
GROWTH = 8

#: Lanes walked in step, and the records that each should have at least.
MOST_LANES, LEAST_RECORDS = 512, 64

#: Steps that all lanes take before it is looked whether they have arrived.
STEPS = 16

#: Plausible headers that make a chain, and the places looked at before a lane is given up.
CHAIN, TRIES = 4, 16


class Step(NamedTuple):
    """How a record's size is told, if it is believed: by 32 bits at `length_at`, plus `more`, and at least `least`."""

    form: str
    length_at: int
    more: int
    least: int


class Records(Protocol):
    """A container's records, as far as a walk has to know them."""

    @property
    def step(self) -> Step:
        """How a record's size is told."""

    def size(self, data: bytearray, at: int) -> int:
        """Bytes of the record at `at`; 0 if the walk must not pass it, or it is not whole."""

    def sound(self, data: bytearray, places: Places) -> Mask:
        """Which of `places`, all with room for the least record, hold records of other than size 0."""

    def mark(self, data: bytearray, at: int) -> tuple[bytes, int]:
        """Bytes that the records near the one at `at` are likely to have, and how far from their beginning."""

    def plausible(self, data: bytearray, places: Places, mark: bytes) -> Places:
        """Bytes of what may be a record at each place, since it has the mark and makes sense; 0 where it does not."""


def walk_records(data: bytearray, start: int, records: Records, most: int) -> tuple[Places, int]:
    """Indices of the records from `start` on, at most `most`, and the index behind the last.

    The walk ends early before a record of size 0.
    """
    places, at = _singly(data, start, records, min(most, FIRST))
    pieces, found, goes_on = [places], len(places), len(places) == FIRST
    while goes_on and found < most:
        until = min(len(data), at + GROWTH * (at - start))
        places, at, goes_on = _stretch(data, at, until, records, (at - start) // found, found)
        pieces.append(places)
        found += len(places)
    places = np.concatenate(pieces)
    if found > most:
        places, at = places[:most], int(places[most])
    return places, at


def heads(data: bytearray, places: Places, layout: np.dtype[np.void]) -> NDArray[Any]:
    """A copy of the `layout` at each of `places`."""
    if not len(places):
        return np.zeros(0, layout)
    # opaque items: NumPy would copy a structure field by field
    size = layout.itemsize
    windows: NDArray[np.void] = np.ndarray((len(data) - size + 1,), f"V{size}", data, strides=(1,))
    return windows[places].view(layout)


def _singly(
    data: bytearray, at: int, records: Records, most: int, stops: Container[int] = frozenset()
) -> tuple[Places, int]:
    """Walks from `at` record by record, at most `most`, until it arrives at one of `stops` or cannot go on."""
    size_of = records.size
    places: list[int] = []
    while len(places) < most and (size := size_of(data, at)):
        places.append(at)
        at += size
        if at in stops:
            break
    return np.array(places, np.int64), at


def _stretch(data: bytearray, at: int, until: int, records: Records, mean: int, found: int) -> tuple[Places, int, bool]:
    """The records from `at` on towards `until`, the index behind them, and whether the walk can go on.

    Before there were `found` records of `mean` bytes.
    """
    starts = _starts(data, at, until, records, min(MOST_LANES, (until - at) // (mean * LEAST_RECORDS)))
    if len(starts) < 2:
        # where there are no lanes they are looked for ever more seldom
        places, arrived = _singly(data, at, records, found)
        return places, arrived, len(places) == found
    places, arrived = _along(data, starts, records)
    sound = records.sound(data, places)
    if not sound.all():  # what lies behind a lie was made up
        last = int(np.argmin(sound))
        return places[:last], int(places[last]), False
    return places, arrived, arrived == int(starts[-1])


def _starts(data: bytearray, at: int, until: int, records: Records, lanes: int) -> Places:
    """Where lanes seem to begin, ascending, the first of them `at`; about as many as `lanes`."""
    if lanes < 2:
        return np.array([at], np.int64)
    mark, mark_at = records.mark(data, at)
    step = (until - at) // lanes
    starts = [np.array([at], np.int64)]
    # (where to look on, where the lane is given up) of every lane that has no start yet
    looking = [(begin, begin + step) for begin in range(at + step, until - step + 1, step)]
    for _ in range(TRIES):
        seen = [(data.find(mark, begin + mark_at, end) - mark_at, end) for begin, end in looking]
        seen = [(place, end) for place, end in seen if place >= 0]
        places = np.array([place for place, _ in seen], np.int64)
        chains = _are_chains(data, places, mark, records)
        starts.append(places[chains])
        looking = [(place + 1, end) for (place, end), found in zip(seen, chains.tolist(), strict=True) if not found]
        if not looking:
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


def _along(data: bytearray, starts: Places, records: Records) -> tuple[Places, int]:
    """The records from the first of `starts` on, and where the walk arrived: at the last of `starts` if it could.

    Sizes are believed as they stand: behind the first record that is not sound nothing of this holds.
    """
    table = _in_step(data, starts, records.step)
    ends = starts[1:]
    inside = table < ends
    walked = np.count_nonzero(inside, axis=0)
    arrivals = table[walked, np.arange(len(ends))]
    if (arrivals == ends).all():
        return table.T[inside.T], int(ends[-1])
    number = {start: lane for lane, start in enumerate(starts.tolist())}
    pieces, lane, at = [], 0, int(starts[0])
    while lane < len(ends):
        pieces.append(table[: walked[lane], lane])
        at = int(arrivals[lane])
        if at not in number:
            places, at = _singly(data, at, records, len(data), number)
            pieces.append(places)
        if at not in number:
            break
        lane = number[at]
    return np.concatenate(pieces), at


def _in_step(data: bytearray, starts: Places, step: Step) -> Places:
    """Places of records, a column for each lane, down to the start of the next lane or beyond it."""
    room = step.length_at + 4
    lengths: NDArray[np.uint32] = np.ndarray((len(data) - room + 1,), step.form, data, step.length_at, (1,))
    at, ends, last = starts[:-1], starts[1:], len(data) - max(room, step.least)
    more = np.int64(step.more)
    rows = [at]
    while (at < ends).any():
        for _ in range(STEPS):
            # beyond its end a lane may run into anything, but not read outside of the buffer, nor stand still
            at = at + np.maximum(lengths[np.minimum(at, last)] + more, step.least)
            rows.append(at)
    return np.stack(rows)
