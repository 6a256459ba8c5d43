"""Packets dealt into piles by conversation: all packets of a tuple lie on one pile, whichever side sent them.

Flows are built pile by pile. A pile fits into a core's own cache, where a capture does not; piles have nothing to do
with each other, so that several cores work on several; and what does not fit into memory waits on disk, in a file
without a name that is gone with the process. Where there is no room on disk, memory takes its place.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from backscatter.decode.columns import QUOTE
from backscatter.flow.held import ABSORBED, Held
from backscatter.flow.runs import MIX, STIR, sorted_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from io import FileIO

    from numpy.typing import NDArray

    from backscatter.flow.runs import Ints

#: Packets of a pile that are worked on in a core's own cache, if packets are dealt evenly.
PILE_PACKETS = 1 << 16

#: Packets that are dealt together at least: fewer are not worth the while.
DEALT = 3 << 14

#: Piles of a capture whose length is not known yet.
PILES = 40

#: Bytes between the parts of the file that processes write into: more than any of them writes.
_PART = 1 << 36

#: Our numbers in place of those of another process, by column.
Numbers: TypeAlias = "Mapping[str, NDArray[np.uint32]]"

_HALF = np.uint64(32)

#: Packets that are told their piles at a time.
_STRETCH = 1 << 15


def piles_for(packets: int) -> int:
    """How many piles so many packets make."""
    return -(-packets // PILE_PACKETS)


def piles_of(packets: Held, piles: int) -> NDArray[np.uint32]:
    """The number of each packet's pile, below `piles`, which is at most 2**16: the same for both ways of a tuple."""
    numbers = np.empty(len(packets), np.uint32)
    for begin in range(0, len(packets), _STRETCH):
        some = slice(begin, begin + _STRETCH)
        mixed = _end(packets, "src", some)
        mixed += _end(packets, "dst", some)
        mixed ^= mixed >> _HALF
        mixed *= STIR
        mixed >>= np.uint64(48)
        mixed *= np.uint64(piles)
        np.right_shift(mixed, np.uint64(16), out=numbers[some], casting="unsafe")
    return numbers


def _end(packets: Held, side: str, some: slice) -> NDArray[np.uint64]:
    """One end of each packet's tuple, stirred."""
    mixed = packets[f"{side}_port"][some].astype(np.uint64)
    mixed <<= _HALF
    mixed ^= packets[f"{side}_lo"][some]
    high = packets[f"{side}_hi"]
    if high.strides != (0,) or high[0]:
        mixed ^= high[some] * STIR
    mixed *= MIX
    mixed ^= mixed >> _HALF
    return mixed


class _Form(NamedTuple):
    """How the packets of a lot are written: columns one behind the other, the widest first, so that each is aligned.

    varying   dtype of each column that is written, and how many bytes of every packet stand before it
    constant  the other columns, in one value each
    size      bytes of a packet
    """

    varying: dict[str, tuple[np.dtype[Any], int]]
    constant: dict[str, Any]
    size: int

    @classmethod
    def of(cls, tables: Sequence[Mapping[str, NDArray[Any]]]) -> _Form:
        constant, varying, size = {}, {}, 0
        for name in tables[0]:
            columns = [table[name] for table in tables]
            if all(column.strides == (0,) and column[0] == columns[0][0] for column in columns):
                constant[name] = columns[0][0]
            else:
                varying[name] = np.result_type(*(column.dtype for column in columns))
        aligned = {}
        for name, dtype in sorted(varying.items(), key=lambda column: -column[1].itemsize):
            aligned[name] = dtype, size
            size += dtype.itemsize
        return cls(aligned, constant, size)


class _Chunk(NamedTuple):
    """The packets of one pile of one lot: how many, how many quotes and rows of ABSORBED they have, and their bytes."""

    form: _Form
    packets: int
    quotes: int
    absorbed: int
    kept: tuple[int, int] | bytes
    numbers: Numbers | None = None

    def renumbered(self, numbers: Numbers) -> _Chunk:
        """The same packets with other numbers in some columns."""
        constant = dict(self.form.constant)
        constant |= {name: ours[constant[name]] for name, ours in numbers.items() if name in constant}
        return self._replace(form=self.form._replace(constant=constant), numbers=numbers)


class Put(NamedTuple):
    """What a forked process has put on piles of its own, and where its part of the file ends then."""

    piles: list[list[_Chunk]]
    end: int


class Piles:
    """Packets by pile, numbered from 0. What is put on a pile lies behind what was there."""

    def __init__(self, piles: int = PILES, *, lot: int = 0, on_disk: bool = True, spool: _Spool | None = None) -> None:
        """`lot` packets are put away together."""
        self._spool = spool or _Spool(on_disk=on_disk)
        self._piles: list[list[_Chunk]] = [[] for _ in range(piles)]
        self._lot = lot
        self._coming: list[Held] = []
        self._dealt: list[_Dealt] = []
        self._few = self._waiting = 0  # how many packets are coming, and dealt

    def groups(self) -> list[list[int]]:
        """The piles that have any packets, small ones together."""
        groups: list[list[int]] = []
        room = 0
        for number, chunks in enumerate(self._piles):
            count = sum(chunk.packets for chunk in chunks)
            if count and count > room:
                groups.append([])
                room = PILE_PACKETS
            if count:
                groups[-1].append(number)
                room -= count
        return groups

    def deal(self, packets: Held) -> None:
        """Put packets on their piles, behind what lies there. They should be few enough to stay in a core's cache."""
        self._coming.append(packets)
        self._few += len(packets)
        if self._few >= DEALT:
            self._deal()
        if self._waiting >= self._lot:
            self.write()

    def _deal(self) -> None:
        coming, self._coming, self._few = self._coming, [], 0
        packets = coming[0] if len(coming) == 1 else Held.joined(coming)
        if not len(packets):
            return
        number = piles_of(packets, len(self._piles))
        ends = np.cumsum(np.bincount(number, minlength=len(self._piles)))
        self._dealt.append(_Dealt(packets.only(sorted_order(number)), ends))
        self._waiting += len(packets)

    def write(self) -> None:
        """Put away what was dealt; before that, nobody may take it."""
        self._deal()
        dealt, self._dealt, self._waiting = self._dealt, [], 0
        if dealt:
            self._write(dealt)

    def take(self, numbers: Sequence[int]) -> Held:
        """The packets of some piles, which are empty then. Forked processes may take the piles that were there."""
        chunks = [chunk for number in numbers for chunk in self._piles[number]]
        for number in numbers:
            self._piles[number] = []
        return _joined([(chunk, self._spool.read(chunk.kept)) for chunk in chunks])

    def beside(self, number: int) -> Piles:
        """As many piles for the forked process of that number, from 1 on: it writes into another part of the file."""
        return Piles(len(self._piles), lot=self._lot, spool=self._spool.beside(number))

    def put(self) -> Put:
        """All that was put on these piles, for those that they are beside."""
        self.write()
        return Put(self._piles, self._spool.end)

    def adopt(self, number: int, put: Put, numbers: Numbers) -> None:
        """Take over what the process of that number has put on its piles, with our numbers in place of its own."""
        self._spool.ends[number] = put.end
        for pile, chunks in zip(self._piles, put.piles, strict=True):
            pile.extend(chunk.renumbered(numbers) for chunk in chunks)

    def _write(self, parts: Sequence[_Dealt]) -> None:
        tables = [{**part.packets.columns, _SETTLED: part.settled} for part in parts]
        form = _Form.of(tables)
        columns = [
            [np.ascontiguousarray(table[name], dtype) for table in tables] for name, (dtype, _) in form.varying.items()
        ]
        packets = _stretches([part.ends for part in parts])
        quotes = _stretches([np.searchsorted(_owners(part.packets["quote"]), part.ends) for part in parts])
        absorbed = _stretches([np.searchsorted(_owners(part.packets["absorbed"]), part.ends) for part in parts])
        for pile, some, quoting, absorbing in zip(self._piles, packets, quotes, absorbed, strict=True):
            count = _length(some)
            if not count:
                continue
            pieces = [
                part[begin:end].data for column in columns for part, (begin, end) in zip(column, some, strict=True)
            ]
            for part, (begin, end) in zip(parts, quoting, strict=True):
                pieces.append(part.packets.quotes[begin:end].data)
            for part, (begin, end) in zip(parts, absorbing, strict=True):
                pieces.append(part.packets.absorbed[begin:end].data)
            kept = self._spool.write(pieces)
            pile.append(_Chunk(form, count, _length(quoting), _length(absorbing), kept))


class _Dealt(NamedTuple):
    """Packets in the order of their piles, each of which ends at one of `ends`."""

    packets: Held
    ends: Ints

    @property
    def settled(self) -> NDArray[np.bool_]:
        """Whether packets are settled, in the room of one value where none is."""
        settled = self.packets.settled
        return settled if settled.any() else np.broadcast_to(np.False_, len(settled))


def _stretches(ends: Sequence[Ints]) -> list[tuple[tuple[int, int], ...]]:
    """Of each pile where it begins and ends in every part."""
    bounds = [zip([0, *part[:-1].tolist()], part.tolist(), strict=True) for part in ends]
    return list(zip(*bounds, strict=True))


def _length(stretches: Sequence[tuple[int, int]]) -> int:
    return sum(end - begin for begin, end in stretches)


#: What says of packets whether they are settled, among their columns.
_SETTLED = "settled"


def _owners(row: NDArray[np.int32]) -> Ints:
    """The packets that have a row in a table, whose rows lie in their order."""
    return np.zeros(0, np.int64) if row.strides == (0,) and row[0] < 0 else np.flatnonzero(row >= 0)


def _joined(chunks: Sequence[tuple[_Chunk, bytes]]) -> Held:
    """The packets of some chunks, one behind the other."""
    count = sum(chunk.packets for chunk, _ in chunks)
    first = chunks[0][0].form
    columns = {name: _column(name, chunks, count) for name in (*first.varying, *first.constant)}
    settled = columns.pop(_SETTLED).copy()
    return Held.numbered(columns, _table("quote", QUOTE, chunks), _table("absorbed", ABSORBED, chunks), settled)


def _column(name: str, chunks: Sequence[tuple[_Chunk, bytes]], count: int) -> NDArray[Any]:
    """A column of all chunks; in the room of one value if it holds only one."""
    alone = [chunk.form.constant.get(name) for chunk, _ in chunks]
    if alone[0] is not None and all(value == alone[0] for value in alone):
        return np.broadcast_to(alone[0], count)
    parts = []
    for (chunk, data), value in zip(chunks, alone, strict=True):
        if value is None:
            dtype, before = chunk.form.varying[name]
            part = np.frombuffer(data, dtype, chunk.packets, before * chunk.packets)
            parts.append(chunk.numbers[name][part] if chunk.numbers and name in chunk.numbers else part)
        else:
            parts.append(np.full(chunk.packets, value))
    return np.concatenate(parts)


def _table(name: str, dtype: np.dtype[np.void], chunks: Sequence[tuple[_Chunk, bytes]]) -> NDArray[np.void]:
    """The quotes, or what was absorbed, of all chunks."""
    octets = [np.zeros(0, np.uint8)]
    for chunk, data in chunks:
        begin = chunk.form.size * chunk.packets
        middle = begin + chunk.quotes * QUOTE.itemsize
        octets.append(np.frombuffer(data, np.uint8)[slice(begin, middle) if name == "quote" else slice(middle, None)])
    return np.concatenate(octets).view(dtype)


#: Pieces that are written at once: any system takes as many.
_MOST_PIECES = 512


class _Spool:
    """Bytes put away: in a file without a name, or in memory where there is to be none, or no room for it.

    Processes that are forked write into the same file, each into a part of its own, which nobody else has to find room
    for: a file takes room only where something was written.

    end   where our part ends
    ends  where those of others end, by their numbers
    """

    def __init__(self, *, on_disk: bool, file: FileIO | None = None, end: int = 0) -> None:
        self._on_disk = on_disk
        self._file = file
        self.end = end
        self.ends: dict[int, int] = {}

    def beside(self, number: int) -> _Spool:
        """One that writes into the part of the process of that number."""
        return _Spool(on_disk=self._opened(), file=self._file, end=self.ends.get(number, number * _PART))

    def _opened(self) -> bool:
        """Whether there is a file; it is made if there is to be one."""
        if self._on_disk and self._file is None:
            try:
                self._file = tempfile.TemporaryFile(prefix="backscatter-", buffering=0)  # noqa: SIM115 - as long as this
            except OSError:  # no directory for it
                self._on_disk = False
            else:
                weakref.finalize(self, self._file.close)
        return self._on_disk

    def write(self, pieces: Sequence[memoryview]) -> tuple[int, int] | bytes:
        """Put pieces away, one behind the other; returns what `read` has to be given for them."""
        if not self._opened():
            return b"".join(pieces)
        assert self._file is not None
        end, left = self.end, deque(pieces)
        try:
            while left:
                # where forked processes write too, nobody may rely on where the file stands
                wrote = os.pwritev(self._file.fileno(), list(islice(left, _MOST_PIECES)), end)
                end += wrote
                while left and left[0].nbytes <= wrote:
                    wrote -= left.popleft().nbytes
                if wrote:
                    left[0] = memoryview(left[0].tobytes())[wrote:]
        except OSError:  # no room
            self._on_disk = False
            return b"".join(pieces)
        begin, self.end = self.end, end
        return begin, end - begin

    def read(self, kept: tuple[int, int] | bytes) -> bytes:
        """The bytes put away."""
        if isinstance(kept, bytes):
            return kept
        begin, size = kept
        assert self._file is not None
        pieces: list[bytes] = []
        while size:
            piece = os.pread(self._file.fileno(), size, begin)
            if not piece:
                raise OSError(f"the temporary file of packets ends before byte {begin + size}")
            pieces.append(piece)
            begin, size = begin + len(piece), size - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
