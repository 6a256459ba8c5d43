"""Fragments that come before their first one have its ports, wherever blocks of the capture end."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.flow.test_abreast import same, small  # noqa: F401 - a fixture

from backscatter.capture import reader
from backscatter.decode import fragments
from backscatter.demo.wire import ether, ip, pcap, tcp
from backscatter.flow.read import Piece, read_sensor

T = 1174413859731091000


def fragments_of(number, parts):
    """A segment with payload in so many fragments, in their order."""
    whole = tcp("192.0.2.1", 1000 + number, "192.0.2.2", 80, "PA", payload=bytes(16 * parts))[20:]
    bounds = [0, *(24 + 16 * n for n in range(parts - 1)), len(whole)]
    return [
        ether(ip("192.0.2.1", "192.0.2.2", 6, whole[at:end], ip_id=number, fragment=(end < len(whole)) << 13 | at // 8))
        for at, end in itertools.pairwise(bounds)
    ]


def rows(*captures, most):
    """Flows of captures of one sensor that are read at most so many records at a time."""
    kept, reader.MOST_RECORDS = reader.MOST_RECORDS, most
    try:
        pieces = [Piece(str(n), lambda capture=capture: io.BytesIO(capture)) for n, capture in enumerate(captures)]
        return read_sensor("s", pieces).table.rows
    finally:
        reader.MOST_RECORDS = kept


def backwards(count):
    return [frame for number in range(count) for frame in reversed(fragments_of(number, 3))]


def capture(frames, step=10**6, since=0):
    return pcap([(T + (since + n) * step, frame) for n, frame in enumerate(frames)])


@pytest.mark.parametrize("most", [2, 3, 7])
def test_the_last_one_may_come_first(most):
    found = rows(capture(backwards(40)), most=most)
    assert found["has_ports"].all()
    assert found["src_packets"].tolist() == [3] * 40


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.permutations([(number, part) for number in range(6) for part in range(3)]), st.sets(st.integers(0, 17)))
def test_flows_do_not_depend_on_where_blocks_end(order, lost):
    frames = [fragments_of(number, 3)[part] for at, (number, part) in enumerate(order) if at not in lost]
    whole = rows(capture(frames), most=100)
    for most in (2, 3, 5):
        found = rows(capture(frames), most=most)
        assert found.tobytes() == whole.tobytes()


def test_the_first_one_may_be_in_the_next_piece():
    frames = backwards(2)
    found = rows(capture(frames[:4]), capture(frames[4:], since=4), most=100)
    assert found["has_ports"].all()


def test_nobody_waits_longer_than_a_second():
    first, last = fragments_of(7, 2)
    other = ether(tcp("192.0.2.3", 5, "192.0.2.4", 6, "A"))
    for seconds, waits in ((0.9, True), (1.1, False)):
        times = [(0, last), (0.1, other), (0.2, other), (seconds, other), (seconds, first), (seconds, other)]
        found = rows(pcap([(T + int(at * 10**9), frame) for at, frame in times]), most=2)
        assert found["has_ports"].all() == waits
        assert found["src_packets"].sum() == 6


def test_however_many_wait_none_is_lost(monkeypatch):
    monkeypatch.setattr(fragments, "MOST_WAITING", 3)
    later = [fragments_of(number, 3)[2] for number in range(20)]
    found = rows(capture(later), most=4)
    assert found["src_packets"].sum() == 20


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_processes_wait_for_each_other(small, tmp_path, processes):  # noqa: F811 - a fixture
    found = same(tmp_path, capture(backwards(60)), processes)
    assert found.table.rows["has_ports"].all()
