"""Single records by their offset in the expanded stream, to show the packets behind a verdict."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

from backscatter.capture.expand import Expanded
from backscatter.capture.limits import Limits
from backscatter.capture.pcap import record_at
from backscatter.capture.pcapng import FRAME, read_packet
from backscatter.capture.records import Record, block_of
from backscatter.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from backscatter.capture.layout import Layout
    from backscatter.capture.record import RecordBlock

    Read = Callable[[int, int], bytes]

#: Offsets that are nearer than this are fetched together: a request costs more than the bytes between.
GAP = 64 * 1024

#: Bytes fetched behind the last offset of a group, which hold all but jumbo packets.
TAIL = 4096

#: No group is longer than this.
REACH = 4 * 2**20


def groups(offsets: Iterable[int]) -> Iterator[list[int]]:
    """The offsets in ascending order, each once, in groups that are worth one read."""
    group: list[int] = []
    for offset in sorted(set(offsets)):
        if group and (offset - group[-1] > GAP or offset - group[0] > REACH):
            yield group
            group = []
        group.append(offset)
    if group:
        yield group


class _Window:
    """Bytes from `start` on, fetched as far as they are asked for."""

    def __init__(self, read: Read, start: int, size: int) -> None:
        self._read = read
        self._start = start
        self._data = read(start, size)

    def at(self, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`, fewer where the stream ends."""
        index = offset - self._start
        missing = index + size - len(self._data)
        if missing > 0:
            self._data += self._read(self._start + len(self._data), missing)
        return self._data[index : index + size]


def _pcapng_record(window: _Window, layout: Layout, offset: int, limits: Limits) -> tuple[Record, bytes] | None:
    section = layout.section(offset)
    head = window.at(offset, 8)
    if section is None or len(head) < 8:
        return None
    kind, length = struct.unpack(section.order + "II", head)
    if not FRAME <= length <= limits.block_bytes:
        return None
    data = window.at(offset, length)
    if len(data) < length or data[-4:] != head[4:]:
        return None
    record = read_packet(kind, data, 8, length - 4, section, at=offset, before=0)
    return None if isinstance(record, str) else (record, data)


def _pcap_record(window: _Window, layout: Layout, offset: int, limits: Limits) -> tuple[Record, bytes] | None:
    record = record_at(window.at(offset, layout.header), 0, offset, layout)
    if record is None or record.caplen > limits.record_bytes:
        return None
    data = window.at(offset, record.body + record.caplen)
    return (record, data) if len(data) == record.body + record.caplen else None


def pick(read: Read, layout: Layout, offsets: Iterable[int], limits: Limits | None = None) -> dict[int, RecordBlock]:
    """One-record blocks by the offset of their record header in the expanded stream.

    `read(offset, length)` gives up to `length` bytes of the expanded stream, fewer only at its end; for a compressed
    capture `expanding_read` makes one. Offsets are read in ascending order, neighbouring ones together. Where no
    record can be read the answer has no entry. Records of simple packet blocks, which have no time, get time 0.
    """
    limits = limits or Limits()
    record_of = _pcapng_record if layout.container == "pcapng" else _pcap_record
    picked: dict[int, RecordBlock] = {}
    for group in groups(offsets):
        window = _Window(read, group[0], group[-1] - group[0] + TAIL)
        for offset in group:
            found = record_of(window, layout, offset, limits)
            if found is not None:
                record, data = found
                picked[offset] = block_of(data, [record])
    return picked


def expanding_read(stream: BinaryIO, name: str, limits: Limits | None = None) -> Read:
    """A `read` for `pick` over a stream that can only be read forward, expanding it if it is compressed.

    It raises CaptureError when asked for bytes before those that it gave last.
    """
    source = Expanded(stream, name, limits or Limits())
    held = b""

    def read(offset: int, length: int) -> bytes:
        nonlocal held
        start = source.position - len(held)
        if offset < start:
            raise CaptureError(name, offset, f"the stream was already read to byte {start}, and goes forward only")
        if offset > source.position:
            source.skip(offset - source.position)
            held = b""
        else:
            held = held[offset - start :]
        held += source.read(length - len(held))
        return held[:length]

    return read
