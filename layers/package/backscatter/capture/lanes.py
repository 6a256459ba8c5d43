"""Finding the records of classic pcap in a large buffer, by walking many stretches of it in step.

Each record says where the next one begins, so that a walk is sequential, and slow in Python. But it can begin in many
places at once: a lane starts where a chain of plausible headers is found by looking for the time of the capture, and
all lanes take each of their steps together in NumPy. Nothing rests on the guess: a lane counts only if the walk that
comes from the buffer's beginning arrives exactly at its start. What no lane leads through is walked record by record.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Container

    from numpy.typing import NDArray

    Places = NDArray[np.int64]
    Heads = NDArray[Any]

#: Records walked singly before lanes are worth setting up.
FIRST = 256

#: Lanes cover at most this many times the bytes walked before: where a lie ends the walk, little was done in vain.
GROWTH = 8

#: Lanes walked in step, and the records that each should have at least.
MOST_LANES, LEAST_RECORDS = 256, 32

#: Steps that all lanes take before it is looked whether they have arrived.
STEPS = 16

#: Plausible headers that make a chain, and the places looked at before a lane is given up.
CHAIN, TRIES = 4, 16


@dataclass(frozen=True, slots=True)
class Form:
    """How records lie: byte order, bytes of their headers, ticks a second, and the most bytes one may have."""

    order: str
    header: int
    ticks: int
    longest: int

    @property
    def head(self) -> np.dtype[np.void]:
        """The four fields that every variant of the record header begins with."""
        return np.dtype([(name, self.order + "u4") for name in ("seconds", "fraction", "caplen", "wirelen")])


def walk_records(data: bytearray, start: int, form: Form, most: int) -> tuple[Places, Heads, int]:
    """Indices of the records from `start` on, their heads, and the index behind the last.

    The walk ends after `most` records, or before the first that is not whole or claims more than `form.longest` bytes.
    """
    places, at = _singly(data, start, form, min(most, FIRST))
    pieces, found, goes_on = [places], len(places), len(places) == FIRST
    while goes_on and found < most:
        until = min(len(data), at + GROWTH * (at - start))
        places, at, goes_on = _stretch(data, at, until, form, at - start, found)
        pieces.append(places)
        found += len(places)
    places = np.concatenate(pieces)
    if found > most:
        places, at = places[:most], int(places[most])
    return places, _heads(data, places, form), at


def _heads(data: bytearray, places: Places, form: Form) -> Heads:
    if not len(places):
        return np.zeros(0, form.head)
    # opaque items: NumPy would copy a structure field by field
    windows: NDArray[np.void] = np.ndarray((len(data) - 15,), "V16", data, strides=(1,))
    return windows[places].view(form.head)


def _singly(data: bytearray, at: int, form: Form, most: int, stops: Container[int] = frozenset()) -> tuple[Places, int]:
    """Walks from `at` record by record, at most `most`, until it arrives at one of `stops` or cannot go on."""
    unpack = struct.Struct(form.order + "I").unpack_from
    header, longest, end = form.header, form.longest, len(data)
    places: list[int] = []
    while at + header <= end and len(places) < most:
        (length,) = unpack(data, at + 8)
        after = at + header + length
        if length > longest or after > end:
            break
        places.append(at)
        at = after
        if at in stops:
            break
    return np.array(places, np.int64), at


def _stretch(data: bytearray, at: int, until: int, form: Form, walked: int, found: int) -> tuple[Places, int, bool]:
    """The records from `at` on towards `until`, the index behind them, and whether the walk can go on.

    In the `walked` bytes before there were `found` records.
    """
    mean = walked // found
    starts = _starts(data, at, until, form, min(MOST_LANES, (until - at) // (mean * LEAST_RECORDS)))
    if len(starts) > 1:
        places, arrived = _along(data, np.array(starts, np.int64), form)
        if _heads(data, places, form)["caplen"].max() <= form.longest:
            return places, arrived, arrived == starts[-1]
    # where there are no lanes they are looked for ever more seldom
    places, arrived = _singly(data, at, form, found)
    return places, arrived, len(places) == found


def _starts(data: bytearray, at: int, until: int, form: Form, lanes: int) -> list[int]:
    """Where lanes seem to begin, ascending, the first of them `at`; about as many as `lanes`."""
    starts = [at]
    if lanes < 2:
        return starts
    # the upper half of the seconds, which is the same for 18 hours: let that be an hour
    high = 2 if form.order == "<" else 0
    upper = data[at + high : at + high + 2]
    hour = int.from_bytes(upper, "little" if high else "big")
    step = (until - at) // lanes
    for begin in range(at + step, until - step + 1, step):
        place = begin - 1
        for _ in range(TRIES):
            place = data.find(upper, place + 1 + high, begin + step) - high
            if place < 0:
                break
            if _is_chain(data, place, hour, form):
                starts.append(place)
                break
    return starts


def _is_chain(data: bytearray, place: int, hour: int, form: Form) -> bool:
    """Whether headers of that hour, none claiming too much, follow each other from `place` on.

    The length on the wire is not asked: there are writers that put less there than they captured.
    """
    for _ in range(CHAIN):
        if place + form.header > len(data):
            return False
        seconds, fraction, caplen = struct.unpack_from(form.order + "III", data, place)
        if seconds >> 16 != hour or fraction >= form.ticks or caplen > form.longest:
            return False
        place += form.header + caplen
    return True


def _along(data: bytearray, starts: Places, form: Form) -> tuple[Places, int]:
    """The records from the first of `starts` on, and where the walk arrived: at the last of `starts` if it could.

    Lengths are believed as they stand: where one of the records found claims too much, nothing of this holds.
    """
    table = _in_step(data, starts, form)
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
            places, at = _singly(data, at, form, len(data), number)
            pieces.append(places)
        if at not in number:
            break
        lane = number[at]
    return np.concatenate(pieces), at


def _in_step(data: bytearray, starts: Places, form: Form) -> Places:
    """Places of records, a column for each lane, down to the start of the next lane or beyond it."""
    lengths: NDArray[np.uint32] = np.ndarray((len(data) - 11,), form.order + "u4", data, 8, (1,))
    at, ends, last = starts[:-1], starts[1:], len(data) - form.header
    rows = [at]
    while (at < ends).any():
        for _ in range(STEPS):
            # beyond its end a lane may run into anything, but not out of the buffer
            at = np.minimum(at + form.header + lengths[at], last)
            rows.append(at)
    return np.stack(rows)
