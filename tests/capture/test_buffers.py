"""Buffers are used again, but never under the eyes of somebody."""

import io

import numpy as np

from backscatter.capture import reader as reader_module
from backscatter.capture.buffers import KEPT, Buffers
from backscatter.capture.limits import Limits
from backscatter.capture.reader import open_capture
from backscatter.demo.wire import pcap


def test_a_buffer_is_handed_out_again_once_nobody_looks_at_it():
    buffers = Buffers()
    first = buffers.take(100)
    view = np.frombuffer(first, np.uint8)[10:20]
    second = buffers.take(100)
    assert second is not first
    del view
    assert buffers.take(100) is first
    assert len(first) == 100


def test_what_is_looked_at_is_never_handed_out():
    buffers = Buffers()
    looks = [memoryview(buffers.take(100)) for _ in range(2 * KEPT)]
    assert len({id(look.obj) for look in looks}) == 2 * KEPT


def test_buffers_are_of_the_size_that_is_asked_for():
    buffers = Buffers()
    assert [len(buffers.take(size)) for size in (100, 50, 100, 1)] == [100, 50, 100, 1]


def test_blocks_that_are_kept_hold_what_they_held(monkeypatch):
    monkeypatch.setattr(reader_module, "CHUNK", 4000)
    monkeypatch.setattr(reader_module, "FEW_RECORDS", 0)
    frames = [bytes([i % 256]) * 60 for i in range(2000)]
    data = pcap([(i * 10**6, frame) for i, frame in enumerate(frames)])

    def blocks():
        return open_capture(io.BytesIO(data), "x", Limits(record_bytes=100)).blocks()

    def held(block):
        return [block.data[at : at + 60].tobytes() for at in block.body.tolist()]

    kept = list(blocks())
    assert len(kept) > 10
    assert [frame for block in kept for frame in held(block)] == frames
    assert [frame for block in blocks() for frame in held(block)] == frames


def test_a_capture_read_block_by_block_fills_the_same_buffers(monkeypatch):
    monkeypatch.setattr(reader_module, "CHUNK", 4000)
    monkeypatch.setattr(reader_module, "FEW_RECORDS", 0)
    data = pcap([(i * 10**6, bytes(60)) for i in range(2000)])
    taken, take = [], Buffers.take
    monkeypatch.setattr(Buffers, "take", lambda buffers, size: taken.append(take(buffers, size)) or taken[-1])
    assert sum(len(block) for block in open_capture(io.BytesIO(data), "x", Limits(record_bytes=100)).blocks()) == 2000
    assert len({id(buffer) for buffer in taken}) <= KEPT < len(taken)


def test_a_small_capture_takes_a_small_buffer(monkeypatch):
    sizes, take = [], Buffers.take
    monkeypatch.setattr(Buffers, "take", lambda buffers, size: sizes.append(size) or take(buffers, size))
    for count, largest in ((100, reader_module.FIRST_CHUNK), (20_000, reader_module.CHUNK)):
        data = pcap([(i * 10**6, bytes(60)) for i in range(count)])
        assert sum(len(block) for block in open_capture(io.BytesIO(data), "x", Limits()).blocks()) == count
        assert max(sizes) == largest
