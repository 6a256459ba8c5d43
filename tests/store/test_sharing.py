"""Ranges of a capture, read by workers that know nothing of each other, add up to what a single reader sees."""

import pytest
from tests.capture.test_resync import PCAP, PCAPNG
from tests.store.shared import same


@pytest.mark.parametrize("body", [PCAP, PCAPNG], ids=["pcap", "pcapng"])
@pytest.mark.parametrize("step", [700, 5000, 20000, 100000])
def test_any_step(body, step):
    same(body, step)
