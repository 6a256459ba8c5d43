"""Runs of pcapng's enhanced packet blocks: nearly all that a file holds, and all alike, so they are read as columns."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backscatter.capture.lanes import Head, Trust, fields_at, walk_records
from backscatter.capture.layout import LAST_TIME, NANO
from backscatter.capture.record import RecordBlock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from backscatter.capture.layout import Interface, Section

#: Type of the enhanced packet block, where its packet begins, its length without one.
PACKET, BODY, LEAST = 6, 28, 32

#: Half of what 64 bits hold: the sum of two such does not overflow.
HALF = LAST_TIME // 2

#: A shorter run is not worth it.
WORTH = 256


class PacketBlocks(NamedTuple):
    """Enhanced packet blocks for capture.lanes: their byte order, and the most bytes that one may have."""

    order: str
    longest: int

    @property
    def head(self) -> Head:
        """The fields before the packet: kind, length, interface, high and low part of the time, caplen, wirelen."""
        return Head(self.order, 7, 1, 0, LEAST)

    def size(self, data: bytearray, at: int) -> int:
        """Bytes of the block at `at`; 0 if it is none of ours, not whole, or its two lengths differ."""
        if at + LEAST > len(data):
            return 0
        kind, length = struct.unpack_from(self.order + "II", data, at)
        if kind != PACKET or not LEAST <= length <= self.longest or at + length > len(data):
            return 0
        (again,) = struct.unpack_from(self.order + "I", data, at + length - 4)
        return length if again == length else 0

    def sound(self, data: bytearray, fields: NDArray[np.uint32], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which blocks are whole, ours, and have two lengths that agree."""
        kind, length = fields[:2]
        ours: NDArray[np.bool_] = (kind == PACKET) & (length >= LEAST) & (length <= self.longest)
        ours &= ends <= len(data)
        ours &= self._again(data, np.where(ours, ends, 4)) == length
        return ours

    def mark(self, _data: bytearray, _at: int) -> tuple[bytes, int]:
        """The type of the block."""
        return struct.pack(self.order + "I", PACKET), 0

    def plausible(self, data: bytearray, places: NDArray[np.int64], _mark: bytes) -> NDArray[np.int64]:
        """Bytes of the block at each place: what has two lengths that agree makes sense."""
        room = places + LEAST <= len(data)
        places = np.where(room, places, 0)
        fields = fields_at(data, places, self.head)
        length = fields[1].astype(np.int64)
        sizes: NDArray[np.int64] = np.where(room & self.sound(data, fields, places + length), length, 0)
        return sizes

    def _again(self, data: bytearray, ends: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The lengths that are repeated before `ends`."""
        again: NDArray[np.uint32] = np.ndarray((len(data) - 3,), self.order + "u4", data, strides=(1,))[ends - 4]
        return again


class Clocks:
    """How stamps become times in 64 bits, by number of the interface.

    usable  whether they can: finer clocks than nanoseconds, and ticks that are no part of them, need more
    most    the greatest stamp that fits
    """

    def __init__(self, interfaces: Sequence[Interface]) -> None:
        self.usable = np.array([NANO % i.ticks == 0 and abs(i.offset) <= HALF // NANO for i in interfaces])
        scales = [NANO // i.ticks if fits else 1 for i, fits in zip(interfaces, self.usable, strict=True)]
        shifts = [i.offset * NANO if fits else 0 for i, fits in zip(interfaces, self.usable, strict=True)]
        self._scale, self._shift = np.array(scales, np.int64), np.array(shifts, np.int64)
        self.most = HALF // self._scale

    def times(self, stamps: NDArray[np.int64], interface: NDArray[np.int64]) -> NDArray[np.int64]:
        """As Interface.time, of stamps that fit."""
        return stamps * self._scale[interface] + self._shift[interface]


def packet_run(
    data: bytearray, start: int, base: int, section: Section, longest: int, most: int, trust: Trust
) -> tuple[RecordBlock, int] | None:
    """The enhanced packet blocks that follow each other from index `start` on, and the index behind them.

    `base` is the stream offset of data[0], and `trust` what runs have earned so far. The run ends before a block that
    is to be skipped, or whose time needs arithmetic of more than 64 bits: such are read one by one. None if it is too
    short.
    """
    clocks = Clocks(section.interfaces)
    if not clocks.usable.any():
        return None
    form = PacketBlocks(section.order, longest)
    run = walk_records(data, start, form, most, trust)
    if len(run.places) < WORTH:
        return None
    _, length, interface, high, low, caplen, _ = run.fields
    if interface.min() == interface.max():
        interface = interface[:1]  # what is told of it holds for all
    number = np.minimum(interface, len(section.interfaces) - 1)
    stamps = high.astype(np.int64) << 32 | low
    # a stamp of 64 bits is negative here
    readable = (stamps >= 0) & (stamps <= clocks.most[number]) & (caplen <= length - np.uint32(LEAST))
    readable &= clocks.usable[number] & (interface < len(section.interfaces))
    if not readable.all():
        count = int(np.argmin(readable))
        if count < WORTH:
            return None
        run, stamps, number = run.first(count), stamps[:count], number[:count]
    caplen, wirelen = run.fields[5:]
    linktypes = np.array([interface.linktype for interface in section.interfaces], np.int32)
    block = RecordBlock(
        np.frombuffer(data, np.uint8),
        run.places + BODY,
        caplen.astype(np.int64),
        np.maximum(caplen, wirelen).astype(np.int64),
        clocks.times(stamps, number),
        run.places + base,
        np.broadcast_to(linktypes[number], len(stamps)),
    )
    return block, run.at
