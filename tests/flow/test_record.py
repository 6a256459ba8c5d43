"""Flows as JSON, and the filters that pick them."""

from __future__ import annotations

import ipaddress
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.flow.made import packets

from backscatter.decode.columns import HAS_PORTS, NON_IP, ONE_WAY
from backscatter.errors import RequestError
from backscatter.flow.build import build_flows
from backscatter.flow.filter import Filter, parse_proto, parse_time
from backscatter.flow.record import flag_letters, flow_records, rfc3339
from backscatter.flow.table import FlowTable

SCOPES = ("", "vlan:7")
QUOTED = {
    "version": 4,
    "proto": 6,
    "has_ports": 1,
    "src_lo": 0x0A000001,
    "dst_lo": 0x0A000002,
    "src_port": 5,
    "dst_port": 80,
}
ROWS = [
    {"way": 1, "f": "SA", "seq": 4257997451, "ack": 2934031229, "t": 1174413859.5, "window": 2048},
    {"way": 0, "f": "R", "seq": 2934031229, "t": 1174413860},
    {
        "proto": 17,
        "a": "2001:db8::1",
        "b": "2001:db8::2",
        "aport": 53,
        "bport": 53,
        "scope": 1,
        "payload": 9,
        "t": 1174413861,
    },
    {
        "proto": 1,
        "aport": 3,
        "bport": 1,
        "traits": HAS_PORTS | ONE_WAY,
        "icmp_type": 3,
        "icmp_code": 1,
        "quoted": QUOTED,
        "t": 1174413862,
    },
    {"proto": 47, "traits": 0, "aport": 0, "bport": 0, "tunnels": 1, "t": 1174413863},
]
CONTRACT = [
    "start",
    "end",
    "proto",
    "src_ip",
    "src_port",
    "dst_ip",
    "dst_port",
    "icmp_type",
    "icmp_code",
    "scope",
    "tunnels",
    "src_packets",
    "dst_packets",
    "src_bytes",
    "dst_bytes",
    "src_payload",
    "dst_payload",
    "src_flags",
    "dst_flags",
    "history",
    "conn_state",
    "community_id",
    "quoted",
    "tcp",
]


def table() -> FlowTable:
    return build_flows(packets(ROWS), SCOPES, ((), ("geneve", "vxlan")))


def test_records_have_the_fields_of_the_contract_in_its_order():
    for record in flow_records(table()):
        assert list(record) == CONTRACT
        assert json.loads(json.dumps(record)) == record


def test_a_tcp_flow_is_printed_with_its_numbers():
    record = next(flow_records(table()))
    none = {"syn_seq": None, "synack_seq": None, "synack_ack": None, "rst_seq": None, "rst_ack": None}
    assert record | {"community_id": ""} == {
        "start": "2007-03-20T18:04:19.500000000Z",
        "end": "2007-03-20T18:04:20.000000000Z",
        "proto": "tcp",
        "src_ip": "10.0.0.2",
        "src_port": 80,
        "dst_ip": "10.0.0.1",
        "dst_port": 1000,
        "icmp_type": None,
        "icmp_code": None,
        "scope": "",
        "tunnels": [],
        "src_packets": 1,
        "dst_packets": 1,
        "src_bytes": 40,
        "dst_bytes": 40,
        "src_payload": 0,
        "dst_payload": 0,
        "src_flags": "SA",
        "dst_flags": "R",
        "history": "Hr",
        "conn_state": "REJ",
        "community_id": "",
        "quoted": None,
        "tcp": {
            "src": none | {"synack_seq": 4257997451, "synack_ack": 2934031229},
            "dst": none | {"rst_seq": 2934031229, "rst_ack": 0},
        },
    }


def test_what_a_protocol_does_not_have_is_null():
    _, udp, icmp, gre = flow_records(table())
    assert (udp["src_ip"], udp["src_port"], udp["scope"], udp["src_payload"]) == ("2001:db8::1", 53, "vlan:7", 9)
    assert (udp["src_flags"], udp["conn_state"], udp["tcp"], udp["icmp_type"]) == (None, None, None, None)
    assert (icmp["src_port"], icmp["dst_port"], icmp["icmp_type"], icmp["icmp_code"]) == (None, None, 3, 1)
    assert icmp["quoted"] == {"proto": "tcp", "src_ip": "10.0.0.1", "src_port": 5, "dst_ip": "10.0.0.2", "dst_port": 80}
    assert (gre["proto"], gre["src_port"], gre["tunnels"]) == ("47", None, ["geneve", "vxlan"])


def test_the_sensor_is_told_only_where_there_are_several():
    both = FlowTable.joined([build_flows(packets(ROWS), SCOPES, ((), ()), sensor=name) for name in ("one", "two")])
    assert [record["sensor"] for record in flow_records(both)] == ["one", "two"] * 4
    assert [record["quoted"] is not None for record in flow_records(both)] == [False] * 4 + [True] * 2 + [False] * 2


def test_selected_flows_keep_their_own_quotes():
    error = ROWS[3]
    rows = [error | {"aport": kind, "quoted": QUOTED | {"src_port": kind}, "t": kind} for kind in (3, 4, 5, 11)]
    whole = build_flows(packets(rows), SCOPES, ((),))
    picked = whole.select(whole.rows["src_port"] >= 5)
    assert [record["quoted"]["src_port"] for record in flow_records(picked)] == [5, 11]
    backwards = whole.select(whole.rows["start"].argsort()[::-1])
    assert [record["quoted"]["src_port"] for record in flow_records(backwards)] == [11, 5, 4, 3]
    assert backwards.quotes["src_port"].tolist() == [11, 5, 4, 3]


def test_flags_are_letters_in_the_order_of_the_contract():
    assert flag_letters(0x12) == "SA"
    assert flag_letters(0xFF) == "FSRPAUEC"
    assert flag_letters(0) == ""


@given(st.integers(0, 4 * 10**18))
def test_times_are_read_as_they_are_printed(time):
    text = rfc3339(time)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", text)
    assert parse_time(text) == time
    assert parse_time(f"{time // 10**9}.{time % 10**9:09}") == time


def test_times_with_a_zone_and_without_a_fraction_are_read():
    assert parse_time("2007-03-20T19:04:19+01:00") == parse_time("2007-03-20 18:04:19Z") == 1174413859 * 10**9


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2007-03-20", "2007-03-20T18:04:19", "2007-13-20T18:04:19Z", "-5", "1e9", "٣"]
)
def test_what_is_no_time_is_refused_with_an_example(text):
    with pytest.raises(RequestError, match="is no time"):
        parse_time(text)


def test_protocols_are_read_by_name_and_number():
    assert [parse_proto(text) for text in ("TCP", "17", "icmp6", "58", "47")] == ["tcp", "udp", "icmp6", "icmp6", "47"]
    for text in ("256", "tcpp", "", "-1"):
        with pytest.raises(RequestError, match="is no protocol"):
            parse_proto(text)


def networks(*texts):
    return tuple(ipaddress.ip_network(text) for text in texts)


FILTERS = [
    (Filter(), [0, 1, 2, 3]),
    (Filter(hosts=networks("10.0.0.1")), [0, 2, 3]),
    (Filter(hosts=networks("2001:db8::/32", "192.0.2.0/24")), [1]),
    (Filter(hosts=networks("::/0")), [1]),
    (Filter(hosts=networks("0.0.0.0/0")), [0, 2, 3]),
    (Filter(ports=(80,)), [0]),
    (Filter(ports=(3, 1)), []),  # ICMP types are no ports
    (Filter(ports=(0,)), []),
    (Filter(ports=(80, 53)), [0, 1]),
    (Filter(protos=("icmp", "47")), [2, 3]),
    (Filter(protos=("tcp",), ports=(53,)), []),
    (Filter(scopes=("",)), [0, 2, 3]),
    (Filter(scopes=("vlan:7", "vni:1")), [1]),
    (Filter(since=1174413862 * 10**9), [2, 3]),
    (Filter(until=1174413861 * 10**9), [0, 1]),
    (Filter(since=1174413859_600000000, until=1174413859_700000000), [0]),
    (Filter(communities=("1:lWJQYXirSlmWE2qTFPykhczY8U4=",)), [0]),
]


@pytest.mark.parametrize(("chosen", "kept"), FILTERS)
def test_filters_keep_flows_that_agree_to_all_of_them(chosen, kept):
    assert chosen.flows(table()).nonzero()[0].tolist() == kept


@pytest.mark.parametrize(("chosen", "kept"), [(chosen, kept) for chosen, kept in FILTERS if chosen.since is None])
def test_filters_keep_the_packets_of_the_flows_that_they_keep(chosen, kept):
    flow_of = [0, 0, 1, 2, 3]
    mask = chosen.packets(packets(ROWS), SCOPES)
    assert [flow_of[i] for i in mask.nonzero()[0]] == [flow_of[i] for i in range(5) if flow_of[i] in kept]


def test_packets_are_kept_by_their_own_time():
    assert Filter(since=1174413860 * 10**9).packets(packets(ROWS), SCOPES).tolist() == [False, True, True, True, True]


def test_packets_that_are_no_ip_pass_only_filters_by_time():
    one = packets([{"status": NON_IP, "version": 0, "traits": 0, "aport": 0, "bport": 0, "t": 5}])
    assert Filter(since=0).packets(one, SCOPES).tolist() == [True]
    assert Filter(scopes=("",)).packets(one, SCOPES).tolist() == [False]


def test_only_a_filter_that_asks_for_nothing_is_empty():
    assert Filter().is_empty
    assert not Filter(since=0).is_empty
    assert not Filter(scopes=("",)).is_empty
