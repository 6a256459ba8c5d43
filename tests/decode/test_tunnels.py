"""Every tunnel leads to the packet in it, and what is no tunnel stays a packet. Headers are written byte by byte."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.decode.test_decoder import SYNACK, has, one
from tests.decode.test_link import MACS, PPP, labels

from backscatter.decode.columns import NO_FLAGS, OK
from backscatter.decode.decoder import Decoder
from backscatter.decode.tunnels import BY_UDP_PORT, DEPTH
from backscatter.demo.wire import ether, geneve, ip, tcp, udp, vxlan

SIX = tcp("2001:db8::1", 5, "2001:db8:ffff::2", 6, "S")
FRAME = ether(SYNACK)
A, B, A6, B6 = "10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"


def gre(kind, inside, *, flags=0, rest=b""):
    return ip(A, B, 47, struct.pack(">HH", flags, kind) + rest + inside)


def over_udp(port, payload):
    return udp(A, 40000, B, port, payload)


def gtp(inside, *, flags=0x30, rest=b"", kind=0xFF):
    return over_udp(2152, struct.pack(">BBHI", flags, kind, len(rest + inside), 7) + rest + inside)


def gpe(kind, inside, flags=0x0C):
    return over_udp(4790, struct.pack(">BHBI", flags, 0, kind, 7 << 8) + inside)


def l2tp(inside, flags, rest=b""):
    length = struct.pack(">H", len(inside) + len(rest) + 8) if flags & 0x4000 else b""
    return over_udp(1701, struct.pack(">H", flags | 2) + length + b"\0\1\0\2" + rest + inside)


#: (what it is, the packet, the tunnels in it, the scope)
TUNNELS = [
    ("IPv4 in IPv4", ip(A, B, 4, SYNACK), ("ipip",), ""),
    ("IPv4 in IPv6", ip(A6, B6, 4, SYNACK), ("ipip",), ""),
    ("GRE", gre(0x0800, SYNACK), ("gre",), ""),
    ("GRE with everything", gre(0x0800, SYNACK, flags=0xB000, rest=bytes(12)), ("gre",), ""),
    ("GRE with routes", gre(0x0800, SYNACK, flags=0x4000, rest=bytes(7) + b"\4" + bytes(4) + bytes(4)), ("gre",), ""),
    ("GRE with Ethernet", gre(0x6558, FRAME), ("gre",), ""),
    ("GRE with a VLAN", gre(0x6558, ether(SYNACK, vlan=(5,))), ("gre",), ""),
    ("GRE with MPLS", gre(0x8847, labels(16) + SYNACK), ("gre",), ""),
    ("GRE with PPP", gre(0x880B, b"\xff\x03" + PPP + SYNACK, flags=0x2001, rest=bytes(4)), ("gre",), ""),
    ("PPTP with numbers", gre(0x880B, PPP + SYNACK, flags=0x3081, rest=bytes(12)), ("gre",), ""),
    ("GRE in UDP", over_udp(4754, b"\0\0\x08\0" + SYNACK), ("gre",), ""),
    ("ERSPAN I", gre(0x88BE, FRAME), ("erspan",), ""),
    ("ERSPAN II", gre(0x88BE, bytes(8) + FRAME, flags=0x1000, rest=bytes(4)), ("erspan",), ""),
    ("ERSPAN III", gre(0x22EB, b"\x20" + bytes(11) + FRAME, flags=0x1000, rest=bytes(4)), ("erspan",), ""),
    (
        "ERSPAN III with a subheader",
        gre(0x22EB, b"\x20" + bytes(10) + b"\1" + bytes(8) + FRAME, flags=0x1000, rest=bytes(4)),
        ("erspan",),
        "",
    ),
    ("ERSPAN III with IP", gre(0x22EB, b"\x20" + bytes(9) + b"\x08\0" + SYNACK), ("erspan",), ""),
    ("VXLAN", vxlan(FRAME, 7), ("vxlan",), "vni:7"),
    ("VXLAN with MPLS", vxlan(MACS + b"\x88\x47" + labels(16) + SYNACK, 7), ("vxlan",), "vni:7"),
    ("VXLAN-GPE with IP", gpe(1, SYNACK), ("vxlan",), "vni:7"),
    ("VXLAN-GPE with Ethernet", gpe(3, FRAME), ("vxlan",), "vni:7"),
    ("VXLAN-GPE with NSH", gpe(4, b"\x0f\xc2\2\3" + bytes(4) + FRAME), ("vxlan",), "vni:7"),
    ("VXLAN-GPE with MPLS", gpe(5, labels(16) + SYNACK), ("vxlan",), "vni:7"),
    ("VXLAN-GPE that names nothing", gpe(0xFF, FRAME, flags=0xFB), ("vxlan",), "vni:7"),
    ("VXLAN-GPE without its bit", gpe(1, SYNACK, flags=0x08), ("vxlan",), "vni:7"),
    ("GENEVE with options", geneve(FRAME, 7, options=bytes(40)), ("geneve",), "vni:7"),
    ("GENEVE with a VLAN", geneve(ether(SYNACK, vlan=(5,)), 7), ("geneve",), "vni:7"),
    ("GTP-U", gtp(SYNACK), ("gtp",), ""),
    ("GTP-U with a number", gtp(SYNACK, flags=0x32, rest=bytes(4)), ("gtp",), ""),
    (
        "GTP-U with extensions",
        gtp(SYNACK, flags=0x34, rest=bytes(3) + b"\x85\2" + bytes(6) + b"\x40\1\0\0\0"),
        ("gtp",),
        "",
    ),
    ("L2TPv2", l2tp(b"\xff\x03" + PPP + SYNACK, 0), ("l2tp",), ""),
    ("L2TPv2 with everything", l2tp(PPP + SYNACK, 0x4A00, bytes(4) + b"\0\3abc"), ("l2tp",), ""),
    ("L2TPv3 in UDP", over_udp(1701, b"\0\3\0\0\0\0\0\7" + FRAME), ("l2tp",), ""),
    ("L2TPv3", ip(A, B, 115, b"\0\0\0\7" + FRAME), ("l2tp",), ""),
    ("L2TPv3 with a cookie", ip(A, B, 115, b"\0\0\0\7" + b"cookies!" + FRAME), ("l2tp",), ""),
    ("L2TPv3 with a sublayer and a VLAN", ip(A, B, 115, b"\0\0\0\7" + bytes(4) + ether(SYNACK, vlan=(5,))), ("l2tp",), ""),
    ("LISP", over_udp(4341, b"\x80" + bytes(7) + SYNACK), ("lisp",), ""),
    ("EtherIP", ip(A, B, 97, b"\x30\0" + FRAME), ("etherip",), ""),
    ("MPLS in IP", ip(A, B, 137, labels(16) + SYNACK), ("mpls",), ""),
    ("MPLS in UDP", over_udp(6635, labels(16) + SYNACK), ("mpls",), ""),
    ("NSH in UDP", over_udp(6633, b"\x0f\xc2\2\1" + bytes(4) + SYNACK), ("nsh",), ""),
    ("behind AH", ip(A, B, 51, struct.pack(">BB", 4, 4) + bytes(22) + SYNACK), ("ipip",), ""),
    ("an answer from the tunnel's port", udp(B, 2152, A, 40000, gtp(SYNACK)[28:]), ("gtp",), ""),
    (
        "all at once",
        geneve(ether(vxlan(ether(gre(0x88BE, bytes(8) + ether(gtp(ip(A, B, 4, SYNACK))), flags=0x1000, rest=bytes(4))), 9)), 7),
        ("geneve", "vxlan", "erspan", "gtp", "ipip"),
        "vni:9",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("packet", "names", "scope"), [row[1:] for row in TUNNELS], ids=[row[0] for row in TUNNELS])
def test_every_tunnel_leads_to_the_packet_in_it(packet, names, scope):
    has(one(ether(packet)), status=OK, tunnels=names, scope=scope, src="193.109.122.67", src_port=6667, ip_bytes=40)


@pytest.mark.parametrize(
    ("packet", "names"),
    [
        (ip(A, B, 41, SIX), ("ipip",)),
        (ip(A6, B6, 41, SIX), ("ipip",)),
        (gre(0x86DD, SIX), ("gre",)),
        (gtp(SIX), ("gtp",)),
        (gpe(2, SIX), ("vxlan",)),
        (over_udp(4341, bytes(8) + SIX), ("lisp",)),
        (over_udp(3544, SIX), ("teredo",)),
        (over_udp(3544, b"\0\0\x12\x34abcd" + SIX), ("teredo",)),
        (over_udp(3544, b"\0\1\4\4" + b"user" + b"auth" + bytes(9) + b"\0\0\x12\x34abcd" + SIX), ("teredo",)),
    ],
)
def test_ipv6_is_found_in_tunnels_too(packet, names):
    has(one(ether(packet)), status=OK, tunnels=names, version=6, src="2001:db8::1", src_port=5, ip_bytes=60)


@pytest.mark.parametrize(
    "packet",
    [
        gtp(SYNACK, kind=1),
        gtp(SYNACK, flags=0x50),
        gtp(b"", flags=0x30),
        gtp(SYNACK, flags=0x34, rest=bytes(3) + b"\x85\0"),
        l2tp(PPP + SYNACK, 0xC000),
        l2tp(b"\xc0\x21" + SYNACK, 0),
        over_udp(3544, SYNACK),
        over_udp(4341, b"\x80" + bytes(7) + b"text"),
        over_udp(4754, b"\0\0\x12\x34" + SYNACK),
        over_udp(6635, b"labels without an end" * 3),
        over_udp(6633, b"\0" * 60),
        gpe(9, FRAME),
        vxlan(MACS + b"\x08\x06" + bytes(28), 7),
        geneve(bytes(60), 7, kind=0x1234),
    ],
)
def test_a_datagram_to_a_tunnels_port_that_is_no_tunnel_stays_a_datagram(packet):
    row = one(ether(packet, vlan=(6,)))
    has(row, status=OK, tunnels=(), scope="vlan:6", proto=17, payload=len(packet) - 28)
    assert row["dst_port"] in BY_UDP_PORT


@pytest.mark.parametrize(
    ("packet", "proto"),
    [
        (ip(A, B, 47, b"\0\0\x88\x0b1234"), 47),
        (ip(A, B, 47, b"\x20\2\x08\0" + SYNACK), 47),
        (gre(0x0800, SYNACK, flags=0x4000, rest=bytes(7) + b"\1"), 47),
        (gre(0x22EB, bytes(6)), 47),
        (ip(A, B, 50, bytes(40)), 50),
        (ip(A, B, 97, b"\x40\0" + FRAME), 97),
        (ip(A, B, 115, bytes(4) + FRAME), 115),
        (ip(A, B, 115, b"\0\0\0\7" + b"no frame that anybody knows of"), 115),
        (ip(A, B, 4, b"no packet"), 4),
        (ip(A6, B6, 41, SYNACK), 41),
    ],
)
def test_a_packet_of_a_tunnels_protocol_that_is_no_tunnel_stays_a_packet_without_ports(packet, proto):
    has(one(ether(packet)), status=OK, tunnels=(), proto=proto, traits=0, payload=0)


def test_later_fragments_are_no_tunnels():
    has(one(ether(ip(A, B, 4, SYNACK, fragment=9))), tunnels=(), proto=4)


@pytest.mark.parametrize(
    "wrap", [lambda p: gre(0x0800, p), gtp, lambda p: vxlan(ether(p), 7), lambda p: ip(A, B, 4, p)]
)
def test_every_tunnel_is_followed_to_the_same_depth(wrap):
    packet = SYNACK
    for _ in range(DEPTH):
        packet = wrap(packet)
    row = one(ether(packet))
    has(row, src="193.109.122.67")
    assert len(row["tunnels"]) == DEPTH
    assert one(ether(wrap(packet)))["tunnels"] == row["tunnels"]


@pytest.mark.parametrize(("packet", "names", "scope"), [row[1:] for row in TUNNELS], ids=[row[0] for row in TUNNELS])
def test_padding_behind_a_tunnel_is_not_read(packet, names, scope):
    """The outer header ends in the inner one: what a trailer adds was never in the tunnel."""
    outer_ends = len(packet) - 26
    damaged = bytearray(packet[:outer_ends])
    if packet[0] >> 4 == 4:
        damaged[2:4] = struct.pack(">H", outer_ends)
    else:
        damaged[4:6] = struct.pack(">H", outer_ends - 40)
    row = one(ether(bytes(damaged)) + packet[outer_ends:])
    assert row["tunnels"] != names or row["src_port"] == 0


@pytest.mark.parametrize("vectorised", [True, False])
def test_ports_and_flags_behind_the_end_of_a_tunnel_are_unknown(vectorised):
    """A mirror that cuts packets looks like this; here the trailer has what a host never saw."""
    whole = vxlan(FRAME, 7)
    cut = bytearray(whole)
    cut[2:4], cut[24:26] = struct.pack(">H", len(whole) - 18), struct.pack(">H", len(whole) - 38)
    row = one(ether(bytes(cut)), decoder=Decoder(vectorised=vectorised))
    has(row, scope="vni:7", src="193.109.122.67", ip_bytes=40, src_port=0, flags=0, traits=NO_FLAGS)


WRAPS = st.sampled_from([
    lambda p: gre(0x0800, p),
    lambda p: gre(0x6558, ether(p, vlan=(3, 4))),
    lambda p: gre(0x88BE, bytes(8) + ether(p), flags=0x1000, rest=bytes(4)),
    lambda p: vxlan(ether(p), 7),
    lambda p: geneve(ether(p), 8, options=bytes(12)),
    lambda p: gtp(p, flags=0x34, rest=bytes(3) + b"\x85\1\0\0\0"),
    lambda p: ip(A, B, 4, p),
    lambda p: ip(A6, B6, 4, p),
    lambda p: l2tp(PPP + p, 0x4000),
    lambda p: ip(A, B, 137, labels(16, 17) + bytes(4) + ether(p)),
])  # fmt: skip


@given(
    wraps=st.lists(WRAPS, max_size=DEPTH),
    cut=st.integers(0, 30),
    noise=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=4),
)
@settings(deadline=None, max_examples=150)
def test_tunnels_in_tunnels_open_in_any_order_and_no_damage_makes_them_raise(wraps, cut, noise):
    # IPv4 in IPv6 in IPv4 needs another protocol number: only what says what it carries may be around IPv6
    packet, count = SYNACK, 0
    for wrap in wraps:
        if packet[0] >> 4 == 4:
            packet, count = wrap(packet), count + 1
    row = one(ether(packet))
    has(row, status=OK, src="193.109.122.67", src_port=6667)
    assert len(row["tunnels"]) == count
    damaged = bytearray(packet[: len(packet) - cut])
    for at, value in noise:
        if at < len(damaged):
            damaged[at] = value
    assert one(ether(bytes(damaged) or b"\0"))["payload"] >= 0
