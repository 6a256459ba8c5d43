import io
import struct

import pytest
from tests.capture.ng import block, interface, old_packet, packet, section, simple_packet, statistics

from backscatter.capture import reader as reader_module
from backscatter.capture.limits import Limits
from backscatter.capture.reader import open_capture

FRAME = bytes(range(60))


def read(data, **limits):
    reader = open_capture(io.BytesIO(data), "x.pcapng", Limits(**limits))
    blocks = list(reader.blocks())
    return reader, [
        (int(b.time[i]), int(b.linktype[i]), b.data[b.body[i] : b.body[i] + b.caplen[i]].tobytes())
        for b in blocks
        for i in range(len(b))
    ]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("resolution", "offset", "ticks", "time"),
    [
        (None, None, 1_000_001, 1_000_001_000),
        (9, None, 1_000_001, 1_000_001),
        (3, 10, 1500, 11_500_000_000),
        (0x80 | 10, None, 1024 + 512, 1_500_000_000),
        (6, -1, 2_000_000, 1_000_000_000),
        (12, None, 10**12 + 999, 10**9),
        (9, None, 2**63, 2**63 - 1),
    ],
)
def test_times_follow_resolution_and_offset_of_their_interface(order, resolution, offset, ticks, time):
    data = (
        section(order)
        + interface(resolution=resolution, offset=offset, order=order)
        + packet(FRAME, ticks, order=order)
    )
    _, records = read(data)
    assert records == [(time, 1, FRAME)]


def test_each_packet_has_the_clock_and_link_type_of_its_own_interface():
    data = section() + interface(1, resolution=6) + interface(101, resolution=9)
    data += packet(FRAME, 7, 1) + packet(FRAME, 7, 0) + interface(113, resolution=0) + packet(FRAME, 7, 2)
    _, records = read(data)
    assert [record[:2] for record in records] == [(7, 101), (7000, 1), (7_000_000_000, 113)]


def test_a_new_section_has_its_own_byte_order_and_interfaces():
    data = (
        section()
        + interface(1)
        + packet(FRAME, 1)
        + section(">")
        + interface(101, order=">")
        + packet(FRAME, 2, order=">")
    )
    reader, records = read(data)
    assert [record[:2] for record in records] == [(1000, 1), (2000, 101)]
    assert [part.order for part in reader.layout.sections] == ["<", ">"]


def test_old_and_simple_packets_are_read_and_unknown_blocks_skipped():
    data = section() + interface(1, snaplen=40) + block(0xBAD, b"anything") + block(0x77, b"")
    data += old_packet(FRAME, 5_000_000) + simple_packet(FRAME[:40], wirelen=1500) + simple_packet(FRAME[:10])
    reader, records = read(data)
    assert records == [(5 * 10**9, 1, FRAME), (5 * 10**9, 1, FRAME[:40]), (5 * 10**9, 1, FRAME[:10])]
    assert reader.damage == []


def test_a_simple_packet_at_the_beginning_has_time_0():
    _, records = read(section() + interface() + simple_packet(FRAME))
    assert records == [(0, 1, FRAME)]


def test_what_interfaces_say_they_dropped_is_summed_by_their_last_word():
    data = section() + interface() + interface()
    data += statistics(0, ifdrop=1, osdrop=2) + statistics(1, ifdrop=10, osdrop=0) + statistics(0, ifdrop=5, osdrop=2)
    reader, _ = read(data + section() + interface() + statistics(0, ifdrop=100, osdrop=0))
    assert reader.dropped == 117


def test_no_statistics_say_nothing_about_drops():
    reader, _ = read(section() + interface())
    assert reader.dropped is None


def test_a_packet_of_an_interface_that_does_not_exist_costs_only_itself():
    bad = packet(FRAME, 2, 9)
    start = section() + interface() + packet(FRAME, 1)
    reader, records = read(start + bad + packet(FRAME, 3))
    assert [record[0] for record in records] == [1000, 3000]
    (damage,) = reader.damage
    assert (damage.offset, damage.length, damage.after, damage.before) == (len(start), len(bad), 1000, 3000)
    assert "interface 9" in damage.reason


def test_damage_at_the_end_of_a_block_knows_what_follows_it(monkeypatch):
    """Without the time behind it a hole in the middle would look like the end of the capture."""
    monkeypatch.setattr(reader_module, "MOST_RECORDS", 1)
    bad = packet(FRAME, 2, 9)
    reader, _ = read(section() + interface() + packet(FRAME, 1) + bad + bad + packet(FRAME, 3) + bad)
    assert [(damage.after, damage.before) for damage in reader.damage] == [(1000, 3000), (1000, 3000), (3000, None)]
    monkeypatch.setattr(reader_module, "MOST_RECORDS", 65536)
    monkeypatch.setattr(reader_module, "CHUNK", len(section() + interface() + packet(FRAME, 1) + bad))
    reader, _ = read(section() + interface() + packet(FRAME, 1) + bad + packet(FRAME, 3))
    assert [(damage.after, damage.before) for damage in reader.damage] == [(1000, 3000)]


def test_a_packet_that_claims_more_than_its_block_holds_costs_only_itself():
    bad = bytearray(packet(FRAME, 2))
    bad[20:24] = struct.pack("<I", 4000)
    reader, records = read(section() + interface() + bytes(bad) + packet(FRAME, 3))
    assert [record[0] for record in records] == [3000]
    assert "4000" in reader.damage[0].reason


@pytest.mark.parametrize("missing", [1, 4, 11, 12, 13, 50])
def test_a_file_cut_in_a_block_gives_every_packet_before_and_says_so(missing):
    data = section() + interface() + packet(FRAME, 1) + packet(FRAME, 2)
    reader, records = read(data[:-missing])
    assert [record[0] for record in records] == [1000]
    (damage,) = reader.damage
    assert damage.offset + damage.length == len(data) - missing
    assert (damage.after, damage.before) == (1000, None)


@pytest.mark.parametrize("length", [0, 11, 2**32 - 1])
def test_a_lie_in_a_block_length_stops_cleanly(length):
    good = section() + interface() + packet(FRAME, 1)
    reader, records = read(good + struct.pack("<II", 6, length) + b"x" * 100)
    assert len(records) == 1
    assert (reader.damage[0].offset, reader.damage[0].length) == (len(good), 108)


def test_two_lengths_that_differ_lose_their_block():
    bad = bytearray(packet(FRAME, 2))
    bad[-4:] = b"\0\0\0\0"
    reader, records = read(section() + interface() + packet(FRAME, 1) + bytes(bad) + packet(FRAME, 3))
    assert [record[0] for record in records] == [1000, 3000]
    assert "two lengths" in reader.damage[0].reason


def test_more_interfaces_than_the_limit_stop_the_reading_and_keep_what_came_before():
    data = section() + interface() + packet(FRAME, 1) + interface() * 10 + packet(FRAME, 2)
    reader, records = read(data, interfaces=5)
    assert len(records) == 1
    assert "limit interfaces" in str(reader.stopped)


def test_many_bad_blocks_are_told_in_bounded_room_and_time():
    bad = packet(b"", 2, 9)
    reader, records = read(section() + interface() + (bad + packet(b"", 1)) * 30_000)
    assert len(records) == 30_000
    assert len(reader.damage) == 1000
    assert sum(damage.length for damage in reader.damage) == 30_000 * len(bad)


def test_sections_that_repeat_their_predecessor_need_no_room():
    one = section() + interface() + packet(FRAME, 1)
    reader, records = read(one * 50, sections=1, interfaces=2)
    assert len(records) == 50
    assert reader.stopped is None
    assert len(reader.layout.sections) == 1


def test_more_different_sections_than_the_limit_stop_the_reading():
    data = b"".join(section() + interface(number) + packet(FRAME, number) for number in range(10))
    reader, records = read(data, sections=4)
    assert 4 <= len(records) < 10
    assert "limit sections" in str(reader.stopped)


def test_real_captures_with_many_interfaces_and_sections_give_every_packet(captures):
    for name, count in {
        "pcapnggen__output_be-basic-test008.pcapng": 4,
        "pcapnggen__output_be-difficult-test202.pcapng": 8,  # 6 enhanced and 2 simple packet blocks
        "pcapnggen__output_le-basic-test002.pcapng": 0,
        "wireshark__many_interfaces.pcapng.2": 15,
        "zeek__pcapng-multi-interface.pcapng": 6,
    }.items():
        reader, records = read((captures / name).read_bytes())
        assert (name, len(records), reader.damage) == (name, count, [])
