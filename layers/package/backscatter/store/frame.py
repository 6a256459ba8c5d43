"""zstd frames with bounds: what is read back from a table is ours, and its lengths are still not trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    Buffer = bytes | memoryview

from backscatter.errors import StoreError

#: Planes of like rows are runs or noise: level 3 saves nothing on segments and takes a fifth more time.
_LEVEL = 1
#: Shorter repetitions than this are chance among random numbers: following them costs more bytes than it saves.
_SHORTEST_MATCH = 7
#: Bytes from which on a stretch of its own kind is worth a code table of its own.
_BLOCK = 1024


def squeeze(data: Buffer, *more: Buffer) -> bytes:
    """The bytes as one zstd frame that tells its size.

    What is given apart is coded apart where it is long enough: random numbers beside small ones spoil the code of both.
    """
    size = len(data) + sum(map(len, more))
    how = zstandard.ZstdCompressionParameters.from_level(_LEVEL, min_match=_SHORTEST_MATCH, write_content_size=True)
    squeezer = zstandard.ZstdCompressor(compression_params=how).compressobj(size=size)
    out, waiting = [squeezer.compress(data)], len(data)
    for each in more:
        if waiting >= _BLOCK or (waiting and len(each) >= _BLOCK):
            out.append(squeezer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
            waiting = 0
        out.append(squeezer.compress(each))
        waiting += len(each)
    return b"".join((*out, squeezer.flush()))


def expand(frame: bytes, limit: int) -> bytes:
    """The bytes of a frame, of at most `limit` bytes. Raises StoreError."""
    try:
        # The decompressor allocates what the frame claims, whatever limit it is given: so the claim is read first.
        size = zstandard.frame_content_size(frame)
        if not 0 <= size <= limit:
            raise StoreError(f"a compressed attribute claims {size} bytes, {limit} are allowed")
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=limit)
    except zstandard.ZstdError as error:
        raise StoreError(f"a compressed attribute cannot be read: {error}") from error
