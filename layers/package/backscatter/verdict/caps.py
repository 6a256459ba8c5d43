"""What holds a verdict of backscatter back, and what lifts it. Others are not capped, but for scans that loss explains.

The lowest cap wins. A cap of 0 makes the verdict undetermined. Boosters add 3 to 8 points, never past 99 and never
across the line to confirmed by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscatter.flow.window import Window
from backscatter.verdict.coverage import ENOUGH_TO_ESTIMATE, share_seen
from backscatter.verdict.facts import FULL, REORDERED
from backscatter.verdict.model import Label, Why
from backscatter.verdict.surroundings import FLOOD_HOSTS, FLOOD_PORTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backscatter.verdict.coverage import Loss
    from backscatter.verdict.facts import Facts
    from backscatter.verdict.rules import Rule

#: The highest confidence of a band below confirmed.
PROBABLE, POSSIBLE, NONE = 94, 69, 0

#: A finding's own window must be covered to this share.
WINDOW_SHARE = 0.95

#: Estimated loss above these shares caps at possible, at undetermined.
LOSS_POSSIBLE, LOSS_UNDETERMINED = 0.01, 0.10

#: Local ports that the flooder juno.c forges (Kristoff, NANOG, 27 June 2010): 1024 + (random() & 2048).
JUNO_PORTS = frozenset({1024, 3072})

CONFIRMED_FROM = 95


@dataclass(frozen=True, slots=True)
class Cap:
    """A limit on the confidence, and what is missing that it is there. `why` is for caps of 0."""

    limit: int
    missing: str
    why: Why | None = None


@dataclass(frozen=True, slots=True)
class Boost:
    """Points, and what speaks for the verdict."""

    points: int
    text: str


def caps(facts: Facts, window: Window) -> Iterator[Cap]:
    """Every cap on backscatter that applies. `window` is the finding's own, first to last seen."""
    coverage = facts.coverage
    if coverage is None or not facts.unbroken:
        yield Cap(POSSIBLE, "No capture without a hole or damage spans this conversation.")
    if not facts.both_ways:
        yield Cap(POSSIBLE, "Only one direction of our host is visible in the scope that shows the conversation.")
    elif coverage is not None and not _others_seen(facts):
        yield Cap(
            POSSIBLE,
            "The capture shows nothing but these two hosts, so it may have been filtered: it cannot vouch for what it "
            "does not show.",
        )
    if facts.captured_after < REORDERED:
        yield Cap(PROBABLE, "The capture ends with this conversation; what came right after it is not known.")
    blind = sorted({one.sensor for one in facts.coverages if not one.has(facts.start - FULL, facts.conversation.end)})
    vouching = coverage.sensor if coverage else ""
    if any(sensor != vouching for sensor in blind):
        names = ", ".join(sensor or "(unnamed)" for sensor in blind if sensor != vouching)
        yield Cap(
            PROBABLE, f"Other sensors carried this scope in the last 24 hours but did not cover the time: {names}."
        )
    seen = share_seen(facts.coverages, window)
    if seen < WINDOW_SHARE:
        yield Cap(PROBABLE, f"Nobody captured {1 - seen:.0%} of the time between the alert's first and last event.")
    yield from _loss(facts)
    if facts.is_tcp and facts.around.half_open_scan:
        yield Cap(
            POSSIBLE,
            "Our host half-open scans at this time: one lost SYN of such a scan would look exactly like this.",
        )
    if facts.around.looked_up:
        yield Cap(
            POSSIBLE,
            "Our host asked for the remote's name right before, as one does who is about to call it.",
        )


def _loss(facts: Facts) -> Iterator[Cap]:
    """Caps by the worst loss of the views that saw it."""
    losses = _losses(facts)
    rates = [loss.rate for loss in losses]
    known = [rate for rate in rates if rate is not None]
    worst = max(known, default=0.0)
    most = max((loss.at_most for loss in losses if loss.lost), default=0.0)
    # A verdict that rests on our silence alone claims two packets to be absent, and either may be what was lost.
    silent = not (facts.local_spoke or facts.refused_by_icmp)
    asked = "SYN" if facts.is_tcp else "request"
    if worst > LOSS_UNDETERMINED or (worst > LOSS_POSSIBLE and silent):
        share = f"{worst:.0%}" if worst > LOSS_UNDETERMINED else f"{worst:.1%}"
        text = f"The capture lost about {share} of the packets: our {asked} may be among them."
        yield Cap(NONE, text, Why.MIDSTREAM)
    elif most > LOSS_UNDETERMINED and worst > LOSS_POSSIBLE:
        text = (
            f"The capture lost about {worst:.1%} of the packets, it may be {most:.0%}: our {asked} may be among them."
        )
        yield Cap(NONE, text, Why.MIDSTREAM)
    elif worst > LOSS_POSSIBLE:
        yield Cap(POSSIBLE, f"The capture lost about {worst:.1%} of the packets: our SYN may be among them.")
    elif most > LOSS_POSSIBLE:
        yield Cap(PROBABLE, f"Packets are missing from the capture; it may be {most:.1%} of them, our SYN among these.")
    if not losses or any(loss.opportunities < ENOUGH_TO_ESTIMATE for loss in losses):
        fewest = min((loss.opportunities for loss in losses), default=0)
        yield Cap(
            PROBABLE,
            f"Too little other traffic to tell how much the capture lost ({fewest} acknowledged segments seen, "
            f"{ENOUGH_TO_ESTIMATE} are needed).",
        )


def scan_caps(facts: Facts) -> Iterator[Cap]:
    """Caps on a scan of theirs: that no connection came of it may be only because what came was lost."""
    known = [loss.rate for loss in _losses(facts) if loss.rate is not None]
    worst = max(known, default=0.0)
    if worst > LOSS_POSSIBLE:
        text = f"The capture lost about {worst:.1%} of the packets: what came of it may be among them."
        undetermined = worst > LOSS_UNDETERMINED
        yield Cap(NONE if undetermined else POSSIBLE, text, Why.MIDSTREAM if undetermined else None)


def _losses(facts: Facts) -> list[Loss]:
    """What the views that saw the conversation lost."""
    return [one.loss for one in facts.coverages if (one.sensor, one.scope) in facts.views]


def _others_seen(facts: Facts) -> bool:
    """Whether the vouching view shows anybody but this pair."""
    coverage = facts.coverage
    span = coverage.span_at(facts.start) if coverage else None
    if coverage is None or span is None:
        return False
    return facts.around.others_seen(
        coverage.sensor, coverage.scope, coverage.packets, Window(coverage.spans[0].start, coverage.spans[-1].end)
    )


def boosts(facts: Facts) -> Iterator[Boost]:
    """What speaks for backscatter besides the rule."""
    one = facts.conversation
    if not facts.unasked_synack:
        return
    if one.local_port in JUNO_PORTS:
        yield Boost(
            3, f"The local port, {one.local_port}, is one of the two that the flooder juno.c forges (1024, 3072)."
        )
    hosts, ports = facts.around.answered_hosts
    if hosts >= FLOOD_HOSTS and ports <= FLOOD_PORTS:
        yield Boost(
            8,
            f"The remote answered {hosts} of our addresses, none of which asked, from {ports} source "
            f"{'port' if ports == 1 else 'ports'}: a flooded server, not a scan.",
        )
    same = facts.around.same_pattern
    if same > 1:
        yield Boost(5, f"{same} conversations with this remote show the same pattern within an hour.")


def weighed(rule: Rule, facts: Facts, window: Window) -> tuple[int, tuple[Cap, ...], tuple[Boost, ...]]:
    """The confidence of a rule that matched, with the caps and boosters that made it."""
    if rule.label is Label.INBOUND_SCAN:
        found = tuple(scan_caps(facts))
        return min((rule.confidence, *(cap.limit for cap in found))), found, ()
    if rule.label is not Label.BACKSCATTER:
        return rule.confidence, (), ()
    lifts, limits = tuple(boosts(facts)), tuple(caps(facts, window))
    lifted = rule.confidence + sum(boost.points for boost in lifts)
    ceiling = 99 if rule.confidence >= CONFIRMED_FROM else CONFIRMED_FROM - 1
    confidence = min(lifted, ceiling, *(cap.limit for cap in limits)) if limits else min(lifted, ceiling)
    return confidence, tuple(cap for cap in limits if cap.limit < lifted), lifts
