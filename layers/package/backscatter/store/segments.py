"""Segments: flows of one capture as the bytes of one item, and back, exactly.

An item's bytes are a layout number and a zstd frame. In layout 1 the frame holds a header, the names of scopes and
tunnel stacks that these rows use, the histories of their kinds, then the byte planes of rows and of quotes
(`store.planes`). Sensor and capture are known from the catalogue and not repeated, so the number of the piece is
dropped from places.

Times, places and kinds run in the order of the table; all else stands in the order of the kinds, so that a number that
one kind of flow has and the others lack is a run of noise and a run of zeros, not a mix. That is a third of the bytes.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import PLACE_BITS
from backscatter.errors import StoreError
from backscatter.flow.table import FLOW, FLOW_QUOTE, FlowTable
from backscatter.store.frame import expand, squeeze
from backscatter.store.hosts import distinct
from backscatter.store.layout import QUOTE_TIMES, QUOTES, ROW_TIMES, ROWS, SCHEMA, field
from backscatter.store.planes import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

#: The layout that is written. READERS has one for every layout that ever was.
LAYOUT = 1
#: Rows of an item. Like rows compress to almost nothing, so bytes alone are no bound on the memory of a reader.
ROWS_LARGEST = 65536
QUOTES_LARGEST = 65536
#: Bytes of an item's frame, expanded.
EXPANDED_LARGEST = 64 << 20

#: schema, rows, quotes, bytes of names, bytes of histories, ns of a tick of the time columns
_HEAD = struct.Struct("<6I")
_MICROSECOND = 1000
_HISTORY = FLOW["history"].itemsize
_HISTORY_AT = dict(FLOW.fields or {})["history"][1]
#: What makes flows one of a kind, beside their history, and up to which value: long flows differ in everything anyway.
_TRAITS = {"proto": 255, "icmp_type": 255, "src_flags": 255, "dst_flags": 255, "src_packets": 4, "dst_packets": 4}
#: Columns of rows that are written in the order of the table: the others are in the order of their kinds.
_AS_STARTED = ("start", "src_places.0", "scope", "tunnels", "history")
_GIVEN = (*_AS_STARTED, "quote")
#: Ahead of the name of a row's column where the guess of a quote looks at it.
_OF_ROW = "row."


class Writer:
    """Writes parts of one flow table: what does not depend on the part is worked out once.

    Raises ValueError for a table of several sensors or captures.
    """

    def __init__(self, table: FlowTable) -> None:
        if len(table.sensors) > 1 or len(table.pieces) > 1:
            raise ValueError("segments hold the flows of one sensor and one capture")
        self._table = table
        rows, quotes = table.rows, table.quotes
        self._tick = _tick(rows, quotes)
        self._histories, self._kind = _kinds(rows)
        # Rows of a kind are looked at together: of most columns they have nothing, and that is seen once for a block.
        self._order = np.argsort(self._kind, kind="stable")
        self._rank = _inverse(self._order)
        self._part, self._scanned = slice(0), np.zeros(1, FLOW)
        self._block = np.empty(0, FLOW)
        # What each part writes anew stands together: rows are long, and scattered looks at their fields are slow.
        self._given = np.empty((len(rows), len(_GIVEN)), np.int64)
        self._planes = ROWS.spread(self._row_column, len(rows))
        self._quote_planes = QUOTES.spread(self._quote_column, len(quotes))
        self._block = np.empty(0, FLOW)
        self._flow = quotes["flow"].copy()

    def _load(self, part: slice) -> None:
        """Have the rows of some ranks at hand."""
        wanted = self._order[part]
        if len(self._block) != len(wanted):
            self._block = np.empty(len(wanted), FLOW)
        self._table.rows.take(wanted, out=self._block, mode="clip")
        # One look along the rows tells for each of their bytes whether any row has something there.
        octets = self._block.view(np.uint8).reshape(len(wanted), FLOW.itemsize)
        self._part, self._scanned = part, np.bitwise_or.reduce(octets, axis=0).view(FLOW)
        for i, name in enumerate(_GIVEN):
            self._given[part, i] = self._kind[wanted] if name == "history" else self._values(self._block, name)

    def _row_column(self, name: str, part: slice) -> NDArray[Any] | None:
        if part != self._part:
            self._load(part)
        return self._values(self._block, name) if field(self._scanned, name)[0] else None

    def _values(self, rows: NDArray[np.void], name: str) -> NDArray[Any]:
        values = field(rows, name)
        return _ticks(values, self._tick) if name in ROW_TIMES else values

    def _quote_column(self, name: str, part: slice) -> NDArray[Any]:
        if name.startswith(_OF_ROW):
            name = name.removeprefix(_OF_ROW)
            values = field(self._table.rows, name)[self._table.quotes["flow"][part]]
            return _ticks(values, self._tick) if name in ROW_TIMES else values
        values = field(self._table.quotes, name)[part]
        return _ticks(values, self._tick) if name in QUOTE_TIMES else values

    def write(self, index: NDArray[np.int64], quotes: NDArray[np.int64]) -> bytes:
        """The rows at `index`, at most ROWS_LARGEST, with the quotes at `quotes`, both ascending, as bytes of an item.

        Every quote belongs to one of the rows. A row whose first quote is not among the quotes says that it has none.
        Quotes are read back in the order of their rows.
        """
        ranks = self._rank.take(index)
        by_kind = np.sort(ranks)
        start, place, scope, tunnel, history = self._given.take(ranks, axis=0).T[: len(_AS_STARTED)]
        kinds, kind = _compact(history, len(self._histories))
        first = np.zeros(len(index), np.int64)
        flow = by_flow = first[:0]
        if len(quotes):
            flow = np.searchsorted(by_kind, self._rank[self._flow[quotes]])
            by_flow = np.argsort(flow, kind="stable")
            # Rows without a quote have rank -1, the last place of what is looked up.
            first = np.append(_inverse(by_flow) + 1, 0)[_rank(quotes, self._given[by_kind, _GIVEN.index("quote")])]
        scopes, scope = _used(self._table.scopes, scope)
        tunnels, tunnel = _used(self._table.tunnels, tunnel)
        names = json.dumps([scopes, tunnels], separators=(",", ":")).encode()
        letters = b"".join(bytes((len(self._histories[i]),)) + self._histories[i] for i in kinds)
        given = {
            "start": start,
            "src_places.0": place,
            "quote": first,
            "scope": scope,
            "tunnels": tunnel,
            "history": kind,
        }
        body = ROWS.pack(given, self._planes, by_kind)
        tail = QUOTES.pack({"flow": flow[by_flow]}, self._quote_planes, quotes[by_flow])
        head = _HEAD.pack(SCHEMA, len(index), len(quotes), len(names), len(letters), self._tick)
        return bytes((LAYOUT,)) + squeeze(head + names + letters, *body, *tail)


def read(data: bytes, sensor: str, piece: str) -> FlowTable:
    """The flows of an item's bytes. Raises StoreError."""
    reader = READERS.get(data[0]) if data else None
    if reader is None:
        raise StoreError(f"a segment has layout {data[0] if data else 'none'}; this version reads {sorted(READERS)}")
    return reader(data[1:], sensor, piece)


def _read_1(data: bytes, sensor: str, piece: str) -> FlowTable:
    frame = memoryview(expand(data, EXPANDED_LARGEST))
    if len(frame) < _HEAD.size:
        raise StoreError("a segment is cut short")
    schema, count, quote_count, names_size, letters_size, tick = _HEAD.unpack(frame[: _HEAD.size])
    if schema != SCHEMA:
        raise StoreError(f"a segment was written with columns {schema:08x}, this version reads {SCHEMA:08x}")
    if count > ROWS_LARGEST or quote_count > QUOTES_LARGEST or tick not in (1, _MICROSECOND):
        raise StoreError(f"a segment claims {count} flows and {quote_count} quotes in ticks of {tick} ns")
    frame = frame[_HEAD.size :]
    if names_size + letters_size > len(frame):
        raise StoreError("the names of a segment are cut short")
    scopes, tunnels = _names(bytes(frame[:names_size]))
    histories = _histories(bytes(frame[names_size : names_size + letters_size]))
    order = np.zeros(0, np.int64)

    def by_kind(columns: dict[str, NDArray[Any]]) -> None:
        nonlocal order
        order = np.argsort(columns["history"], kind="stable")
        for name in _AS_STARTED:
            columns[name] = columns[name][order]

    def row_column(name: str, quote: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        flow = _within(quote["flow"], count, "flow of a quote")
        of_row = columns.get(name.removeprefix(_OF_ROW))
        return np.zeros(len(flow), np.int64) if of_row is None else of_row[flow]

    columns, rest = ROWS.unpack(frame[names_size + letters_size :], count, by_kind)
    quoted, rest = QUOTES.unpack(rest, quote_count, lambda _: None, row_column)
    if rest:
        raise StoreError(f"{len(rest)} bytes follow the last plane of a segment")

    rows, quotes = np.zeros(count, FLOW), np.zeros(quote_count, FLOW_QUOTE)
    for name, values in columns.items():
        if name not in ("history", "quote"):
            field(rows, name)[:] = values * tick if name in ROW_TIMES else values
    for name, values in quoted.items():
        field(quotes, name)[:] = values * tick if name in QUOTE_TIMES else values
    rows["history"] = histories[_within(columns["history"], len(histories), "history")]
    rows["quote"] = _within(columns["quote"], quote_count + 1, "quote").astype(np.int64) - 1
    _within(rows["scope"], len(scopes), "scope")
    _within(rows["tunnels"], len(tunnels), "tunnel")
    for places in (rows["src_places"], rows["dst_places"], quotes["place"]):
        _within(places + 1, (1 << PLACE_BITS) + 1, "place")
    if quote_count:
        quotes["flow"] = order[_within(quotes["flow"], count, "flow of a quote")]
        by_flow = np.argsort(quotes["flow"], kind="stable")
        rows["quote"] = np.append(_inverse(by_flow), -1)[rows["quote"]]
        quotes = quotes[by_flow]
    return FlowTable(rows[_inverse(order)], quotes, scopes, tunnels, (sensor,), (piece,))


#: layout number -> reader. A layout that was ever written stays here.
READERS: dict[int, Callable[[bytes, str, str], FlowTable]] = {1: _read_1}


def _tick(rows: NDArray[np.void], quotes: NDArray[np.void]) -> int:
    """The ns of a tick in which all times are whole."""
    for table, names in ((rows, ROW_TIMES), (quotes, QUOTE_TIMES)):
        for part in blocks(len(table)):
            for name in names:
                times = np.ascontiguousarray(field(table[part], name))
                # NumPy divides by a constant without a division, unlike its remainder.
                if (times // _MICROSECOND * _MICROSECOND != times).any():
                    return 1
    return _MICROSECOND


def _ticks(times: NDArray[np.int64], tick: int) -> NDArray[np.int64]:
    return times // tick if tick > 1 else times


def _kinds(rows: NDArray[np.void]) -> tuple[list[bytes], NDArray[Any]]:
    """Kinds of flows, alike ones side by side: the history of each, and for each row which kind it is."""
    # Sorting strings is slow. Sorting a mix of their words is not, and whether it kept unlike strings apart is checked.
    mixed = np.empty(len(rows), np.uint64)
    words = np.empty((_HISTORY // 8, len(rows)), np.uint64)
    used = np.zeros(len(words), np.bool_)
    for part in blocks(len(rows)):
        some = rows[part]
        for i, word in enumerate(words[:, part]):
            word[:] = some.getfield(np.uint64, _HISTORY_AT + 8 * i)
        filled = words[:, part].any(axis=1)
        mixed[part] = _mix((*_traits(some), *words[filled, part]))
        used |= filled
    different = distinct(mixed)
    code = np.searchsorted(different, mixed)
    one = np.zeros(len(different), np.int64)
    one[code] = np.arange(len(rows))
    words = words[used]
    if not all(np.array_equal(words.take(one[code[part]], axis=1), words[:, part]) for part in blocks(len(rows))):
        _, one, code = np.unique(rows["history"], return_index=True, return_inverse=True)
    histories = rows["history"][one]
    alike = np.lexsort((histories, *reversed(_traits(rows[one]))))
    # Numbers of 16 bits are sorted by counting.
    rank = _inverse(alike).astype(np.uint16 if len(alike) <= 1 << 16 else np.uint32)
    return [bytes(text) for text in histories[alike]], rank.take(code)


def _traits(rows: NDArray[np.void]) -> list[NDArray[Any]]:
    return [np.minimum(rows[name], most) for name, most in _TRAITS.items()]


def _mix(columns: Iterable[NDArray[Any]]) -> NDArray[np.uint64]:
    mixed: Any = np.uint64(0)
    for column in columns:
        mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    whole: NDArray[np.uint64] = mixed
    return whole


def _compact(kinds: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """The kinds that occur, of `count` that there are, and for each row which of these it is."""
    if count > 2 * len(kinds):
        used = np.unique(kinds)
        return used, np.searchsorted(used, kinds).astype(np.uint16)
    there = np.bincount(kinds, minlength=count) > 0
    return np.flatnonzero(there), (np.cumsum(there) - 1).astype(np.uint16)[kinds]


def _inverse(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each element of a permutation stands."""
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return inverse


def _used(names: Sequence[Any], codes: NDArray[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    """The first name and those that the codes use, and the codes into these."""
    if len(names) == 1:
        return list(names), np.zeros(len(codes), np.int64)
    used = np.union1d(np.zeros(1, np.int64), codes)
    return [names[i] for i in used if i < len(names)], np.searchsorted(used, codes)


def _rank(ascending: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each value stands among the ascending ones, -1 where it does not."""
    if not len(ascending):
        return np.full(len(values), -1)
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.where(ascending[at] == values, at, -1)


def _within(codes: NDArray[Any], count: int, what: str) -> NDArray[Any]:
    if len(codes) and not 0 <= int(codes.min()) <= int(codes.max()) < count:
        raise StoreError(f"a segment refers to {what} {int(codes.max())} of {count}")
    return codes


def _names(data: bytes) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    try:
        scopes, tunnels = json.loads(data)
        return tuple(str(name) for name in scopes), tuple(tuple(str(name) for name in stack) for stack in tunnels)
    except (ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"the names of a segment cannot be read: {error}") from error


def _histories(data: bytes) -> NDArray[np.bytes_]:
    texts, at = [], 0
    while at < len(data):
        end = at + 1 + data[at]
        if data[at] > _HISTORY or end > len(data):
            raise StoreError("the histories of a segment are damaged")
        texts.append(data[at + 1 : end])
        at = end
    return np.array(texts, FLOW["history"])
