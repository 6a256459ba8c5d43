"""Every conversation that tshark found in captures which others made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.conftest import SHARED
from tests.decode.oracle import decoded, ours, text, theirs

if TYPE_CHECKING:
    from pathlib import Path

ORACLES = sorted((SHARED / "captures" / "oracle").glob("*.flows.json"))

#: Captures of which no conversation is compared, with the reason.
OUT_OF_SCOPE = {
    "libtrace__10_packets.tsh.gz": "TSH is no container that we read",
    "libtrace__provenance.erf": "ERF is no container that we read",
}

#: (capture, directed conversation) of which both sides are left out of the comparison, with the reason.
EXCEPT = {
    ("nDPI__fuzz-2006-09-29-28586.pcap", "172.20.3.5", 2605, "172.20.3.13", 80): (
        "an IP header claims 9587 bytes in a frame of 1514: we count by the header's field, tshark by the frame"
    ),
    ("tcpdump__rpki-rtr-oobr.pcap", "19.128.128.20", 323, "76.19.6.127", 49600): (
        "an IP header claims 62 bytes in a frame with room for 50: we count by the header's field"
    ),
    ("zeek__gtp1_gn_normal_incl_fragmentation.pcap", "10.131.47.185", 1923, "79.101.110.141", 80): (
        "packets whose tunnel was fragmented: we count their payload by their own header's field, tshark by the frame"
    ),
    ("zeek__gtp1_gn_normal_incl_fragmentation.pcap", "79.101.110.141", 80, "10.131.47.185", 1923): (
        "the other direction of the same"
    ),
    ("sv__smtp-to-comma-10.7.29.101_49898-178.63.41.150_25.pcap", "10.7.29.101", 49898, "178.63.41.150", 25): (
        "tshark stops at the damage of the file (a header claims 3.9 GB); 180 packets behind it are read"
    ),
    ("sv__smtp-to-comma-10.7.29.101_49898-178.63.41.150_25.pcap", "178.63.41.150", 25, "10.7.29.101", 49898): (
        "the other direction of the same"
    ),
    ("sv__bug-6875-01-fuzz.pcap", "192.168.0.0", 256, "0.0.16.64", 0): (
        "a fuzzed file that tshark takes for a modified pcap; its first record is Ethernet with IP and TCP in it"
    ),
}


def name_of(oracle: Path) -> str:
    return oracle.name.removesuffix(".flows.json")


@pytest.mark.parametrize("oracle", [o for o in ORACLES if name_of(o) not in OUT_OF_SCOPE], ids=name_of)
def test_conversations_are_those_of_tshark(oracle, captures):
    name = name_of(oracle)
    packets, _ = decoded(captures / name)
    for number, proto in ((6, "tcp"), (17, "udp")):
        mine, expected = ours(packets, number), theirs(oracle, proto)
        for excepted in (key[1:] for key in EXCEPT if key[0] == name):
            mine.pop(excepted, None)
            expected.pop(excepted, None)
        if proto == "udp":  # the oracle has neither flags nor payload for UDP
            mine = {key: row["packets"] for key, row in mine.items()}
            expected = {key: row["packets"] for key, row in expected.items()}
        assert mine == expected


@pytest.mark.parametrize("key", EXCEPT, ids=lambda key: f"{key[0]} {key[1]}")
def test_what_is_left_out_of_the_comparison_does_differ(key, captures):
    """An exception that is no longer needed has to go."""
    name, *conversation = key
    packets, _ = decoded(captures / name)
    oracle = captures / "oracle" / f"{name}.flows.json"
    different = False
    for number, proto in ((6, "tcp"), (17, "udp")):
        mine, expected = ours(packets, number).get(tuple(conversation)), theirs(oracle, proto).get(tuple(conversation))
        if proto == "udp" and mine and expected:
            different |= mine["packets"] != expected["packets"]
        else:
            different |= mine != expected
    assert different


@pytest.mark.parametrize(
    "oracle",
    [o for o in ORACLES if name_of(o) not in OUT_OF_SCOPE and json.loads(o.read_text())["icmp_errors"]],
    ids=name_of,
)
def test_icmp_errors_quote_what_tshark_reads_in_them(oracle, captures):
    name = name_of(oracle)
    packets, _ = decoded(captures / name)
    mine = {}
    for quote in packets.quotes:
        index, version = int(quote["packet"]), int(quote["version"])
        ports = (
            (int(quote["src_port"]), int(quote["dst_port"]))
            if quote["has_ports"] and quote["proto"] in {6, 17}
            else (None, None)
        )
        mine[index] = (
            int(packets["icmp_type"][index]),
            int(packets["icmp_code"][index]),
            text(version, int(quote["src_hi"]), int(quote["src_lo"])),
            text(version, int(quote["dst_hi"]), int(quote["dst_lo"])),
            *ports,
        )
        assert packets["quote"][index] >= 0
    expected = {}
    for error in json.loads(oracle.read_text())["icmp_errors"]:
        quoted = error["quoted"]
        expected[error["frame"] - 1] = (
            error["type"],
            error["code"],
            quoted["src"],
            quoted["dst"],
            quoted.get("sport"),
            quoted.get("dport"),
        )
    assert mine == expected


def test_a_mirror_session_is_the_scope_of_what_it_mirrors(captures):
    _, decoder = decoded(captures / "sv__vxlan-decoder-03-vxlan.pcap")
    assert decoder.scopes.values == ["", "vni:5569041"]
    assert decoder.tunnels.values == [(), ("vxlan",)]
