"""LZ4 frames (https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md), expanded block by block.

Captures under LZ4 are rare, so a page of Python does instead of a dependency. Checksums are stepped over: damage shows
in the capture itself, which is read on behind it.
"""

from __future__ import annotations

import struct

MAGIC = b"\x04\x22\x4d\x18"

#: Block size codes of the frame descriptor.
BLOCK_SIZES = {4: 2**16, 5: 2**18, 6: 2**20, 7: 2**22}

#: How far back a match may reach.
WINDOW = 2**16

INDEPENDENT, BLOCK_CHECKSUM, CONTENT_SIZE, CONTENT_CHECKSUM, DICTIONARY = 0x20, 0x10, 0x08, 0x04, 0x01

STORED = 1 << 31


class Lz4Error(Exception):
    """The frame contradicts itself, or needs what we do not have."""


def _length(block: bytes, at: int, length: int) -> tuple[int, int]:
    """A length whose four bits are `length`, and the index behind it: 15 is added to by bytes until one is not 255."""
    if length == 15:
        while True:
            if at >= len(block):
                raise Lz4Error("a length is cut")
            length += block[at]
            at += 1
            if block[at - 1] != 255:
                break
    return length, at


def expand_block(block: bytes, before: bytes, most: int) -> bytes:
    """The at most `most` bytes that a block (lz4_Block_format.md) expands to; `before` is what matches may reach into.

    Raises Lz4Error where it contradicts itself.
    """
    out, at = bytearray(before), 0
    limit = len(before) + most
    while at < len(block):
        token = block[at]
        size, at = _length(block, at + 1, token >> 4)
        if at + size > len(block) or len(out) + size > limit:
            raise Lz4Error("literals go beyond their block")
        out += block[at : at + size]
        at += size
        if at == len(block):  # the last sequence has no match
            break
        distance = int.from_bytes(block[at : at + 2], "little")
        size, at = _length(block, at + 2, token & 15)
        size += 4
        if not 0 < distance <= len(out) or len(out) + size > limit:
            raise Lz4Error("a match goes beyond what there is")
        piece = out[-distance:] if distance >= size else out[-distance:] * (size // distance + 1)
        out += piece[:size]
    return bytes(out[len(before) :])


class Frame:
    """An LZ4 frame as a member of capture.expand: what is not given out yet is one block at most."""

    def __init__(self) -> None:
        self._input = bytearray()
        self._ready = b""
        self._window = b""
        self._flags: int | None = None
        self._most = 0
        self._ended = False

    @property
    def eof(self) -> bool:
        """Whether the frame's end was reached and all of it given out."""
        return self._ended and not self._ready

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes out without more compressed bytes."""
        return not self._ready and not self._ended and not self._has_piece()

    @property
    def unused_data(self) -> bytes:
        """What was given beyond the frame's end."""
        return bytes(self._input) if self._ended else b""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """At most `max_length` expanded bytes. Raises Lz4Error."""
        self._input += data
        while not self._ready and not self._ended and self._has_piece():
            self._take_piece()
        out, self._ready = self._ready[:max_length], self._ready[max_length:]
        return out

    def _piece(self) -> int:
        """Bytes of the next piece: the descriptor, or a block with its size; 4 where it cannot be told yet."""
        if self._flags is None:
            optional = self._input[4] if len(self._input) > 4 else 0
            return 7 + (8 if optional & CONTENT_SIZE else 0) + (4 if optional & DICTIONARY else 0)
        if len(self._input) < 4:
            return 4
        size = int.from_bytes(self._input[:4], "little")
        if not size:
            return 4 + (4 if self._flags & CONTENT_CHECKSUM else 0)
        if size & ~STORED > self._most:
            return 4  # a lie, told when it is taken
        return 4 + (size & ~STORED) + (4 if self._flags & BLOCK_CHECKSUM else 0)

    def _has_piece(self) -> bool:
        # the descriptor's own size stands in its fifth byte, a block's in its first four
        return len(self._input) >= max(5 if self._flags is None else 4, self._piece())

    def _take_piece(self) -> None:
        size = self._piece()
        piece = bytes(self._input[:size])
        del self._input[:size]
        if self._flags is None:
            self._begin(piece)
            return
        (head,) = struct.unpack_from("<I", piece)
        if not head:
            self._ended = True
            return
        if head & ~STORED > self._most:
            raise Lz4Error(f"a block claims {head & ~STORED} bytes, more than {self._most}")
        body = piece[4 : 4 + (head & ~STORED)]
        before = b"" if self._flags & INDEPENDENT else self._window
        self._ready = body if head & STORED else expand_block(body, before, self._most)
        self._window = (before + self._ready)[-WINDOW:]

    def _begin(self, descriptor: bytes) -> None:
        flags, code = descriptor[4], descriptor[5] >> 4 & 7
        if flags >> 6 != 1 or code not in BLOCK_SIZES:
            raise Lz4Error("an unknown version or block size")
        if flags & DICTIONARY:
            raise Lz4Error("it needs a dictionary")
        self._flags, self._most = flags, BLOCK_SIZES[code]
