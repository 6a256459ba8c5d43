"""Captures to sensors, flows and censuses."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.flow.made import packets

from backscatter.capture.record import Damage
from backscatter.decode.columns import PLACE_BITS
from backscatter.demo.wire import ether, icmp_error, pcap, tcp, udp
from backscatter.errors import NotACapture, RequestError
from backscatter.flow.build import build_flows
from backscatter.flow.census import Losses, Tally, take_census
from backscatter.flow.read import Piece, group_sensors, read_sensor
from backscatter.flow.table import FlowTable

SECOND = 10**9
T0 = 1_174_413_859 * SECOND
A, B = "10.0.0.1", "10.0.0.2"


def piece(name: str, data: bytes) -> Piece:
    return Piece(name, lambda: io.BytesIO(data))


def conversation(begin: int = 0, *, vlan=()) -> list[tuple[int, bytes]]:
    story = [("S", 0), ("SA", 1), ("A", 0), ("FA", 0), ("FA", 1), ("A", 0)]
    numbers, records = [100, 900], []
    for i, (flags, way) in enumerate(story):
        ends = (A, 1000, B, 80) if way == 0 else (B, 80, A, 1000)
        packet = tcp(*ends, flags, seq=numbers[way], ack=0 if flags == "S" else numbers[1 - way])
        numbers[way] += ("S" in flags) + ("F" in flags)
        records.append((T0 + (begin + i) * SECOND, ether(packet, vlan=vlan)))
    return records


def test_a_conversation_that_rotation_cut_is_one_flow_whose_places_name_both_pieces():
    records = conversation()
    whole = read_sensor("tap", [piece("whole", pcap(records))])
    cut = read_sensor("tap", [piece("one", pcap(records[:2])), piece("two", pcap(records[2:]))])
    assert len(cut.table) == 1
    assert cut.table.pieces == ("one", "two")
    row = cut.table.rows[0]
    assert [place >> PLACE_BITS for place in row["src_places"]] == [0, 1, 1, 1]
    assert row["src_places"][0] == 24, "the record's header, behind the file's"
    for name in ("history", "src_packets", "dst_packets", "start", "end", "src_segments"):
        assert row[name] == whole.table.rows[0][name]


def test_more_captures_than_can_be_told_apart_are_not_joined(monkeypatch):
    tables = [read_sensor("tap", [piece(name, pcap(conversation()))]).table for name in ("one", "two", "three")]
    monkeypatch.setattr("backscatter.flow.table.MOST_PIECES", 2)
    assert len(FlowTable.joined(tables[:2])) == 2
    with pytest.raises(RequestError, match="3 captures are more than the 2"):
        FlowTable.joined(tables)


def test_each_piece_has_a_census_and_loss_counts_where_a_flow_begins():
    records = [*conversation(), (T0 + 100 * SECOND, ether(udp(A, 5, B, 53), vlan=(7,)))]
    found = read_sensor("tap", [piece("one", pcap(records[:2])), piece("two", pcap(records[2:]))])
    one, two = found.censuses
    assert (one.piece, one.sensor, one.packets, one.start, one.end) == ("one", "tap", 2, T0, T0 + SECOND)
    assert (one.scopes[""].segments, one.scopes[""].lost) == (4, 0)
    assert (two.scopes[""].segments, two.scopes[""].packets) == (0, 4)
    assert (two.scopes["vlan:7"].packets, two.scopes["vlan:7"].first) == (1, T0 + 100 * SECOND)
    assert one.median_gap == SECOND
    assert one.clock_ok


def test_a_lost_segment_is_counted_in_the_census():
    records = conversation()
    del records[3]
    (census,) = read_sensor("tap", [piece("one", pcap(records))]).censuses
    assert (census.scopes[""].segments, census.scopes[""].lost) == (4, 1)


def test_what_may_be_backscatter_says_nothing_of_loss():
    records = [
        (T0, ether(tcp(B, 80, A, 1000, "SA", seq=5, ack=78))),
        (T0 + 1000, ether(tcp(A, 1000, B, 80, "R", seq=78))),
    ]
    (census,) = read_sensor("tap", [piece("one", pcap(records))]).censuses
    assert (census.scopes[""].segments, census.scopes[""].lost) == (0, 0)


def test_what_is_no_capture_costs_only_itself():
    found = read_sensor("tap", [piece("notes.txt", b"hello\n" * 10), piece("one", pcap(conversation()))])
    assert len(found.table) == 1
    (error,) = found.errors
    assert isinstance(error, NotACapture)
    assert "notes.txt" in str(error)
    assert [census.piece for census in found.censuses] == ["one"]
    assert found.table.pieces == ("notes.txt", "one")


def test_a_file_cut_short_gives_what_lies_before_the_cut_and_says_so():
    found = read_sensor("tap", [piece("one", pcap(conversation())[:-3])])
    (census,) = found.censuses
    assert census.packets == 5
    assert census.damaged_bytes > 0
    assert census.holes == ((census.end, census.end + 1),)
    assert found.pieces[0].damage


def test_nothing_to_read_gives_no_flows():
    found = read_sensor("tap", [])
    assert (len(found.table), found.censuses) == (0, ())


def test_progress_runs_over_all_pieces():
    data = pcap(conversation())
    told: list[int] = []
    read_sensor("tap", [piece("one", data), piece("two", data)], progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 2 * len(data)


def census_of(rows, damage=()):
    table = packets(rows)
    return take_census(table, ("",), build_flows(table, ("",), ((),), sensor="s"), 0, damage=damage)


@pytest.mark.parametrize(
    ("times", "trusted"),
    [([1e9, 1e9 + 48 * 3600], True), ([1e9, 1e9 + 48 * 3600 + 1], False), ([5, 6], False), ([5e9, 5e9 + 1], False)],
)
def test_an_implausible_clock_is_told_and_noted(times, trusted):
    census = census_of([{"t": time} for time in times])
    assert census.clock_ok is trusted
    assert bool(census.notes) is not trusted


def test_damage_is_a_hole_and_one_at_either_end_parts_the_piece_from_its_neighbours():
    damage = [Damage(0, 9, "x", None, 5), Damage(50, 9, "x", 7, 9), Damage(90, 9, "x", 12, None)]
    census = census_of([{"t": 1e9}, {"t": 1e9 + 5}], damage)
    assert census.holes == ((census.start - 1, census.start), (7, 9), (census.end, census.end + 1))
    assert census.damaged_bytes == 27


def ns(*seconds):
    return tuple(round(second * SECOND) for second in seconds)


@pytest.mark.parametrize(
    ("spans", "sensors"),
    [
        ([], []),
        ([(0, 60), (60, 120), (121, 180)], [[0, 1, 2]]),
        ([(121, 180), (0, 60), (60, 120)], [[1, 2, 0]]),
        ([(0, 60), (59.997, 120)], [[0, 1]]),  # packets that crossed at the rotation
        ([(0, 60), (59.9, 120)], [[0], [1]]),
        ([(0, 60), (0, 60)], [[0], [1]]),
        ([(5, 5), (5, 5)], [[0], [1]]),
        ([(0, 60), (10, 20), (60, 90), (21, 50)], [[0, 2], [1, 3]]),
        ([(0, 60), (59.995, 59.998)], [[0], [1]]),  # lies within: another view
        ([None, (0, 60), None], [[1, 0, 2]]),
        ([None], [[0]]),
    ],
)  # fmt: skip
def test_captures_that_follow_each_other_are_one_sensor_and_those_that_overlap_are_several(spans, sensors):
    assert group_sensors([span and ns(*span) for span in spans]) == sensors


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)).map(lambda span: ns(span[0], sum(span)))))
def test_every_capture_is_in_one_sensor_and_none_overlaps_there(spans):
    sensors = group_sensors(spans)
    assert sorted(index for sensor in sensors for index in sensor) == list(range(len(spans)))
    for sensor in sensors:
        for one, other in itertools.pairwise(sensor):
            assert spans[one][1] <= spans[other][0]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40), st.integers(0, 40))
def test_a_census_does_not_depend_on_where_blocks_end(gaps, cut):
    rows = [{"t": 10**9 + t, "scope": t % 3, "status": (t % 5 == 0) * (1 + t % 2)} for t in itertools.accumulate(gaps)]
    whole, blocks = Tally(), Tally()
    whole.add(packets(rows))
    for some in (rows[:cut], rows[cut:]):
        blocks.add(packets(some))
    one, other = (tally.census(("", "a", "b"), Losses(), 0, piece="p", sensor="s") for tally in (whole, blocks))
    assert one == other


def test_the_median_gap_of_many_packets_is_taken_of_some_of_them(monkeypatch):
    monkeypatch.setattr("backscatter.flow.census._MOST_GAPS", 16)
    tally = Tally()
    for begin in range(0, 1000, 10):
        tally.add(packets([{"t": 10**9 + begin + n} for n in range(10)]))
    assert sum(map(len, tally._gaps)) <= 16
    assert tally.census(("",), Losses(), 0, piece="p", sensor="s").median_gap == SECOND


def test_flows_that_are_taken_as_they_end_are_those_of_the_table(monkeypatch):
    monkeypatch.setattr("backscatter.flow.piles.PILE_PACKETS", 8)
    records = [
        (1_700_000_000_000_000_000 + 1000 * n, ether(packet))
        for n in range(20)
        for packet in (
            tcp("192.0.2.1", 80, "10.0.0.5", 1024 + n, "SA", seq=n, ack=n + 1),
            icmp_error("192.0.2.9", "10.0.0.5", 3, 1, tcp("10.0.0.5", 1024 + n, "198.51.100.7", 80, "S")),
        )
    ]
    pieces = [piece("one", pcap(records[:17])), piece("two", pcap(records[17:]))]
    whole, taken = read_sensor("tap", pieces), []

    class Taking:
        def part(self, flows, parts):
            return flows.table()

        def add(self, sensor, part):
            assert sensor == "tap"
            taken.append(part)

    streamed = read_sensor("tap", pieces, sink=Taking())
    assert len(taken) > 2
    assert len(streamed.table) == 0
    assert streamed.censuses == whole.censuses
    joined = FlowTable.joined(taken)
    assert joined.rows.tobytes() == whole.table.rows.tobytes()
    assert joined.quotes.tobytes() == whole.table.quotes.tobytes()
