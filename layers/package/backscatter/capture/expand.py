"""Compressed captures: told by their first bytes, expanded piece by piece into bounded memory."""

from __future__ import annotations

import bz2
import lzma
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Protocol

import zstandard

from backscatter.capture import lz4
from backscatter.errors import LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from backscatter.capture.limits import Limits

#: Compressed bytes read at a time. What lies behind the end of a member is copied once for each member, so that a
#: larger step would make a file of many tiny members slow.
STEP = 16 * 1024

#: Expanded bytes taken at a time: how far a stream can go over its limits before that is noticed.
MOST_AT_ONCE = 2**20

#: Members that begin nearer to each other than this many expanded bytes are not told apart (`Expanded.member_of`).
MEMBER_APART = 2**20

#: A zstd frame that needs a larger window than this is refused; it is what the zstd command allows without asking.
ZSTD_WINDOW = 2**27

#: Bytes 1 to 3 of a zstd frame that carries no data, such as the index of a seekable file.
SKIPPABLE = b"\x2a\x4d\x18"


class Corrupt(Exception):
    """The compressed stream contradicts itself; `salvaged` is what came out before. It never leaves this module."""

    def __init__(self, reason: str, salvaged: bytes = b"") -> None:
        super().__init__(reason)
        self.salvaged = salvaged


class Member(Protocol):
    """One compressed member (a gzip member, a zstd frame): what bz2 and lzma offer, and zlib and zstd are made to."""

    @property
    def eof(self) -> bool:
        """Whether the member's end was reached."""

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes out without more compressed bytes."""

    @property
    def unused_data(self) -> bytes:
        """What was given beyond the member's end."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """At most `max_length` expanded bytes."""


class _Gzip:
    """A gzip member (RFC 1952) on zlib."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        data = self._zlib.unconsumed_tail + data
        before = self._zlib.copy()
        try:
            out = self._zlib.decompress(data, max_length)
        except zlib.error as error:
            raise Corrupt(str(error), _salvage(before, data)) from error
        self.needs_input = len(out) < max_length
        return out


def _salvage(member: zlib._Decompress, data: bytes) -> bytes:
    """What comes out of `data` before it turns out to be corrupt: zlib hands nothing out of a call that fails."""
    out = bytearray()
    with suppress(zlib.error):  # it is told already: this walks up to it once more
        for index in range(len(data)):
            out += member.decompress(data[index : index + 1])
    return bytes(out)


class _Zstd:
    """A zstd frame (RFC 8878). zstandard's incremental object has no bound on its output, so input goes in thinly."""

    #: zstd expands a block of a few bytes to at most 128 KiB, so this many bytes give a few MiB at most.
    SIP = 256

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()
        self._pending = b""
        self._ready = b""

    @property
    def eof(self) -> bool:
        return self._frame.eof and not self._ready

    @property
    def needs_input(self) -> bool:
        return not self._ready and not self._pending

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data + self._pending

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        self._pending += data
        out = [self._ready]
        size = len(self._ready)
        at = 0
        while size < max_length and at < len(self._pending) and not self._frame.eof:
            try:
                out.append(self._frame.decompress(self._pending[at : at + self.SIP]))
            except zstandard.ZstdError as error:
                raise Corrupt(str(error), b"".join(out)) from error
            at += self.SIP
            size += len(out[-1])
        self._pending = self._pending[at:]
        expanded = b"".join(out)
        self._ready = expanded[max_length:]
        return expanded[:max_length]


class _Salvaging:
    """A member of bz2 or lzma, which hand nothing out of a call that fails: always asked for as little at a time.

    How much is salvaged would else depend on how much is read at a time.
    """

    SIP = 4096

    def __init__(self, member: Member) -> None:
        self._member = member
        self._ready = b""

    @property
    def eof(self) -> bool:
        return self._member.eof and not self._ready

    @property
    def needs_input(self) -> bool:
        return not self._ready and self._member.needs_input

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        out = bytearray(self._ready)
        self._ready = b""
        try:
            while len(out) < max_length and not self._member.eof and (data or not self._member.needs_input):
                out += self._member.decompress(data, self.SIP)
                data = b""
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise Corrupt(str(error), bytes(out)) from error
        self._ready = bytes(out[max_length:])
        return bytes(out[:max_length])


#: (what it is called, first bytes, a new member). A member may raise Corrupt or Lz4Error.
EXPANDERS: tuple[tuple[str, bytes, Callable[[], Member]], ...] = (
    ("gzip", b"\x1f\x8b\x08", _Gzip),
    ("zstd", b"\x28\xb5\x2f\xfd", _Zstd),
    ("xz", b"\xfd7zXZ\x00", lambda: _Salvaging(lzma.LZMADecompressor(memlimit=2**28))),
    ("bzip2", b"BZh", lambda: _Salvaging(bz2.BZ2Decompressor())),
    ("lz4", lz4.MAGIC, lz4.Frame),
)

LONGEST_MAGIC = max(len(magic) for _, magic, _ in EXPANDERS)


def compression(head: bytes) -> str:
    """The compression that a stream beginning with `head` has; "" for none."""
    return next((name for name, magic, _ in EXPANDERS if head.startswith(magic)), "")


class Expanded:
    """The expanded stream, read forward only, with bounded memory.

    position     expanded bytes handed out
    trouble      why the stream ended before its time, "" if it did not
    stopped      the limit that ended it, None if none did
    """

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        limits: Limits,
        *,
        compression_told: str | None = None,
        member: tuple[int, int] = (0, 0),
    ) -> None:
        """`stream` begins with a member: the first one of a capture, or the one that `member` names.

        How it is compressed is told by its content, unless `compression_told` says it ("" for not at all): in the
        middle of a capture anything may look like anything.
        """
        self._stream = stream
        self._name = name
        self._limits = limits
        self._input = b""
        self.compression = "" if compression_told is None else compression_told
        if compression_told is None:
            while len(self._input) < LONGEST_MAGIC and (data := stream.read(STEP)):
                self._input += data
            self.compression = compression(self._input)
        self._taken = len(self._input)
        self._ended = False
        self._looked: bytes = b""
        self._begin = member
        self._members = [member]
        self._out = self.position = member[1]
        self.trouble = ""
        self.stopped: LimitExceeded | None = None
        if self.compression:
            self._magic, self._new = next((magic, new) for name, magic, new in EXPANDERS if name == self.compression)
            self._member = self._new()

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end, without moving on."""
        self._looked += self._fetch(size - len(self._looked))
        return self._looked[:size]

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end, or where the stream is damaged or over a limit."""
        data = self._looked + self._fetch(size - len(self._looked))
        out, self._looked = data[:size], data[size:]
        self.position += len(out)
        return out

    def fill(self, view: memoryview) -> int:
        """Fills `view` with the next bytes; how many there were, fewer than asked for where `read` would give fewer.

        Of a stream that is not compressed and knows `readinto` nothing is copied.
        """
        readinto: Callable[[memoryview], int | None] | None = getattr(self._stream, "readinto", None)
        if self.compression or readinto is None:
            ready = self.read(len(view))
            view[: len(ready)] = ready
            return len(ready)
        ready = self.read(min(len(view), len(self._looked) + len(self._input)))
        view[: len(ready)] = ready
        filled = len(ready)
        while filled < len(view) and not self._ended:
            got = readinto(view[filled : filled + MOST_AT_ONCE]) or 0
            self._taken += got
            self._out += got
            filled += got - max(0, self._out - self._limits.expanded_bytes)
            self._check()
            if not got:
                self._end()
        self.position += filled - len(ready)
        return filled

    def member_of(self, offset: int) -> tuple[int, int]:
        """Where a member begins at or before `offset` of the expanded stream, in the compressed and the expanded one.

        It is the last such, or one that begins less than MEMBER_APART bytes before it. The ones before are forgotten.
        """
        while len(self._members) > 1 and self._members[1][1] <= offset:
            del self._members[0]
        return self._members[0]

    def give_back(self, data: bytes | bytearray) -> None:
        """Takes back the last bytes that were handed out: they come next."""
        self._looked = bytes(data) + self._looked
        self.position -= len(data)

    def jump(self, position: int) -> None:
        """Goes on at a byte of a stream that can be sought, and is not compressed."""
        self._stream.seek(position)
        self._looked = self._input = b""
        self._taken = self._out = self.position = position
        self._ended = False  # it may have been read ahead to its end

    def skip(self, size: int) -> int:
        """Reads `size` bytes away, piece by piece; how many there were."""
        start = self.position
        while (missing := start + size - self.position) and self.read(min(missing, 2**20)):
            pass
        return self.position - start

    def _fetch(self, size: int) -> bytes:
        """`size` bytes, fewer at the end; more where that many were salvaged from a corrupt stream."""
        pieces: list[bytes] = []
        missing = size
        while missing > 0 and not self._ended:
            piece = self._piece(min(missing, MOST_AT_ONCE))
            self._out += len(piece)
            over = max(0, self._out - self._limits.expanded_bytes)
            pieces.append(piece[: len(piece) - over])
            missing -= len(piece)
            self._check()
        return b"".join(pieces)

    def _check(self) -> None:
        limits = self._limits
        reason = ""
        if self._out > limits.expanded_bytes:
            reason = f"more than {limits.expanded_bytes} expanded bytes (limit expanded_bytes)"
        elif self.compression and self._out - self._begin[1] > max(
            limits.ratio_from, limits.expansion_ratio * self._taken
        ):
            reason = f"expands more than {limits.expansion_ratio} times (limit expansion_ratio)"
        if reason:
            self.stopped = LimitExceeded(self._name, self._out, reason)
            self._end(reason)

    def _end(self, reason: str = "") -> None:
        self._ended = True
        self.trouble = reason

    def _more(self) -> bytes:
        data = self._input or self._stream.read(STEP)
        self._taken += 0 if self._input else len(data)
        self._input = b""
        return data

    def _piece(self, size: int) -> bytes:
        """Some expanded bytes, at most `size`; may be none although the stream goes on."""
        if not self.compression:
            data = self._input or self._stream.read(max(size, STEP))
            self._taken += 0 if self._input else len(data)
            self._input = data[size:]
            if not data:
                self._end()
            return data[:size]
        if self._member.eof:
            return self._next_member()
        data = self._more() if self._member.needs_input else b""
        if not data and self._member.needs_input:
            self._end(f"the {self.compression} stream is cut short")
            return b""
        try:
            return self._member.decompress(data, size)
        except Corrupt as error:
            self._end(f"the {self.compression} stream is corrupt: {error}")
            return error.salvaged
        except lz4.Lz4Error as error:
            self._end(f"the {self.compression} stream is corrupt: {error}")
            return b""

    def _next_member(self) -> bytes:
        """Begins the member behind the one that ended, if there is one. Zero padding (tapes, xz) is no damage."""
        rest = self._member.unused_data
        while len(rest) < len(self._magic) or not rest.strip(b"\0"):
            data = self._more()
            if not data:
                break
            rest = rest.lstrip(b"\0") + data
        rest = rest.lstrip(b"\0")
        if rest.startswith(self._magic) or (self.compression == "zstd" and rest[1:4] == SKIPPABLE):
            self._member = self._new()
            self._input = rest
            if self._out - self._members[-1][1] >= MEMBER_APART:
                self._members.append((self._begin[0] + self._taken - len(rest), self._out))
        else:
            self._end(
                f"{len(rest)} bytes or more behind the {self.compression} stream are no such stream" if rest else ""
            )
        return b""
