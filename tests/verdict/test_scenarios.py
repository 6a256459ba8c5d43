"""Random labelled scenarios: how the judge stands up to stories that it was not written for.

BACKSCATTER_SCENARIOS says how many are drawn; `make accuracy` runs 40,000 and writes docs/accuracy.md.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.verdict.scenarios.story import KINDS, Story, Truth
from tests.verdict.scenarios.trial import Outcome, small_blocks, told, trial, trials
from tests.verdict.scenarios.world import ENCAPSULATIONS, World

from backscatter.verdict.model import Label

#: Scenarios of one portion; four portions without loss and four with it make 2,000.
PORTION = int(os.environ.get("BACKSCATTER_SCENARIOS", "2000")) // 8

PLAIN = World(4, "none", "much", "one", 0, 65535, 0, 0)


def shown(trials_):
    """What a person needs to make the failing scenarios again."""
    return [(one.kind.name, one.seed, one.verdict.label, one.verdict.rule, one.world) for one in trials_]


def test_there_are_at_least_eighty_kinds_of_scenarios():
    assert len(KINDS) >= 80


@pytest.mark.parametrize("portion", range(4))
def test_without_loss_nothing_is_called_more_harmless_than_it_is_and_covered_backscatter_is_recognised(portion):
    with small_blocks():
        done = list(trials(range(portion * PORTION, (portion + 1) * PORTION)))
    assert not shown(one for one in done if one.outcome in (Outcome.HARMFUL, Outcome.MISSED))


@pytest.mark.parametrize("portion", range(4))
def test_with_loss_nothing_genuine_is_confirmed_backscatter_and_little_is_called_so(portion):
    first = 10**6 + portion * PORTION
    with small_blocks():
        done = list(trials(range(first, first + PORTION), lossy=True))
    mistaken = [
        one for one in done if one.verdict.label is Label.BACKSCATTER and one.kind.truth in (Truth.OURS, Truth.THEIRS)
    ]
    assert not shown(one for one in mistaken if one.verdict.band == "confirmed")
    # 0.5 % of the whole run is the promise; a portion of 250 may be above it by chance.
    assert len(mistaken) <= max(3, 0.005 * PORTION), shown(mistaken)


@pytest.mark.parametrize("encapsulation", [name for name in ENCAPSULATIONS if name != "a vlan for each direction"])
def test_encapsulation_never_changes_a_verdict(encapsulation):
    for name in ("refused_once", "one_half_open_probe", "they_connect"):
        plain = trial(7, name=name, world=PLAIN).verdict
        other = trial(7, name=name, world=replace(PLAIN, encapsulation=encapsulation)).verdict
        assert (other.label, other.rule, other.confidence) == (plain.label, plain.rule, plain.confidence)


@pytest.mark.parametrize("name", ["refused_once", "unanswered_once", "several_forged_seqs_on_one_tuple_refused"])
def test_a_syn_with_the_acknowledged_seq_always_removes_backscatter(name):
    def with_syn(story: Story) -> None:
        story.ours(story.chance.uniform(5, story.at - 1), "S", 0)
        KINDS[name].tell(story)

    for seed in range(3):
        assert trial(seed, name=name, world=PLAIN).verdict.label is Label.BACKSCATTER
        assert told(seed, replace(KINDS[name], tell=with_syn), PLAIN).verdict.label is not Label.BACKSCATTER


def test_the_page_of_accuracy_was_made_with_the_kinds_that_there_are_and_every_promise_held():
    text = (Path(__file__).resolve().parents[2] / "docs" / "accuracy.md").read_text(encoding="utf-8")
    assert f"{len(KINDS)} kinds" in text, "kinds were added or removed: run `make accuracy`"
    assert "| without loss, nothing genuine is called backscatter in any band | 0 of 20000 |" in text
    assert "| with loss, nothing genuine is confirmed backscatter | 0 of 20000 |" in text
