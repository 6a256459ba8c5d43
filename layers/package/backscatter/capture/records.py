"""Records being gathered while a container is walked, until they become columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backscatter.capture.record import RecordBlock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Buffer = bytes | bytearray


class Record(NamedTuple):
    """One record as RecordBlock has it, one entry a column."""

    body: int
    caplen: int
    wirelen: int
    time: int
    offset: int
    linktype: int


def block_of(data: Buffer, records: Sequence[Record]) -> RecordBlock:
    """The columns of `records`, whose `body` indexes `data`."""
    table = np.array(records, np.int64).reshape(len(records), len(Record._fields))
    body, caplen, wirelen, time, offset, linktype = np.ascontiguousarray(table.T)
    return RecordBlock(np.frombuffer(data, np.uint8), body, caplen, wirelen, time, offset, linktype.astype(np.int32))


@dataclass(slots=True)
class Walk:
    """How far the walk over a buffer came.

    records   what was found
    block     the same as columns already, where the walk made them
    fields    uint32, seconds, fraction, captured and real length in the headers of these records, a row each, where the
              walk has them
    at        index of the first byte that was not used
    wants     bytes from `at` on that are needed to go on; 0 where nothing but the buffer's end is in the way
    lie       why nothing behind `at` can be trusted; "" where it can
    over      whether that is because a limit on counts was passed
    found     index behind a lie where records begin again; -1 where that is not known
    held      the record before a lie if it may be damaged too: it is not if no records follow
    skipped   (index, length, reason) of what could not be read but did no harm to what follows
    """

    records: list[Record] = field(default_factory=list)
    block: RecordBlock | None = None
    fields: NDArray[np.uint32] | None = None
    at: int = 0
    wants: int = 0
    lie: str = ""
    over: bool = False
    found: int = -1
    held: RecordBlock | None = None
    skipped: list[tuple[int, int, str]] = field(default_factory=list)

    def told(self, data: Buffer) -> RecordBlock | None:
        """What was found, as columns; None if it was nothing."""
        if self.block is None and self.records:
            self.block = block_of(data, self.records)
        return self.block
