import io
import struct

import numpy as np
import pytest
from tests.capture import ng

from backscatter.capture import reader as reader_module
from backscatter.capture.limits import Limits
from backscatter.capture.reader import open_capture
from backscatter.demo.wire import ether, pcap, tcp

T = 1174413859731091000
FRAME = ether(tcp("193.109.122.67", 6667, "69.143.202.28", 1024, "SA", seq=4257997451, ack=2934031229))


def read(data, **limits):
    reader = open_capture(io.BytesIO(data), "x.pcap", Limits(**limits))
    return reader, list(reader.blocks())


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("nano", "time"), [(True, T + 123), (False, T)])
def test_both_byte_orders_and_both_ticks_give_the_same_record(big, nano, time):
    reader, (block,) = read(pcap([(time, FRAME)], big=big, nano=nano))
    assert block.time.tolist() == [time]
    assert block.offset.tolist() == [24]
    assert block.caplen.tolist() == block.wirelen.tolist() == [len(FRAME)]
    assert block.linktype.tolist() == [1]
    assert block.data[block.body[0] :][: len(FRAME)].tobytes() == FRAME
    assert reader.damage == []
    assert reader.expanded == 24 + 16 + len(FRAME)
    assert reader.dropped is None


def test_columns_have_the_types_that_a_record_block_promises():
    _, (block,) = read(pcap([(T, FRAME)]))
    assert block.data.dtype == np.uint8
    assert block.linktype.dtype == np.int32
    assert all(getattr(block, name).dtype == np.int64 for name in ("body", "caplen", "wirelen", "time", "offset"))


def test_a_capture_with_no_packets_is_a_capture():
    reader, blocks = read(pcap([]))
    assert blocks == []
    assert reader.damage == []


def test_seconds_are_unsigned_so_that_2038_is_an_ordinary_year():
    late = (2**32 - 1) * 10**9
    _, (block,) = read(pcap([(late, FRAME)]))
    assert block.time.tolist() == [late]


def test_the_modified_record_header_of_kuznetzov_is_24_bytes_long():
    head = struct.pack("<IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 1)
    record = struct.pack("<IIIIIHBx", 5, 7, len(FRAME), len(FRAME), 2, 0x0800, 0) + FRAME
    _, (block,) = read(head + record * 2)
    assert block.time.tolist() == [5_000_007_000] * 2
    assert block.data[block.body[1] :].tobytes() == FRAME


def test_lengths_before_version_2_4_may_have_changed_places():
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 2, 0, 0, 65535, 1)
    _, (block,) = read(head + struct.pack("<IIII", 1, 0, 900, len(FRAME)) + FRAME)
    assert (block.caplen[0], block.wirelen[0]) == (len(FRAME), 900)


def test_a_packet_is_never_shorter_on_the_wire_than_what_was_captured_of_it():
    data = bytearray(pcap([(T, FRAME)]))
    data[36:40] = struct.pack("<I", 3)
    _, (block,) = read(bytes(data))
    assert block.wirelen[0] == len(FRAME)


def test_bits_about_check_sequences_are_no_part_of_the_link_type():
    data = bytearray(pcap([(T, FRAME)]))
    data[20:24] = struct.pack("<I", 0x14000001)
    _, (block,) = read(bytes(data))
    assert block.linktype[0] == 1


@pytest.mark.parametrize("missing", range(1, 16 + len(FRAME)))
def test_a_file_cut_in_a_record_gives_every_packet_before_and_says_so(missing):
    data = pcap([(T, FRAME), (T + 1, FRAME), (T + 2, FRAME)])
    reader, (block,) = read(data[:-missing])
    assert block.time.tolist() == [T, T + 1]
    (damage,) = reader.damage
    assert damage.offset == 24 + 2 * (16 + len(FRAME))
    assert damage.length == 16 + len(FRAME) - missing
    assert damage.after == T + 1
    assert damage.before is None
    assert "cut short" in damage.reason


def test_a_lie_in_a_length_loses_its_record_and_says_so():
    record = 16 + len(FRAME)
    data = bytearray(pcap([(T, FRAME), (T + 1, FRAME), (T + 2, FRAME)]))
    data[24 + record + 8 : 24 + record + 12] = b"\xff\xff\xff\x7f"
    reader, blocks = read(bytes(data))
    assert [time for block in blocks for time in block.time.tolist()] == [T, T + 2]
    (damage,) = reader.damage
    assert (damage.offset, damage.length, damage.after, damage.before) == (24 + record, record, T, T + 2)
    assert reader.expanded == len(data)


SECTION = ng.section() + ng.interface(resolution=9)
PACKETS = b"".join(ng.packet(FRAME, T + i) for i in range(100))


def test_records_come_in_bounded_blocks_with_offsets_that_go_on(monkeypatch):
    monkeypatch.setattr(reader_module, "CHUNK", 1000)
    monkeypatch.setattr(reader_module, "FEW_RECORDS", 0)
    monkeypatch.setattr(reader_module, "MOST_RECORDS", 5)
    _, blocks = read(pcap([(T + i, FRAME) for i in range(100)]), record_bytes=len(FRAME))
    # the last of five waits for what follows it, which tells whether it is whole
    assert max(len(block) for block in blocks) == 4
    assert max(len(block.data) for block in blocks) <= 1000
    assert np.concatenate([block.time for block in blocks]).tolist() == [T + i for i in range(100)]
    offsets = np.concatenate([block.offset for block in blocks])
    assert offsets.tolist() == [24 + i * (16 + len(FRAME)) for i in range(100)]


def test_a_record_longer_than_a_block_is_still_read(monkeypatch):
    monkeypatch.setattr(reader_module, "CHUNK", 32)
    reader, blocks = read(pcap([(T, FRAME), (T + 1, FRAME)]))
    assert [time for block in blocks for time in block.time.tolist()] == [T, T + 1]
    assert reader.damage == []


def test_a_capture_over_the_size_limit_keeps_what_came_before():
    data = pcap([(T + i, FRAME) for i in range(100)])
    reader, blocks = read(data, expanded_bytes=1000)
    assert 0 < sum(len(block) for block in blocks) < 100
    assert "expanded_bytes" in str(reader.stopped)
    assert "expanded_bytes" in reader.damage[-1].reason


@pytest.mark.parametrize("most", [1, 3, 1000])
@pytest.mark.parametrize(
    "whole", [pcap([(T + i, FRAME) for i in range(100)]), SECTION + PACKETS], ids=["pcap", "pcapng"]
)
def test_who_is_stopped_goes_on_where_it_stood(monkeypatch, whole, most):
    monkeypatch.setattr(reader_module, "CHUNK", 1000)
    reader, times, stops = open_capture(io.BytesIO(whole), "x", Limits(record_bytes=len(FRAME))), [], 0
    while not times or reader.standing:
        for count, block in enumerate(reader.blocks(), 1):
            times += block.time.tolist()
            if count == most:
                reader.stop()
        stops += reader.standing is not None
    assert times == [T + i for i in range(100)]
    assert (stops > 0) == (most < 1000)
    assert (reader.damage, reader.expanded) == ([], len(whole))


def test_more_is_held_of_records_that_are_long(monkeypatch):
    monkeypatch.setattr(reader_module, "CHUNK", 1000)
    monkeypatch.setattr(reader_module, "LARGEST_CHUNK", 4000)
    monkeypatch.setattr(reader_module, "FEW_RECORDS", 20)
    data = pcap([(n, bytes(84)) for n in range(200)])
    counts = [len(block) for block in open_capture(io.BytesIO(data), "x", Limits(record_bytes=100)).blocks()]
    assert sum(counts) == 200
    assert counts[0] <= 10
    assert 20 <= max(counts) <= 40
