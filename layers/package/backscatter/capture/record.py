"""What a capture is made of once its container is opened: blocks of records, still in bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(slots=True)
class RecordBlock:
    """A run of records over one byte array. All columns have one entry a record.

    data      uint8, the bytes that the records lie in
    body      int64, index into `data` of the record's first captured byte
    caplen    int64, captured bytes
    wirelen   int64, bytes that the packet had on the wire
    time      int64, nanoseconds since 1970-01-01 UTC
    offset    int64, byte offset of the record's header in the expanded stream
    linktype  int32, LINKTYPE_ number (https://www.tcpdump.org/linktypes.html); one number broadcast, and so read-only,
              where all have the same

    Whoever has a view of `data` keeps it as it is. Without one, a reader fills its memory with other bytes.
    """

    data: NDArray[np.uint8]
    body: NDArray[np.int64]
    caplen: NDArray[np.int64]
    wirelen: NDArray[np.int64]
    time: NDArray[np.int64]
    offset: NDArray[np.int64]
    linktype: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.body)

    def part(self, which: slice | NDArray[np.int64]) -> RecordBlock:
        """Some of the records, over the same bytes."""
        columns = ("body", "caplen", "wirelen", "time", "offset", "linktype")
        return replace(self, **{name: getattr(self, name)[which] for name in columns})


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of the expanded stream that could not be read.

    `length` is in bytes. `after` and `before` are the times (ns) of the records on either side, None where
    there is none: a file cut short has no `before`.
    """

    offset: int
    length: int
    reason: str
    after: int | None = None
    before: int | None = None
