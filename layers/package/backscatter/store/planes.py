"""Columns as byte planes: what makes rows of flows small under zstd.

A column of n numbers of w bytes becomes w planes of n bytes, lowest byte first. What is written is a bitmap of the
planes whose bytes differ, another of those that are one byte all along but zero, these bytes, and the former planes.
That pays when numbers are small, so each column is written as its difference from a *guess* made of columns
that were written before it: the end of a flow lies near its start, the seq of a RST near the ack of the SYN+ACK
that it answers. Differences are modulo the column's width, hence exact for every value, also for nonsense.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backscatter.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from backscatter.store.frame import Buffer

    #: Gives a column by its name, as int64; a column of zeros may be one zero.
    Known = Callable[[str], NDArray[np.int64]]
    #: Gives some rows of a column by its name; None where all are zero.
    Values = Callable[[str, slice], NDArray[Any] | None]
    Guess = Callable[[Known], NDArray[np.int64]]
    #: Gives a column of another table for the rows at hand, from the columns that are known of them.
    Beside = Callable[[str, Mapping[str, NDArray[Any]]], NDArray[Any]]


#: Rows looked at at once: their columns stay in the processor's cache.
_STRIDE = 8192


def blocks(count: int) -> Iterator[slice]:
    """The rows of a table, as many at a time as are looked at fastest."""
    return (slice(at, min(count, at + _STRIDE)) for at in range(0, count, _STRIDE))


class Column(NamedTuple):
    """One column of numbers and how it is written.

    name    of the field; `field.i` is the i-th number of a field that holds several
    dtype   of the number
    guess   what it probably is, from columns written before; None: it is written as it is
    """

    name: str
    dtype: np.dtype[Any]
    guess: Guess | None = None

    @property
    def width(self) -> int:
        """Bytes of a number."""
        return self.dtype.itemsize

    @property
    def wire(self) -> np.dtype[Any]:
        """The dtype in which differences are taken and written: unsigned, little endian."""
        return np.dtype(f"<u{self.width}")


def _zigzag(column: NDArray[Any]) -> NDArray[Any]:
    """Small differences of either sign as small numbers: 0, -1, 1, -2 become 0, 1, 2, 3."""
    signed = column.view(f"<i{column.dtype.itemsize}")
    folded: NDArray[Any] = (signed << 1 ^ signed >> (column.dtype.itemsize * 8 - 1)).view(column.dtype)
    return folded


def _unfolded(column: NDArray[Any]) -> NDArray[Any]:
    one = column.dtype.type(1)
    unfolded: NDArray[Any] = column >> one ^ (~(column & one) + one)
    return unfolded


def _difference(column: Column, values: NDArray[Any] | None, count: int, known: Known) -> NDArray[Any] | None:
    """What is written for the values, None for zeros; values that are None are zeros."""
    wire = column.wire
    raw = None if values is None else np.ascontiguousarray(values).view(wire)
    if column.guess is None:
        return raw
    base = column.guess(known).astype(wire)
    if raw is None:
        if not base.any():
            return None
        raw = np.zeros(count, wire)
    difference = raw - base
    return _zigzag(difference) if difference.any() else None


def _restored(column: Column, written: NDArray[Any], known: Known) -> NDArray[Any]:
    """The values of what was written."""
    if column.guess is None:
        return written.view(column.dtype)
    whole: NDArray[Any] = (_unfolded(written) + column.guess(known).astype(column.wire)).view(column.dtype)
    return whole


def _differences(column: Column, values: NDArray[Any]) -> NDArray[Any]:
    """What is written for the values of a running column: each one's difference from the one before."""
    raw = np.ascontiguousarray(values.astype(column.dtype, copy=False)).view(column.wire)
    steps = raw.copy()
    np.subtract(raw[1:], raw[:-1], out=steps[1:])
    return _zigzag(steps)


def _planes(column: Column, written: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The planes of a column that are not all zeros, each with its place in the column."""
    present = int(np.bitwise_or.reduce(written)) if len(written) else 0
    if present:
        octets = written.view(np.uint8).reshape(len(written), column.width)
        for i in range(column.width):
            if present >> 8 * i & 0xFF:
                yield i, octets[:, i]


class _Block:
    """Columns of some rows, each fetched and widened once, however many guesses look at it."""

    def __init__(self, values: Values, rows: slice) -> None:
        self._values, self._rows = values, rows
        self._held: dict[str, NDArray[Any] | None] = {}
        self._wide: dict[str, NDArray[np.int64]] = {}
        self._nothing = np.zeros(1, np.int64)

    def column(self, name: str) -> NDArray[Any] | None:
        """The numbers of a column side by side; None where all are zero."""
        if name not in self._held:
            values = self._values(name, self._rows)
            self._held[name] = None if values is None else np.ascontiguousarray(values)
        return self._held[name]

    def known(self, name: str) -> NDArray[np.int64]:
        """A column for a guess."""
        if name not in self._wide:
            values = self.column(name)
            self._wide[name] = self._nothing if values is None else values.astype(np.int64, copy=False)
        return self._wide[name]

    def difference(self, column: Column) -> NDArray[Any] | None:
        """What is written for a column; None for zeros."""
        count = self._rows.stop - self._rows.start
        return _difference(column, self.column(column.name), count, self.known)


class Spread(NamedTuple):
    """Columns as byte planes.

    ids     planes that differ along the rows, ascending
    matrix  matrix[row, i] is the byte of plane ids[i]; there may be more columns than planes
    same    planes that are the same number, not zero, all along
    """

    ids: NDArray[np.int64]
    matrix: NDArray[np.uint8]
    same: Mapping[int, int]


class Recipe:
    """How a table is written, in three kinds of columns, in this order.

    running  written as the difference from the row before
    coded    small numbers that the caller makes for each part of the table, such as indices into its own names
    local    written as the difference from a guess made of the same row

    Running and coded columns come from the caller, in whatever order of rows he likes; the local ones need one order.
    """

    def __init__(self, running: Sequence[Column], coded: Sequence[Column], local: Sequence[Column]) -> None:
        self.running = tuple(running)
        self.coded = tuple(coded)
        self.local = tuple(local)
        self._given_width = sum(column.width for column in self.running + self.coded)
        self._width = self._given_width + sum(column.width for column in self.local)
        self._head = (self._width + 7) // 8
        #: where each column's planes begin
        self._edges = np.cumsum([0, *(column.width for column in self.columns)])

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns in the order of writing."""
        return self.running + self.coded + self.local

    def spread(self, values: Values, count: int) -> Spread:
        """The local columns of `count` rows as bytes.

        `values` gives some rows of a column by its name, or None where all are zero.
        """
        found: dict[int, NDArray[np.uint8]] = {}
        for rows in blocks(count):
            block = _Block(values, rows)
            plane = self._given_width
            for column in self.local:
                written = block.difference(column)
                for i, octets in _planes(column, written) if written is not None else ():
                    if plane + i not in found:
                        found[plane + i] = np.zeros(count, np.uint8)
                    found[plane + i][rows] = octets
                plane += column.width
        same = {plane: int(octets[0]) for plane, octets in found.items() if (octets == octets[0]).all()}
        ids = sorted(found.keys() - same.keys())
        # NumPy takes rows of whole words three times as fast as others.
        matrix = np.zeros((count, -(-len(ids) // 8) * 8), np.uint8)
        for rows in blocks(count):
            for i, plane in enumerate(ids):
                matrix[rows, i] = found[plane][rows]
        return Spread(np.array(ids, np.int64), matrix, same)

    def pack(self, given: Mapping[str, NDArray[Any]], spread: Spread, rows: NDArray[np.int64]) -> Iterator[Buffer]:
        """Rows as bytes, one piece after the other.

        given   the values of the running and coded columns of these rows
        spread  the local columns of all rows
        rows    which of them, in the order of writing
        """
        there = np.zeros(self._width, np.bool_)
        same = np.zeros(self._width, np.uint8)
        octets: list[Buffer] = []
        plane = 0
        for column in self.running + self.coded:
            values = given[column.name]
            written = _differences(column, values) if column in self.running else values.astype(column.wire, copy=False)
            for i, some in _planes(column, written):
                there[plane + i] = True
                octets.append(some.tobytes())
            plane += column.width
        if len(rows):
            whole = np.ascontiguousarray(spread.matrix.take(rows, axis=0)[:, : len(spread.ids)].T)
            first = whole[:, 0]
            differ = (whole != first[:, None]).any(axis=1)
            there[spread.ids[differ]] = True
            same[spread.ids[~differ]] = first[~differ]
            same[list(spread.same)] = list(spread.same.values())
            octets += (whole[i].data for i in np.flatnonzero(differ))
        yield np.packbits(there).tobytes() + np.packbits(same > 0).tobytes() + same[same > 0].tobytes()
        yield from octets

    def unpack(
        self,
        data: memoryview,
        count: int,
        arrange: Callable[[dict[str, NDArray[Any]]], None],
        beside: Beside | None = None,
    ) -> tuple[dict[str, NDArray[Any]], memoryview]:
        """The columns that `pack` wrote, and the bytes behind them. Raises StoreError where data is damaged.

        Local columns of nothing but zeros, which most are, are left out.

        arrange  is told the running and coded columns, and puts all of them into the order of the local ones
        beside   gives what guesses look at outside of this table, from its running and coded columns
        """
        stored, alike = (np.unpackbits(np.frombuffer(data[at : at + self._head], np.uint8)) for at in (0, self._head))
        used, equal = np.flatnonzero(stored), np.flatnonzero(alike)
        begin = 2 * self._head + len(equal)
        size = begin + len(used) * count
        if (
            len(data) < size
            or len(alike) < self._width
            or (stored & alike).any()
            or (stored | alike)[self._width :].any()
        ):
            raise StoreError(f"a segment of {count} rows is cut short or damaged")
        planes: dict[int, Any] = dict(
            zip(used.tolist(), np.frombuffer(data[begin:size], np.uint8).reshape(len(used), count), strict=True)
        )
        planes |= zip(equal.tolist(), data[2 * self._head : begin], strict=True)
        used = np.array(sorted(planes), np.int64)
        columns: dict[str, NDArray[Any]] = {}
        wide: dict[str, NDArray[np.int64]] = {}
        nothing = np.zeros(1, np.int64)

        def known(name: str) -> NDArray[np.int64]:
            if name not in wide:
                found = beside(name, columns) if beside and name not in columns else columns.get(name, nothing)
                wide[name] = found.astype(np.int64, copy=False)
            return wide[name]

        plane = 0
        edges = np.searchsorted(used, self._edges).tolist()
        for column, (first, last) in zip(self.columns, itertools.pairwise(edges), strict=True):
            if plane == self._given_width:
                arrange(columns)
            if first < last or plane < self._given_width:
                octets = np.zeros((count, column.width), np.uint8)
                for i in range(first, last):
                    octets[:, used[i] - plane] = planes[int(used[i])]
                written = octets.view(column.wire)[:, 0]
                if column in self.running:
                    columns[column.name] = np.cumsum(_unfolded(written), dtype=column.wire).view(column.dtype)
                else:
                    columns[column.name] = _restored(column, written, known)
            elif column.guess is not None:
                guessed = column.guess(known).astype(column.wire).view(column.dtype)
                if guessed.any():
                    columns[column.name] = np.broadcast_to(guessed, count)
            plane += column.width
        return columns, data[size:]
