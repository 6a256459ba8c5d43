"""What a capture says of itself: span, packets, scopes, damage, loss. The catalogue keeps it; coverage rests on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import NON_IP, OK, PLACE_BITS, UNDECODABLE
from backscatter.flow.runs import median

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from backscatter.capture.record import Damage
    from backscatter.decode.columns import Packets
    from backscatter.flow.table import Flows, FlowTable

SECOND = 1_000_000_000

#: Length of a slice of time (ns) of which the loss is told by itself: a burst of loss must not drown in a long capture.
SLICE = 300 * SECOND
#: Slices that one capture may have; one that is no longer than a few needs none.
_MOST_SLICES, _FEWEST_SLICES = 2000, 4


@dataclass(frozen=True, slots=True)
class ScopeCensus:
    """One scope of one capture. Times in ns.

    `segments` and `lost` are the opportunities to notice a loss (the losses included) and the losses noticed, as
    Zeek's capture-loss counts them; conversations that are candidates for backscatter are left out. `slices` are the
    same over time, (begin, segments, lost) of SLICE each, also behind the capture where flows go on in other pieces;
    none where all is short or the scopes are many.
    """

    packets: int
    first: int
    last: int
    segments: int
    lost: int
    slices: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Census:
    """One capture object as a witness. Times in ns since 1970-01-01 UTC.

    piece       name of the capture object: a path, or s3://bucket/key
    sensor      who captured it; pieces of one sensor follow each other in time
    start, end  times of the first and the last packet
    packets     records read
    median_gap  median time between neighbouring packets; of more than a million, of every so many of them
    scopes      scope name -> ScopeCensus
    holes       stretches [after, before] in which damage lies: nothing is known of them. Damage that begins
                the piece or ends it has a nanosecond: how far it reaches is not known, but no other piece joins there
    non_ip, undecodable  records that are no IP, records whose headers could not be read
    damaged_bytes        of the expanded stream, skipped to get past damage
    dropped     packets that the sensor itself says it dropped; None where it says nothing
    clock_ok    False where the clock is implausible: such a capture proves no coverage
    """

    piece: str
    sensor: str
    start: int
    end: int
    packets: int
    median_gap: int
    scopes: Mapping[str, ScopeCensus]
    holes: tuple[tuple[int, int], ...] = ()
    non_ip: int = 0
    undecodable: int = 0
    damaged_bytes: int = 0
    dropped: int | None = None
    clock_ok: bool = True
    notes: tuple[str, ...] = field(default=())


#: A capture that spans more than this (ns), or lies outside these times, was written with a broken clock.
LONGEST_SPAN = 48 * 3600 * SECOND
EARLIEST = 631_152_000 * SECOND  # 1990-01-01: before there were captures
LATEST = 4_102_444_800 * SECOND  # 2100-01-01


#: Gaps between neighbouring packets that are kept for their median; beyond, every second of them goes.
_MOST_GAPS = 1 << 20


class Tally:
    """What the packets of one piece add up to, block by block, in memory that does not grow with them.

    packets     how many there are; `non_ip` and `undecodable` of them
    start, end  times of the earliest and the latest (ns), None without packets
    """

    def __init__(self) -> None:
        self.packets = self.non_ip = self.undecodable = 0
        self.start: int | None = None
        self.end: int | None = None
        self._gaps: list[NDArray[np.int64]] = []
        self._held = 0
        self._every = 1
        self._behind: int | None = None
        self._carried = np.zeros(0, np.int64)
        self._first = np.zeros(0, np.int64)
        self._last = np.zeros(0, np.int64)

    def add(self, packets: Packets) -> None:
        """Count more packets, those that are no IP too."""
        if not len(packets):
            return
        time, status = packets["time"], packets["status"]
        self.packets += len(packets)
        start, end = int(time.min()), int(time.max())
        self.start = start if self.start is None else min(self.start, start)
        self.end = end if self.end is None else max(self.end, end)
        ok = status == OK
        if ok.all():
            self._add_scopes(packets["scope"], time)
        else:
            self.non_ip += int(np.count_nonzero(status == NON_IP))
            self.undecodable += int(np.count_nonzero(status == UNDECODABLE))
            self._add_scopes(packets["scope"][ok], time[ok])
        self._add_gaps(time)

    def _add_scopes(self, scope: NDArray[np.uint32], time: NDArray[np.int64]) -> None:
        if not len(scope):
            return
        carried = np.bincount(scope[:1]) * len(scope) if scope.strides == (0,) else np.bincount(scope)
        more = max(len(carried) - len(self._carried), 0)
        self._carried = np.pad(self._carried, (0, more))
        self._first = np.pad(self._first, (0, more), constant_values=np.iinfo(np.int64).max)
        self._last = np.pad(self._last, (0, more), constant_values=np.iinfo(np.int64).min)
        self._carried[: len(carried)] += carried
        present = np.flatnonzero(carried)
        if len(present) == 1:
            bounds = time.min(), time.max()
            self._first[present] = np.minimum(self._first[present], bounds[0])
            self._last[present] = np.maximum(self._last[present], bounds[1])
        else:
            np.minimum.at(self._first, scope, time)
            np.maximum.at(self._last, scope, time)

    def _add_gaps(self, time: NDArray[np.int64]) -> None:
        """Gaps within a block in the order of time, and the one to the block before."""
        ordered = time if (time[1:] >= time[:-1]).all() else np.sort(time)
        every = self._every
        if self._behind is None:
            kept = ordered[1::every] - ordered[:-1:every]
        else:
            kept = ordered[::every].copy()
            kept[:1] -= self._behind
            kept[1:] -= ordered[every - 1 : -1 : every]
        self._behind = int(ordered[-1])
        kept = np.abs(kept)
        self._gaps.append(kept)
        self._held += len(kept)
        if self._held > _MOST_GAPS:
            self._gaps = [np.concatenate(self._gaps)[::2].copy()]
            self._held = len(self._gaps[0])
            self._every *= 2

    def census(
        self,
        scopes: Sequence[str],
        losses: Losses,
        number: int,
        *,
        piece: str,
        sensor: str,
        damage: Sequence[Damage] = (),
        dropped: int | None = None,
    ) -> Census:
        """What the piece says of itself; for the arguments see `take_census`."""
        start, end = self.start or 0, self.end or 0
        notes = tuple(_clock_faults(start, end)) if self.packets else ()
        return Census(
            piece=piece,
            sensor=sensor,
            start=start,
            end=end,
            packets=self.packets,
            median_gap=median(np.concatenate(self._gaps)) if self.packets > 1 else 0,
            scopes=self._scopes(scopes, losses, number),
            holes=tuple(_hole(one, start, end) for one in damage) if self.packets else (),
            non_ip=self.non_ip,
            undecodable=self.undecodable,
            damaged_bytes=sum(one.length for one in damage),
            dropped=dropped,
            clock_ok=not notes,
            notes=notes,
        )

    def _scopes(self, scopes: Sequence[str], losses: Losses, number: int) -> dict[str, ScopeCensus]:
        """The scopes that the piece carried IP packets of."""
        carried = np.flatnonzero(self._carried).tolist()
        length = ((self.end or 0) - (self.start or 0)) // SLICE + 1

        def slices(at: int) -> tuple[tuple[int, int, int], ...]:
            told = losses.slices(number, at)
            if len(told) * len(carried) > _MOST_SLICES:
                return ()
            # flows that begin in a short piece may lose packets hours behind it
            return told if length >= _FEWEST_SLICES or (told and told[-1][0] > (self.end or 0)) else ()

        return {
            scopes[at]: ScopeCensus(
                int(self._carried[at]),
                int(self._first[at]),
                int(self._last[at]),
                *losses.of(number, at),
                slices(at),
            )
            for at in carried
        }


#: What is asked of every flow about loss, and of those that had anything to lose.
_COUNTED = ("src_segments", "dst_segments", "src_lost", "dst_lost")
_ASKED = (
    *("start", "end", "scope", "src_places"),
    *("src_syns", "dst_syns", "src_synacks", "src_rsts", "dst_packets", "dst_bare_rsts"),
)


class Losses:
    """Segments with sequence space, and those noticed as lost, by piece and scope of the flows that sent them.

    A flow's belong to the piece that holds its first packet, and are spread evenly over the time that it took.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._slices: dict[tuple[int, int], dict[int, NDArray[np.int64]]] = {}

    def add(self, flows: Flows) -> None:
        """Count more flows."""
        told = flows.columns(_COUNTED)
        counts = np.stack(
            [told[f"src_{name}"] + told[f"dst_{name}"].astype(np.int64) for name in ("segments", "lost")], axis=1
        )
        some = np.flatnonzero(counts.any(axis=1))
        told = flows.columns(_ASKED, some)
        asked = np.flatnonzero(~_are_candidates(told))
        counts, start, end = counts[some[asked]], told["start"][asked], told["end"][asked]
        keys = told["src_places"][asked, 0] >> PLACE_BITS << 32 | told["scope"][asked]
        found, owner = _numbered(keys)
        owners = [(key >> 32, key & 0xFFFFFFFF) for key in found.tolist()]
        for at, pair in zip(owners, _summed(owner, counts, len(owners)), strict=True):
            self._sums[at] = self._sums.get(at, 0) + pair
        if owners:
            self._add_slices(start // SLICE, end // SLICE, owners, owner, counts)

    def join(self, others: Losses) -> None:
        """Count what was counted elsewhere."""
        for at, pair in others._sums.items():
            self._sums[at] = self._sums.get(at, 0) + pair
        for at, slices in others._slices.items():
            told = self._slices.setdefault(at, {})
            for time, pair in slices.items():
                told[time] = told.get(time, 0) + pair

    def _add_slices(
        self,
        begin: NDArray[np.int64],
        end: NDArray[np.int64],
        owners: list[tuple[int, int]],
        owner: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> None:
        """Count each flow in every slice of time that it reaches into, evenly."""
        # A flow of absurd length is of a broken clock, whose capture proves nothing: its slices need not be right.
        number = np.minimum(end - begin + 1, _MOST_SLICES)
        flow = np.repeat(np.arange(len(begin)), number)
        step = np.arange(len(flow)) - np.repeat(np.cumsum(number) - number, number)
        parts, whole = number[flow, None], counts[flow]
        share = whole * (step + 1)[:, None] // parts - whole * step[:, None] // parts
        slices, which = _numbered(begin[flow] + step)
        both, which = _numbered(owner[flow] * len(slices) + which)
        for at, pair in zip(both.tolist(), _summed(which, share, len(both)), strict=True):
            told = self._slices.setdefault(owners[at // len(slices)], {})
            time = int(slices[at % len(slices)])
            told[time] = told.get(time, 0) + pair

    def of(self, piece: int, scope: int) -> tuple[int, int]:
        """Segments and losses of a scope in a piece."""
        segments, lost = self._sums.get((piece, scope), (0, 0))
        return int(segments), int(lost)

    def slices(self, piece: int, scope: int) -> tuple[tuple[int, int, int], ...]:
        """Begin (ns), segments and losses of a scope in a piece for each SLICE in which there were any."""
        told = self._slices.get((piece, scope), {})
        return tuple((time * SLICE, int(pair[0]), int(pair[1])) for time, pair in sorted(told.items()))


def _numbered(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values that there are, ascending, and for each entry which of them it is. Mostly few lie close together."""
    if not len(values):
        return values, values
    least = int(values.min())
    if int(values.max()) - least > len(values):
        return np.unique(values, return_inverse=True)
    values = values - least
    there = np.bincount(values) > 0
    return np.flatnonzero(there) + least, (np.cumsum(there) - 1)[values]


def _summed(owner: NDArray[np.int64], counts: NDArray[np.int64], owners: int) -> NDArray[np.int64]:
    """The sums of the rows of each owner, (owners, 2)."""
    sums = np.zeros((owners, 2), np.int64)
    for column in range(2):
        np.add.at(sums[:, column], owner, counts[:, column])
    return sums


def take_census(
    packets: Packets,
    scopes: Sequence[str],
    table: FlowTable,
    number: int,
    *,
    damage: Sequence[Damage] = (),
    dropped: int | None = None,
) -> Census:
    """What one piece says of itself.

    Args:
        packets: all packets of the piece, those that are no IP too.
        scopes: names that their column `scope` refers to.
        table: flows of the sensor; a flow's segments and losses belong to the piece that holds its first packet.
        number: which of `table.pieces` it is.
        damage: what of it could not be read.
        dropped: packets that the sensor says it dropped.
    """
    tally = Tally()
    tally.add(packets)
    losses = Losses()
    losses.add(table)
    names = {"piece": table.pieces[number], "sensor": table.sensors[0]}
    return tally.census(scopes, losses, number, **names, damage=damage, dropped=dropped)


def _hole(damage: Damage, start: int, end: int) -> tuple[int, int]:
    """Between which times (ns) damage lies in a piece that lasts from `start` to `end`."""
    if damage.after is None:
        return start - 1, start
    if damage.before is None:
        return end, end + 1
    return min(damage.after, damage.before), max(damage.after, damage.before)


def _clock_faults(start: int, end: int) -> Iterator[str]:
    if end - start > LONGEST_SPAN:
        yield f"the clock is implausible: the packets span {(end - start) / (3600 * SECOND):.0f} hours"
    if start < EARLIEST:
        yield "the clock is implausible: there are packets from before 1990"
    if end > LATEST:
        yield "the clock is implausible: there are packets from after 2100"


def _are_candidates(flows: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Flows that may be backscatter themselves: an answer to a SYN nobody sent, and nothing but bare RSTs for it.

    What looks lost in them is the very question under judgement, so they say nothing about the capture.
    """
    no_syn = (flows["src_syns"] == 0) & (flows["dst_syns"] == 0)
    answered = (flows["src_synacks"] > 0) | (flows["src_rsts"] > 0)
    refused: NDArray[np.bool_] = no_syn & answered & (flows["dst_packets"] == flows["dst_bare_rsts"])
    return refused
