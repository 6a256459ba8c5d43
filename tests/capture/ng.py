"""pcapng blocks made from numbers."""

from __future__ import annotations

import struct


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += b"\0" * (-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + b"\0" * (-len(value) % 4)


def interface(
    linktype: int = 1,
    *,
    snaplen: int = 0,
    resolution: int | None = None,
    offset: int | None = None,
    order: str = "<",
) -> bytes:
    options = b""
    if resolution is not None:
        options += option(9, bytes([resolution]), order)
    if offset is not None:
        options += option(14, struct.pack(order + "q", offset), order)
    if options:
        options += option(0, b"", order)
    return block(1, struct.pack(order + "HHI", linktype, 0, snaplen) + options, order)


def packet(frame: bytes, ticks: int, number: int = 0, *, wirelen: int | None = None, order: str = "<") -> bytes:
    length = len(frame) if wirelen is None else wirelen
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), length)
    return block(6, head + frame, order)


def old_packet(frame: bytes, ticks: int, number: int = 0, *, order: str = "<") -> bytes:
    head = struct.pack(order + "HHIIII", number, 0xFFFF, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    return block(2, head + frame, order)


def simple_packet(frame: bytes, *, wirelen: int | None = None, order: str = "<") -> bytes:
    return block(3, struct.pack(order + "I", len(frame) if wirelen is None else wirelen) + frame, order)


def statistics(number: int, *, ifdrop: int, osdrop: int, order: str = "<") -> bytes:
    options = option(5, struct.pack(order + "Q", ifdrop), order) + option(7, struct.pack(order + "Q", osdrop), order)
    return block(5, struct.pack(order + "III", number, 0, 0) + options + option(0, b"", order), order)
