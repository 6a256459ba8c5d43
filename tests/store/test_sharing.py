"""Ranges of a capture, read by workers that know nothing of each other, add up to what a single reader sees."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.capture.ng import block, interface, packet, section
from tests.capture.test_resync import PCAP, PCAP_SPANS, PCAPNG, PCAPNG_SPANS
from tests.store.shared import same

from backscatter.demo.wire import ether, ip, pcap, tcp

T = 1174413859731091000
BODIES = {"pcap": (PCAP, PCAP_SPANS), "pcapng": (PCAPNG, PCAPNG_SPANS)}

#: Where a boundary falls in a record: its first byte, in its header, between header and packet, in the packet, its last.
KINDS = {"first byte": 0, "header": 5, "length": 9, "packet": 28, "middle": None, "last byte": -1}


@pytest.mark.parametrize("container", BODIES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", [110, 141, 199])
def test_a_boundary_at_any_kind_of_offset(container, kind, which):
    body, spans = BODIES[container]
    begin, end = spans[which]
    inside = (end - begin) // 2 if KINDS[kind] is None else KINDS[kind] % (end - begin)
    same(body, max(begin + inside, len(body) // 2 + 1))


@pytest.mark.parametrize("container", BODIES)
@pytest.mark.parametrize("step", [400, 5000])
def test_many_boundaries_records_that_are_longer_than_a_range_among_them(container, step):
    same(BODIES[container][0][:12000], step, seed=step)


def damaged(data):
    """A capture that was changed in up to three places."""
    body = bytearray(BODIES[data.draw(st.sampled_from(sorted(BODIES)))][0][:9000])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(200, len(body) - 1))
        size = data.draw(st.integers(1, 200))
        change = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if change == "flip":
            body[at] ^= 1 << data.draw(st.integers(0, 7))
        elif change == "cut":
            del body[at : at + size]
        else:
            body[at:at] = random.Random(size).randbytes(size)
    return bytes(body)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_damage_anywhere_is_the_same_damage_however_the_capture_is_cut(data):
    same(damaged(data), data.draw(st.integers(900, 5000)), seed=1)


def late_interface():
    frames = [ether(tcp("192.0.2.1", i, "192.0.2.2", 80, "A", payload=bytes(90))) for i in range(60)]
    first, second = frames[:30], frames[30:]
    return (
        section()
        + interface(resolution=9)
        + b"".join(packet(frame, T + i) for i, frame in enumerate(first))
        + interface(resolution=6)
        + b"".join(packet(frame, (T + 100) // 1000 + i, 1) for i, frame in enumerate(second))
    )


def test_an_interface_that_is_described_late_is_told_to_the_ranges_behind_it():
    workers = same(late_interface(), 1500, head=200)
    assert 1 <= workers.redone < workers.plan.ranges


def test_simple_packets_get_the_time_of_the_packet_before_though_it_lies_in_another_range():
    frame = ether(tcp("192.0.2.1", 5, "192.0.2.2", 80, "A", payload=bytes(60)))
    simple = b"".join(block(3, struct.pack("<I", len(frame)) + frame) for _ in range(40))
    workers = same(section() + interface(resolution=9) + packet(frame, T) + simple + packet(frame, T + 5), 900)
    assert workers.redone


def fragmented(count):
    """Packets in two fragments each: ports stand in the first one only."""
    packets = []
    for i in range(count):
        whole = tcp("192.0.2.1", 1000 + i, "192.0.2.2", 80, "PA", payload=bytes(160))[20:]
        for at, more in ((0, 1), (96, 0)):
            piece = whole[at : at + 96] if more else whole[at:]
            header = ip("192.0.2.1", "192.0.2.2", 6, piece, ip_id=i, fragment=more << 13 | at // 8)
            packets.append((T + i * 10**6 + at, ether(header)))
    return pcap(packets)


def test_a_fragment_finds_its_first_one_in_the_range_before():
    workers = same(fragmented(40), 1111)
    assert workers.redone
    assert workers.redone < workers.plan.ranges


def test_a_clock_that_jumps_by_days_at_a_boundary_is_looked_at_twice():
    frames = [ether(tcp("192.0.2.1", i, "192.0.2.2", 80, "S")) for i in range(60)]
    body = pcap([(T + i + (i >= 30) * 9 * 86400 * 10**9, frame) for i, frame in enumerate(frames)])
    length = 16 + len(frames[0])
    assert same(body, 24 + 30 * length).redone == 1


REAL = [
    "ncsa__backscatter-192.150.186.pcap",
    "libtrace__vxlan.pcap",
    "nDPI__teredo.pcap",
    "nDPI__http_asymmetric.pcapng",
]


@pytest.mark.parametrize("name", [*REAL, "pcapnggen__output_be-difficult-test202.pcapng", "libtrace__qinq.pcap"])
@pytest.mark.parametrize("ranges", [2, 7])
def test_real_captures(captures, name, ranges):
    body = (captures / name).read_bytes()
    same(body, len(body) // ranges + 1, seed=ranges)
