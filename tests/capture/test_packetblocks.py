"""Runs of packet blocks, read as columns, hold what the same blocks hold read one by one."""

import io
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.capture import ng

from backscatter.capture import lanes, packetblocks, pcapng
from backscatter.capture.layout import Interface
from backscatter.capture.packetblocks import Clocks
from backscatter.capture.reader import open_capture

SMALL = {"FIRST": 4, "MOST_LANES": 8, "LEAST_RECORDS": 3, "STEPS": 2, "CHAIN": 2, "TRIES": 4}


def read(data, *, runs):
    """(columns as lists, damage, expanded, dropped, layout), with runs as short as can be or without any."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(lanes, name, value)
        patch.setattr(packetblocks, "WORTH", 3)
        patch.setattr(pcapng, "MOST_SINGLY", 10 if runs else 10**9)
        if not runs:
            patch.setattr(pcapng, "packet_run", lambda *_: None)
        reader = open_capture(io.BytesIO(data), "x")
        blocks = list(reader.blocks())
    names = ("caplen", "wirelen", "time", "offset", "linktype")
    columns = {name: [x for block in blocks for x in getattr(block, name).tolist()] for name in names}
    frames = [
        block.data[body : body + caplen].tobytes()
        for block in blocks
        for body, caplen in zip(block.body.tolist(), block.caplen.tolist(), strict=True)
    ]
    damage = [(d.offset, d.length, d.reason, d.after, d.before) for d in reader.damage]
    return columns, frames, damage, reader.expanded, reader.dropped, reader.layout.to_json()


def made(rng, sections):
    """A file of sections of mostly packet blocks."""
    out = []
    for _ in range(sections):
        order = rng.choice("<>")
        out.append(ng.section(order))
        interfaces = rng.randrange(4)
        for _ in range(interfaces):
            resolution = rng.choice([None, None, 6, 9, 0, 3, 12, 0x8A, 0x80])
            offset = rng.choice([None, None, 0, -5, 10**9, 2**62])
            out.append(ng.interface(rng.choice([1, 101, 113]), resolution=resolution, offset=offset, order=order))
        for _ in range(rng.randrange(120)):
            frame = rng.randbytes(rng.choice([0, 1, 40, 61, rng.randrange(200)]))
            if rng.random() < 0.1:
                frame += ng.packet(b"inside", 5, order=order)
            ticks = rng.choice(
                [0, 1_700_000_000 * 10**6 + rng.randrange(10**9), 2**63 + 1 if rng.random() < 0.05 else 7]
            )
            number = rng.randrange(interfaces + (rng.random() < 0.02) or 1)
            kind = rng.random()
            if kind < 0.93:
                wirelen = rng.choice([None, 0, len(frame) + 9])
                out.append(ng.packet(frame, ticks, number, wirelen=wirelen, order=order))
            elif kind < 0.95:
                out.append(ng.simple_packet(frame, order=order))
            elif kind < 0.96:
                out.append(ng.old_packet(frame, ticks, number, order=order))
            elif kind < 0.97:
                out.append(ng.statistics(0, ifdrop=1, osdrop=2, order=order))
            elif kind < 0.98:
                out.append(ng.block(6, b"short", order))
            else:
                out.append(ng.block(0x0BAD, rng.randbytes(rng.randrange(90)), order))
    return bytearray(b"".join(out))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**64), sections=st.integers(1, 4), damage=st.integers(0, 3))
def test_runs_hold_what_single_blocks_hold(seed, sections, damage):
    rng = random.Random(seed)
    data = made(rng, sections)
    for _ in range(damage):
        at = rng.randrange(28, len(data) + 1)
        change = rng.choice(["flip", "cut", "insert"])
        if change == "flip" and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif change == "cut":
            del data[at : at + rng.randrange(60)]
        else:
            data[at:at] = rng.randbytes(rng.randrange(20))
    assert read(bytes(data), runs=True) == read(bytes(data), runs=False)


def test_all_of_a_sound_file_but_its_beginning_is_read_in_one_run():
    frames = [bytes(60 + i % 9) for i in range(3000)]
    data = ng.section() + ng.interface() + b"".join(ng.packet(frame, i) for i, frame in enumerate(frames))
    reader = open_capture(io.BytesIO(data), "x")
    blocks = list(reader.blocks())
    assert [len(block) for block in blocks] == [pcapng.MOST_SINGLY, 3000 - pcapng.MOST_SINGLY]
    assert np.concatenate([block.caplen for block in blocks]).tolist() == [len(frame) for frame in frames]
    assert np.concatenate([block.time for block in blocks]).tolist() == [i * 1000 for i in range(3000)]
    assert reader.damage == []


@given(
    resolution=st.sampled_from([0, 3, 6, 9, 12, 0x80, 0x8A, 0x94]),
    offset=st.integers(-(2**63), 2**63 - 1) | st.integers(-(10**10), 10**10),
    stamp=st.integers(0, 2**63 - 1) | st.integers(0, 2 * 10**18),
)
def test_clocks_tell_the_time_that_the_interface_tells_or_leave_it_to_it(resolution, offset, stamp):
    interface = Interface(1, pcapng.ticks_a_second(resolution), offset)
    clocks = Clocks([interface])
    if clocks.usable[0] and stamp <= clocks.most[0]:
        zero = np.zeros(1, np.int64)
        assert clocks.times(zero + stamp, zero).tolist() == [interface.time(stamp)]


def test_ordinary_clocks_are_usable_for_centuries():
    clocks = Clocks([Interface(1, 10**6), Interface(1, 10**9, offset=86400)])
    assert clocks.usable.all()
    assert (clocks.most >= [4 * 10**15, 4 * 10**18]).all()


def test_runs_broken_all_the_time_take_linear_time():
    one = ng.section() + ng.interface(resolution=0x8A) + ng.interface()
    blocks = b"".join(ng.packet(b"", i, 1) for i in range(300)) + ng.packet(b"", 2, 0)

    def seconds(count):
        began = time.process_time()
        found = sum(len(block) for block in open_capture(io.BytesIO(one + blocks * count), "x").blocks())
        assert found == count * 301
        return time.process_time() - began

    seconds(3)
    assert seconds(160) < 30 * max(seconds(20), 0.01)
