"""Packets made from numbers decode to what they were made from."""

import io
import ipaddress
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscatter.capture.reader import open_capture
from backscatter.decode import fragments
from backscatter.decode.columns import (
    FRAGMENT,
    HAS_PORTS,
    MOST_PIECES,
    NO_FLAGS,
    NON_IP,
    OK,
    ONE_WAY,
    PACKET,
    PLACE_BITS,
    UNDECODABLE,
)
from backscatter.decode.decoder import Decoder
from backscatter.demo import wire
from backscatter.demo.wire import ether, geneve, icmp, icmp_error, ip, pcap, tcp, udp, vxlan

T = 1174413859731091000


def decode(frames, *, linktype=wire.ETHERNET, snaplen=262144, decoder=None, step=1000):
    """The packets of some frames, with the decoder that read them."""
    decoder = decoder or Decoder()
    data = pcap([(T + i * step, frame) for i, frame in enumerate(frames)], linktype=linktype, snaplen=snaplen)
    (block,) = open_capture(io.BytesIO(data), "x").blocks()
    return decoder.decode(block, 3), decoder


def one(frame, **how):
    """The columns of a single packet as a plain dict, with the names of scope and tunnels."""
    packets, decoder = decode([frame], **how)
    row = {name: packets[name][0].item() for name in PACKET}
    row["src"] = address(row["version"], row["src_hi"], row["src_lo"])
    row["dst"] = address(row["version"], row["dst_hi"], row["dst_lo"])
    return row | {
        "scope": decoder.scopes.values[row["scope"]],
        "tunnels": decoder.tunnels.values[row["tunnels"]],
        "quotes": packets.quotes,
    }


def address(version, high, low):
    return str(ipaddress.ip_address(low if version == 4 else ipaddress.IPv6Address(high << 64 | low)))


def has(row, **expected):
    assert {name: row[name] for name in expected} == expected


SYNACK = tcp("193.109.122.67", 6667, "69.143.202.28", 1024, "SA", seq=4257997451, ack=2934031229, window=2048)


def test_the_2007_packets_decode_to_their_published_numbers():
    rst = tcp("69.143.202.28", 1024, "193.109.122.67", 6667, "R", seq=2934031229, window=0, ttl=64, ip_id=2644)
    packets, decoder = decode([ether(SYNACK), ether(rst)], step=338000)
    assert packets["time"].tolist() == [1174413859731091000, 1174413859731429000]
    assert packets["status"].tolist() == [OK, OK]
    assert packets["src_lo"].tolist() == [0xC16D7A43, 0x458FCA1C]
    assert packets["dst_lo"].tolist() == [0x458FCA1C, 0xC16D7A43]
    assert packets["src_port"].tolist() == [6667, 1024]
    assert packets["dst_port"].tolist() == [1024, 6667]
    assert packets["flags"].tolist() == [0x12, 0x04]
    assert packets["seq"].tolist() == [4257997451, 2934031229]
    assert packets["ack"].tolist() == [2934031229, 0]
    assert packets["window"].tolist() == [2048, 0]
    assert packets["ttl"].tolist() == [64, 64]
    assert packets["ip_bytes"].tolist() == [40, 40]
    assert packets["payload"].tolist() == [0, 0]
    assert packets["traits"].tolist() == [HAS_PORTS, HAS_PORTS]
    assert packets["place"].tolist() == [3 << PLACE_BITS | 24, 3 << PLACE_BITS | 94]
    assert packets["quote"].tolist() == [-1, -1]
    assert (decoder.scopes.values, decoder.tunnels.values) == ([""], [()])


def test_as_many_pieces_can_be_told_apart_as_a_week_of_rotation_makes():
    assert MOST_PIECES > 7 * 86400 // 2
    (block,) = open_capture(io.BytesIO(pcap([(T, ether(SYNACK))])), "x").blocks()
    last = MOST_PIECES - 1
    assert Decoder().decode(block, last)["place"].tolist() == [last << PLACE_BITS | 24]


def test_columns_have_their_declared_types():
    packets, _ = decode([ether(SYNACK)])
    assert {name: column.dtype for name, column in packets.columns.items()} == {
        name: np.dtype(kind) for name, (kind, _) in PACKET.items()
    }


def test_padding_of_short_frames_is_no_payload():
    has(one(ether(SYNACK) + b"\0" * 6), ip_bytes=40, payload=0)
    has(one(ether(udp("192.0.2.1", 9, "192.0.2.2", 9, b"ab")) + b"\xff" * 16), ip_bytes=30, payload=2)


def test_an_ip_length_of_0_means_the_frame_as_it_was_on_the_wire():
    packet = bytearray(tcp("192.0.2.1", 1, "192.0.2.2", 2, "A", payload=bytes(9000)))
    packet[2:4] = b"\0\0"
    has(one(ether(bytes(packet)), snaplen=96), ip_bytes=9040, payload=9000)
    six = bytearray(tcp("2001:db8::1", 1, "2001:db8::2", 2, "A", payload=bytes(9000)))
    six[4:6] = b"\0\0"
    has(one(ether(bytes(six)), snaplen=96), ip_bytes=9060, payload=9000)


@pytest.mark.parametrize("snaplen", [34, 38, 42, 46, 47, 48, 50, 54, 60, 96])
@pytest.mark.parametrize("payload", [0, 700])
def test_a_snap_length_leaves_lengths_alone_and_numbers_as_far_as_they_go(snaplen, payload):
    frame = ether(tcp("192.0.2.1", 10, "192.0.2.2", 20, "PA", seq=7, ack=9, window=5, payload=bytes(payload)))
    has(
        one(frame, snaplen=snaplen),
        status=OK,
        src="192.0.2.1",
        ip_bytes=40 + payload,
        payload=payload,
        src_port=10 if snaplen >= 38 else 0,
        dst_port=20 if snaplen >= 38 else 0,
        seq=7 if snaplen >= 42 else 0,
        ack=9 if snaplen >= 46 else 0,
        flags=0x18 if snaplen >= 48 else 0,
        window=5 if snaplen >= 50 else 0,
        traits=(HAS_PORTS if snaplen >= 38 else 0) | (NO_FLAGS if snaplen < 48 else 0),
    )


@pytest.mark.parametrize("snaplen", [0, 5, 13, 14, 33])
def test_headers_that_were_not_captured_are_undecodable(snaplen):
    has(one(ether(SYNACK), snaplen=snaplen), status=UNDECODABLE, version=0, src_lo=0, quote=-1)


def test_what_is_no_ip_is_counted_as_such():
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    llc = bytes(12) + struct.pack(">H", 38) + b"\x42\x42\x03" + bytes(35)
    packets, _ = decode([arp, llc])
    assert packets["status"].tolist() == [NON_IP, NON_IP]
    assert one(ether(SYNACK), linktype=195)["status"] == NON_IP


@pytest.mark.parametrize(
    ("linktype", "before"),
    [
        (1, b"\x02" * 12 + b"\x08\x00"),
        (12, b""),
        (14, b""),
        (101, b""),
        (228, b""),
        (0, b"\2\0\0\0"),
        (0, b"\0\0\0\2"),
        (108, b"\0\0\0\2"),
        (113, b"\0\0\0\1\0\6" + bytes(8) + b"\x08\x00"),
        (276, b"\x08\x00" + bytes(18)),
        (1, b"\x02" * 12 + b"\x00\x40\xaa\xaa\x03\0\0\0\x08\x00"),
    ],
)
def test_every_link_type_leads_to_the_ip_packet(linktype, before):
    has(one(before + SYNACK, linktype=linktype), status=OK, src="193.109.122.67", src_port=6667, ip_bytes=40)


@pytest.mark.parametrize(
    ("linktype", "before"),
    [
        (101, b""),
        (229, b""),
        (0, b"\x1e\0\0\0"),
        (0, b"\x18\0\0\0"),
        (108, b"\0\0\0\x1c"),
        (276, b"\x86\xdd" + bytes(18)),
    ],
)
def test_every_link_type_leads_to_ipv6(linktype, before):
    row = one(before + tcp("2001:db8::1", 5, "2001:db8:ffff::2", 6, "S"), linktype=linktype)
    has(row, status=OK, version=6, src="2001:db8::1", dst="2001:db8:ffff::2", src_port=5, ip_bytes=60, payload=0)


@pytest.mark.parametrize("tag", [0x8100, 0x88A8, 0x9100])
def test_vlans_are_the_scope(tag):
    assert one(ether(SYNACK, vlan=(7,), tag=tag))["scope"] == "vlan:7"
    assert one(ether(SYNACK, vlan=(100, 7), tag=tag))["scope"] == "vlan:100.7"
    has(one(ether(SYNACK, vlan=(1,), tag=tag)), tunnels=(), src_port=6667)


def test_a_priority_tag_is_no_vlan():
    """Only one direction may carry it, and a conversation must not be parted."""
    assert one(ether(SYNACK, vlan=(0,)))["scope"] == ""


def test_the_scope_is_the_outermost_vxlan_and_else_the_geneve():
    inside = ether(SYNACK)
    has(one(ether(vxlan(inside, 5569041))), scope="vni:5569041", tunnels=("vxlan",), src="193.109.122.67")
    has(one(ether(geneve(inside, 4242))), scope="vni:4242", tunnels=("geneve",), src="193.109.122.67")
    has(one(ether(geneve(ether(vxlan(inside, 7)), 4242))), scope="vni:7", tunnels=("geneve", "vxlan"))
    has(one(ether(vxlan(ether(vxlan(inside, 1)), 2))), scope="vni:2", tunnels=("vxlan", "vxlan"))
    has(one(ether(vxlan(ether(inside[14:], vlan=(9,)), 2), vlan=(3,))), scope="vni:2")


def test_vxlan_reserved_bits_are_ignored():
    has(one(ether(vxlan(ether(SYNACK), 7, reserved=0xF7FFFFFF))), scope="vni:7", tunnels=("vxlan",))
    packet = bytearray(vxlan(ether(SYNACK), 7))
    packet[28] = 0
    has(one(ether(bytes(packet))), scope="vni:7", tunnels=("vxlan",))


def test_geneve_options_are_stepped_over_and_ip_may_be_inside_without_ethernet():
    has(one(ether(geneve(ether(SYNACK), 7, options=bytes(32)))), scope="vni:7", src_port=6667)
    has(one(ether(geneve(SYNACK, 7, kind=0x0800))), scope="vni:7", src_port=6667)


@pytest.mark.parametrize("port", [4789, 8472, 6081])
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"short",
        bytes(60),
        b"\x08" + bytes(19) + b"\x08\x06" + bytes(40),
        b"\x08" + bytes(19) + b"\x08\x00\x45" + bytes(5),
        b"\xff" * 80,
    ],
)
def test_a_datagram_to_a_tunnel_port_that_is_no_tunnel_stays_a_datagram(port, payload):
    row = one(ether(udp("192.0.2.1", 5, "192.0.2.2", port, payload), vlan=(6,)))
    has(row, status=OK, tunnels=(), scope="vlan:6", src="192.0.2.1", dst_port=port, payload=len(payload))


def test_nothing_behind_the_end_of_a_datagram_is_inside_it():
    """Padding and trailers are attacker's room for packets that no host ever saw."""
    short = udp("192.0.2.1", 5, "192.0.2.2", 4789, struct.pack(">II", 0x08000000, 7 << 8) + ether(SYNACK)[:14])
    has(one(ether(short) + SYNACK), tunnels=(), src="192.0.2.1", payload=22)


def test_gre_and_ip_in_ip_are_opened():
    has(one(ether(ip("10.0.0.1", "10.0.0.2", 4, SYNACK))), tunnels=("ipip",), src="193.109.122.67")
    has(one(ether(ip("10.0.0.1", "10.0.0.2", 41, tcp("::1", 1, "::2", 2, "S")))), tunnels=("ipip",), src="::1")
    plain, keyed = struct.pack(">HH", 0, 0x0800), struct.pack(">HHII", 0x3000, 0x0800, 99, 1)
    for head in (plain, keyed):
        has(one(ether(ip("10.0.0.1", "10.0.0.2", 47, head + SYNACK))), tunnels=("gre",), src_port=6667)
    bridged = struct.pack(">HH", 0, 0x6558) + ether(SYNACK)
    has(one(ether(ip("10.0.0.1", "10.0.0.2", 47, bridged))), tunnels=("gre",), src_port=6667)
    has(one(ether(ip("10.0.0.1", "10.0.0.2", 47, b"\0\0\x88\x0b1234"))), tunnels=(), proto=47, traits=0)


def test_tunnels_are_followed_sixteen_deep_and_no_deeper():
    packet = SYNACK
    for _ in range(16):
        packet = ip("10.0.0.1", "10.0.0.2", 4, packet)
    has(one(ether(packet)), tunnels=("ipip",) * 16, proto=6)
    has(one(ether(ip("10.0.0.1", "10.0.0.2", 4, packet))), tunnels=("ipip",) * 16, proto=4)


def test_ipv4_options_move_the_ports():
    has(
        one(ether(ip("192.0.2.1", "192.0.2.2", 17, struct.pack(">HHHH", 5, 6, 10, 0) + b"ab", options=b"\1" * 8))),
        src_port=5,
        payload=2,
        ip_bytes=38,
    )


def test_ipv6_extension_headers_move_the_ports():
    body = tcp("2001:db8::1", 5, "2001:db8::2", 6, "S")[40:]
    authentication = struct.pack(">BB", 6, 4) + bytes(22)
    routing = struct.pack(">BB", 51, 2) + bytes(22)
    options = struct.pack(">BB", 43, 0) + bytes(6)
    has(
        one(ether(ip("2001:db8::1", "2001:db8::2", 0, options + routing + authentication + body))),
        proto=6,
        src_port=5,
        flags=2,
        payload=0,
        ip_bytes=40 + 8 + 24 + 24 + 20,
    )


@pytest.mark.parametrize("kind", [0, 43, 60, 135, 139, 140])
def test_every_extension_header_is_walked_through(kind):
    body = udp("2001:db8::1", 5, "2001:db8::2", 6, b"abc")[40:]
    has(
        one(ether(ip("2001:db8::1", "2001:db8::2", kind, struct.pack(">BB", 17, 1) + bytes(14) + body))),
        proto=17,
        src_port=5,
        payload=3,
    )


def test_an_extension_header_that_was_cut_is_the_protocol():
    packet = ip("2001:db8::1", "2001:db8::2", 0, struct.pack(">BB", 6, 0) + bytes(6) + bytes(20))
    has(one(ether(packet), snaplen=14 + 40 + 5), status=OK, proto=0, traits=0)


def datagram(source, destination, size):
    return struct.pack(">HHHH", source, destination, 8 + size, 0) + bytes(size)


def v6_fragment(nxt, offset, more, ident, body):
    return ip("2001:db8::1", "2001:db8::2", 44, struct.pack(">BBHI", nxt, 0, offset << 3 | more, ident) + body)


@pytest.mark.parametrize("version", [4, 6])
def test_later_fragments_belong_to_the_conversation_of_the_first(version):
    whole = datagram(5, 6, 2000)
    if version == 4:
        parts = [ip("192.0.2.1", "192.0.2.2", 17, whole[:1000], ip_id=77, fragment=0x2000)]
        parts += [ip("192.0.2.1", "192.0.2.2", 17, whole[1000:], ip_id=77, fragment=125)]
    else:
        parts = [v6_fragment(17, 0, 1, 77, whole[:1000]), v6_fragment(17, 125, 0, 77, whole[1000:])]
    packets, _ = decode([ether(part) for part in parts])
    assert packets["src_port"].tolist() == [5, 5]
    assert packets["dst_port"].tolist() == [6, 6]
    assert packets["traits"].tolist() == [HAS_PORTS, HAS_PORTS | FRAGMENT]
    assert packets["payload"].tolist() == [992, 1008]


@pytest.mark.parametrize("version", [4, 6])
def test_later_fragments_may_come_before_the_first(version):
    whole = datagram(5, 6, 2000)
    if version == 4:
        parts = [ip("192.0.2.1", "192.0.2.2", 17, whole[:1000], ip_id=77, fragment=0x2000)]
        parts += [ip("192.0.2.1", "192.0.2.2", 17, whole[1000:1500], ip_id=77, fragment=0x2000 | 125)]
        parts += [ip("192.0.2.1", "192.0.2.2", 17, whole[1500:], ip_id=77, fragment=188)]
    else:
        parts = [v6_fragment(17, 0, 1, 77, whole[:1000]), v6_fragment(17, 125, 1, 77, whole[1000:1500])]
        parts += [v6_fragment(60, 188, 0, 77, whole[1500:])]
    packets, _ = decode([ether(parts[i]) for i in (2, 1, 0)])
    assert packets["src_port"].tolist() == [5, 5, 5]
    assert packets["dst_port"].tolist() == [6, 6, 6]
    assert packets["proto"].tolist() == [17, 17, 17]
    assert packets["traits"].tolist() == [HAS_PORTS | FRAGMENT, HAS_PORTS | FRAGMENT, HAS_PORTS]
    assert packets["payload"].tolist() == [508, 500, 992]


def test_early_fragments_of_tcp_get_no_flags_with_their_ports():
    segment = tcp("192.0.2.1", 5, "192.0.2.2", 6, "A", payload=bytes(76))[20:]
    first = ip("192.0.2.1", "192.0.2.2", 6, segment, ip_id=77, fragment=0x2000)
    later = ip("192.0.2.1", "192.0.2.2", 6, bytes(50), ip_id=77, fragment=12)
    packets, _ = decode([ether(later), ether(first)])
    assert packets["traits"].tolist() == [HAS_PORTS | FRAGMENT | NO_FLAGS, HAS_PORTS]
    packets, _ = decode([ether(later), ether(first)], step=61 * 10**9)
    assert packets["traits"].tolist() == [FRAGMENT | NO_FLAGS, HAS_PORTS]


def test_early_fragments_wait_in_their_own_block_only():
    first = ip("192.0.2.1", "192.0.2.2", 17, datagram(5, 6, 92), ip_id=77, fragment=0x2000)
    later = ip("192.0.2.1", "192.0.2.2", 17, bytes(100), ip_id=77, fragment=125)
    early, decoder = decode([ether(later)])
    other, _ = decode([ether(vxlan(ether(SYNACK), 9)), ether(first)], decoder=decoder)
    assert early["traits"].tolist() == [FRAGMENT]
    assert other["src_port"].tolist() == [6667, 5]


def test_fragments_that_nobody_completes_are_bounded(monkeypatch):
    monkeypatch.setattr(fragments, "MOST_WAITING", 5)
    monkeypatch.setattr(fragments, "MOST_FIRSTS", 5)

    def pieces(kind, size):
        return [ether(ip("192.0.2.1", "192.0.2.2", 17, datagram(5, 6, size), ip_id=i, fragment=kind)) for i in range(9)]

    packets, _ = decode([*pieces(125, 92), *pieces(0x2000, 92), *pieces(125, 92)])
    told = packets["traits"] & HAS_PORTS != 0
    assert told.tolist() == [True] * 5 + [False] * 4 + [True] * 9 + [False] * 4 + [True] * 5


def test_a_later_fragment_whose_first_was_not_seen_has_no_ports():
    other = [
        ip("192.0.2.1", "192.0.2.2", 17, datagram(5, 6, 92), ip_id=78, fragment=0x2000),
        ip("192.0.2.1", "192.0.2.3", 17, datagram(5, 6, 92), ip_id=77, fragment=0x2000),
        ip("192.0.2.1", "192.0.2.2", 6, bytes(100), ip_id=77, fragment=0x2000),
    ]
    later = ip("192.0.2.1", "192.0.2.2", 17, bytes(100), ip_id=77, fragment=125)
    packets, _ = decode([ether(packet) for packet in [*other, later]])
    assert (packets["traits"][-1], packets["src_port"][-1], packets["payload"][-1]) == (FRAGMENT, 0, 100)


def test_later_fragments_of_tcp_have_unknown_flags_and_not_none():
    segment = tcp("192.0.2.1", 5, "192.0.2.2", 6, "A", payload=bytes(76))[20:]
    first = ip("192.0.2.1", "192.0.2.2", 6, segment, ip_id=77, fragment=0x2000)
    later = ip("192.0.2.1", "192.0.2.2", 6, bytes(50), ip_id=77, fragment=12)
    packets, _ = decode([ether(first), ether(later), ether(later, vlan=(1,))])
    assert packets["traits"].tolist() == [HAS_PORTS, HAS_PORTS | FRAGMENT | NO_FLAGS, FRAGMENT | NO_FLAGS]
    assert packets["flags"].tolist() == [0x10, 0, 0]
    assert packets["payload"].tolist() == [76, 50, 50]


def test_a_tcp_header_split_over_fragments_has_unknown_flags():
    first = ip("192.0.2.1", "192.0.2.2", 6, tcp("192.0.2.1", 5, "192.0.2.2", 6, "S", seq=9)[20:28], fragment=0x2000)
    has(one(ether(first)), src_port=5, seq=9, flags=0, payload=0, traits=HAS_PORTS | NO_FLAGS)


def test_fragments_of_other_scopes_and_other_times_are_others():
    first = ip("192.0.2.1", "192.0.2.2", 17, datagram(5, 6, 92), ip_id=77, fragment=0x2000)
    later = ip("192.0.2.1", "192.0.2.2", 17, bytes(100), ip_id=77, fragment=125)
    packets, _ = decode([ether(first, vlan=(1,)), ether(later, vlan=(2,)), ether(later, vlan=(1,))])
    assert packets["traits"].tolist() == [HAS_PORTS, FRAGMENT, FRAGMENT | HAS_PORTS]
    packets, _ = decode([ether(first), ether(later)], step=61 * 10**9)
    assert packets["traits"].tolist() == [HAS_PORTS, FRAGMENT]


def test_first_fragments_are_remembered_across_blocks():
    first = ip("192.0.2.1", "192.0.2.2", 17, datagram(5, 6, 92), ip_id=77, fragment=0x2000)
    later = ip("192.0.2.1", "192.0.2.2", 17, bytes(100), ip_id=77, fragment=125)
    _, decoder = decode([ether(first)])
    packets, _ = decode([ether(later)], decoder=decoder)
    assert packets["src_port"].tolist() == [5]


def test_a_malformed_tcp_header_has_ports_and_no_flags():
    packet = bytearray(tcp("192.0.2.1", 5, "192.0.2.2", 6, "SA", payload=bytes(9)))
    packet[32] = 4 << 4
    has(one(ether(bytes(packet))), src_port=5, flags=0, payload=0, traits=HAS_PORTS | NO_FLAGS)
    has(
        one(ether(ip("192.0.2.1", "192.0.2.2", 6, packet[20:35]))),
        src_port=5,
        flags=0,
        payload=0,
        traits=HAS_PORTS | NO_FLAGS,
    )


def test_a_tcp_header_longer_than_its_packet_has_no_payload():
    packet = bytearray(tcp("192.0.2.1", 5, "192.0.2.2", 6, "SA", payload=bytes(9)))
    packet[32] = 15 << 4
    has(one(ether(bytes(packet))), flags=0x12, payload=0, traits=HAS_PORTS)


@pytest.mark.parametrize(("length", "payload"), [(0, 20), (8, 0), (18, 10), (28, 20), (60, 20), (3, 0)])
def test_a_udp_length_counts_within_its_ip_packet(length, payload):
    packet = ip("192.0.2.1", "192.0.2.2", 17, struct.pack(">HHHH", 5, 6, length, 0) + bytes(20))
    has(one(ether(packet)), payload=payload, ip_bytes=48)


def test_sctp_has_ports_and_esp_has_none():
    has(
        one(ether(ip("192.0.2.1", "192.0.2.2", 132, struct.pack(">HHII", 5, 6, 0, 0)))),
        src_port=5,
        dst_port=6,
        traits=HAS_PORTS,
        payload=0,
    )
    has(one(ether(ip("192.0.2.1", "192.0.2.2", 50, bytes(40)))), proto=50, src_port=0, traits=0)


def test_icmp_has_types_for_ports_as_community_id_has_them():
    from communityid import icmp as four
    from communityid import icmp6 as six

    for source, destination, table in (("192.0.2.1", "192.0.2.2", four), ("2001:db8::1", "2001:db8::2", six)):
        packets, _ = decode([ether(icmp(source, destination, kind, 3)) for kind in range(256)])
        pairs = zip(packets["src_port"].tolist(), packets["dst_port"].tolist(), packets["traits"].tolist(), strict=True)
        assert [(a, b, bool(traits & ONE_WAY)) for a, b, traits in pairs] == [
            table.get_port_equivalents(kind, 3) for kind in range(256)
        ]
        assert packets["icmp_type"].tolist() == list(range(256))
        assert set(packets["icmp_code"].tolist()) == {3}
        assert np.all(packets["traits"] & HAS_PORTS)


@pytest.mark.parametrize("keep", [28, 32, 40])
def test_icmp_errors_quote_the_packet_that_they_are_about(keep):
    row = one(
        ether(
            icmp_error(
                "198.51.100.1", "192.0.2.1", 3, 1, tcp("192.0.2.1", 5, "203.0.113.9", 80, "S", seq=77), keep=keep
            )
        )
    )
    has(row, src_port=3, dst_port=1, traits=HAS_PORTS | ONE_WAY, quote=0)
    (quote,) = row["quotes"]
    assert {name: int(quote[name]) for name in quote.dtype.names} == {
        "packet": 0, "version": 4, "proto": 6, "has_ports": 1, "src_hi": 0, "src_lo": 0xC0000201, "dst_hi": 0,
        "dst_lo": 0xCB007109, "src_port": 5, "dst_port": 80, "seq": 77,
    }  # fmt: skip


def test_quotes_are_read_through_extension_headers_and_without_their_lengths():
    body = udp("2001:db8::1", 5, "2001:db8::9", 53, b"abc")[40:]
    quoted = ip("2001:db8::1", "2001:db8::9", 60, struct.pack(">BB", 17, 0) + bytes(6) + body)
    (quote,) = one(ether(icmp_error("2001:db8::5", "2001:db8::1", 1, 4, quoted, keep=1232)))["quotes"]
    assert (quote["proto"], quote["src_port"], quote["dst_port"]) == (17, 5, 53)
    swapped = bytearray(tcp("192.0.2.1", 5, "203.0.113.9", 80, "S", seq=77))
    for length in (b"\x28\x00", b"\x00\x05", b"\x00\x14"):
        swapped[2:4] = length
        (quote,) = one(ether(icmp_error("198.51.100.1", "192.0.2.1", 11, 0, bytes(swapped))))["quotes"]
        assert (quote["has_ports"], quote["src_port"], quote["seq"]) == (1, 5, 77)


@pytest.mark.parametrize("keep", [0, 10, 19])
def test_a_quote_without_an_ip_header_is_none(keep):
    row = one(ether(icmp_error("198.51.100.1", "192.0.2.1", 3, 1, SYNACK, keep=keep)))
    assert (row["quote"], len(row["quotes"])) == (-1, 0)


def test_quoted_icmp_has_types_for_ports_and_quoted_fragments_have_none():
    (quote,) = one(ether(icmp_error("198.51.100.1", "192.0.2.1", 11, 0, icmp("192.0.2.1", "203.0.113.9", 8))))["quotes"]
    assert (quote["proto"], quote["src_port"], quote["dst_port"], quote["has_ports"]) == (1, 8, 0, 1)
    piece = ip("192.0.2.1", "203.0.113.9", 17, bytes(40), fragment=9)
    (quote,) = one(ether(icmp_error("198.51.100.1", "192.0.2.1", 11, 1, piece)))["quotes"]
    assert (quote["has_ports"], quote["src_port"]) == (0, 0)


def test_only_errors_quote():
    assert one(ether(icmp("192.0.2.1", "192.0.2.2", 8, payload=SYNACK)))["quote"] == -1


PORT = st.integers(0, 65535).filter(lambda port: port not in {4789, 8472, 6081})
WRAP = st.lists(
    st.one_of(
        st.tuples(st.just("vlan"), st.integers(1, 4094)),
        st.tuples(st.just("vxlan"), st.integers(0, 2**24 - 1)),
        st.tuples(st.just("geneve"), st.integers(0, 2**24 - 1)),
    ),
    max_size=5,
)


@settings(deadline=None)
@given(data=st.data(), stack=WRAP)
def test_a_random_packet_in_a_random_stack_decodes_to_what_it_was_made_from(data, stack):
    version = data.draw(st.sampled_from([4, 6]))
    source, destination = (str(data.draw(st.ip_addresses(v=version))) for _ in "sd")
    sport, dport = data.draw(PORT), data.draw(PORT)
    payload = data.draw(st.binary(max_size=40))
    letters = "".join(data.draw(st.sets(st.sampled_from(wire.FLAG_LETTERS))))
    seq, ack, window = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.integers(0, 2**32 - 1)), data.draw(PORT)
    is_tcp = data.draw(st.booleans())
    if is_tcp:
        packet = tcp(
            source, sport, destination, dport, letters, seq=seq, ack=ack, window=window, payload=payload, ttl=9
        )
    else:
        packet = udp(source, sport, destination, dport, payload, ttl=9)
    frame, tags, tunnels, numbers = packet, (), [], {}
    for kind, number in stack:  # from the inside outwards
        if kind == "vlan":
            tags = (number, *tags)
            continue
        tunnels.insert(0, kind)
        numbers[kind] = number
        frame, tags = {"vxlan": vxlan, "geneve": geneve}[kind](ether(frame, vlan=tags), number), ()
    number = numbers.get("vxlan", numbers.get("geneve"))
    scope = f"vni:{number}" if number is not None else "vlan:" + ".".join(map(str, tags)) if tags else ""
    row = one(ether(frame, vlan=tags))
    has(
        row,
        status=OK,
        scope=scope,
        tunnels=tuple(tunnels),
        version=version,
        src=source,
        dst=destination,
        src_port=sport,
        dst_port=dport,
        proto=6 if is_tcp else 17,
        ip_bytes=len(packet),
        payload=len(payload),
        ttl=9,
        flags=wire.flag_bits(letters) if is_tcp else 0,
        seq=seq if is_tcp else 0,
        ack=ack if is_tcp else 0,
        window=window if is_tcp else 0,
        traits=HAS_PORTS,
    )


SHAPES = [
    ether(SYNACK),
    ether(vxlan(ether(SYNACK), 7), vlan=(3,)),
    ether(geneve(ether(vxlan(ether(udp("::1", 53, "::2", 53, bytes(30))), 7)), 4, options=bytes(8))),
    ether(icmp_error("2001:db8::5", "2001:db8::1", 1, 4, v6_fragment(17, 0, 1, 77, datagram(5, 6, 20)), keep=99)),
    ether(ip("10.0.0.1", "10.0.0.2", 47, struct.pack(">HHII", 0x3000, 0x0800, 99, 1) + SYNACK)),
]


@given(
    frame=st.one_of(st.binary(max_size=120), st.sampled_from(SHAPES)),
    linktype=st.sampled_from([0, 1, 12, 101, 108, 113, 228, 229, 276, 777]),
    flips=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    snaplen=st.integers(0, 250),
)
@settings(deadline=None, max_examples=400)
def test_no_bytes_make_the_decoder_raise(frame, linktype, flips, snaplen):
    damaged = bytearray(frame)
    for at, value in flips:
        if at < len(damaged):
            damaged[at] = value
    packets, decoder = decode([bytes(damaged)], linktype=linktype, snaplen=snaplen)
    assert packets["payload"][0] >= 0
    assert packets["ip_bytes"][0] >= 0
    assert packets["status"][0] in {OK, NON_IP, UNDECODABLE}
    assert packets["scope"][0] < len(decoder.scopes.values)
