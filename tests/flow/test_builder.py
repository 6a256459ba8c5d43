"""Batches: however packets are cut, flows come out as if all packets had been there at once."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.flow.made import packets
from tests.flow.test_build import a_packet, distinct, tcp_packet
from tests.flow.test_loss import closing, connection, exchange, isns

from backscatter.decode.columns import ACK, HAS_PORTS, ONE_WAY, Packets
from backscatter.flow import piles
from backscatter.flow.build import build_flows
from backscatter.flow.builder import FlowBuilder, in_order
from backscatter.flow.held import Held
from backscatter.flow.piles import piles_of
from backscatter.flow.table import FLOW, FLOW_QUOTE, FlowTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backscatter.flow.columns import Built

SECOND = 10**9
SCOPES = ("", "vlan:1")


def parts(table: Packets, cuts: list[int]) -> list[Packets]:
    """The table cut at these packets, quotes with the packets that they belong to."""
    edges = [0, *sorted(cut % (len(table) + 1) for cut in cuts), len(table)]
    cut = []
    for begin, end in itertools.pairwise(edges):
        columns = {name: column[begin:end].copy() for name, column in table.columns.items()}
        mine = np.flatnonzero((table.quotes["packet"] >= begin) & (table.quotes["packet"] < end))
        quotes = table.quotes[mine].copy()
        quotes["packet"] -= begin
        columns["quote"][:] = -1
        columns["quote"][quotes["packet"]] = np.arange(len(quotes))
        cut.append(Packets(columns, quotes))
    return cut


def built(
    tables: list[Packets], *, reordering: int = 0, batch: int = 1, lot: int = 1 << 20, pile: int = 1 << 16
) -> tuple[FlowTable, FlowBuilder]:
    told: list[Built] = []
    builder = FlowBuilder(told.append, reordering=reordering, batch=batch, brief=0, lot=lot)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(piles, "PILE_PACKETS", pile)
        for table in tables:
            builder.add(table)
        builder.finish()
    return FlowTable(*in_order(told), SCOPES), builder


def assert_same(one: FlowTable, other: FlowTable) -> None:
    assert len(one) == len(other)
    for name in FLOW.names:
        if name != "quote":
            assert one.rows[name].tolist() == other.rows[name].tolist(), name
    for name in FLOW_QUOTE.names:
        assert one.quotes[name].tolist() == other.quotes[name].tolist(), name
    assert one.rows["quote"].tolist() == other.rows["quote"].tolist()


def in_time(rows: list[dict]) -> list[dict]:
    return [row | {"t": n} for n, row in enumerate(rows)]


cuts = st.lists(st.integers(0, 200), max_size=6)
#: Whether packets are dealt into piles, whether these are looked at together, and whether before the end.
sizes = st.fixed_dictionaries(
    {
        "lot": st.sampled_from([1, 7, 1 << 20]),
        "batch": st.sampled_from([1, 1 << 20]),
        "pile": st.sampled_from([1, 1 << 16]),
    }
)


@settings(max_examples=60, deadline=None)
@given(st.lists(a_packet, max_size=40), cuts, sizes)
def test_any_cut_into_batches_gives_the_same_flows_of_any_packets(rows, cuts, sizes):
    rows = sorted(rows, key=lambda row: row["t"])
    table = distinct(rows)
    order = np.lexsort((table["place"], table["time"]))
    table = Packets({name: column[order] for name, column in table.columns.items()}, table.quotes)
    assert_same(built(parts(table, cuts), **sizes)[0], build_flows(table, SCOPES, ((),)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(tcp_packet, min_size=1, max_size=20), min_size=1, max_size=4), cuts, sizes, st.randoms())
def test_any_cut_gives_the_same_histories_and_states(conversations, cuts, sizes, chance):
    rows = [row | {"aport": 5000 + n} for n, rows in enumerate(conversations) for row in rows]
    chance.shuffle(rows)
    table = packets([row | {"t": n} for n, row in enumerate(rows)])
    assert_same(built(parts(table, cuts), **sizes)[0], build_flows(table, SCOPES, ((),)))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(isns, exchange, exchange, closing), min_size=1, max_size=3), cuts, sizes, st.data())
def test_any_cut_gives_the_same_account_of_conversations_in_and_out_of_order(stories, cuts, sizes, data):
    rows = []
    for number, (isn, talk, more, close) in enumerate(stories):
        mine = connection(isn, talk + more, close).rows
        for _ in range(data.draw(st.integers(0, 2))):
            at = data.draw(st.integers(0, len(mine) - 1))
            do = data.draw(st.sampled_from(["again", "lose", "swap", "window", "push", "begin", "stray"]))
            if do == "again":
                mine = [*mine[: at + 1], *mine[max(at - 2, 0) :]]
            elif do == "lose" and len(mine) > 1:
                mine = mine[:at] + mine[at + 1 :]
            elif do == "swap":
                mine[at : at + 2] = reversed(mine[at : at + 2])
            elif do == "begin":
                mine = mine[at:]
            elif do == "stray":
                mine[at] = mine[at] | {"ack": data.draw(st.sampled_from([0, 5, 2**31, 2**32 - 1]))}
            else:
                mine[at] = mine[at] | (
                    {"window": 0} if do == "window" else {"flags": mine[at]["flags"] | 0xE8, "ttl": 3}
                )
        rows.append([row | {"aport": 4000 + number} for row in mine])
    woven = [row for turn in range(max(map(len, rows))) for mine in rows for row in mine[turn : turn + 1]]
    table = packets([row | {"t": n / 10} for n, row in enumerate(woven)])
    assert_same(built(parts(table, cuts), **sizes)[0], build_flows(table, SCOPES, ((),)))


@settings(max_examples=40, deadline=None)
@given(st.lists(tcp_packet, min_size=2, max_size=30), cuts, st.randoms())
def test_packets_that_come_late_within_the_window_change_nothing(rows, cuts, chance):
    table = packets(in_time(rows))
    order = sorted(range(len(rows)), key=lambda n: n + chance.uniform(0, 3))
    late = Packets({name: column[order] for name, column in table.columns.items()}, table.quotes)
    whole, builder = built(parts(late, cuts), reordering=4 * SECOND)
    assert builder.late == 0
    assert_same(whole, build_flows(table, SCOPES, ((),)))


def test_quotes_stay_with_their_flows():
    quoted = {"version": 4, "proto": 6, "has_ports": 1, "src_lo": 1, "dst_lo": 2, "src_port": 5}
    error = {"proto": 1, "aport": 3, "bport": 1, "traits": HAS_PORTS | ONE_WAY, "icmp_type": 3}
    rows = [
        error | {"quoted": quoted | {"dst_port": n % 3}, "b": f"10.0.0.{2 + n % 2}", "t": 25 * n} for n in range(30)
    ]
    rows += [{"proto": 17, "t": 751 + n} for n in range(20)]
    table = packets(rows)
    for lot in (2, 9, 1000):
        assert_same(built(parts(table, [3, 7, 8, 20, 33, 40]), lot=lot)[0], build_flows(table, SCOPES, ((),)))


def download(segments: int) -> list[dict]:
    one = connection((7, 9), [(1, 1000, True)] * segments, "open")
    return [row | {"t": n / 100} for n, row in enumerate(one.rows)]


@pytest.mark.parametrize("rows", [download(400), [{"proto": 17, "way": n % 2, "t": n} for n in range(600)]])
def test_what_is_held_does_not_grow_with_the_length_of_a_conversation(rows):
    told: list[Built] = []
    builder = FlowBuilder(told.append, reordering=0, batch=1, brief=0)
    held = []
    table = packets(rows)
    for part in parts(table, list(range(0, len(rows), 40))):
        builder.add(part)
        held.append(builder._held)
    assert max(held) < 100
    builder.finish()
    assert_same(FlowTable(*in_order(told), SCOPES), build_flows(table, SCOPES, ((),)))


def test_flows_come_out_as_soon_as_no_packet_can_belong_to_them():
    told: list[Built] = []
    builder = FlowBuilder(told.append, reordering=0, batch=1, brief=0)
    builder.add(packets([{"t": 0, "flags": ACK}]))
    assert [len(rows) for rows, _ in told] == [0]
    builder.add(packets([{"t": 301, "aport": 7}]))
    assert told[1][0]["src_port"].tolist() == [1000]


def test_packets_that_come_too_late_are_counted():
    builder = FlowBuilder(lambda _: None, reordering=SECOND, batch=1)
    builder.add(packets([{"t": 100 + n} for n in range(10)]))
    builder.add(packets([{"t": 3}]))
    assert builder.late == 1


def test_portions_change_nothing(monkeypatch):
    rows = [row | {"aport": 2000 + n % 50, "t": n / 10} for n, row in enumerate(download(400))]
    rows += [{"proto": 17, "aport": n, "t": n} for n in range(70)]
    at_once = build_flows(packets(rows), SCOPES, ((),))
    monkeypatch.setattr("backscatter.flow.build.PORTION_PACKETS", 3)
    assert build_flows(packets(rows), SCOPES, ((),)).rows.tobytes() == at_once.rows.tobytes()


@pytest.mark.parametrize("gap", [21, 1000])
def test_some_piles_may_keep_nothing_while_others_do(gap):
    """Conversations one after the other: little or nothing is left of most when it is looked what may go on."""
    rows = [
        {"t": gap * number + n, "aport": 7 + number, "f": "A", "seq": n, "payload": 1}
        for number in range(30)
        for n in range(20)
    ]
    table = packets(rows)
    found, _ = built(parts(table, list(range(0, 600, 50))), batch=100, lot=16, pile=1)
    assert_same(found, build_flows(table, SCOPES, ((),)))


def test_a_stray_clock_does_not_end_the_flows_of_all_others():
    rows = [{"t": n} for n in range(20)]
    rows[10] = {"t": 4 * 10**9, "aport": 9}
    whole, builder = built(parts(packets(rows), [5, 12, 15]))
    assert len(whole) == 2
    assert builder.late == 0


def test_marks_that_all_packets_share_are_not_lost():
    rows = [{"proto": 17, "aport": 53, "t": n, "names": 5} for n in range(3)]
    assert build_flows(packets(rows), SCOPES, ((),)).rows["src_names"].tolist() == [5]
    assert built([packets(rows)])[0].rows["src_names"].tolist() == [5]


def test_packets_wait_in_memory_where_there_is_no_room_on_disk(monkeypatch):
    def full(**_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    table = packets([{"proto": 17, "aport": n % 9, "t": n} for n in range(50)])
    assert_same(built(parts(table, [7, 30]), lot=5)[0], build_flows(table, SCOPES, ((),)))


def test_a_write_that_stops_short_goes_on_where_it_stopped(monkeypatch):
    whole, room = os.pwritev, itertools.cycle([1, 0, 3, 700])

    def short(file: int, pieces: Sequence[memoryview], offset: int) -> int:
        return whole(file, [b"".join(pieces)[: next(room)]], offset)

    monkeypatch.setattr("os.pwritev", short)
    table = packets([{"proto": 17, "aport": n % 9, "t": n} for n in range(50)])
    assert_same(built(parts(table, [7, 30]), lot=5)[0], build_flows(table, SCOPES, ((),)))


def test_both_ways_of_a_tuple_lie_on_one_pile_whatever_else_is_in_the_lot():
    there = {"proto": 17, "a": "10.0.0.1", "b": "10.0.0.2", "aport": 5, "bport": 6}
    rows = [there, there | {"way": 1}, {"a": "2001:db8::1", "b": "2001:db8::2", "aport": 7}]
    one, other, _ = piles_of(Held.of(packets(rows)), 2**16).tolist()
    assert one == other
    assert piles_of(Held.of(packets(rows[:1])), 2**16).tolist() == [one]


def test_parts_without_quotes_stand_behind_parts_with_some():
    quoted = {"version": 4, "proto": 6, "has_ports": 1, "src_lo": 1, "dst_lo": 2, "src_port": 5, "dst_port": 3}
    error = {"proto": 1, "aport": 3, "bport": 1, "traits": HAS_PORTS | ONE_WAY, "icmp_type": 3, "quoted": quoted}
    table = packets([error, {"proto": 17, "t": 900}, {"proto": 17, "t": 1900}])
    assert_same(built(parts(table, [1, 2]))[0], build_flows(table, SCOPES, ((),)))


def test_packets_that_share_one_enormous_length_are_absorbed_too():
    """Lengths of more than 32 bits stay as they are decoded: one value, which nobody may write to."""
    table = packets([{"proto": 17, "way": n % 2, "t": n, "ip_bytes": 2**33, "payload": 2**32} for n in range(60)])
    one = {name: np.broadcast_to(table[name][0], 20) for name in ("ip_bytes", "payload")}
    told: list[Built] = []
    builder = FlowBuilder(told.append, reordering=0, batch=1, brief=0)
    for begin in range(0, 60, 20):
        columns = {name: column[begin : begin + 20] for name, column in table.columns.items()}
        builder.add(Packets(columns | one, table.quotes))
    builder.finish()
    assert_same(FlowTable(*in_order(told), SCOPES), build_flows(table, SCOPES, ((),)))


@pytest.mark.parametrize("count", [2, 50])
def test_what_another_process_sends_takes_no_more_room_than_here(count):
    here = Held.of(packets([{"t": n} for n in range(count)]))
    there = pickle.loads(pickle.dumps(here))
    assert {name: column.strides for name, column in there.columns.items()} == {
        name: column.strides for name, column in here.columns.items()
    }
    assert all((there[name] == here[name]).all() for name in here.columns)
