"""Buffers that are filled again and again: fresh memory costs a page fault for every 4 KiB."""

from __future__ import annotations

#: Buffers kept: the one that was filled last is still looked at while the next is filled, and sometimes that before it.
KEPT = 3


class Buffers:
    """Byte arrays of one size, handed out again once nobody has a view of them."""

    def __init__(self) -> None:
        self._kept: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """One of `size` bytes that nobody looks at. What is in it is left from before."""
        for buffer in self._kept:
            if len(buffer) == size and _is_free(buffer):
                return buffer
        # glibc keeps freed memory, of which all else is made, only once a piece as large was freed: here is one. Nobody
        # has touched it, so that it costs nothing.
        bytearray(size)
        buffer = bytearray(size)
        self._kept = [*self._kept, buffer][-KEPT:]
        return buffer


def _is_free(buffer: bytearray) -> bool:
    """Whether nobody has a view of it: Python refuses to change the length of a byte array that is looked at."""
    try:
        last = buffer.pop()
    except BufferError:
        return False
    buffer.append(last)
    return True
