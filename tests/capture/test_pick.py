import gzip
import io
import itertools
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.capture.ng import interface, packet, section, simple_packet

from backscatter.capture.layout import Layout
from backscatter.capture.pick import GAP, expanding_read, groups, pick
from backscatter.capture.reader import open_capture
from backscatter.capture.write import PcapWriter
from backscatter.demo.wire import ether, pcap, udp
from backscatter.errors import CaptureError

FRAMES = [ether(udp("192.0.2.1", i, "192.0.2.2", 2, bytes(i % 1400))) for i in range(300)]
CLASSIC = pcap([(10**18 + i, frame) for i, frame in enumerate(FRAMES)], big=True)
MIXED = (
    section()
    + interface(1, resolution=9)
    + interface(101, resolution=3)
    + b"".join(packet(frame, 10**9 + i, i % 2) for i, frame in enumerate(FRAMES))
    + section(">")
    + interface(113, order=">")
    + b"".join(packet(frame, 10**6 + i, order=">") for i, frame in enumerate(FRAMES))
)


def seekable(data, asked=None):
    def read(offset, length):
        if asked is not None:
            asked.append((offset, length))
        return data[offset : offset + length]

    return read


def every(data):
    """offset -> (time, linktype, wirelen, frame) of the whole capture, and its layout, which went through JSON."""
    reader = open_capture(io.BytesIO(data), "x")
    table = {}
    for block in reader.blocks():
        table |= rows(block)
    return table, Layout.from_json(json.loads(json.dumps(reader.layout.to_json())))


def rows(block):
    return {
        int(block.offset[i]): (
            int(block.time[i]),
            int(block.linktype[i]),
            int(block.wirelen[i]),
            block.data[block.body[i] : block.body[i] + block.caplen[i]].tobytes(),
        )
        for i in range(len(block))
    }


@pytest.mark.parametrize(
    "data",
    [CLASSIC, MIXED, gzip.compress(CLASSIC), gzip.compress(MIXED)],
    ids=["classic", "mixed", "classic gzip", "mixed gzip"],
)
@given(chosen=st.sets(st.integers(0, 299), max_size=20))
def test_a_picked_record_is_the_record_that_was_read(data, chosen):
    table, layout = every(data)
    offsets = [sorted(table)[index] for index in chosen]
    read = expanding_read(io.BytesIO(data), "x") if layout.compression else seekable(data)
    picked = pick(read, layout, offsets)
    assert set(picked) == set(offsets)
    for offset, block in picked.items():
        assert len(block) == 1
        assert rows(block) == {offset: table[offset]}


def test_a_layout_survives_json_with_odd_clocks():
    data = section() + interface(resolution=127) + interface(resolution=0xFF, offset=-5)
    reader = open_capture(io.BytesIO(data), "x")
    assert list(reader.blocks()) == []
    assert Layout.from_json(json.loads(json.dumps(reader.layout.to_json()))) == reader.layout


def test_neighbouring_records_are_fetched_in_one_read():
    table, layout = every(CLASSIC)
    asked = []
    pick(seekable(CLASSIC, asked), layout, sorted(table)[10:20])
    assert len(asked) == 1


@given(st.lists(st.integers(0, 10**7), max_size=50))
def test_groups_hold_every_offset_once_in_order_and_no_wide_gap(offsets):
    flat = [offset for group in groups(offsets) for offset in group]
    assert flat == sorted(set(offsets))
    assert all(b - a <= GAP for group in groups(offsets) for a, b in itertools.pairwise(group))


def test_a_record_longer_than_a_fetch_is_fetched_whole():
    frame = bytes(100_000)
    data = pcap([(1, frame), (2, frame)])
    table, layout = every(data)
    for offset, block in pick(seekable(data), layout, table).items():
        assert block.caplen[0] == 100_000
        assert rows(block)[offset] == table[offset]


def test_where_no_record_is_there_is_no_answer():
    _, layout = every(CLASSIC)
    assert pick(seekable(CLASSIC), layout, [len(CLASSIC), len(CLASSIC) - 3, 10**12]) == {}
    _, layout = every(MIXED)
    assert pick(seekable(MIXED), layout, [0, 30, len(MIXED) - 3]) == {}


def test_a_record_header_that_lies_gives_no_answer():
    data = bytearray(CLASSIC)
    data[32:36] = struct.pack(">I", 2**31)
    _, layout = every(CLASSIC)
    assert pick(seekable(bytes(data)), layout, [24]) == {}


def test_simple_packets_are_picked_without_a_time():
    data = section() + interface() + packet(FRAMES[0], 5) + simple_packet(FRAMES[1])
    table, layout = every(data)
    last = max(table)
    assert table[last][0] == 5000
    assert pick(seekable(data), layout, [last])[last].time.tolist() == [0]


def test_records_of_a_section_whose_header_is_damaged_are_picked():
    header = section()
    damaged = header[:-4] + struct.pack("<I", len(header) + 1)
    packets = b"".join(packet(frame, number) for number, frame in enumerate(FRAMES[:4]))
    data = damaged + interface(101) + interface(101) + packets + section() + interface(1) + packets
    table, layout = every(data)
    assert [linktype for _, linktype, _, _ in table.values()] == [101] * 4 + [1] * 4
    picked = pick(seekable(data), layout, table)
    assert {offset: rows(block)[offset] for offset, block in picked.items()} == table


def test_a_forward_only_stream_refuses_to_go_back():
    read = expanding_read(io.BytesIO(CLASSIC), "x")
    assert read(5000, 10) == CLASSIC[5000:5010]
    assert read(5005, 100) == CLASSIC[5005:5105]
    with pytest.raises(CaptureError, match="forward only"):
        read(0, 10)


def test_what_is_written_is_read_again():
    out = io.BytesIO()
    writer = PcapWriter(out, 101)
    writer.write(1174413859731091001, FRAMES[0], 9000)
    table, _ = every(out.getvalue())
    assert table == {24: (1174413859731091001, 101, 9000, FRAMES[0])}


def test_a_time_that_pcap_has_no_room_for_is_refused():
    with pytest.raises(ValueError, match="no room"):
        PcapWriter(io.BytesIO(), 1).write(-1, b"", 0)


@given(st.binary(max_size=300), st.sampled_from([b"", CLASSIC[:24], MIXED[:60], CLASSIC[:80]]))
def test_arbitrary_bytes_raise_nothing_but_capture_errors(data, head):
    try:
        reader = open_capture(io.BytesIO(head + data), "x")
    except CaptureError:
        return
    for block in reader.blocks():
        assert np.all(block.body + block.caplen <= len(block.data))
        assert np.all(block.wirelen >= 0)
    assert reader.expanded == len(head + data)
