"""pcapng (https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html): sections, interfaces and packet blocks."""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.capture.lanes import Trust
from backscatter.capture.layout import Interface, Layout, Section
from backscatter.capture.packetblocks import packet_run
from backscatter.capture.records import Record, Walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backscatter.capture.limits import Limits
    from backscatter.capture.records import Buffer

SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, STATISTICS, PACKET = 0x0A0D0D0A, 1, 2, 3, 5, 6
BYTE_ORDER_MAGIC = 0x1A2B3C4D

#: Packets read one by one before it is looked whether they are many of the same kind.
MOST_SINGLY = 1024

#: Type, length and the length repeated at the end.
FRAME = 12

#: What a layout has besides sections and interfaces, for those that are read on in.
_EMPTY = {"container": "pcapng", "compression": "", "header": 16, "swapped": False}

# options of the interface description and of the statistics block
IF_TSRESOL, IF_TSOFFSET, ISB_IFDROP, ISB_OSDROP = 9, 14, 5, 7


def section_order(data: Buffer, at: int) -> str | None:
    """Byte order of the section header block at index `at`, None if its magic is neither."""
    for order in "<>":
        if len(data) >= at + 12 and struct.unpack_from(order + "I", data, at + 8)[0] == BYTE_ORDER_MAGIC:
            return order
    return None


def options(data: Buffer, start: int, end: int, order: str) -> Iterator[tuple[int, Buffer]]:
    """(code, value) of the options in data[start:end]; ends at the first that does not fit."""
    while start + 4 <= end:
        code, length = struct.unpack_from(order + "HH", data, start)
        value = data[start + 4 : start + 4 + length]
        if code == 0 or start + 4 + length > end:
            return
        yield code, value
        start += 4 + length + -length % 4


def ticks_a_second(resolution: int) -> int:
    """What if_tsresol means: a power of two if its highest bit is set, else of ten."""
    return int(2 ** (resolution & 0x7F)) if resolution & 0x80 else int(10**resolution)


def read_interface(data: Buffer, start: int, end: int, order: str) -> Interface | None:
    """The interface that an interface description block's body tells; None if it is too short."""
    if end - start < 8:
        return None
    linktype, _reserved, snaplen = struct.unpack_from(order + "HHI", data, start)
    ticks, offset = 10**6, 0
    for code, value in options(data, start + 8, end, order):
        if code == IF_TSRESOL and len(value) == 1:
            ticks = ticks_a_second(value[0])
        elif code == IF_TSOFFSET and len(value) == 8:
            (offset,) = struct.unpack(order + "q", value)
    return Interface(linktype, ticks, offset, snaplen)


def read_packet(
    kind: int, data: Buffer, start: int, end: int, section: Section, *, at: int, before: int
) -> Record | str:
    """The record in the body data[start:end] of a packet block, or why there is none.

    `at` is the block's offset in the stream. Simple packet blocks have no time: they get that of the record
    `before` them.
    """
    order, interfaces = section.order, section.interfaces
    if kind == SIMPLE_PACKET:
        if end - start < 4 or not interfaces:
            return "a simple packet block has no interface or no length"
        (wirelen,) = struct.unpack_from(order + "I", data, start)
        interface, body = interfaces[0], start + 4
        if end - body - wirelen > 3:
            return f"a simple packet block claims a packet of {wirelen} bytes, less than it holds"
        caplen = min(wirelen, interface.snaplen or wirelen, end - body)
        return Record(body, caplen, wirelen, before, at, interface.linktype)
    if end - start < 20:
        return "a packet block is too short for its fields"
    layout = "HHIIII" if kind == OLD_PACKET else "IIIII"
    number, *_drops, high, low, caplen, wirelen = struct.unpack_from(order + layout, data, start)
    body = start + 20
    if number >= len(interfaces):
        return f"a packet block names interface {number}, which its section does not describe"
    if body + caplen > end:
        return f"a packet block claims {caplen} captured bytes, more than it holds"
    interface = interfaces[number]
    time = interface.time(high << 32 | low)
    return Record(body, caplen, max(caplen, wirelen), time, at, interface.linktype)


class PcapngWalker:
    """Walks blocks; remembers the section that it is in, its interfaces and what they say they dropped."""

    def __init__(self, layout: Layout, limits: Limits) -> None:
        self._layout = layout
        self._limits = limits
        self._section = Section(0, "<", ())
        self._interfaces: list[Interface] = []
        self._kept = 0
        self._number = -1
        self._before = 0
        self._trust = Trust()
        self._drops: dict[tuple[int, int], int] = {}
        self._torn = self._uncertain = False

    @property
    def order(self) -> str:
        """Byte order of the section."""
        return self._section.order

    @property
    def interfaces(self) -> int:
        """How many interfaces were described so far in the section."""
        return len(self._interfaces)

    @property
    def standing(self) -> dict[str, Any]:
        """What somebody who walks on from here has to know, as plain JSON."""
        section = self._current()
        layout = Layout("pcapng", sections=[section]).to_json()
        return {
            "interfaces": layout["interfaces"],
            "sections": layout["sections"],
            "number": self._number,
            "before": self._before,
            "torn": self._torn,
            "uncertain": self._uncertain,
        }

    def resume(self, standing: Mapping[str, Any]) -> None:
        """Walk on where `standing` was taken."""
        (self._section,) = Layout.from_json({**_EMPTY, **standing}).sections
        self._interfaces = list(self._section.interfaces)
        self._number, self._before = int(standing["number"]), int(standing["before"])
        self._torn, self._uncertain = bool(standing["torn"]), bool(standing["uncertain"])

    @property
    def drops(self) -> dict[tuple[int, int], int]:
        """What the interfaces say was dropped, by the number of the section and of the interface."""
        return dict(self._drops)

    def add_drops(self, drops: Mapping[tuple[int, int], int]) -> None:
        """Notes what interfaces say was dropped that were described here, but say it elsewhere."""
        self._drops.update(drops)

    def tear(self) -> None:
        """Notes that blocks of the section were lost, interface descriptions perhaps among them."""
        self._torn = True

    @property
    def dropped(self) -> int | None:
        """Packets that the interfaces say were dropped, by their last statistics; None if none says anything."""
        return sum(self._drops.values()) if self._drops else None

    def close(self) -> bool:
        """Notes the section that ended in the layout; whether the layout has room for another."""
        # before the first section there are interfaces too, where only its header is damaged
        described = self._number >= 0 or self._interfaces
        if described and self._layout.add(self._current()):
            self._kept += len(self._interfaces)
        return len(self._layout.sections) <= self._limits.sections

    def _current(self) -> Section:
        """The section with the interfaces described so far. Made again only when there are new ones."""
        if len(self._section.interfaces) != len(self._interfaces):
            self._section = Section(self._section.start, self._section.order, tuple(self._interfaces))
        return self._section

    def walk(self, data: bytearray, start: int, base: int, most: int, stop: int = sys.maxsize) -> Walk:
        """Walks blocks of `data` from index `start` on, at most `most` packets; `base` is the offset of data[0].

        No block that begins at or behind index `stop` is walked.
        """
        run = None
        if self._interfaces and not self._uncertain:
            run = packet_run(data, start, base, self._current(), self._limits.block_bytes, most, self._trust)
        if run:
            block, at = run
            if len(block) and block.offset[-1] - base >= stop:
                inside = int(np.searchsorted(block.offset, base + stop))
                block, at = block.part(slice(inside)), int(block.offset[inside]) - base
            if len(block):
                self._before = int(block.time[-1])
            return Walk(at=at, block=block if len(block) else None)
        walk, at, end = Walk(at=start), start, len(data)
        # not too far: behind what is read one by one the next run may begin
        most = min(most, MOST_SINGLY)
        while len(walk.records) < most and not walk.lie and at < stop:
            walk.at = at
            if at + FRAME > end:
                walk.wants = FRAME
                break
            order: str | None = self._section.order
            if data[at : at + 4] == b"\n\r\r\n":
                order = section_order(data, at)
            if order is None:
                walk.lie = "a section header block has no byte-order magic"
                break
            kind, length = struct.unpack_from(order + "II", data, at)
            if length < FRAME or length > self._limits.block_bytes:
                walk.lie = (
                    f"a block of type {kind:#x} claims {length} bytes, not {FRAME} to {self._limits.block_bytes}"
                    " (limit block_bytes)"
                )
                break
            if at + length > end:
                walk.wants = length
                break
            if struct.unpack_from(order + "I", data, at + length - 4)[0] != length:
                walk.lie = f"a block of type {kind:#x} has two lengths that differ"
                break
            self._block(kind, data, at, at + length, base, order, walk)
            at += length
        else:
            walk.at = walk.at if walk.lie else at
        if walk.at > start or walk.lie:  # the run ended with something else than the buffer
            self._trust = Trust()
        return walk

    def _block(self, kind: int, data: Buffer, at: int, next_at: int, base: int, order: str, walk: Walk) -> None:
        start, end = at + 8, next_at - 4
        if kind == SECTION:
            fits = self.close()
            self._section = Section(base + at, order, ())
            self._interfaces = []
            self._number += 1
            self._torn = self._uncertain = False
            if not fits:
                walk.lie, walk.over = f"more than {self._limits.sections} sections (limit sections)", True
        elif kind == INTERFACE:
            interface = read_interface(data, start, end, order)
            # a short description still counts, or the numbers of those behind it would shift
            self._interfaces.append(interface or Interface(linktype=0xFFFF))
            # numbers count from the section's start: behind a gap only interfaces that are all alike have one
            self._uncertain |= self._torn and len(set(self._interfaces)) > 1
            if self._kept + len(self._interfaces) > self._limits.interfaces:
                walk.lie, walk.over = f"more than {self._limits.interfaces} interfaces (limit interfaces)", True
            if interface is None:
                walk.skipped.append((at, next_at - at, "an interface description is too short"))
        elif kind in {PACKET, SIMPLE_PACKET, OLD_PACKET}:
            record: Record | str = "the description of a packet's interface may have been lost"
            if not self._uncertain:
                record = read_packet(kind, data, start, end, self._current(), at=base + at, before=self._before)
            if isinstance(record, str):
                walk.skipped.append((at, next_at - at, record))
            else:
                walk.records.append(record)
                self._before = record.time
        elif kind == STATISTICS and end - start >= 12:
            (interface_number,) = struct.unpack_from(order + "I", data, start)
            told = [
                struct.unpack(order + "Q", value)[0]
                for code, value in options(data, start + 12, end, order)
                if code in {ISB_IFDROP, ISB_OSDROP} and len(value) == 8
            ]
            if told and interface_number < len(self._interfaces):
                self._drops[self._number, interface_number] = sum(told)
