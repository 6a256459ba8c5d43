"""The vectorised builder against a plain one, and what a flow is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.flow.made import packets
from tests.flow.slow import SECOND, Zeek, slow_flows, slow_side

from backscatter.decode.columns import HAS_PORTS, NON_IP, ONE_WAY, Packets
from backscatter.flow.build import build_flows
from backscatter.flow.table import CONN_STATES

if TYPE_CHECKING:
    import random

SEQS = [0, 1, 2, 3, 10, 11, 2**31, 2**32 - 1, 2**32 - 2]

a_packet = st.fixed_dictionaries(
    {
        "way": st.sampled_from([0, 1]),
        "aport": st.sampled_from([80, 1000]),
        "proto": st.sampled_from([6, 6, 6, 17, 1]),
        "scope": st.sampled_from([0, 0, 0, 1]),
        "flags": st.sampled_from([2, 2, 18, 16, 16, 24, 17, 4, 4, 20, 0, 3, 6, 5, 7, 255]),
        "seq": st.sampled_from(SEQS),
        "ack": st.sampled_from(SEQS),
        "payload": st.sampled_from([0, 0, 1, 5]),
        "window": st.sampled_from([0, 1000]),
        "t": st.sampled_from([1, 2, 3, 4, 5, 6.5, 8, 59, 62, 119, 123, 290, 303, 604]),
        "place": st.integers(0, 1000),
        "status": st.sampled_from([0, 0, 0, 0, NON_IP]),
        "traits": st.sampled_from([HAS_PORTS, HAS_PORTS, HAS_PORTS, HAS_PORTS | ONE_WAY, 0]),
        "ttl": st.sampled_from([1, 64, 255]),
        "speech": st.sampled_from([0, 1, 2]),
    }
)


def distinct(rows):
    """No two packets at one place."""
    return packets([row | {"place": 2000 * row["place"] + i} for i, row in enumerate(rows)])


@settings(max_examples=150, deadline=None)
@given(st.lists(a_packet, max_size=30))
def test_flows_equal_those_of_a_plain_builder_field_by_field(rows):
    table = distinct(rows)
    built = build_flows(table, ("", "vlan:1"), ((),))
    expected = slow_flows(table)
    assert len(built) == len(expected)
    for row, flow in zip(built.rows, expected, strict=True):
        assert row["start"] == flow[0]["time"]
        assert row["end"] == flow[-1]["time"]
        for name in ("scope", "version", "proto", "src_hi", "src_lo", "dst_hi", "dst_lo", "src_port", "dst_port"):
            assert row[name] == flow[0][name], name
        for number, side in enumerate(("src", "dst")):
            wanted = slow_side(flow, number)
            assert {name: row[f"{side}_{name}"].tolist() for name in wanted} == wanted


tcp_packet = st.fixed_dictionaries(
    {
        "way": st.sampled_from([0, 1]),
        "flags": st.sampled_from([2, 18, 16, 16, 17, 17, 4, 20, 20, 0, 3, 6, 5, 7]),
        "seq": st.sampled_from(SEQS),
        "ack": st.sampled_from([0, 1, 2, 11]),
        "payload": st.sampled_from([0, 0, 0, 1, 5]),
        "window": st.sampled_from([0, 1000, 1000]),
    }
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(tcp_packet, min_size=1, max_size=12), min_size=1, max_size=8))
def test_conn_state_and_history_equal_those_of_zeeks_state_machine(conversations):
    table = packets([row | {"aport": 5000 + n} for n, rows in enumerate(conversations) for row in rows])
    built = build_flows(table, ("",), ((),))
    for row, flow in zip(built.rows, slow_flows(table), strict=True):
        zeek = Zeek()
        for packet in flow:
            zeek.packet(*(packet["side"] == 0, *(packet[n] for n in ("flags", "seq", "ack", "payload", "window"))))
        story = [(p["side"], p["flags"], p["seq"], p["ack"], p["payload"], p["window"]) for p in flow]
        assert CONN_STATES[row["conn_state"]] == zeek.conn_state, story
        without_gaps = row["history"].decode().replace("G", "").replace("g", "")
        if len(row["history"]) < 40:
            assert without_gaps == zeek.history, story


@settings(max_examples=60, deadline=None)
@given(st.lists(a_packet, min_size=1, max_size=40), st.randoms())
def test_the_order_of_packets_in_the_table_changes_nothing(rows, shuffle: random.Random):
    table = distinct(rows)
    order = list(range(len(table)))
    shuffle.shuffle(order)
    shuffled = Packets({name: column[order] for name, column in table.columns.items()}, table.quotes)
    one, other = (build_flows(each, ("", "vlan:1"), ((),)) for each in (table, shuffled))
    assert one.rows.tobytes() == other.rows.tobytes()


@settings(max_examples=60, deadline=None)
@given(st.lists(a_packet, max_size=40))
def test_no_packet_and_no_byte_is_lost_or_counted_twice(rows):
    table = distinct(rows)
    flows = build_flows(table, ("", "vlan:1"), ((),)).rows
    ok = table["status"] == 0
    assert (flows["src_packets"].sum() + flows["dst_packets"].sum()) == ok.sum()
    for name, column in (("bytes", "ip_bytes"), ("payload", "payload")):
        assert flows[f"src_{name}"].sum() + flows[f"dst_{name}"].sum() == table[column][ok].sum()


def flows(rows):
    return build_flows(packets(rows), ("", "vlan:1"), ((),)).rows


def test_no_packets_make_no_flows():
    assert len(flows([])) == 0


def test_the_2007_pair_is_hr_and_rejected_and_answered_exactly():
    (row,) = flows(
        [
            {"way": 1, "f": "SA", "seq": 4257997451, "ack": 2934031229, "t": 0.731091, "window": 2048},
            {"way": 0, "f": "R", "seq": 2934031229, "t": 0.731429, "window": 0},
        ]
    )
    assert row["history"] == b"Hr"
    assert CONN_STATES[row["conn_state"]] == "REJ"
    assert (row["src_synacks"], row["dst_bare_rsts"], row["dst_exact_rsts"]) == (1, 1, 1)
    assert (row["src_synack_seq"], row["src_synack_ack"], row["dst_rst_seq"]) == (4257997451, 2934031229, 2934031229)


def test_the_sender_of_the_earliest_packet_is_src_even_if_it_lies_later_in_the_file():
    (row,) = flows([{"way": 0, "f": "SA", "t": 2}, {"way": 1, "f": "S", "t": 1}])
    assert (row["src_port"], row["dst_port"]) == (80, 1000)


def test_of_two_packets_at_one_time_the_one_that_lies_first_in_the_file_is_the_first():
    (row,) = flows([{"way": 0, "t": 1, "place": 500}, {"way": 1, "t": 1, "place": 24}])
    assert row["src_port"] == 80


def test_a_silence_as_long_as_the_timeout_keeps_a_flow_and_a_longer_one_ends_it():
    for proto, idle in ((6, 300), (17, 60), (1, 60)):
        assert len(flows([{"t": 0, "proto": proto}, {"t": idle, "proto": proto}])) == 1
        assert len(flows([{"t": 0, "proto": proto}, {"t": idle + 1e-6, "proto": proto}])) == 2


CLOSED = [
    {"f": "S", "seq": 1},
    {"f": "SA", "way": 1, "seq": 7, "ack": 2},
    {"f": "FA", "seq": 2, "ack": 8},
    {"f": "FA", "way": 1, "seq": 8, "ack": 3},
]
RESET = [{"f": "S", "seq": 1}, {"f": "RA", "way": 1, "seq": 0, "ack": 2}]


def test_a_syn_with_a_new_number_on_a_finished_or_reset_tuple_begins_a_flow():
    for before in (CLOSED, RESET):
        assert len(flows([*before, {"f": "S", "seq": 500}])) == 2
        assert len(flows([*before, {"f": "S", "seq": 1}])) == 1, "a retransmission"
        assert len(flows([*before, {"f": "SA", "way": 1, "seq": 500}])) == 1, "a SYN+ACK"


def test_a_syn_with_a_new_number_on_a_tuple_in_use_begins_none():
    assert len(flows([*CLOSED[:3], {"f": "S", "seq": 500}])) == 1


def test_a_conversation_that_goes_on_behind_an_rst_stays_one_flow():
    assert (
        len(flows([*CLOSED[:2], {"f": "R", "seq": 2}, {"f": "A", "seq": 2}, {"f": "PA", "seq": 2, "payload": 9}])) == 1
    )


def test_packets_from_an_endpoint_to_itself_are_all_of_src():
    (row,) = flows([{"b": "10.0.0.1", "bport": 1000, "f": "S"}, {"b": "10.0.0.1", "bport": 1000, "f": "SA", "way": 1}])
    assert (row["src_packets"], row["dst_packets"]) == (2, 0)


def test_scopes_keep_equal_tuples_apart():
    assert len(flows([{"scope": 0}, {"scope": 1}])) == 2


def test_later_fragments_are_a_flow_without_ports():
    whole, rest = flows([{"proto": 17}, {"proto": 17, "traits": 2, "aport": 0, "bport": 0}])
    assert (whole["has_ports"], rest["has_ports"]) == (1, 0)


def test_an_rst_answers_a_synack_up_to_three_seconds_ahead_of_it():
    for late, exact in ((3, 1), (3.000001, 0)):
        (row,) = flows([{"f": "R", "seq": 9, "t": 1}, {"f": "SA", "way": 1, "ack": 9, "t": 1 + late}])
        assert row["src_exact_rsts"] == exact


def test_an_icmp_error_keeps_each_tuple_that_it_quotes_once():
    quoted = {
        "version": 4,
        "proto": 6,
        "has_ports": 1,
        "src_lo": 1,
        "dst_lo": 2,
        "src_port": 5,
        "dst_port": 80,
        "seq": 77,
    }
    error = {"proto": 1, "aport": 3, "bport": 1, "traits": HAS_PORTS | ONE_WAY, "icmp_type": 3, "icmp_code": 1}
    rows = [
        error | {"quoted": quoted},
        error | {"quoted": quoted | {"dst_port": 81}},
        error | {"quoted": quoted | {"seq": 78}},
    ]
    table = build_flows(packets(rows), ("",), ((),))
    assert len(table) == 1
    assert table.quotes["dst_port"].tolist() == [80, 81]
    assert table.quotes["count"].tolist() == [2, 1]
    assert table.quotes["seq"].tolist() == [77, 77]
    assert table.rows["quote"].tolist() == [0]


def test_keys_that_collide_in_the_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr("backscatter.flow.conversation.STIR", np.uint64(0))
    rows = [{"aport": 1 + i % 7, "way": i % 2, "t": i} for i in range(50)]
    table = packets(rows)
    assert len(build_flows(table, ("",), ((),))) == len(slow_flows(table)) == 7


def test_histories_are_cut_at_forty_letters():
    rows = [{"f": "R", "seq": i, "way": i % 2} for i in range(100)]
    (row,) = flows(rows)
    assert row["history"] == b"Rr" * 20


def test_retransmissions_are_told_at_the_first_the_tenth_and_the_hundredth():
    rows = [{"f": "PA", "seq": 5, "payload": 3, "t": i / 100} for i in range(112)]
    (row,) = flows(rows)
    assert row["history"] == b"DTTT"


def test_udp_has_one_letter_a_side_and_icmp_none():
    udp, icmp = flows([{"proto": 17}, {"proto": 17}, {"proto": 17, "way": 1}, {"proto": 1}])
    assert (udp["history"], icmp["history"], icmp["conn_state"]) == (b"Dd", b"", 0)


def test_times_far_apart_do_not_disturb_each_other():
    rows = [{"f": "S", "t": 0}, {"f": "S", "t": 4 * 10**9}]
    assert [row["end"] // SECOND for row in flows(rows)] == [0, 4 * 10**9]


def test_columns_at_their_limits_never_fail():
    """Captures are hostile: every number may be as large or as small as its column holds."""
    chance = np.random.default_rng(5)
    for _ in range(20):
        count = int(chance.integers(1, 100))
        table = packets([{}] * count)
        for name in ("time", "seq", "ack", "window", "flags", "ttl", "speech", "icmp_type", "icmp_code", "traits"):
            column = table.columns[name]
            limits = np.iinfo(column.dtype)
            column[:] = chance.choice(np.array([limits.min, limits.max, 0, 1, 4, 18], column.dtype), count)
        table.columns["payload"][:] = chance.choice([0, 1, 65535, 2**31], count)
        table.columns["proto"][:] = chance.choice([1, 6, 17, 47, 58], count)
        flows = build_flows(table, ("",), ((),)).rows
        assert flows["src_packets"].sum() + flows["dst_packets"].sum() == count
