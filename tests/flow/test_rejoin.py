"""Captures cut into pieces: the flows of the pieces, put together, are those of the whole."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscatter.capture.reader import open_capture
from backscatter.capture.write import PcapWriter
from backscatter.demo.wire import ether, icmp_error, pcap, tcp, udp
from backscatter.flow.read import Piece, read_sensor
from backscatter.flow.record import flow_records
from backscatter.flow.rejoin import FIRSTS, ORED, OWN_WAY, SUMMED, rejoined, state_of
from backscatter.flow.table import CONN_STATES, FLOW_QUOTE, SIDE, FlowTable

if TYPE_CHECKING:
    import random

    from numpy.typing import NDArray

SECOND = 10**9
NOON = 1_700_000_000 * SECOND

#: Letters that stand again at the 10th and 100th time, and what was lost: a row does not say how often it was.
COUNTED = set("TtGgWw")

CAPTURES = [
    "malcolm__Modicon.pcap",
    "libtrace__vxlan.pcap",
    "arkime__http-syn-ack.pcap",
    "cidspec__rsvp.pcap",
    "malcolm__DNS.pcap",
    "asyncrat__cd010953-5faf-4054-86be-58c020c3a532.pcap",
    "bro-simple-scan__multiport_scan.pcap",
]


def pieces_of(data: bytes, count: int) -> list[bytes]:
    """A capture as so many captures that follow each other in time."""
    records = []
    for block in open_capture(io.BytesIO(data), "whole").blocks():
        for i in range(len(block.time)):
            begin = int(block.body[i])
            body = block.data[begin : begin + int(block.caplen[i])].tobytes()
            records.append((int(block.time[i]), body, int(block.wirelen[i]), int(block.linktype[i])))
    records.sort(key=lambda record: record[0])
    cut = []
    for number in range(count):
        stream = io.BytesIO()
        writer = PcapWriter(stream, records[0][3])
        for time, body, length, _ in records[len(records) * number // count : len(records) * (number + 1) // count]:
            writer.write(time, body, length)
        cut.append(stream.getvalue())
    return cut


def read(pieces: list[bytes]) -> FlowTable:
    """The flows of pieces that are read as one."""
    return read_sensor(
        "tap", [Piece(f"{i}", lambda data=data: io.BytesIO(data)) for i, data in enumerate(pieces)]
    ).table


def put_together(pieces: list[bytes]) -> FlowTable:
    """The flows of pieces, each read by itself."""
    tables = [
        read_sensor("tap", [Piece(f"{i}", lambda data=data: io.BytesIO(data))]).table for i, data in enumerate(pieces)
    ]
    return rejoined(FlowTable.joined([table for table in tables if len(table)]))


def told(table: FlowTable, *, counted: bool = False) -> dict[tuple, list[dict]]:
    flows = defaultdict(list)
    for record in flow_records(table):
        if not counted:
            record["history"] = "".join(letter for letter in record["history"] if letter not in COUNTED)
        flows[record["start"], record["src_ip"], record["src_port"], record["dst_ip"], record["scope"]].append(record)
    return flows


def test_every_field_of_a_side_is_put_together_in_one_way():
    ways = [*SUMMED, *ORED, *FIRSTS, *OWN_WAY]
    assert sorted(ways) == sorted(name for name, _, _ in SIDE)


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("count", [2, 5])
def test_the_pieces_of_a_real_capture_have_the_flows_of_the_whole(captures, name, count):
    cut = pieces_of((captures / name).read_bytes(), count)
    assert told(put_together(cut)) == told(read(cut))


@pytest.mark.parametrize("name", CAPTURES)
def test_the_state_of_a_real_conversation_follows_from_its_letters(captures, name):
    for row in read([(captures / name).read_bytes()]).rows:
        if row["proto"] == 6:
            silent = row["src_data"] + row["dst_data"] == 0
            assert state_of(bytes(row["history"]), silent=bool(silent)) == CONN_STATES[row["conn_state"]]


REMOTE = ("192.0.2.1", 443)
LOCALS = [(f"10.0.0.{host}", 4000 + port) for host in range(2) for port in range(2)]
PAUSES = [1000, 1000, SECOND, 50 * SECOND, 70 * SECOND, 400 * SECOND]


def senseless(chance: random.Random) -> list[tuple[int, bytes]]:
    """Packets of a few tuples, in whatever order and sense."""
    time, records = NOON, []
    for _ in range(chance.randrange(2, 30)):
        time += chance.choice(PAUSES)
        src, dst = chance.sample([REMOTE, chance.choice(LOCALS)], 2)
        flags = chance.choice(["S", "SA", "A", "A", "A", "FA", "R", "RA"])
        payload = b"x" * chance.choice([0, 0, 5]) if flags in ("A", "FA") else b""
        records.append((time, ether(tcp(*src, *dst, flags, payload=payload, seq=chance.choice([7, 500]), ack=9))))
        if chance.random() < 0.2:
            records.append((time, ether(udp(src[0], 53, dst[0], 999, b"x"))))
    return records


def used_again(chance: random.Random) -> list[tuple[int, bytes]]:
    """A few tuples, each used for one conversation after the other, which a SYN with a new number begins and RST ends."""
    time, records = NOON, []
    waiting: dict[tuple[str, int], list[bytes]] = {local: [] for local in LOCALS}
    for number in range(chance.randrange(2, 60)):
        local = chance.choice(LOCALS)
        if not waiting[local]:
            ways = [(*REMOTE, *local), (*local, *REMOTE)]
            opener = chance.choice(ways)
            syn = tcp(*opener, "S", seq=10 * number)
            said = [
                tcp(*chance.choice(ways), chance.choice(["SA", "A"]), seq=7, ack=9, payload=payload)
                for payload in chance.choices([b"", b"hello"], k=chance.randrange(5))
            ]
            said += [syn] * chance.randrange(2)  # once more
            chance.shuffle(said)
            waiting[local] = [syn, *said, *[tcp(*chance.choice(ways), "R", seq=7)] * chance.randrange(1, 3)]
        time += chance.choice(PAUSES)
        records.append((time, ether(waiting[local].pop(0))))
    return records


#: Not values that Hypothesis picks: among these are hardly any cases of consequence.
chances = st.randoms(use_true_random=True)


@settings(deadline=None, max_examples=200)  # each example reads captures twice
@given(chances, st.integers(1, 6))
def test_flows_are_those_of_the_whole_wherever_it_is_cut(chance, count):
    cut = pieces_of(pcap(used_again(chance)), count)
    whole, back = told(read(cut)), told(put_together(cut))
    assert whole.keys() == back.keys()
    for at, flows in whole.items():
        for one, other in zip(flows, back[at], strict=True):
            # Letters and states of senseless conversations may differ.
            for field in one.keys() - {"history", "conn_state"}:
                assert one[field] == other[field], field


#: What does not hang on which flow of its tuple a packet is in.
COUNTS = ("packets", "bytes", "payload", "syns", "synacks", "rsts", "bare_rsts", "fins", "data", "acks")


def sent(table: FlowTable) -> dict[tuple, NDArray[np.int64]]:
    """What each end of a tuple sent to the other in all."""
    sums = defaultdict(lambda: np.zeros(len(COUNTS), np.int64))
    for row in table.rows:
        ends = [(int(row[f"{side}_lo"]), int(row[f"{side}_port"])) for side in ("src", "dst")]
        for side, (sender, other) in (("src", ends), ("dst", ends[::-1])):
            sums[int(row["proto"]), sender, other] += [int(row[f"{side}_{name}"]) for name in COUNTS]
    return sums


@settings(deadline=None, max_examples=100)
@given(chances, st.integers(1, 6))
def test_nothing_is_lost_whatever_is_cut(chance, count):
    cut = pieces_of(pcap(senseless(chance)), count)
    whole, back = sent(read(cut)), sent(put_together(cut))
    assert {end: list(counts) for end, counts in back.items()} == {end: list(counts) for end, counts in whole.items()}


def rows_of(*captures: list[tuple[int, bytes]]) -> list[dict]:
    return list(flow_records(put_together([pcap(records) for records in captures])))


def syn(time, seq):
    return (time, ether(tcp("10.0.0.1", 4000, "192.0.2.1", 443, "S", seq=seq)))


def rst(time):
    return (time, ether(tcp("192.0.2.1", 443, "10.0.0.1", 4000, "RA", ack=8)))


def fin(time, *ends):
    return (time, ether(tcp(*ends, "FA", seq=9, ack=8)))


LOCAL = ("10.0.0.1", 4000)


def test_a_tuple_that_is_used_again_stays_two_flows():
    assert len(rows_of([syn(NOON, 7), rst(NOON + 1000)], [syn(NOON + SECOND, 99)])) == 2
    assert len(rows_of([syn(NOON, 7), rst(NOON + 1000)], [syn(NOON + SECOND, 7)])) == 1


def test_what_earlier_captures_said_is_remembered():
    over = [[syn(NOON, 7), fin(NOON + 1, *LOCAL, *REMOTE)], [fin(NOON + 2, *REMOTE, *LOCAL)]]
    assert len(rows_of(*over, [syn(NOON + SECOND, 99)])) == 2
    assert len(rows_of([syn(NOON, 7)], [rst(NOON + 1)], [syn(NOON + SECOND, 7)])) == 1
    assert len(rows_of([syn(NOON, 7)], [rst(NOON + 1)], [syn(NOON + SECOND, 99)])) == 2


def test_a_tuple_used_again_is_parted_at_the_capture_that_has_the_new_syn():
    """A row can't be cut in two: what was late of the conversation before is counted with the next."""
    one, two = rows_of([syn(NOON, 7), rst(NOON + 1)], [rst(NOON + 2), syn(NOON + 3, 99)], [rst(NOON + 4)])[:2]
    assert (one["src_packets"], two["src_packets"]) == (1, 1)
    late = (NOON + 2, ether(tcp(*REMOTE, *LOCAL, "A", seq=9, ack=8)))
    one, two = rows_of([syn(NOON, 7), rst(NOON + 1)], [late, syn(NOON + 3, 99)])
    assert (one["dst_packets"], two["src_packets"], two["dst_packets"]) == (1, 1, 1)


def test_a_long_silence_ends_a_flow():
    assert len(rows_of([syn(NOON, 7)], [syn(NOON + 301 * SECOND, 7)])) == 2
    assert len(rows_of([syn(NOON, 7)], [syn(NOON + 299 * SECOND, 7)])) == 1


def test_an_answer_in_the_next_capture_is_the_answer():
    (one,) = rows_of([syn(NOON, 7)], [rst(NOON + 1000)])
    assert (one["src_ip"], one["history"], one["conn_state"]) == ("10.0.0.1", "Sr", "REJ")
    assert (one["src_packets"], one["dst_packets"]) == (1, 1)


def test_quotes_go_with_their_flows():
    inner = tcp("10.0.0.9", 1, "192.0.2.1", 2, "S")
    error = icmp_error("192.0.2.7", "10.0.0.9", 3, 1, inner)
    table = put_together([pcap([(NOON + i * 1000, ether(error))]) for i in range(3)])
    assert len(table) == 1
    assert table.quotes.dtype == FLOW_QUOTE
    assert np.array_equal(table.quotes["flow"], [0, 0, 0])
    assert next(flow_records(table))["quoted"]["dst_ip"] == "192.0.2.1"


def test_views_of_two_sensors_stay_two_rows():
    capture = pcap([syn(NOON, 7)])
    tables = [read_sensor(name, [Piece(name, lambda: io.BytesIO(capture))]).table for name in ("a", "b")]
    assert len(rejoined(FlowTable.joined(tables))) == 2
