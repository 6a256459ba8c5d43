"""Filing: which flows of a capture go into which items, so that a host's flows are found by reading few of them.

A flow is filed under both of its ends, and an ICMP error under both ends of the packet that it quotes as well. The
keyed hash of the host chooses the *bucket*. A host that is in every flow makes its bucket outgrow an item: that bucket
is split into *parts* by the keyed hash of the other end. Where one pair of hosts outgrows an item, the part becomes a
*run* of several items. A capture that fits in one item has one bucket, in which each flow stands once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backscatter.flow.address import Address
from backscatter.store import segments
from backscatter.store.hosts import Bloom, bucket_bits, part_bits, pigeonhole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from backscatter.flow.table import FlowTable
    from backscatter.store.hosts import HostHash

#: What an item is meant to hold. Items of 15 KB cost a fifth more, 400 KB is DynamoDB's limit.
TARGET = 64 << 10
#: What an item holds at most before it is cut into a run of smaller ones.
LARGEST = 128 << 10
#: Buckets of a capture, parts of a bucket: bounds on what the catalogue has to remember.
MOST_BUCKETS = 1 << 14
MOST_PARTS = 1 << 12

#: How many rows are written to learn how many bytes a row takes.
_SAMPLE = 4096
#: Bytes that a quote is taken to need.
_QUOTE_BYTES = 24
#: Rows and quotes of a capture are numbered in fewer bits than these; groups take those that remain of 63.
_MEMBER_BITS = 36

#: How many of an item's hosts are named for people, and how many flows are asked for them.
_TALKERS = 3
_ASKED = 512


class Segment(NamedTuple):
    """The bytes of one item and where it lies, with a few facts for people who look at the table."""

    bucket: int
    part: int
    run: int
    data: bytes
    flows: int
    packets: int
    start: int
    end: int
    talkers: tuple[str, ...]


class Shelves(NamedTuple):
    """Where a capture's segments lie: `runs[bucket][part]` is the number of items there."""

    runs: tuple[tuple[int, ...], ...]

    def items(self) -> Iterator[tuple[int, int, int]]:
        """(bucket, part, run) of every item."""
        for bucket, parts in enumerate(self.runs):
            for part, count in enumerate(parts):
                yield from ((bucket, part, run) for run in range(count))

    def items_of(self, host: int) -> set[tuple[int, int, int]]:
        """(bucket, part, run) of every item that can hold flows of the host with this hash."""
        bucket = self._bucket(host)
        return {(bucket, part, run) for part, count in enumerate(self.runs[bucket]) for run in range(count)}

    def items_between(self, one: int, other: int) -> set[tuple[int, int, int]]:
        """(bucket, part, run) of every item that can hold flows between two hosts.

        Either host's bucket would do. The one with more parts is taken: of these only one is read, a small share.
        """
        if len(self.runs[self._bucket(one)]) < len(self.runs[self._bucket(other)]):
            one, other = other, one
        bucket = self._bucket(one)
        part = int(pigeonhole(part_bits(np.array([other], np.uint64)), len(self.runs[bucket]))[0])
        return {(bucket, part, run) for run in range(self.runs[bucket][part])}

    def _bucket(self, host: int) -> int:
        return int(pigeonhole(bucket_bits(np.array([host], np.uint64)), len(self.runs))[0])


class Filing:
    """The segments of one capture, made one after the other.

    After `segments` was read to its end, `shelves` tells where they lie.
    """

    def __init__(self, table: FlowTable, host_hash: HostHash) -> None:
        self._table = table
        self._writer = segments.Writer(table)
        self._runs: list[list[int]] = []
        rows, quotes = table.rows, table.quotes
        ends = [
            host_hash.column(ends["version"], ends[f"{side}_hi"], ends[f"{side}_lo"])
            for ends in (rows, quotes)
            for side in ("src", "dst")
        ]
        self._src, self._dst, self._quoted_src, self._quoted_dst = ends
        self.bloom = Bloom.of(*ends)
        self._packets = rows["src_packets"] + rows["dst_packets"]
        self._end, self._quote = rows["end"].copy(), rows["quote"].copy()

    @property
    def shelves(self) -> Shelves:
        """Where the segments lie."""
        return Shelves(tuple(tuple(parts) for parts in self._runs))

    def segments(self) -> Iterator[Segment]:
        """Every segment, by bucket, part and run."""
        table = self._table
        row_bytes = self._row_bytes()
        once = len(table) * row_bytes + len(table.quotes) * _QUOTE_BYTES
        buckets = 1 if once <= TARGET else min(MOST_BUCKETS, math.ceil((2 * once) / TARGET))
        src, dst, quoted_src, quoted_dst = (
            pigeonhole(bucket_bits(hashes), buckets)
            for hashes in (self._src, self._dst, self._quoted_src, self._quoted_dst)
        )
        flow = table.quotes["flow"]

        # What lies where, before parts are known: a row that finds both of its ends in one bucket stands there once.
        sizes = row_bytes * (
            np.bincount(src, minlength=buckets)
            + np.bincount(dst, minlength=buckets)
            - np.bincount(src[src == dst], minlength=buckets)
        )
        for where in (quoted_src, quoted_dst, src[flow], dst[flow]):
            sizes += _QUOTE_BYTES * np.bincount(where, minlength=buckets)
        parts = np.clip(np.round(sizes / TARGET), 1, MOST_PARTS).astype(np.int64)
        self._runs = [[0] * int(count) for count in parts]

        first_group = np.cumsum(parts) - parts

        def group(where: NDArray[np.int64], peer: NDArray[np.uint64]) -> NDArray[np.int64]:
            return first_group.take(where) + pigeonhole(part_bits(peer), parts.take(where))

        # A flow takes all of its quotes to its own ends, so that whoever finds it there finds it whole; to the ends of
        # a quoted packet goes this quote only: one router's errors about ten thousand victims are one flow. The quote
        # that a row's first packet makes goes wherever the row goes.
        here, there = group(src, self._dst), group(dst, self._src)
        quoting, quoted = group(quoted_src, self._quoted_dst), group(quoted_dst, self._quoted_src)
        rows, numbers = np.arange(len(table)), np.arange(len(flow))
        group_rows = _filed((here, rows), (there, rows), (quoting, flow), (quoted, flow))
        lead = self._quote[flow]
        led = lead >= 0
        group_quotes = _filed(
            (here[flow], numbers),
            (there[flow], numbers),
            (quoting, numbers),
            (quoted, numbers),
            (quoting[led], lead[led]),
            (quoted[led], lead[led]),
        )
        bucket_of = np.repeat(np.arange(buckets), parts)
        edges = np.arange(len(bucket_of) + 1)
        row_edges = np.searchsorted(group_rows[0], edges)
        quote_edges = np.searchsorted(group_quotes[0], edges)
        for number in np.flatnonzero(np.diff(row_edges)):
            where = int(bucket_of[number])
            part = int(number - first_group[where])
            index = group_rows[1][row_edges[number] : row_edges[number + 1]]
            quoted = group_quotes[1][quote_edges[number] : quote_edges[number + 1]]
            for run, (data, held) in enumerate(self._runs_of(index, quoted)):
                self._runs[where][part] = run + 1
                yield self._segment((where, part, run), data, held)

    def _row_bytes(self) -> float:
        """Bytes of a row, from rows spread over the table."""
        count = len(self._table)
        if not count:
            return 0
        sample = np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)
        return len(self._writer.write(sample, np.zeros(0, np.int64))) / len(sample)

    def _runs_of(
        self, index: NDArray[np.int64], quoted: NDArray[np.int64]
    ) -> Iterator[tuple[bytes, NDArray[np.int64]]]:
        """The bytes of these rows and quotes, in as many items as it takes."""
        slices = max(math.ceil(len(index) / segments.ROWS_LARGEST), math.ceil(len(quoted) / segments.QUOTES_LARGEST))
        if slices <= 1:
            data = self._writer.write(index, quoted)
            slices = math.ceil(len(data) / TARGET)
            if len(data) <= LARGEST or len(index) + len(quoted) < 3:
                yield data, index
                return
        if len(index) > 1:
            flow = self._table.quotes["flow"][quoted]
            for some in np.array_split(index, min(slices, len(index))):
                yield from self._runs_of(some, quoted[(flow >= some[0]) & (flow <= some[-1])])
        else:
            for few in np.array_split(quoted, min(slices, len(quoted))):
                yield from self._runs_of(index, few)

    def _segment(self, where: tuple[int, int, int], data: bytes, index: NDArray[np.int64]) -> Segment:
        # Rows are in the order of their start.
        start, end = int(self._table.rows["start"][index[0]]), int(self._end[index].max())
        return Segment(*where, data, len(index), int(self._packets[index].sum()), start, end, self.talkers(index))

    def talkers(self, index: NDArray[np.int64] | None = None) -> tuple[str, ...]:
        """The hosts of most of these flows, or of most of all, as text, the busiest first: a note for people.

        Of many flows some are asked, spread over all.
        """
        index = np.arange(len(self._table)) if index is None else index
        index = index[:: max(1, len(index) // _ASKED)]
        src, dst = self._src[index], self._dst[index]
        hosts = np.sort(np.concatenate((src, dst)))
        begin = np.flatnonzero(np.concatenate(([True], hosts[1:] != hosts[:-1]))) if len(hosts) else index
        busiest = np.argsort(-np.diff(begin, append=len(hosts)), kind="stable")[:_TALKERS]
        return tuple(self._name(index, src, dst, host) for host in hosts[begin[busiest]])

    def _name(self, index: NDArray[np.int64], src: NDArray[np.uint64], dst: NDArray[np.uint64], host: np.uint64) -> str:
        """The address of the host among these flows that has this hash."""
        side, ends = ("src", src) if (src == host).any() else ("dst", dst)
        row = self._table.rows[index[np.argmax(ends == host)]]
        return str(_address(row["version"], row[f"{side}_hi"], row[f"{side}_lo"]))


def _address(version: int, hi: int, lo: int) -> Address:
    # The note must not fail where a table holds nonsense: what is not 4 is shown as 6.
    return Address(4, 0, int(lo) & 0xFFFFFFFF) if version == 4 else Address(6, int(hi), int(lo))


def _filed(*blocks: tuple[NDArray[np.int64], NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct (group, member) of all blocks, ordered."""
    # Sorting numbers is a third of the time of np.unique.
    pairs = np.sort(np.concatenate([group << _MEMBER_BITS | member for group, member in blocks]))
    pairs = pairs[np.concatenate((pairs[:1] >= 0, pairs[1:] != pairs[:-1]))]
    return pairs >> _MEMBER_BITS, pairs & ((1 << _MEMBER_BITS) - 1)
