"""The median gap between packets, also where there are too many to keep every gap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backscatter.flow import census
from backscatter.flow.census import Losses, Tally
from backscatter.flow.runs import median

TIMES = st.lists(st.lists(st.integers(0, 10**6), min_size=1, max_size=12), min_size=1, max_size=12)


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=9))
def test_a_median_is_that_of_numpy_rounded_down(values):
    exact = sorted(values)[(len(values) - 1) // 2] + sorted(values)[len(values) // 2]
    assert median(np.array(values)) == exact // 2
    if max(map(abs, values)) < 2**50:
        assert median(np.array(values)) == np.floor(np.median(values))


@pytest.mark.parametrize("most", [1 << 20, 20])
@given(blocks=TIMES)
def test_gaps_are_taken_in_the_order_of_time_in_each_block_and_every_so_manieth(most, blocks):
    gaps, every, behind = [], 1, []
    for block in blocks:
        ordered = [*behind, *sorted(block)]
        of_block = [abs(later - earlier) for earlier, later in itertools.pairwise(ordered)]
        gaps += of_block[::every]
        behind = ordered[-1:]
        if len(gaps) > most:
            gaps, every = gaps[::2], 2 * every
    before, census._MOST_GAPS = census._MOST_GAPS, most
    try:
        tally = Tally()
        for block in blocks:
            tally._add_gaps(np.array(block))
        tally.packets = 2
        expected = median(np.array(gaps)) if gaps else None
        if expected is not None:
            assert tally.census([], Losses(), 0, piece="", sensor="").median_gap == expected
    finally:
        census._MOST_GAPS = before


def test_hostile_times_overflow_without_a_word():
    tally = Tally()
    for time in (2**62, -(2**62) - 5):
        tally._add_gaps(np.array([time]))
    assert tally._behind == -(2**62) - 5
