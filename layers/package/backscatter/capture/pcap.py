"""Classic pcap (https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html): the file header and its records."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backscatter.capture.lanes import Head, Run, Trust, fields_at, walk_records
from backscatter.capture.layout import NANO, Interface, Layout, Section
from backscatter.capture.record import RecordBlock
from backscatter.capture.records import Record, Walk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.capture.limits import Limits
    from backscatter.capture.records import Buffer

FILE_HEADER = 24

#: magic number -> (ticks a second, bytes of a record header). The last is Kuznetzov's patch of 1998: its record
#: header has interface index, protocol and packet type behind the usual four fields.
MAGIC = {0xA1B2C3D4: (10**6, 16), 0xA1B23C4D: (10**9, 16), 0xA1B2CD34: (10**6, 24)}


def pcap_layout(head: bytes) -> Layout | None:
    """The layout that a file header tells, None if it is none. Its first record begins at FILE_HEADER."""
    if len(head) < FILE_HEADER:
        return None
    for order in "<>":
        magic, major, minor, _zone, _accuracy, _snaplen, link = struct.unpack_from(order + "IHHiIII", head)
        if magic in MAGIC:
            ticks, header = MAGIC[magic]
            # the upper bits of the link type tell of frame check sequences
            section = Section(0, order, (Interface(link & 0xFFFF, ticks),))
            return Layout("pcap", header=header, swapped=(major, minor) < (2, 4), sections=[section])
    return None


def record_at(data: Buffer, at: int, offset: int, layout: Layout) -> Record | None:
    """The record whose header is at index `at` of `data`, believed as it stands; None if the header is cut."""
    section = layout.sections[0]
    interface = section.interfaces[0]
    if at + layout.header > len(data):
        return None
    seconds, fraction, caplen, wirelen = struct.unpack_from(section.order + "IIII", data, at)
    if layout.swapped and caplen > wirelen:
        caplen, wirelen = wirelen, caplen
    time = seconds * NANO + fraction * (NANO // interface.ticks)
    # a packet is at least as long as what was captured of it, whatever a writer claims
    return Record(at + layout.header, caplen, max(caplen, wirelen), time, offset, interface.linktype)


class PcapRecords(NamedTuple):
    """Records for capture.lanes: byte order, bytes of their headers, ticks a second, the most bytes one may capture."""

    order: str
    header: int
    ticks: int
    longest: int

    @property
    def head(self) -> Head:
        """The four fields that every variant of the record header begins with: seconds, fraction, lengths."""
        return Head(self.order, 4, 2, self.header, self.header)

    def size(self, data: bytearray, at: int) -> int:
        """Bytes of the record at `at`; 0 if it is not whole, claims too much, or is nothing."""
        if at + self.header > len(data):
            return 0
        fields = struct.unpack_from(self.order + "4I", data, at)
        size: int = self.header + fields[2]
        return size if fields[2] <= self.longest and at + size <= len(data) and any(fields) else 0

    def sound(self, data: bytearray, fields: NDArray[np.uint32], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which records are whole, claim no more than they may, and are not nothing."""
        mask: NDArray[np.bool_] = (fields[2] <= self.longest) & (ends <= len(data))
        mask &= np.bitwise_or.reduce(fields, axis=0) != 0
        return mask

    def mark(self, data: bytearray, at: int) -> tuple[bytes, int]:
        """The upper half of the seconds, which stays the same for 18 hours."""
        high = 2 if self.order == "<" else 0
        return bytes(data[at + high : at + high + 2]), high

    def plausible(self, data: bytearray, places: NDArray[np.int64], mark: bytes) -> NDArray[np.int64]:
        """Bytes of what may be a record at each place, 0 where there is none.

        The length on the wire is not asked: there are writers that put less there than they captured.
        """
        room = places + self.header <= len(data)
        seconds, fraction, caplen, _ = fields_at(data, np.where(room, places, 0), self.head)
        high = int.from_bytes(mark, "little" if self.order == "<" else "big")
        room &= (seconds >> 16 == high) & (fraction < self.ticks) & (caplen <= self.longest)
        sizes: NDArray[np.int64] = np.where(room, caplen.astype(np.int64) + self.header, 0)
        return sizes


def walk_pcap(data: bytearray, start: int, base: int, layout: Layout, limits: Limits, most: int, trust: Trust) -> Walk:
    """Walks at most `most` records of `data` from index `start` on; `base` is the stream offset of data[0].

    `trust` is what walks have earned so far. A record's length is bounded by `limits.record_bytes`: a longer one is a
    lie, since no ordinary link carries it.
    """
    if layout.swapped:
        walk = _walk_swapped(data, start, base, layout, limits, most)
        found = len(walk.records)
    else:
        interface = layout.sections[0].interfaces[0]
        form = PcapRecords(layout.sections[0].order, layout.header, interface.ticks, limits.record_bytes)
        run = walk_records(data, start, form, most, trust)
        walk, found = Walk(at=run.at), len(run.places)
        if found:
            walk.fields = run.fields
            walk.block = _block(data, run, base, form, interface.linktype)
    if found < most:
        _why(walk, data, layout, limits)
    return walk


def _walk_swapped(data: bytearray, start: int, base: int, layout: Layout, limits: Limits, most: int) -> Walk:
    """Walks records whose lengths may have changed places. Only files of the last century have them."""
    walk = Walk(at=start)
    while len(walk.records) < most:
        record = record_at(data, walk.at, base + walk.at, layout)
        if record is None or record.caplen > limits.record_bytes or record.body + record.caplen > len(data):
            break
        if _is_nothing(record):
            break
        walk.records.append(record)
        walk.at = record.body + record.caplen
    return walk


def _why(walk: Walk, data: bytearray, layout: Layout, limits: Limits) -> None:
    """Notes why the walk could not go on: there is no whole record, or one that nobody would believe."""
    record = record_at(data, walk.at, 0, layout)
    if record is None:
        walk.wants = layout.header
    elif record.caplen > limits.record_bytes:
        walk.lie = (
            f"a record claims {record.caplen} captured bytes, more than {limits.record_bytes} (limit record_bytes)"
        )
    elif _is_nothing(record):
        walk.lie = "a record has no time and no bytes, as where a file was filled up with zeros"
    else:
        walk.wants = layout.header + record.caplen


def _is_nothing(record: Record) -> bool:
    """Whether a record's header is all zeros: files whose system lost power end so."""
    return not (record.time or record.caplen or record.wirelen)


def _block(data: bytearray, run: Run, base: int, form: PcapRecords, linktype: int) -> RecordBlock:
    """The columns of a run of records, as record_at reads each of them."""
    seconds, fraction, caplen, wirelen = run.fields
    time = np.multiply(seconds, NANO, dtype=np.int64)
    time += np.multiply(fraction, NANO // form.ticks, dtype=np.int64)
    return RecordBlock(
        np.frombuffer(data, np.uint8),
        run.places + form.header,
        caplen.astype(np.int64),
        np.maximum(caplen, wirelen).astype(np.int64),
        time,
        run.places + base,
        np.broadcast_to(np.int32(linktype), len(caplen)),
    )
