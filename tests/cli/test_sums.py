"""What a summary keeps of the flows that it was given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backscatter.cli.sums import Sample
from backscatter.flow.table import FLOW, FlowTable

SECOND = 10**9
BURST = np.sort(np.append(np.arange(50) * SECOND, np.full(2950, 3 * SECOND)))


@pytest.mark.parametrize("start", [np.full(3000, 7), BURST], ids=["at once", "in a burst"])
def test_a_sample_is_even_and_bounded_however_unevenly_flows_begin(monkeypatch, start):
    monkeypatch.setattr("backscatter.cli.sums.PACKED", 500)
    sample = Sample()
    rows = np.zeros(3000, FLOW)
    rows["start"] = start
    for _ in range(100):
        sample.add(sample.part(replace(FlowTable.empty(), rows=rows), 100))
        assert sum(len(part.rows) for _, part in sample._kept) <= 500
    lengths = [len(part.rows) for _, part in sample._kept]
    assert max(lengths) <= 2 * min(lengths)
    assert sum(lengths) >= 125


def test_few_flows_that_come_first_tell_stretches_too(monkeypatch):
    monkeypatch.setattr("backscatter.cli.sums.PACKED", 500)
    sample = Sample()
    for count in (3, *[3000] * 11):
        rows = np.zeros(count, FLOW)
        rows["start"] = np.arange(count) * (3000 // count) * SECOND
        sample.add(sample.part(replace(FlowTable.empty(), rows=rows), 12))
    assert 100 <= sum(len(part.rows) for _, part in sample._kept) <= 500
