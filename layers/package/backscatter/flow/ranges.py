"""A stretch of a capture, read by itself: its packets, what they add up to, and how it joins its neighbours.

Workers that share a capture read a range each. A range begins at its first record, found by itself or told by whoever
read what lies before, and ends before the first record that belongs to the next one.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backscatter.decode.columns import OK, Packets
from backscatter.decode.decoder import Decoder
from backscatter.flow.census import Losses, Tally
from backscatter.flow.early import Early
from backscatter.flow.held import slimmed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from backscatter.capture.layout import Layout
    from backscatter.capture.reader import Reader, Standing
    from backscatter.capture.record import Damage
    from backscatter.errors import LimitExceeded

#: Gaps that a joined tally keeps for their median; beyond, every second of them goes.
MOST_GAPS = 1 << 20

_HEAD = struct.Struct("<I")
_SUMS = ("packets", "non_ip", "undecodable")
_BOUNDS = ("start", "end")
_ROWS = ("_carried", "_first", "_last")
_GAPS = ("_every", "_behind", "ahead")


class RangeTally(Tally):
    """A tally that can be written down, and joined to that of the range before.

    ahead  time (ns) of the packet that is the earliest of the first block: how far it is from the range before
    """

    def __init__(self) -> None:
        super().__init__()
        self.ahead: int | None = None

    def _add_gaps(self, time: NDArray[np.int64]) -> None:
        if self.ahead is None:
            self.ahead = int(time.min())
        super()._add_gaps(time)

    def to_bytes(self) -> bytes:
        """Everything, as bytes."""
        head = {name: getattr(self, name) for name in (*_SUMS, *_BOUNDS, *_GAPS)}
        head |= {name: getattr(self, name).tolist() for name in _ROWS}
        text = json.dumps(head, separators=(",", ":")).encode()
        gaps = np.concatenate([np.zeros(0, np.int64), *self._gaps])
        return _HEAD.pack(len(text)) + text + gaps.astype("<i8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> RangeTally:
        """The tally that `to_bytes` wrote. Raises ValueError or KeyError on anything else."""
        size = _HEAD.size + _HEAD.unpack_from(data)[0]
        head = json.loads(data[_HEAD.size : size])
        tally = cls()
        for name in (*_SUMS, *_BOUNDS, *_GAPS):
            setattr(tally, name, head[name])
        for name in _ROWS:
            setattr(tally, name, np.array(head[name], np.int64))
        tally._gaps = [np.frombuffer(data, "<i8", offset=size).astype(np.int64)]
        tally._held = len(tally._gaps[0])
        return tally

    def join(self, behind: RangeTally, scopes: NDArray[np.int64]) -> None:
        """Count what the tally of the next range counted; `scopes` are our numbers of its scopes."""
        if not behind.packets:
            return
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(behind, name))
        for name, bound in zip(_BOUNDS, (min, max), strict=True):
            mine, other = getattr(self, name), getattr(behind, name)
            setattr(self, name, other if mine is None else bound(mine, other))
        self._join_scopes(behind, scopes)
        self._join_gaps(behind)

    def _join_scopes(self, behind: RangeTally, scopes: NDArray[np.int64]) -> None:
        present = np.flatnonzero(behind._carried)
        here = scopes[present]
        more = max(int(here.max(initial=-1)) + 1 - len(self._carried), 0)
        self._carried = np.pad(self._carried, (0, more))
        self._first = np.pad(self._first, (0, more), constant_values=np.iinfo(np.int64).max)
        self._last = np.pad(self._last, (0, more), constant_values=np.iinfo(np.int64).min)
        self._carried[here] += behind._carried[present]
        self._first[here] = np.minimum(self._first[here], behind._first[present])
        self._last[here] = np.maximum(self._last[here], behind._last[present])

    def _join_gaps(self, behind: RangeTally) -> None:
        mine, other = (np.concatenate([np.zeros(0, np.int64), *gaps]) for gaps in (self._gaps, behind._gaps))
        # of the one that was thinned out less as many are left out as of the other
        every = max(self._every, behind._every)
        between = np.zeros(0, np.int64)
        if self._behind is not None and behind.ahead is not None:
            between = np.abs(np.array([behind.ahead]) - np.array([self._behind]))
        elif self.ahead is None:
            self.ahead = behind.ahead
        self._gaps = [mine[:: every // self._every], between, other[:: every // behind._every]]
        self._held, self._every, self._behind = sum(map(len, self._gaps)), every, behind._behind
        if self._held > MOST_GAPS:
            self._gaps = [np.concatenate(self._gaps)[::2].copy()]
            self._held, self._every = len(self._gaps[0]), 2 * self._every


class PartLosses(Losses):
    """Losses of some flows of one piece, by scope: they can be written down."""

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain JSON."""
        return {
            "sums": [
                [scope, *map(int, pair)] for (_, scope), pair in sorted(self._sums.items(), key=lambda one: one[0])
            ],
            "slices": [
                [scope, [[time, *map(int, pair)] for time, pair in sorted(told.items(), key=lambda one: one[0])]]
                for (_, scope), told in sorted(self._slices.items(), key=lambda one: one[0])
            ],
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> PartLosses:
        """What `to_json` told."""
        losses = cls()
        losses._sums = {(0, scope): np.array(pair, np.int64) for scope, *pair in told["sums"]}
        losses._slices = {
            (0, scope): {time: np.array(pair, np.int64) for time, *pair in slices} for scope, slices in told["slices"]
        }
        return losses


class RangeRead(NamedTuple):
    """What one range holds.

    packets   those that make flows, with `scopes` and `tunnels`, the names that their columns refer to
    tally     what all its packets add up to
    begin     offset of its first record, None where none was found
    first     time (ns) of that record
    standing  where the next range goes on; None where the stream ended, or where no record was found
    damage    what of it could not be read
    drops     what pcapng interfaces say was dropped, by the numbers of section and interface
    layout    how its records can be read again by offset
    firsts    first fragments that the next range may meet the later ones of (`Fragments.remembered`)
    missed    later fragments whose first is not in the range, and those that it was told of; None for too many to tell
    stopped   the limit that ended it, if one did
    """

    packets: Packets
    scopes: Sequence[str]
    tunnels: Sequence[tuple[str, ...]]
    tally: RangeTally
    begin: int | None
    first: int | None
    standing: Standing | None
    damage: Sequence[Damage]
    drops: Mapping[tuple[int, int], int]
    layout: Layout
    firsts: Sequence[Sequence[Any]]
    missed: Mapping[Any, int] | None
    stopped: LimitExceeded | None


def read_range(reader: Reader, until: int, firsts: Iterable[Sequence[Any]] = ()) -> RangeRead:
    """Read and decode the records that begin before byte `until` of the expanded stream.

    `firsts` are the first fragments of the ranges before. The packets lie in memory: a range is to be small.
    """
    decoder, tally = Decoder(), RangeTally()
    decoder.fragments.remember(firsts)
    early = Early(decoder.fragments)
    tables: list[Packets] = []
    first = None
    for block in reader.blocks(until):
        if first is None:
            first = int(block.time[0])
        packets = decoder.decode(block)
        tally.add(packets)
        tables.append(slimmed(early.through(packets)))
    tables.append(early.rest())
    reader.close()
    missed = decoder.fragments.missed
    return RangeRead(
        packets=_flowing(tables),
        scopes=decoder.scopes.values,
        tunnels=decoder.tunnels.values,
        tally=tally,
        begin=reader.begin,
        first=first,
        standing=reader.standing,
        damage=reader.damage,
        drops=reader.drops,
        layout=reader.layout,
        firsts=decoder.fragments.remembered(),
        missed=None if decoder.fragments.missed_more else missed,
        stopped=reader.stopped,
    )


def _flowing(tables: list[Packets]) -> Packets:
    """The packets that make flows, in one table. Empties `tables`, so that nothing lies twice."""
    packets = Packets.joined(tables)
    tables.clear()
    return packets.only(np.flatnonzero(packets["status"] == OK))
