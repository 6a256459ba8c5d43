"""Lanes find what a walk record by record finds, whatever the buffer holds."""

import io
import random
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backscatter.capture import lanes
from backscatter.capture.lanes import Trust, walk_records
from backscatter.capture.pcap import PcapRecords
from backscatter.capture.reader import open_capture

LONGEST = 300
SECOND = 0x6554 << 16
FORMS = [
    PcapRecords(order, header, ticks, LONGEST)
    for order in "<>"
    for header, ticks in ((16, 10**6), (16, 10**9), (24, 10**6))
]


def plainly(data, at, form, most):
    """The obvious walk: (place, seconds, fraction, caplen, wirelen) of each record, and where it ended."""
    found = []
    while at + form.header <= len(data) and len(found) < most:
        head = struct.unpack_from(form.order + "IIII", data, at)
        if head[2] > form.longest or at + form.header + head[2] > len(data) or not any(head):
            break
        found.append((at, *head))
        at += form.header + head[2]
    return found, at


def in_lanes(data, at, form, most, trust=None):
    data = bytearray(data)
    run = walk_records(data, at, form, most, trust or Trust())
    return list(zip(run.places.tolist(), *run.fields.tolist(), strict=True)), run.at


@pytest.fixture(autouse=True)
def many_short_lanes():
    """Small buffers walk as large ones do."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "FIRST": 4,
            "MOST_LANES": 8,
            "LEAST_RECORDS": 3,
            "STEPS": 2,
            "UNEVEN": 2,
            "CHAIN": 2,
            "TRIES": 4,
        }.items():
            patch.setattr(lanes, name, value)
        yield patch


def records(form, rng, count, lies=0.2):
    """`count` records of random lengths, whose bodies here and there look like headers themselves."""
    out = []
    for i in range(count):
        body = rng.randbytes(rng.choice([0, 1, 40, 60, rng.randrange(LONGEST)]))
        if rng.random() < lies:
            lie = struct.pack(form.order + "IIII", SECOND, 5, rng.randrange(80), 100)
            body = (body + lie * rng.randrange(1, 5))[-LONGEST:]
        extra = bytes(form.header - 16)
        head = struct.pack(
            form.order + "IIII", SECOND + i, rng.randrange(form.ticks), len(body), len(body) + rng.choice([0, 900])
        )
        out.append(head + extra + body)
    return out


@settings(max_examples=400, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 2**32),
    count=st.integers(0, 200),
    start=st.sampled_from([0, 0, 24]),
    most=st.sampled_from([10**9, 10**9, 150, 37, 4, 1]),
    trust=st.sampled_from([(0, 0), (0, 0), (3, 200), (4, 64), (10**4, 10**6), (10**4, 3 * 10**6)]),
    damage=st.lists(st.sampled_from(["flip", "insert", "cut", "length", "lie", "zeros"]), max_size=3),
)
# its last record ends in what looks like a record: nobody comes there
@example(form=PcapRecords("<", 16, 10**9, 300), seed=548257892, count=142, start=0, most=10**9, trust=(0, 0), damage=[])
@example(form=FORMS[0], seed=10, count=10, start=0, most=10**9, trust=(0, 0), damage=[])
@example(form=FORMS[5], seed=4143, count=11, start=0, most=10**9, trust=(0, 0), damage=["zeros", "length"])
def test_lanes_find_what_a_plain_walk_finds_in_captures_sound_and_damaged(
    form, seed, count, start, most, trust, damage
):
    rng = random.Random(seed)
    data = bytearray(start) + bytearray(b"".join(records(form, rng, count)))
    for kind in damage:
        at = rng.randrange(start, len(data) + 1) if len(data) > start else start
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "insert":
            data[at:at] = rng.randbytes(rng.randrange(40))
        elif kind == "cut":
            del data[at : at + rng.randrange(100)]
        elif kind == "zeros":
            data[at:at] = bytes(16 * rng.randrange(60))
        else:
            length = 10 if kind == "length" else 2**31
            data[at : at + 16] = struct.pack(form.order + "IIII", SECOND, 1, length, length)
    assert in_lanes(data, start, form, most, Trust(*trust)) == plainly(data, start, form, most)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=3000), small=st.booleans(), form=st.sampled_from(FORMS))
def test_lanes_find_what_a_plain_walk_finds_in_noise(data, small, form):
    # of small numbers, so that most of it can be walked
    noise = bytes(byte & 1 for byte in data) if small else data
    assert in_lanes(noise, 0, form, 10**9) == plainly(noise, 0, form, 10**9)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_sound_capture_is_hardly_walked_singly(form, many_short_lanes):
    for name, value in {"FIRST": 32, "CHAIN": 4, "TRIES": 64}.items():
        many_short_lanes.setattr(lanes, name, value)
    walked = []
    singly = lanes._singly

    def counting(*arguments):
        run = singly(*arguments)
        walked.append(len(run.places))
        return run

    many_short_lanes.setattr(lanes, "_singly", counting)
    data = b"".join(records(form, random.Random(1), 5000, lies=0))
    found, _ = in_lanes(data, 0, form, 10**9)
    assert len(found) == 5000
    assert sum(walked) < 1000


def test_what_was_earned_in_one_buffer_is_good_for_the_next(many_short_lanes):
    form, trust = FORMS[0], Trust()
    data = b"".join(records(form, random.Random(1), 200, lies=0))
    in_lanes(data, 0, form, 10**9, trust)
    assert (trust.records, trust.size) == (200, len(data))
    many_short_lanes.setattr(lanes, "_singly", None)
    assert in_lanes(data, 0, form, 10**9, trust) == plainly(data, 0, form, 10**9)


def test_lanes_that_one_of_them_outlasts_take_no_memory_for_the_others(many_short_lanes):
    many_short_lanes.undo()
    form = PcapRecords("<", 16, 10**6, 2**18)
    ordinary = struct.pack("<IIII", SECOND, 1, 44, 44) + bytes(44)
    # of another day: no lane begins there
    short = struct.pack("<IIII", SECOND + 2**20, 1, 0, 0)
    data = bytearray(ordinary * 30000 + short * 120000 + ordinary * 30000)
    tracemalloc.start()
    run = walk_records(data, 0, form, 10**9, Trust(10**6, 60 * 10**6))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(run.places), run.at) == (180000, len(data))
    assert most < 10 * len(data)


def test_a_capture_that_lies_everywhere_takes_linear_time():
    form = PcapRecords("<", 16, 10**6, 2**18)
    good = struct.pack("<IIII", SECOND, 1, 0, 0)
    lie = struct.pack("<IIII", SECOND, 1, 2**30, 2**30)
    stretch = good * 63 + lie

    def seconds(count):
        data, at, began = bytearray(stretch * count), 0, time.process_time()
        while at < len(data):
            run = walk_records(data, at, form, 10**9, Trust())
            assert len(run.places) == 63
            at = run.at + 16
        return time.process_time() - began

    seconds(10)
    assert seconds(400) < 40 * max(seconds(40), 0.005)


@pytest.mark.parametrize("has_readinto", [True, False])
def test_streams_are_read_alike_whether_they_fill_buffers_or_hand_out_bytes(has_readinto, captures):
    class Plain:
        def __init__(self, data):
            self._stream = io.BytesIO(data)

        def read(self, size):
            return self._stream.read(min(size, 7000))

    class Filling(Plain):
        def readinto(self, view):
            return self._stream.readinto(view[:7000])

    data = (captures / "nDPI__bot.pcap").read_bytes()
    stream = (Filling if has_readinto else Plain)(data)
    blocks = list(open_capture(stream, "x").blocks())
    expected = list(open_capture(io.BytesIO(data), "x").blocks())
    assert len(blocks) == len(expected) == 1
    for name in ("body", "caplen", "wirelen", "time", "offset", "linktype", "data"):
        assert np.array_equal(getattr(blocks[0], name), getattr(expected[0], name))
