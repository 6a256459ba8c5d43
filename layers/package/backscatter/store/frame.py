"""zstd frames with bounds: what is read back from a table is ours, and its lengths are still not trusted."""

from __future__ import annotations

import zstandard

from backscatter.errors import StoreError

#: One level above the default: segments shrink by a twentieth more for the same time.
LEVEL = 3


def squeeze(data: bytes) -> bytes:
    """The bytes as one zstd frame that tells its size."""
    return zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(data)


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
