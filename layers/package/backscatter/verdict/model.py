"""A verdict and the evidence it stands on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from backscatter.flow.table import FlowTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backscatter.finding.model import End, Finding


class Label(StrEnum):
    """What a conversation was, the most dangerous first: a finding takes the first of its conversations' labels."""

    CONNECTION_ESTABLISHED = "connection_established"
    CONNECTION_ATTEMPTED = "connection_attempted"
    INBOUND_CONNECTION = "inbound_connection"
    REFLECTION_TARGET = "reflection_target"
    UNDETERMINED = "undetermined"
    SYNACK_SCAN = "synack_scan"
    INBOUND_SCAN = "inbound_scan"
    BACKSCATTER = "backscatter"
    NOT_APPLICABLE = "not_applicable"


class Why(StrEnum):
    """What an undetermined verdict lacks."""

    MIDSTREAM = "midstream"
    ASYMMETRIC = "asymmetric"
    NO_CAPTURE = "no_capture"
    NOT_SEEN = "not_seen"
    NO_TUPLE = "no_tuple"
    CONFLICT = "conflict"


class Effect(StrEnum):
    """What a piece of evidence does to the verdict."""

    FOR = "for"
    AGAINST = "against"
    MISSING = "missing"


def band(confidence: int) -> str:
    """The band of a confidence: confirmed from 95, probable from 70, possible from 50, else none."""
    return next(
        (name for floor, name in ((95, "confirmed"), (70, "probable"), (50, "possible")) if confidence >= floor), "none"
    )


@dataclass(frozen=True, slots=True)
class PacketLine:
    """One packet as evidence: `text` as tcpdump would print it; `capture` and `offset` say where to find it."""

    time: int
    text: str
    capture: str
    offset: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """One observation. `places` are (capture, offset) of packets that show it, `packets` what stands there."""

    effect: Effect
    text: str
    places: tuple[tuple[str, int], ...] = ()
    packets: tuple[PacketLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Victim:
    """Whom the forged packets were sent to."""

    ip: str
    port: int | None
    proto: str


@dataclass(frozen=True, slots=True)
class Told:
    """The verdict on one conversation of several. Times in ns; `missing`: what rules that nearly applied lacked."""

    label: Label
    why: Why | None
    confidence: int
    rule: str
    proto: str
    local: End
    remote: End
    start: int
    end: int
    packets: int
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a finding is, and why. Everything that the contract prints, before it is printed.

    `judged` are its conversations with their own verdicts, the most dangerous first and not more than a page holds.
    """

    finding: Finding
    proto: str | None
    local: End
    remote: End
    label: Label
    why: Why | None
    confidence: int
    rule: str | None
    summary: str
    victim: Victim | None = None
    conversations: Mapping[str, int] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    flows: FlowTable = field(default_factory=FlowTable.empty)
    flows_total: int = 0
    judged: tuple[Told, ...] = ()

    @property
    def band(self) -> str:
        """confirmed, probable, possible or none."""
        return band(self.confidence)
