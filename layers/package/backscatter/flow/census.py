"""What a capture says of itself: span, packets, scopes, damage, loss. The catalogue keeps it; coverage rests on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ScopeCensus:
    """One scope of one capture. Times in ns.

    `segments` and `lost` are the opportunities to notice a loss and the losses noticed, as
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
