"""Community ids against the package of those who specified them."""

from __future__ import annotations

import ipaddress

import communityid
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.flow.made import packets

from backscatter.decode.columns import HAS_PORTS, ONE_WAY
from backscatter.flow.address import Address
from backscatter.flow.build import build_flows
from backscatter.flow.community import community_id, community_ids

v4 = st.ip_addresses(v=4)
v6 = st.ip_addresses(v=6)
pair = st.one_of(st.tuples(v4, v4), st.tuples(v6, v6))
port = st.one_of(st.integers(0, 65535), st.integers(0, 150))


def address(ip) -> Address:
    return Address.parse(str(ip))


@settings(max_examples=500)
@given(pair, st.sampled_from([1, 6, 17, 58, 132]), port, port)
def test_ids_of_protocols_with_ports_are_those_of_the_package(ends, proto, sport, dport):
    if proto in (1, 58):
        sport, dport = sport % 256, dport % 256
    src, dst = ends
    theirs = communityid.CommunityID().calc(communityid.FlowTuple(proto, src.packed, dst.packed, sport, dport))
    assert community_id(proto, address(src), address(dst), sport, dport) == theirs


@given(pair, st.integers(0, 255).filter(lambda proto: proto not in (1, 6, 17, 58, 132)))
def test_ids_of_other_protocols_are_those_of_the_package(ends, proto):
    src, dst = ends
    theirs = communityid.CommunityID().calc(communityid.FlowTuple(proto, src.packed, dst.packed))
    assert community_id(proto, address(src), address(dst), None, None) == theirs


@given(pair, st.sampled_from([6, 17, 132]), port, port)
def test_both_directions_have_one_id(ends, proto, sport, dport):
    src, dst = map(address, ends)
    assert community_id(proto, src, dst, sport, dport) == community_id(proto, dst, src, dport, sport)


@pytest.mark.parametrize(
    ("port", "expected"), [(1024, "1:0SMa70aty2e1lVvIdRUl+DXfuJs="), (3072, "1:e9p/RECR8m+Y30v9rkqUQ0waKPs=")]
)
def test_the_conversations_of_2007_have_their_published_ids(port, expected):
    local, remote = map(Address.parse, ("69.143.202.28", "193.109.122.67"))
    assert community_id(6, remote, local, 6667, port) == expected


def test_what_has_ports_has_no_id_without_them():
    ends = address(ipaddress.ip_address("10.0.0.1")), address(ipaddress.ip_address("10.0.0.2"))
    assert [community_id(proto, *ends, None, None) for proto in (1, 6, 17, 58, 132)] == [None] * 5


def test_a_table_has_one_id_a_flow():
    rows = [
        {"f": "S"},
        {"proto": 1, "aport": 8, "bport": 0, "t": 1},
        {"proto": 1, "aport": 8, "bport": 0, "way": 1, "t": 2},
        {"proto": 1, "aport": 3, "bport": 1, "traits": HAS_PORTS | ONE_WAY, "t": 3},
        {"proto": 17, "traits": 2, "aport": 0, "bport": 0, "t": 4},
        {"proto": 47, "traits": 0, "aport": 0, "bport": 0, "t": 5},
    ]
    ends = ("10.0.0.1", "10.0.0.2")
    calc = communityid.CommunityID().calc
    assert community_ids(build_flows(packets(rows), ("",), ((),))) == [
        calc(communityid.FlowTuple.make_tcp(*ends, 1000, 80)),
        calc(communityid.FlowTuple.make_icmp(*ends, 8, 0)),
        calc(communityid.FlowTuple.make_icmp(*ends, 3, 1)),
        None,
        calc(communityid.FlowTuple(47, *ends)),
    ]
