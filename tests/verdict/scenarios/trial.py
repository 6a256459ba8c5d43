"""A scenario judged: which kind in which world, what the judge said, and whether that was right."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from unittest import mock

from tests.verdict.scenarios import attempts, datagrams, forged, genuine, others, tricks  # noqa: F401  they fill KINDS
from tests.verdict.scenarios.alerts import Alerted, finding_of
from tests.verdict.scenarios.story import KINDS, Kind, Story
from tests.verdict.scenarios.world import EPOCH, SECOND, World, captured

from backscatter.capture import reader
from backscatter.finding.model import End
from backscatter.verdict.judge import judge
from backscatter.verdict.model import Label, Verdict
from backscatter.verdict.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backscatter.finding.model import Finding

#: From the most dangerous: an answer further down than every acceptable one is too harmless.
DANGER = {label: rank for rank, label in enumerate(Label)}


class Outcome(StrEnum):
    """How a verdict stands to the truth."""

    RIGHT = "right"
    CAREFUL = "careful"  # more dangerous than the truth, or undetermined, where the capture could not show it
    MISSED = "missed"  # the same where the capture could show it
    HARMFUL = "harmful"  # more harmless than the truth


@dataclass(frozen=True, slots=True)
class Trial:
    """One scenario with its verdict. `seed` makes it again."""

    seed: int
    kind: Kind
    world: World
    verdict: Verdict
    outcome: Outcome


def trial(seed: int, *, lossy: bool = False, name: str | None = None, world: World | None = None) -> Trial:
    """Draw, capture and judge one scenario. The same seed gives the same one."""
    chance = random.Random(seed)
    kind = KINDS[name or chance.choice(list(KINDS))]
    return told(seed, kind, world or World.drawn(chance, lossy=lossy))


def told(seed: int, kind: Kind, world: World) -> Trial:
    """A kind of story in a world, captured and judged."""
    chance = random.Random(seed)
    story = Story(chance, world.version)
    kind.tell(story)
    verdict = judge(asked(story, world.alert), captured(story, world, chance), Settings())
    return Trial(seed, kind, world, verdict, _outcome(kind, world, story, verdict))


@contextmanager
def small_blocks() -> Iterator[None]:
    """Captures of scenarios are small: the room for a block of millions of packets would take longer than to judge."""
    with mock.patch.object(reader, "CHUNK", 1 << 18):
        yield


def trials(seeds: range, *, lossy: bool = False) -> Iterator[Trial]:
    """Many of them, each kind as often as the others."""
    names = list(KINDS)
    for seed in seeds:
        yield trial(seed, lossy=lossy, name=names[seed % len(names)])


def asked(story: Story, form: str) -> Finding:
    """The finding of a story in a format of alerts."""
    return finding_of(_alert(story), form)


def _alert(story: Story) -> Alerted:
    proto = story.alert_proto
    if proto == "icmp":
        ends = End(story.local), End(story.alert_remote or story.remote)
        proto = "icmp" if story.version == 4 else "icmp6"
    elif story.portless:
        ends = End(story.local), End(story.remote)
    else:
        ends = End(story.local, story.port), End(story.remote, story.service)
    packet = ends[::-1] if story.chance.random() < 0.3 else ends
    # The clock of what alerts is not the one of what captures.
    time = EPOCH + round((story.at + story.chance.choice([0, 0, -20, 20])) * SECOND)
    return Alerted(proto, *packet, *ends, time)


def _outcome(kind: Kind, world: World, story: Story, verdict: Verdict) -> Outcome:
    label = verdict.label
    accept = kind.accept
    if world.loss or world.snap < 200:  # what was lost or cut may have been the begin, the answer, or all of it
        accept |= {Label.UNDETERMINED, Label.CONNECTION_ATTEMPTED, Label.INBOUND_CONNECTION}
    if label in accept:
        return Outcome.RIGHT if label in kind.accept else Outcome.CAREFUL
    if DANGER[label] > max(DANGER[one] for one in accept):
        return Outcome.HARMFUL
    return Outcome.MISSED if world.covers and story.filtered is None else Outcome.CAREFUL
