"""The addresses that DNS answers give names, of many answers at once: decode.names in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backscatter.decode.names import AAAA, IN, MOST_LABELS, MOST_RECORDS, POINTER, SIZES, A, marks_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.decode.vector.heads import Bytes, Ints, Mask

    Marks = NDArray[np.uint64]


def named(data: Bytes, at: Ints, size: Ints) -> Marks:
    """As decode.names.named, of the answers that begin at `at` and have `size` bytes each."""
    marked = np.zeros(len(at), np.uint64)
    end = at + size
    which = np.flatnonzero(size >= 12)
    which = which[_number(data, at[which] + 4, 2) == 1]
    left = _number(data, at[which] + 6, 2)
    place = _behind_names(data, at[which] + 12, end[which]) + 4
    for nth in range(MOST_RECORDS):
        going = left > nth
        which, left, place = which[going], left[going], place[going]
        if not len(which):
            break
        place = _behind_names(data, place, end[which])
        going = place + 10 <= end[which]
        which, left, place = which[going], left[going], place[going]
        kind, family, length = (_number(data, place + offset, 2) for offset in (0, 2, 8))
        place = place + 10
        whole = (family == IN) & (place + length <= end[which])
        for record, halves in ((A, (None, 0)), (AAAA, (0, 8))):
            some = np.flatnonzero(whole & (kind == record) & (length == SIZES[record]))
            if not len(some):
                continue
            first, second = halves
            lo = _number(data, place[some] + second, SIZES[record] - second).view(np.uint64)
            hi = np.zeros_like(lo) if first is None else _number(data, place[some], 8).view(np.uint64)
            marked[which[some]] |= marks_of(hi, lo)
        place = place + length
    return marked


def _behind_names(data: Bytes, at: Ints, end: Ints) -> Ints:
    """As decode.names._behind_name, of names that begin at `at`."""
    behind = end.copy()
    which, at = np.arange(len(at)), at.copy()
    for _ in range(MOST_LABELS):
        inside = at < end[which]
        which, at = which[inside], at[inside]
        if not len(which):
            break
        label = data[at].astype(np.int64)
        behind[which[label == 0]] = at[label == 0] + 1
        behind[which[label >= POINTER]] = at[label >= POINTER] + 2
        going: Mask = (label > 0) & (label < 64)
        which, at = which[going], at[going] + label[going] + 1
    return behind


def _number(data: Bytes, at: Ints, size: int) -> Ints:
    """The big-endian numbers of `size` bytes at `at`, as 64 bits."""
    number = np.zeros(len(at), np.int64)
    for offset in range(size):
        number = number << 8 | data[at + offset]
    return number
