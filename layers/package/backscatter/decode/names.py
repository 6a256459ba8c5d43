"""Which addresses a DNS answer gives a name, as marks: a set of 64 bits, which may hold more but never less.

Whoever is about to call a host often asks for its name first. So an address that was just looked up was probably
called, and a judge must doubt that it was not. The marks of several answers are their OR. Addresses are told by their
high and low 64 bits, as in the columns.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

#: Bits of one address. Of an answer's usual four addresses one in 700 others is marked too.
MARKS = 5

#: Labels of a name and records that are followed: more than any resolver's answer has.
MOST_LABELS, MOST_RECORDS = 24, 32

#: Record types (RFC 1035, 3596) and the bytes of their data; the class is IN.
A, AAAA, IN = 1, 28, 1
SIZES = {A: 4, AAAA: 16}

#: A label's two upper bits: a length, or with both set a pointer, with which a name ends (RFC 1035, 4.1.4).
POINTER = 0xC0

_MASK = (1 << 64) - 1
#: Odd constants from the digits of pi: they only spread addresses.
MIX, STIR = 0x243F6A8885A308D3, 0x9E3779B97F4A7C15


def marks(hi: int, lo: int) -> int:
    """The marks of one address."""
    mixed = ((lo ^ hi * STIR) * MIX) & _MASK
    mixed = (mixed ^ mixed >> 29) * STIR & _MASK
    marked = 0
    for number in range(MARKS):
        marked |= 1 << (mixed >> (16 + 6 * number) & 63)
    return marked


def marks_of(hi: NDArray[np.uint64], lo: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """As `marks`, of arrays."""
    mixed = (lo ^ hi * np.uint64(STIR)) * np.uint64(MIX)
    mixed = (mixed ^ mixed >> np.uint64(29)) * np.uint64(STIR)
    marked = np.zeros_like(mixed)
    for number in range(MARKS):
        marked |= np.uint64(1) << (mixed >> np.uint64(16 + 6 * number) & np.uint64(63))
    return marked


def named(answer: bytes) -> int:
    """The marks of all addresses that a DNS answer of one question gives; what was cut off is not guessed."""
    marked = 0
    for hi, lo in _addresses(answer):
        marked |= marks(hi, lo)
    return marked


def _addresses(answer: bytes) -> Iterator[tuple[int, int]]:
    if len(answer) < 12:
        return
    questions, records = struct.unpack_from(">HH", answer, 4)
    if questions != 1:
        return
    at = _behind_name(answer, 12) + 4
    for _ in range(min(records, MOST_RECORDS)):
        at = _behind_name(answer, at)
        if at + 10 > len(answer):
            return
        kind, family, _, size = struct.unpack_from(">HHIH", answer, at)
        at += 10
        if family == IN and SIZES.get(kind) == size and at + size <= len(answer):
            number = int.from_bytes(answer[at : at + size], "big")
            yield number >> 64, number & _MASK
        at += size


def _behind_name(answer: bytes, at: int) -> int:
    """Where what follows a name begins; the end of the answer where the name does not end."""
    for _ in range(MOST_LABELS):
        if at >= len(answer):
            break
        label = answer[at]
        if label == 0:
            return at + 1
        if label >= POINTER:
            return at + 2
        if label > 63:
            break
        at += label + 1
    return len(answer)
