"""A large capture read by several processes at a time: each reads a stretch of it and puts its packets on piles.

This process reads the first stretch. The others guess where the first record of theirs begins; when the stretch before
is read, it shows whether that is where it ended. A stretch counts only if it was guessed right and nothing about it is
out of the ordinary: no damage, no new interfaces, no fragment whose first one lies before or behind it. All others are
read again, here. So the flows are those of a single reader, and only how long it takes depends on how many there are.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar, cast

import numpy as np

from backscatter.capture.ranges import Stretch, guessed_right, guessing, same_section
from backscatter.decode.fragments import Fragments
from backscatter.flow.builder import BATCH
from backscatter.flow.cores import Helper, may_fork
from backscatter.flow.early import Early
from backscatter.flow.ranges import RangeTally

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from io import BufferedReader, FileIO

    from numpy.typing import NDArray

    from backscatter.capture.limits import Limits
    from backscatter.capture.reader import Reader, Standing
    from backscatter.capture.record import RecordBlock
    from backscatter.decode.columns import Names
    from backscatter.decode.decoder import Decoder
    from backscatter.flow.builder import Aside, FlowBuilder, Share

T = TypeVar("T")

#: A capture is read alone up to here: then it is known what its records are like.
ALONE = 1 << 20

#: Bytes of a stretch that is worth the while.
LEAST_STRETCH = 16 << 20

#: Rounds one behind the other of which nothing counted but what this process read: then it goes on alone.
IN_VAIN = 3

#: Bytes at the end that this process reads: a capture that was cut short is damaged there.
TAIL = 1 << 20


class _Told(NamedTuple):
    """What a process says of its stretch, in which it found nothing out of the ordinary."""

    begin: int
    first: int
    standing: Standing
    drops: Mapping[tuple[int, int], int]
    tally: RangeTally
    fragments: Fragments
    scopes: Sequence[str]
    tunnels: Sequence[tuple[str, ...]]
    share: Share


class Abreast:
    """Reads a plain file, of which nobody else has taken any blocks, with so many processes.

    What others have read is counted in `tally` and added to `builder` between two blocks of this one. `piece` is the
    file's number among those of its sensor.
    """

    def __init__(
        self,
        file: FileIO | BufferedReader,
        reader: Reader,
        limits: Limits,
        processes: int,
        *,
        decoder: Decoder,
        tally: RangeTally,
        early: Early,
        builder: FlowBuilder,
        piece: int = 0,
    ) -> None:
        self._piece, self._early = piece, early
        self._file, self._reader, self._limits, self._processes = file.fileno(), reader, limits, processes
        self._decoder, self._tally, self._builder = decoder, tally, builder
        self._size = os.fstat(self._file).st_size
        self._round = 0, 0, 1  # where it began, bytes of a stretch, and how many there are

    @property
    def position(self) -> int:
        """Bytes that were read by all, if the others are as fast as this one."""
        begin, step, count = self._round
        here = self._reader.expanded
        return max(here, begin + min(here - begin, step) * count)

    def blocks(self) -> Generator[RecordBlock, None, None]:
        """The blocks that this process is to decode, count and add to the flows itself, in order."""
        reader, in_vain = self._reader, 0
        yield from reader.blocks(ALONE)
        while (standing := reader.standing) is not None:
            # all together they read a batch, if records go on as they were
            room = min(self._size - TAIL - standing.at, standing.at * BATCH // max(self._tally.packets, 1))
            count = min(self._processes, room // LEAST_STRETCH)
            if in_vain == IN_VAIN or count < 2 or self._size > self._limits.expanded_bytes or not may_fork():
                yield from reader.blocks()
                return
            step = room // count
            self._round = standing.at, step, count
            most = self._tally.packets + 2 * BATCH // count
            helpers: list[Helper[_Told] | None] = []
            in_vain += 1
            try:
                for number, aside in enumerate(self._builder.aside(count - 1), 1):
                    helpers.append(self._helper(number, standing, step, aside))
                for block in reader.blocks(standing.at + step):
                    yield block
                    if self._tally.packets > most:  # far more than was to be expected: then the round is over
                        reader.stop()
                self._builder.put_away()
                for number, helper in enumerate(helpers, 1):
                    told = helper.next() if helper and reader.standing else None
                    if told is None or not self._joins(told, standing):
                        break  # it is read here, in the next round or alone
                    self._join(told, number)
                    in_vain = 0
            finally:
                for helper in helpers:
                    if helper:
                        helper.end()
            if reader.standing and reader.standing.last is not None:
                # before flows are looked at: they are not to be late
                self._builder.add(self._early.past(reader.standing.last))
            self._builder.look()

    def _helper(self, number: int, standing: Standing, step: int, aside: Aside) -> Helper[_Told] | None:
        """Somebody who reads the stretch of that number behind `standing`; None where the system has no room for it."""
        begin = standing.at + number * step
        try:
            return Helper(self._read(begin, begin + step, standing.walker, aside))
        except OSError:
            return None

    def _read(self, begin: int, until: int, walker: Mapping[str, Any] | None, aside: Aside) -> Iterator[_Told]:
        """Read a stretch; nothing comes of one that is out of the ordinary."""
        stream = cast("BinaryIO", Stretch(self._file, begin))
        reader = guessing(stream, begin, self._reader.name, self._reader.layout, walker, self._limits)
        decoder, tally = self._decoder, RangeTally()
        decoder.fragments = Fragments()
        early = Early(decoder.fragments)
        first: int | None = None
        waits_for_it = os.getppid()
        for block in reader.blocks(until):
            if first is None:
                first = int(block.time[0])
            packets = decoder.decode(block, self._piece)
            tally.add(packets)
            aside.add(early.through(packets))
            if reader.damage or tally.packets > 2 * BATCH // self._round[2] or os.getppid() != waits_for_it:
                return
        standing, missed_more = reader.standing, decoder.fragments.missed_more
        if reader.damage or reader.begin is None or first is None or standing is None or missed_more or len(early):
            return
        if walker and not same_section(walker, standing.walker or {}):
            return
        scopes, tunnels = decoder.scopes.values, decoder.tunnels.values
        fragments, share = decoder.fragments, aside.share()
        yield _Told(reader.begin, first, standing, reader.drops, tally, fragments, scopes, tunnels, share)

    def _joins(self, told: _Told, before: Standing) -> bool:
        """Whether a stretch goes on where this reader stands; it was read with what was known at `before`."""
        standing = self._reader.standing
        return (
            standing is not None
            and guessed_right(standing, told.begin, told.first, before.walker)
            and not self._decoder.fragments.know(told.fragments.missed)
        )

    def _join(self, told: _Told, number: int) -> None:
        decoder = self._decoder
        scopes, tunnels = _numbers(decoder.scopes, told.scopes), _numbers(decoder.tunnels, told.tunnels)
        self._tally.join(told.tally, scopes.astype(np.int64))
        decoder.fragments.remember(told.fragments.remembered())
        self._reader.pass_over(told.first, told.standing, told.drops)
        numbers = {"scope": scopes, "tunnels": tunnels}
        others = {name: ours for name, ours in numbers.items() if (ours != np.arange(len(ours))).any()}
        self._builder.join(number, told.share, others)


def _numbers(ours: Names[T], theirs: Sequence[T]) -> NDArray[np.uint32]:
    """Our number of each of their names."""
    return np.array([ours.number(name) for name in theirs], np.uint32)
