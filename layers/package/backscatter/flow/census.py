"""What a capture says of itself: span, packets, scopes, damage, loss. The catalogue keeps it; coverage rests on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from backscatter.decode.columns import NON_IP, OK, PLACE_BITS, UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from backscatter.capture.record import Damage
    from backscatter.decode.columns import Packets
    from backscatter.flow.table import FlowTable

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ScopeCensus:
    """One scope of one capture. Times in ns.

    `segments` and `lost` are the opportunities to notice a loss (the losses included) and the losses noticed, as
    Zeek's capture-loss counts them; conversations that are candidates for backscatter are left out.
    """

    packets: int
    first: int
    last: int
    segments: int
    lost: int


@dataclass(frozen=True, slots=True)
class Census:
    """One capture object as a witness. Times in ns since 1970-01-01 UTC.

    piece       name of the capture object: a path, or s3://bucket/key
    sensor      who captured it; pieces of one sensor follow each other in time
    start, end  times of the first and the last packet
    packets     records read
    median_gap  median time between neighbouring packets
    scopes      scope name -> ScopeCensus
    holes       stretches [after, before] in which damage lies: nothing is known of them
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
    time, status = packets["time"], packets["status"]
    start, end = (int(time.min()), int(time.max())) if len(time) else (0, 0)
    notes = tuple(_clock_faults(start, end)) if len(time) else ()
    return Census(
        piece=table.pieces[number],
        sensor=table.sensors[0],
        start=start,
        end=end,
        packets=len(packets),
        median_gap=int(np.median(np.diff(np.sort(time)))) if len(time) > 1 else 0,
        scopes=_scopes(packets, scopes, table, number),
        holes=tuple(
            (min(one.after, one.before), max(one.after, one.before))
            for one in damage
            if one.after is not None and one.before is not None
        ),
        non_ip=int((status == NON_IP).sum()),
        undecodable=int((status == UNDECODABLE).sum()),
        damaged_bytes=sum(one.length for one in damage),
        dropped=dropped,
        clock_ok=not notes,
        notes=notes,
    )


def _clock_faults(start: int, end: int) -> Iterator[str]:
    if end - start > LONGEST_SPAN:
        yield f"the clock is implausible: the packets span {(end - start) / (3600 * SECOND):.0f} hours"
    if start < EARLIEST:
        yield "the clock is implausible: there are packets from before 1990"
    if end > LATEST:
        yield "the clock is implausible: there are packets from after 2100"


def _scopes(packets: Packets, scopes: Sequence[str], table: FlowTable, number: int) -> dict[str, ScopeCensus]:
    """The scopes that the piece carried IP packets of."""
    ok = packets["status"] == OK
    scope, time = packets["scope"][ok], packets["time"][ok]
    count = len(scopes)
    carried = np.bincount(scope, minlength=count)
    first, last = np.full(count, np.iinfo(np.int64).max), np.full(count, np.iinfo(np.int64).min)
    np.minimum.at(first, scope, time)
    np.maximum.at(last, scope, time)
    rows = table.rows
    told = ((rows["src_places"][:, 0] >> PLACE_BITS) == number) & ~is_candidate(rows)
    segments, lost = (
        np.bincount(
            rows["scope"][told], (rows[f"src_{name}"] + rows[f"dst_{name}"].astype(np.int64))[told], len(table.scopes)
        )
        for name in ("segments", "lost")
    )
    return {
        scopes[at]: ScopeCensus(int(carried[at]), int(first[at]), int(last[at]), int(segments[at]), int(lost[at]))
        for at in np.flatnonzero(carried).tolist()
    }


def is_candidate(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Flows that may be backscatter themselves: an answer to a SYN nobody sent, and nothing but bare RSTs for it.

    What looks lost in them is the very question under judgement, so they say nothing about the capture.
    """
    no_syn = (rows["src_syns"] == 0) & (rows["dst_syns"] == 0)
    answered = (rows["src_synacks"] > 0) | (rows["src_rsts"] > 0)
    refused: NDArray[np.bool_] = no_syn & answered & (rows["dst_packets"] == rows["dst_bare_rsts"])
    return refused
