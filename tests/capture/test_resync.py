"""Damage costs what it hits, and nothing is ever read that nobody wrote."""

import io
import random
import struct
import time
from dataclasses import replace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tests.capture.ng import block, interface, old_packet, packet, section

from backscatter.capture import reader as reader_module
from backscatter.capture.limits import Limits
from backscatter.capture.reader import open_capture
from backscatter.capture.resync import CHAIN
from backscatter.demo.wire import ether, pcap, tcp
from backscatter.errors import NotACapture

T = 1174413859731091000
STEP = 250_000_000
COUNT = 200


def frames(seed=1, count=COUNT):
    """Frames whose payload is random bytes, zeros, or text, of 54 to 1054 bytes."""
    rng = random.Random(seed)
    fill = (rng.randbytes, bytes, lambda size: b"GET / HTTP/1.1 "[:1] * size)
    return [
        ether(
            tcp("192.0.2.1", i, "192.0.2.2", 80, "A", seq=rng.getrandbits(32), payload=fill[i % 3](rng.randrange(1000)))
        )
        for i in range(count)
    ]


FRAMES = frames()


def spans(heads, tail):
    """Offsets (start, end) of records of these header lengths."""
    at, found = heads[0], []
    for frame in FRAMES:
        size = heads[1] + len(frame) + tail(len(frame))
        found.append((at, at + size))
        at += size
    return found


PCAP = pcap([(T + i * STEP, frame) for i, frame in enumerate(FRAMES)])
PCAP_SPANS = spans((24, 16), lambda size: 0)
PCAP_STARTS = {start for start, _ in PCAP_SPANS}
NG_HEAD = section() + interface(resolution=9)
PCAPNG = NG_HEAD + b"".join(packet(frame, T + i * STEP) for i, frame in enumerate(FRAMES))
PCAPNG_SPANS = spans((len(NG_HEAD), 28), lambda size: -size % 4 + 4)
CAPTURES = {"pcap": (PCAP, PCAP_SPANS), "pcapng": (PCAPNG, PCAPNG_SPANS)}
assert PCAP_SPANS[-1][1] == len(PCAP)
assert PCAPNG_SPANS[-1][1] == len(PCAPNG)


def read(data, **limits):
    reader = open_capture(io.BytesIO(bytes(data)), "x", Limits(**limits))
    records = []
    for found in reader.blocks():
        records += [
            (int(found.time[i]), found.data[found.body[i] : found.body[i] + found.caplen[i]].tobytes())
            for i in range(len(found))
        ]
    return reader, records


ORIGINAL = [(T + i * STEP, frame) for i, frame in enumerate(FRAMES)]
NUMBER = {record: i for i, record in enumerate(ORIGINAL)}
BY_TIME = {record[0]: i for i, record in enumerate(ORIGINAL)}


def told(reader, data):
    """Damage is told in order, within the file, with the times of its neighbours."""
    end = 0
    for damage in reader.damage:
        assert damage.offset >= end or damage.reason == "damage in many places"
        end = damage.offset + damage.length
        assert end <= len(data)
    assert reader.expanded == len(data)


@pytest.mark.parametrize("container", CAPTURES)
@pytest.mark.parametrize("most", [2, 7, COUNT - 1, COUNT, COUNT + 1])
def test_more_records_than_go_into_one_block_are_no_damage(container, most, monkeypatch):
    whole, _ = CAPTURES[container]
    monkeypatch.setattr(reader_module, "MOST_RECORDS", most)
    reader, records = read(whole)
    assert records == ORIGINAL
    assert reader.damage == []


def fits(container, data, start, size):
    """Whether a record that lost bytes still ends where another begins, or as it says: then nothing shows the loss."""
    if container == "pcap":
        (length,) = struct.unpack_from("<I", data, start + 8)
        return start + 16 + length + size in PCAP_STARTS
    (length,) = struct.unpack_from("<I", data, start + 4)
    return data[start + length - 4 : start + length] == data[start + 4 : start + 8]


@pytest.mark.parametrize("container", CAPTURES)
@given(at=st.integers(500, 60_000), size=st.integers(1, 5000))
@settings(deadline=None, max_examples=120)
@example(at=PCAP_SPANS[50][0], size=1)
@example(at=PCAP_SPANS[50][0] + 3, size=16)
@example(at=PCAPNG_SPANS[50][0] + 3, size=16)
def test_bytes_that_were_lost_cost_the_records_that_they_were_of(container, at, size):
    whole, where = CAPTURES[container]
    data = whole[:at] + whole[at + size :]
    assume(not any(start < at < end and fits(container, data, start, size) for start, end in where))
    reader, records = read(data)
    numbers = [NUMBER[record] for record in records]
    assert numbers == sorted(set(numbers))
    hit = {i for i, (start, end) in enumerate(where) if start < at + size and end > at}
    missing = set(range(COUNT)) - set(numbers) - hit
    # where nothing is left of a header nobody knows whether the record before it is whole
    assert len(missing) <= 1
    assert missing <= {min(hit) - 1, max(hit) + 1}
    # what was cut exactly between two records left no trace
    assert bool(reader.damage) or {at, at + size} <= {edge for span in where for edge in span}
    told(reader, data)


@pytest.mark.parametrize("container", CAPTURES)
@given(at=st.integers(500, 60_000), garbage=st.binary(min_size=1, max_size=200), times=st.sampled_from([1, 1, 20]))
@settings(deadline=None, max_examples=120)
@example(at=PCAP_SPANS[50][0], garbage=bytes(16), times=3)
@example(at=PCAP_SPANS[50][0], garbage=b" ", times=200)
@example(at=PCAP_SPANS[51][0] - 1, garbage=b"\0", times=1)
@example(at=PCAP_SPANS[139][0] + 12, garbage=b"H", times=3)  # the next header seems to have a time then
@example(at=PCAPNG_SPANS[50][0], garbage=b"\6\0\0\0\x20\0\0\0", times=4)
def test_bytes_that_were_added_cost_the_record_that_they_are_in(container, at, garbage, times):
    whole, where = CAPTURES[container]
    garbage *= times
    data = whole[:at] + garbage + whole[at:]
    reader, records = read(data)
    hit = next(i for i, (start, end) in enumerate(where) if start <= at < end)
    numbers = [NUMBER[record] for record in records if record in NUMBER]
    # garbage that begins as what it pushes away may leave its record whole, one byte further on; and behind garbage that
    # stands for the first bytes of its time it is whole but for that
    others = [content for record, content in records if (record, content) not in NUMBER]
    assert others == [] or (others == [FRAMES[hit]] and 0 < at - where[hit][0] < 4 and container == "pcap")
    assert numbers == sorted(set(numbers))
    assert set(range(COUNT)) - set(numbers) <= {hit - 1, hit, hit + 1}
    assert len(set(range(COUNT)) - set(numbers)) <= 2
    assert reader.damage
    told(reader, data)


@pytest.mark.parametrize("container", CAPTURES)
@given(flips=st.lists(st.tuples(st.integers(10, 180), st.integers(0, 15), st.integers(1, 255)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=200)
@example(flips=[(10, 0, 96), (10, 8, 1)])  # a time that is ahead, of a record that swallows the next header
@example(flips=[(100, 0, 1)])
@example(flips=[(100, 3, 255)])
@example(flips=[(100, 9, 1)])
@example(flips=[(100, 10, 4), (101, 10, 4)])
@example(flips=[(10, 3, 1), (11, 2, 2)])
@example(flips=[(55, 9, 254)])
def test_flipped_bits_in_headers_cost_their_records(container, flips):
    whole, where = CAPTURES[container]
    data = bytearray(whole)
    for record, at, value in flips:
        # a packet that became the description of an interface makes all numbers behind a hole uncertain, and one that
        # became a simple packet block is a packet still
        assume(container == "pcap" or at != 0 or value not in (7, 5))
        data[where[record][0] + at] ^= value
    reader, records = read(data)
    hit = {record for record, _, _ in flips}
    near = {record + by for record in hit for by in range(-CHAIN, CHAIN + 1)} if len(hit) > 1 else {
        record + by for record in hit for by in (-1, 0, 1)
    }  # fmt: skip
    numbers = [NUMBER[record] for record in records if record in NUMBER]
    assert numbers == sorted(set(numbers))
    assert set(range(COUNT)) - set(numbers) <= near
    # a time that is only a little wrong, or a length on the wire, cannot be known to be wrong; and two neighbours whose
    # times are both off look like a clock that was set: they are kept, and such a capture proves no coverage
    for moment, content in [record for record in records if record not in NUMBER]:
        (record,) = [record for record in hit if content == FRAMES[record]]
        alone = not {record - 1, record + 1} & hit
        assert container == "pcapng" or not alone or abs(moment - ORIGINAL[record][0]) < 2 * 86400 * 10**9
    told(reader, data)


@pytest.mark.parametrize("age", [60, 3600, 7 * 86400])
def test_a_capture_inside_of_packets_is_not_read_behind_a_hole(age):
    """Somebody sends a capture of the same day: its records make chains, and are no packets of this one."""
    rng = random.Random(1)
    inner = pcap([(moment - age * 10**9, frame[: rng.randrange(54, 114)]) for moment, frame in ORIGINAL * 3])
    pieces = [inner[at : at + 1400] for at in range(0, len(inner), 1400)]
    whole = {T + i * STEP: ether(tcp("192.0.2.1", 5, "192.0.2.2", 80, "A", payload=p)) for i, p in enumerate(pieces)}
    outer = pcap(list(whole.items()))
    for _ in range(40):
        at = rng.randrange(5000, len(outer) - 5000)
        _, records = read(outer[:at] + rng.randbytes(rng.randrange(60)) + outer[at + rng.randrange(2000) :])
        assert {moment for moment, _ in records} <= whole.keys()
        assert len(records) >= len(whole) - 4


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_no_damage_makes_the_reader_raise_or_read_twice(draw):
    data = bytearray(draw.draw(st.sampled_from([PCAP, PCAPNG]))[: draw.draw(st.integers(100, 40_000))])
    for _ in range(draw.draw(st.integers(1, 6))):
        at, size = draw.draw(st.integers(48, len(data))), draw.draw(st.integers(0, 300))
        change = draw.draw(st.sampled_from(["remove", "insert", "zero", "copy"]))
        source = draw.draw(st.integers(0, len(data)))
        new = {
            "remove": b"",
            "insert": data[at : at + size] * 2,
            "zero": bytes(size),
            "copy": data[source : source + size],
        }
        data[at : at + size] = new[change]
    reader, records = read(data)
    assert sum(len(content) for _, content in records) + sum(damage.length for damage in reader.damage) <= len(data)
    assert reader.expanded == len(data)


@given(
    lies=st.lists(
        st.tuples(
            st.integers(2, 90), st.integers(0, 3), st.sampled_from([0, 3, 5, 40, 150, 300, 2**20, 2**31, 2**32 - 1])
        ),
        min_size=1,
        max_size=12,
    ),
    gone=st.lists(st.tuples(st.integers(2, 90), st.integers(0, 20), st.integers(0, 40)), max_size=3),
    most=st.sampled_from([2, 3, 5, 17]),
)
@settings(deadline=None, max_examples=300)
def test_how_far_is_walked_behind_a_hole_changes_nothing(lies, gone, most):
    data = bytearray(PCAP)
    for record, field, value in lies:
        struct.pack_into("<I", data, PCAP_SPANS[record][0] + 4 * field, value)
    for record, at, size in sorted(gone, reverse=True):
        start = PCAP_SPANS[record][0] + at
        del data[start : start + size]
    reader, records = read(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_module, "BEHIND_HOLE", most)
        patch.setattr(reader_module, "GROWTH", 2)
        other, again = read(data)
    # of several things that are wrong with a record another one may be told first
    mine, theirs = ([replace(damage, reason="") for damage in found.damage] for found in (reader, other))
    assert (again, theirs) == (records, mine)


def test_a_capture_with_lies_everywhere_takes_linear_time():
    """Each tells only by what follows it that it is one, so that the walk goes on behind it."""
    frame = FRAMES[0]
    record = struct.pack("<IIII", T // 10**9, 0, len(frame), len(frame)) + frame
    liar = struct.pack("<IIII", T // 10**9, 0, 2 * len(record) + len(frame), len(frame)) + frame
    data = PCAP[:24] + (9 * record + liar) * (12 * 2**20 // (10 * len(record))) + record
    start = time.process_time()
    reader, records = read(data)
    assert time.process_time() - start < 10
    assert reader.damage[-1].reason == "damage in many places"
    assert len(records) > len(data) // len(record) * 8 // 10


@pytest.mark.parametrize("chunk", [1, 700, 5000, 20_000])
@pytest.mark.parametrize("whole", [PCAP, PCAPNG], ids=["pcap", "pcapng"])
def test_damage_is_found_wherever_buffers_end(monkeypatch, chunk, whole):
    data = bytearray(whole)
    del data[20_000:20_100]
    data[40_000:40_000] = b"garbage" * 3000
    expected, records = read(data, record_bytes=2000)
    monkeypatch.setattr(reader_module, "CHUNK", chunk)
    reader, again = read(data, record_bytes=2000)
    assert again == records
    assert reader.damage == expected.damage
    assert len(reader.damage) == 2


@pytest.mark.parametrize("chunk", [1, 700, 5000, 20_000, 200_000])
def test_a_clock_that_steps_back_where_damage_is_costs_no_more_than_the_damage(monkeypatch, chunk):
    """Records with times near those before the damage come again much later: they are not waited for."""
    times = [T + n * 10**9 for n in range(600)]
    times[300:] = [time - 25 * 10**9 for time in times[300:]]
    data = bytearray(pcap([(time, FRAMES[n % 7]) for n, time in enumerate(times)]))
    begin = 24 + sum(16 + len(FRAMES[n % 7]) for n in range(300))
    data[begin : begin + 16] = b"\xff" * 16
    monkeypatch.setattr(reader_module, "CHUNK", chunk)
    monkeypatch.setattr(reader_module, "FIRST_CHUNK", min(chunk, reader_module.FIRST_CHUNK))
    reader, records = read(bytes(data), record_bytes=2000)
    assert [time for time, _ in records] == times[:299] + times[301:]
    assert len(reader.damage) == 1


@pytest.mark.parametrize("cut", [0, 30])
@pytest.mark.parametrize("version", [(2, 4), (2, 3)])
def test_zeros_that_fill_a_file_up_are_no_packets_of_1970(cut, version):
    """Files look like this when the power went: their length is on disk, their last pages are not."""
    data = bytearray(PCAP[: len(PCAP) - cut] + bytes(4096))
    struct.pack_into("<HH", data, 4, *version)
    reader, records = read(bytes(data))
    assert [time for time, _ in records] == [time for time, _ in ORIGINAL]
    (damage,) = reader.damage
    assert damage.offset + damage.length == len(data)
    assert "filled up with zeros" in damage.reason


def test_a_capture_of_another_day_may_follow():
    """Files are put together, and clocks are set."""
    other = [(T + 9 * 86400 * 10**9 + i, frame) for i, frame in enumerate(FRAMES[:5])]
    back = [(T - 99 * 86400 * 10**9, FRAMES[7])]
    reader, records = read(pcap([*ORIGINAL, *other, *ORIGINAL[:4], *back]))
    assert records == [*ORIGINAL, *other, *ORIGINAL[:4], *back]
    assert reader.damage == []


def test_times_without_any_order_are_believed():
    rng = random.Random(5)
    odd = [(rng.randrange(2**32) * 10**9, frame) for frame in FRAMES]
    reader, records = read(pcap(odd))
    assert len(records) > COUNT - 5
    assert set(records) <= set(odd)
    reader, records = read(pcap([(i * 10**9, frame) for i, frame in enumerate(FRAMES)]))
    assert (len(records), reader.damage) == (COUNT, [])


def test_a_time_far_from_both_its_neighbours_is_damage():
    data = bytearray(PCAP)
    data[PCAP_SPANS[100][0] + 3] ^= 0x80
    reader, records = read(data)
    assert records == ORIGINAL[:100] + ORIGINAL[101:]
    (damage,) = reader.damage
    assert (damage.offset, damage.length) == (PCAP_SPANS[100][0], PCAP_SPANS[100][1] - PCAP_SPANS[100][0])
    assert (damage.after, damage.before) == (ORIGINAL[99][0], ORIGINAL[101][0])


@pytest.mark.parametrize("kind", ["old", "big-endian", "modified"])
def test_every_form_of_record_is_found_again(kind):
    if kind == "old":
        whole = NG_HEAD + b"".join(old_packet(frame, moment) for moment, frame in ORIGINAL)
    elif kind == "big-endian":
        whole = pcap(ORIGINAL, big=True)
    else:
        whole = struct.pack("<IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 1) + b"".join(
            struct.pack("<IIIIIHBB", moment // 10**9, moment % 10**9 // 1000, len(frame), len(frame), 2, 8, 0, 0)
            + frame
            for moment, frame in ORIGINAL
        )
    complete = read(whole)[1]
    assert len(complete) == COUNT
    for at in range(30_000, 30_100, 7):
        records = read(whole[:at] + whole[at + 333 :])[1]
        assert set(records) < set(complete)
        assert len(records) >= COUNT - 4


def test_a_section_of_either_byte_order_is_found_behind_damage():
    big = section(">") + interface(resolution=9, order=">")
    big += b"".join(packet(frame, moment, order=">") for moment, frame in ORIGINAL[100:])
    little = NG_HEAD + b"".join(packet(frame, moment) for moment, frame in ORIGINAL[:100])
    _, records = read(little[:-50] + b"rubbish" + big)
    assert records == ORIGINAL[:99] + ORIGINAL[100:]


def test_packets_of_interfaces_whose_description_may_be_lost_are_not_guessed_at():
    """Numbers count from the section's start: behind a hole they may be of another interface."""
    lost = interface(101, resolution=6)
    later = interface(101, resolution=6) + packet(FRAMES[2], T, 1) + packet(FRAMES[3], T, 0)
    data = NG_HEAD + packet(FRAMES[0], T) + lost[:-4] + b"oops" + packet(FRAMES[1], T) + later
    reader, records = read(data)
    assert records == [(T, FRAMES[0]), (T, FRAMES[1])]
    assert [damage.reason for damage in reader.damage[1:]] == [
        "the description of a packet's interface may have been lost"
    ] * 2
    alike = NG_HEAD + packet(FRAMES[0], T) + block(7, b"")[:-4] + b"oops" + packet(FRAMES[1], T)
    _, records = read(alike + interface(resolution=9) + packet(FRAMES[2], T, 1))
    assert records == [(T, FRAMES[0]), (T, FRAMES[1]), (T, FRAMES[2])]


def test_what_follows_a_capture_and_is_none_takes_nothing_from_it():
    reader, records = read(PCAP + b"\xff" * 5000)
    assert records == ORIGINAL
    (damage,) = reader.damage
    assert (damage.offset, damage.length, damage.before) == (len(PCAP), 5000, None)
    assert "nothing behind it was read" in damage.reason


@pytest.mark.parametrize(
    "hostile",
    [
        struct.pack("<IIII", T // 10**9, 0, 2**31, 1),
        struct.pack("<IIII", T // 10**9, 0, 20, 20) + b"\0",
        struct.pack("<IIII", T // 10**9, 0, 1, 1) + b"\0" * 16,
        b"\0",
        b"\1\0\0\0",
        struct.pack("<II", 6, 32),
        struct.pack("<III", 6, 12, 16),
        b"\n\r\r\n",
    ],
    ids=lambda data: data[:12].hex(),
)
@pytest.mark.parametrize("head", [PCAP[: PCAP_SPANS[3][1]], PCAPNG[: PCAPNG_SPANS[3][1]]], ids=["pcap", "pcapng"])
def test_hostile_captures_take_linear_time(head, hostile):
    data = head + hostile * (4 * 2**20 // len(hostile))
    start = time.process_time()
    reader, records = read(data)
    assert time.process_time() - start < 10
    assert records[:3] == ORIGINAL[:3]
    assert reader.expanded == len(data)


@pytest.mark.parametrize("container", CAPTURES)
def test_a_capture_may_end_anywhere_and_whatever_its_first_block_says(container):
    whole = bytearray(CAPTURES[container][0][:260])
    heads = [bytes(whole), bytes.fromhex("0a0d0d0a000000681a2b3c4dffff0005dc")]
    for head in heads:
        for end in range(1, len(head) + 1):
            try:
                reader, _ = read(head[:end])
            except NotACapture:
                continue
            told(reader, head[:end])
