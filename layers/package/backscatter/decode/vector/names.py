"""The addresses that DNS answers give names, of many answers at once: decode.names in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backscatter.decode.names import AAAA, IN, MOST_LABELS, MOST_RECORDS, POINTER, SIZES, A, marks_of
from backscatter.decode.vector.heads import heads, layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.decode.vector.heads import Bytes, Ints, Mask

    Marks = NDArray[np.uint64]


#: A resource record behind its name.
RECORD = layout(10, {"kind": (">u2", 0), "family": (">u2", 2), "length": (">u2", 8)})

#: Of a DNS header, the numbers of questions and of answers.
COUNTS = layout(4, {"questions": (">u2", 0), "answers": (">u2", 2)})

#: record type -> its data
ADDRESSES = {A: layout(4, {"lo": (">u4", 0)}), AAAA: layout(16, {"hi": (">u8", 0), "lo": (">u8", 8)})}


def named(data: Bytes, at: Ints, size: Ints) -> Marks:
    """As decode.names.named, of the answers that begin at `at` and have `size` bytes each."""
    marked = np.zeros(len(at), np.uint64)
    end = at + size
    which = np.flatnonzero(size >= 12)
    counts = heads(data, at[which], COUNTS, 4)
    single = counts["questions"] == 1
    which, left = which[single], counts["answers"][single].astype(np.int64)
    place = _behind_names(data, at[which] + 12, end[which]) + 4
    for nth in range(MOST_RECORDS):
        going = left > nth
        which, left, place = which[going], left[going], place[going]
        if not len(which):
            break
        place = _behind_names(data, place, end[which])
        going = place + RECORD.itemsize <= end[which]
        which, left, place = which[going], left[going], place[going]
        record = heads(data, place, RECORD)
        kind, length = record["kind"].astype(np.uint16), record["length"].astype(np.int64)
        place = place + RECORD.itemsize
        whole = (record["family"] == IN) & (place + length <= end[which])
        for number, form in ADDRESSES.items():
            some = np.flatnonzero(whole & (kind == number) & (length == SIZES[number]))
            if not len(some):
                continue
            address = heads(data, place[some], form)
            lo = address["lo"].astype(np.uint64)
            hi = address["hi"].astype(np.uint64) if number == AAAA else np.zeros_like(lo)
            marked[which[some]] |= marks_of(hi, lo)
        place = place + length
    return marked


def _behind_names(data: Bytes, at: Ints, end: Ints) -> Ints:
    """As decode.names._behind_name, of names that begin at `at`."""
    behind = end.copy()
    which = np.arange(len(at))
    for _ in range(MOST_LABELS):
        inside = at < end[which]
        if not inside.all():
            which, at = which[inside], at[inside]
        if not len(which):
            break
        label = data[at].astype(np.int64)
        going: Mask = (label > 0) & (label < 64)
        if not going.all():
            # a name ends with an empty label or with a pointer; any other bits are no name
            empty, pointer = label == 0, label >= POINTER
            behind[which[empty]] = at[empty] + 1
            behind[which[pointer]] = at[pointer] + 2
            which, at, label = which[going], at[going], label[going]
        at = at + 1 + label
    return behind
