"""Random labelled scenarios: how the judge stands up to stories that it was not written for.

BACKSCATTER_SCENARIOS says how many of each sort are drawn; `scripts/accuracy.py` runs as many as one likes.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from tests.verdict.scenarios.story import KINDS, Story, Truth
from tests.verdict.scenarios.trial import Outcome, told, trial, trials
from tests.verdict.scenarios.world import ENCAPSULATIONS, World

from backscatter.verdict.model import Label

COUNT = int(os.environ.get("BACKSCATTER_SCENARIOS", "300"))

PLAIN = World(4, "none", "much", "one", 0, 65535, 0, 0)


def shown(trials_):
    """What a person needs to make the failing scenarios again."""
    return [(one.kind.name, one.seed, one.verdict.label, one.verdict.rule, one.world) for one in trials_]


def test_there_are_at_least_forty_kinds_of_scenarios():
    assert len(KINDS) >= 40


def test_without_loss_nothing_is_called_more_harmless_than_it_is_and_covered_backscatter_is_recognised():
    done = list(trials(range(COUNT)))
    assert not shown(one for one in done if one.outcome in (Outcome.HARMFUL, Outcome.MISSED))


def test_with_loss_nothing_genuine_is_confirmed_backscatter():
    done = [one for one in trials(range(10**6, 10**6 + COUNT), lossy=True) if one.kind.truth is Truth.OURS]
    benign = [one for one in done if one.verdict.label is Label.BACKSCATTER]
    assert not shown(one for one in benign if one.verdict.band == "confirmed")
    assert len(benign) <= max(1, 0.02 * len(done))


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
