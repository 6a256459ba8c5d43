"""The scene in memory: flows of several sensors with an index by host, for the laptop."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backscatter.flow.runs import highest_so_far, run_starts
from backscatter.flow.table import FlowTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from backscatter.flow.address import Address
    from backscatter.flow.census import Census
    from backscatter.flow.read import SensorFlows
    from backscatter.flow.runs import Ints
    from backscatter.flow.window import Window

DAY = 24 * 3600 * 1_000_000_000

_SPREAD = np.uint64(0x9E3779B97F4A7C15)


class _Index(NamedTuple):
    """Rows by host: an entry for each end of each flow, and for each end of each packet that a flow quotes.

    Sorted by a hash of the host, then by row, that is by start. `reach` is the highest rank of an end so far among the
    entries of one hash, so the entries that overlap a window lie between two binary searches, give or take the few
    that ended earlier than one before them. Different hosts of one hash are told apart afterwards.
    """

    host: NDArray[np.uint64]
    row: Ints
    start: Ints
    reach: Ints
    ends: Ints  # all ends, sorted: rank -> time

    def rows(self, host: np.uint64, start: int, end: int) -> Ints:
        """Rows that may be of a host and in a window, ascending."""
        low, high = np.searchsorted(self.host, host), np.searchsorted(self.host, host, side="right")
        high = low + np.searchsorted(self.start[low:high], end, side="right")
        low += np.searchsorted(self.reach[low:high], np.searchsorted(self.ends, start))
        return self.row[low:high]


class TableScene:
    """Implements backscatter.verdict.scene.Scene over flows that lie in memory.

    A query costs what it returns and a few binary searches, however many flows there are.
    """

    def __init__(self, sensors: Sequence[SensorFlows]) -> None:
        """Take the flows of the sensors, which are never summed: every row stays the view of its sensor."""
        self.table = FlowTable.joined([one.table for one in sensors])
        self._censuses = [census for one in sensors for census in one.censuses]
        self._index = _indexed(self.table)
        self._owner = np.ascontiguousarray(self.table.quotes["flow"])  # ascending, since the table was joined

    def flows_of(self, hosts: Iterable[Address], window: Window) -> FlowTable:
        """Every flow in the window that has one of the hosts at either end, or that quotes a packet sent by one."""
        rows = [self._rows_of(host, window) for host in hosts]
        return self.table.select(np.unique(np.concatenate(rows)) if rows else np.zeros(0, np.int64), self._owner)

    def flows_between(self, ones: Iterable[Address], others: Iterable[Address], window: Window) -> FlowTable:
        """Every flow in the window between one of `ones` and one of `others`, and errors that quote such a packet."""
        ones, others = list(ones), list(others)
        rows = [np.zeros(0, np.int64)]
        for one in ones:
            for other in others:
                # the one with fewer flows is looked up, the other only compared
                either = [self._candidates(host, window) for host in (one, other)]
                fewer = min(either, key=len)
                rows.append(fewer[self._joins(fewer, one, other)])
        return self.table.select(np.unique(np.concatenate(rows)), self._owner)

    def censuses(self, window: Window) -> list[Census]:
        """The captures that overlap the window or the 24 hours before its end, of every sensor."""
        since = min(window.start, window.end - DAY)
        return [one for one in self._censuses if one.start <= window.end and one.end >= since]

    def _candidates(self, host: Address, window: Window) -> Ints:
        """Rows in the window that may be of a host; the hash decides."""
        rows = self._index.rows(_hashed_one(host), window.start, window.end)
        inside: Ints = rows[self.table.rows["end"][rows] >= window.start]
        return inside

    def _rows_of(self, host: Address, window: Window) -> Ints:
        rows = self._candidates(host, window)
        at_end = _is(self.table.rows, "src", host, rows) | _is(self.table.rows, "dst", host, rows)
        quotes, owner = self._quotes_of(rows)
        at_end[owner[_is(quotes, "src", host)]] = True
        return rows[at_end]

    def _joins(self, rows: Ints, one: Address, other: Address) -> NDArray[np.bool_]:
        """Whether rows lie between two hosts, or quote a packet that one of them sent to the other."""
        joined = _between(self.table.rows, one, other, rows)
        quotes, owner = self._quotes_of(rows)
        joined[owner[_between(quotes, one, other)]] = True
        return joined

    def _quotes_of(self, rows: Ints) -> tuple[NDArray[np.void], Ints]:
        """The quotes of some rows, and which of these rows each belongs to."""
        begin, end = np.searchsorted(self._owner, rows), np.searchsorted(self._owner, rows, side="right")
        count = end - begin
        index = np.repeat(begin - (np.cumsum(count) - count), count) + np.arange(count.sum())
        return self.table.quotes[index], np.repeat(np.arange(len(rows)), count)


def _is(rows: NDArray[np.void], side: str, host: Address, which: Ints | None = None) -> NDArray[np.bool_]:
    """Whether a side of the rows, or of `which` of them, is the host. Looks at the columns alone: rows are wide."""

    def column(name: str) -> NDArray[np.uint64]:
        values: NDArray[np.uint64] = rows[name] if which is None else rows[name][which]
        return values

    same: NDArray[np.bool_] = column(f"{side}_lo") == np.uint64(host.lo)
    same &= (column(f"{side}_hi") == np.uint64(host.hi)) & (column("version") == host.version)
    return same


def _between(rows: NDArray[np.void], one: Address, other: Address, which: Ints | None = None) -> NDArray[np.bool_]:
    there = _is(rows, "src", one, which) & _is(rows, "dst", other, which)
    return there | (_is(rows, "src", other, which) & _is(rows, "dst", one, which))


def _hashed(rows: NDArray[np.void], side: str) -> NDArray[np.uint64]:
    mixed = (rows[f"{side}_hi"] ^ rows["version"].astype(np.uint64)) * _SPREAD
    mixed ^= mixed >> np.uint64(29)
    mixed ^= rows[f"{side}_lo"]
    spread: NDArray[np.uint64] = mixed * _SPREAD
    return spread


def _hashed_one(host: Address) -> np.uint64:
    row = np.zeros(1, [("version", "u1"), ("src_hi", "u8"), ("src_lo", "u8")])
    row["version"], row["src_hi"], row["src_lo"] = host
    return np.uint64(_hashed(row, "src")[0])


def _indexed(table: FlowTable) -> _Index:
    rows, quotes = table.rows, table.quotes
    number = np.arange(len(rows))
    host = np.concatenate([_hashed(some, side) for some in (rows, quotes) for side in ("src", "dst")])
    row = np.concatenate((number, number, quotes["flow"], quotes["flow"]))
    order = np.lexsort((row, host))
    host, row = host[order], row[order]
    ends = np.sort(rows["end"])
    rank = np.searchsorted(ends, rows["end"])[row]
    group = np.cumsum(run_starts(host), dtype=np.int64) if len(host) else row
    return _Index(host, row, rows["start"][row], highest_so_far(group, rank), ends)
