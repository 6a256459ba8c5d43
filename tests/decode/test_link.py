"""Every link type and every layer below IP leads to the packet in it. Headers are written out byte by byte."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.decode.test_decoder import SYNACK, has, one

from backscatter.decode.columns import NON_IP, OK, UNDECODABLE
from backscatter.decode.link import LINKS, MOST_LAYERS, follow, open_link
from backscatter.decode.network import IPV4, LINK, MPLS, OTHER, Network
from backscatter.demo.wire import ether, tcp

SIX = tcp("2001:db8::1", 5, "2001:db8:ffff::2", 6, "S")
FRAME = ether(SYNACK)
MACS = bytes.fromhex("020000000002020000000001")
SNAP = b"\xaa\xaa\x03\0\0\0\x08\x00"
PPP = b"\x00\x21"


def tlv(order, kind, value):
    return struct.pack(order + "HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def pktap(linktype, length=108):
    return struct.pack("<III", length, 1, linktype).ljust(length, b"\0")


def radiotap(present, fields=b"", *words):
    head = struct.pack(f"<{1 + len(words)}I", present, *words) + fields
    return struct.pack("<BBH", 0, 0, 4 + len(head)) + head


def wifi(control, *, fourth=b"", qos=b""):
    return struct.pack("<HH", control, 0) + bytes(18) + b"\0\0" + fourth + qos


def labels(*numbers):
    last = len(numbers) - 1
    return b"".join(struct.pack(">I", number << 12 | (i == last) << 8 | 64) for i, number in enumerate(numbers))


def pppoe(payload, length=None):
    return struct.pack(">BBHH", 0x11, 0, 7, len(payload) if length is None else length) + payload


DATA, QOS = 0x0008, 0x0088

#: (what it is, link type, what stands before the packet)
BEFORE = [
    ("token ring", 6, b"\x10\x40" + MACS + SNAP),
    ("token ring with a route", 6, b"\x10\x40" + MACS[:6] + b"\x82\0\0\0\0\1" + b"\x06\x30\0\x10\0\x20" + SNAP),
    ("ARCnet of BSD", 7, b"\1\2\xd4\0\0\0"),
    ("ARCnet of BSD, exception", 7, b"\1\2\xd4\xff\xff\xff\xff\0\0\1"),
    ("ARCnet of BSD, RFC 1051", 7, b"\1\2\xf0"),
    ("SLIP", 8, b"\0" + bytes(15)),
    ("PPP", 9, PPP),
    ("PPP with address and control", 9, b"\xff\x03" + PPP),
    ("PPP with a short protocol", 9, b"\x21"),
    ("PPP with a bridged frame", 9, b"\x00\x31\x00\x01" + FRAME[:14]),
    ("FDDI", 10, b"\x50" + MACS + SNAP),
    ("PPP in HDLC", 50, b"\xff\x03" + PPP),
    ("Cisco HDLC under the number of PPP", 50, b"\x0f\0\x08\0"),
    ("PPPoE", 51, pppoe(PPP, 42)),
    ("ATM", 100, SNAP),
    ("ATM, ISO", 100, b"\xfe\xfe\x03\xcc"),
    ("ATM, bridged", 100, b"\xaa\xaa\x03\0\x80\xc2\0\7\0\0" + FRAME[:14]),
    ("Cisco HDLC", 104, b"\x0f\0\x08\0"),
    ("802.11", 105, wifi(DATA) + SNAP),
    ("802.11 to the network", 105, wifi(DATA | 0x0100) + SNAP),
    ("802.11 with four addresses", 105, wifi(DATA | 0x0300, fourth=bytes(6)) + SNAP),
    ("802.11 with QoS", 105, wifi(QOS, qos=b"\0\0") + SNAP),
    ("802.11 with QoS and HT control", 105, wifi(QOS | 0x8000, qos=bytes(6)) + SNAP),
    ("802.11 with an aggregate", 105, wifi(QOS, qos=b"\x80\0") + bytes(12) + b"\0\x30" + SNAP),
    ("ATM CLIP", 106, SNAP),
    ("ATM CLIP without LLC", 106, b""),
    ("Frame Relay", 107, b"\x18\x41\x03\xcc"),
    ("Frame Relay with SNAP", 107, b"\x18\x41\x03\0\x80\0\0\0\x08\0"),
    ("Frame Relay, bridged", 107, b"\x18\x41\x03\0\x80\0\x80\xc2\0\7" + FRAME[:14]),
    ("Frame Relay of Cisco", 107, b"\x18\x41\x08\0"),
    ("Frame Relay with a long address", 107, b"\x18\x40\x40\x01\x03\xcc"),
    ("enc", 109, b"\2\0\0\0" + bytes(8)),
    ("pflog", 117, b"\x3d\2" + bytes(62)),
    ("prism", 119, struct.pack("<II", 0x44, 144).ljust(144, b"\0") + wifi(DATA) + SNAP),
    ("AVS under the number of prism", 119, struct.pack(">II", 0x80211001, 64).ljust(64, b"\0") + wifi(DATA) + SNAP),
    ("IP over Fibre Channel", 122, bytes(16) + SNAP),
    ("SunATM", 123, b"\x02\0\0\5" + SNAP),
    ("SunATM, LAN emulation", 123, b"\x01\0\0\5\0\0" + FRAME[:14]),
    ("radiotap", 127, radiotap(0) + wifi(DATA) + SNAP),
    ("radiotap with padding", 127, radiotap(2, b"\x20") + wifi(QOS, qos=b"\0\0") + b"\0\0" + SNAP),
    ("radiotap with a time", 127, radiotap(3, bytes(8) + b"\x20") + wifi(QOS, qos=b"\0\0") + b"\0\0" + SNAP),
    (
        "radiotap with more words",
        127,
        radiotap(0x80000003, bytes(4) + bytes(8) + b"\x20", 0) + wifi(QOS, qos=b"\0\0") + b"\0\0" + SNAP,
    ),
    ("ARCnet of Linux", 129, b"\1\2\0\0\xd4\0\0\0"),
    ("ARCnet of Linux, RFC 1051", 129, b"\1\2\0\0\xf0"),
    ("FireWire", 138, bytes(16) + b"\x08\0"),
    ("PKTAP under a user's number", 149, pktap(1) + FRAME[:14]),
    ("AVS", 163, struct.pack(">II", 0x80211001, 64).ljust(64, b"\0") + wifi(DATA) + SNAP),
    ("PPP of pppd", 166, b"\1\3" + PPP),
    ("Juniper, Ethernet", 178, b"MGC\x80\0\4abcd" + FRAME[:14]),
    ("Juniper, Ethernet without extensions", 178, b"MGC\0" + FRAME[:14]),
    ("Juniper without a link", 178, b"MGC\x02abcd"),
    ("Juniper, PPP", 179, b"MGC\0" + b"\xff\x03" + PPP),
    ("PPI", 192, struct.pack("<BBHI", 0, 0, 8, 1) + FRAME[:14]),
    ("PPI with 802.11", 192, struct.pack("<BBHI", 0, 0, 12, 105) + bytes(4) + wifi(DATA) + SNAP),
    ("ERF", 197, bytes(8) + b"\x02\0" + bytes(6) + bytes(2) + FRAME[:14]),
    ("ERF with extensions", 197, bytes(8) + b"\x82\0" + bytes(6) + b"\x83" + bytes(15) + bytes(2) + FRAME[:14]),
    ("PPP with a direction", 204, b"\0" + PPP),
    ("Cisco HDLC with a direction", 205, b"\1\x8f\0\x08\0"),
    ("Frame Relay with a direction", 206, b"\0\x18\x41\x03\xcc"),
    ("MPLS", 219, labels(99)),
    ("ipnet", 226, b"\1\2" + bytes(22)),
    ("NFLOG", 239, b"\2\0\0\0" + tlv("<", 1, b"abcd") + tlv("<", 10, b"eth0\0") + struct.pack("<HH", 44, 9)),
    ("NFLOG, big-endian", 239, b"\2\0\0\0" + tlv(">", 1, b"abcd") + struct.pack(">HH", 44, 9)),
    ("netANALYZER", 240, bytes(4) + FRAME[:14]),
    ("IP over InfiniBand", 242, bytes(40) + b"\x08\0\0\0"),
    ("PKTAP", 258, pktap(1) + FRAME[:14]),
    ("PKTAP with PPI in PKTAP", 258, pktap(258) + pktap(192, 120) + struct.pack("<BBHI", 0, 0, 8, 101)),
    ("Ethernet with preamble", 274, b"\x55" * 7 + b"\xd5" + FRAME[:14]),
    ("cooked 802.11 with radiotap", 113, b"\0\0\x03\x23" + bytes(10) + b"\0\4" + radiotap(0) + wifi(DATA) + SNAP),
    ("cooked LLC", 276, b"\0\4" + bytes(18) + SNAP),
    ("802.3 with 802.1H", 1, MACS + b"\0\x30\xaa\xaa\x03\0\0\xf8\x08\0"),
    ("802.3 with IP's own LLC", 1, MACS + b"\0\x2b\x06\x06\x03"),
    ("MPLS in Ethernet", 1, MACS + b"\x88\x47" + labels(16, 17, 18)),
    ("MPLS multicast in a VLAN of 0x9200", 1, MACS + b"\x92\0\0\0\x88\x48" + labels(16)),
    ("MPLS with explicit null", 1, MACS + b"\x88\x47" + labels(16, 0)),
    ("a pseudo-wire", 1, MACS + b"\x88\x47" + labels(16) + bytes(4) + FRAME[:14]),
    ("a pseudo-wire without control word", 1, MACS + b"\x88\x47" + labels(16) + FRAME[:14]),
    ("a pseudo-wire to 45:...", 1, MACS + b"\x88\x47" + labels(16) + b"\x45" + FRAME[1:14]),
    ("a pseudo-wire to 60:...", 1, MACS + b"\x88\x47" + labels(16) + b"\x60" + FRAME[1:14]),
    ("a pseudo-wire in a pseudo-wire", 1, (MACS + b"\x88\x47" + labels(16) + bytes(4)) * 2 + FRAME[:14]),
    ("PPPoE in Ethernet", 1, MACS + b"\x88\x64" + pppoe(PPP, 42)),
    ("PPPoE with MPLS", 1, MACS + b"\x88\x64" + pppoe(b"\x02\x81", 46) + labels(16)),
    ("NSH", 1, MACS + b"\x89\x4f" + b"\x0f\xc6\1\1" + bytes(20)),
    ("NSH with Ethernet", 1, MACS + b"\x89\x4f" + b"\x0f\xc2\2\3" + bytes(4) + FRAME[:14]),
    ("Cisco metadata", 1, MACS + b"\x89\x09" + b"\1\1\0\1\0\7\x08\0"),
    ("802.1ah", 1, MACS + b"\x88\xe7" + bytes(4) + FRAME[:14]),
    ("VN-Tag", 1, MACS + b"\x89\x26" + bytes(4) + b"\x08\0"),
    ("HSR", 1, MACS + b"\x89\x2f" + bytes(4) + b"\x08\0"),
    ("TRILL", 1, MACS + b"\x22\xf3" + b"\0\x40" + bytes(4) + bytes(4) + FRAME[:14]),
]


@pytest.mark.parametrize(("linktype", "before"), [row[1:] for row in BEFORE], ids=[row[0] for row in BEFORE])
def test_every_header_leads_to_the_packet_behind_it(linktype, before):
    has(
        one(before + SYNACK, linktype=linktype),
        status=OK, scope="", tunnels=(), src="193.109.122.67", src_port=6667, ip_bytes=40, payload=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("linktype", "before"),
    [
        (9, b"\x00\x57"),
        (9, b"\x57"),
        (107, b"\x18\x41\x03\x8e"),
        (129, b"\1\2\0\0\xc4\0\0\0"),
        (226, b"\1\x1a" + bytes(22)),
        (239, b"\x0a\0\0\0" + struct.pack("<HH", 64, 9)),
        (1, MACS + b"\x88\x47" + labels(16)),
        (1, MACS + b"\x88\x47" + labels(16, 2)),
    ],
)
def test_headers_lead_to_ipv6_too(linktype, before):
    has(one(before + SIX, linktype=linktype), status=OK, version=6, src="2001:db8::1", src_port=5)


@pytest.mark.parametrize(("linktype", "before"), [row[1:] for row in BEFORE], ids=[row[0] for row in BEFORE])
def test_a_header_cut_anywhere_is_told_as_such_and_never_as_a_packet(linktype, before):
    for snaplen in range(len(before)):
        assert one(before + SYNACK, linktype=linktype, snaplen=snaplen)["status"] in {NON_IP, UNDECODABLE}


@pytest.mark.parametrize("tag", [0x8100, 0x88A8, 0x9100, 0x9200, 0x9300])
def test_every_kind_of_vlan_tag_is_the_scope(tag):
    assert one(ether(SYNACK, vlan=(100, 7), tag=tag))["scope"] == "vlan:100.7"


def test_vlans_in_a_pseudo_wire_are_of_the_scope():
    frame = MACS + struct.pack(">HHH", 0x8100, 5, 0x8847) + labels(16) + bytes(4) + ether(SYNACK, vlan=(6,))
    has(one(frame), scope="vlan:5.6", tunnels=())


def test_frames_without_ip_are_told_as_such():
    """Encrypted, without data, management; PPP's link control; discovery of PPPoE; an aborted FDDI frame."""
    frames = [
        (105, wifi(DATA | 0x4000) + SNAP + SYNACK),
        (105, wifi(0x0048) + SNAP + SYNACK),
        (105, wifi(0x0080) + SNAP + SYNACK),
        (9, b"\xff\x03\xc0\x21" + SYNACK),
        (1, MACS + b"\x88\x63\x11\x09\0\0\0\0" + SYNACK),
        (1, MACS + b"\x88\x64\x11\xa7\0\0\0\0" + SYNACK),
        (10, b"\xc0" + MACS + SNAP + SYNACK),
        (7, b"\1\2\xd4\x02\0\0" + SYNACK),
        (1, MACS + b"\x88\x47" + labels(16) + b"\x10" + SYNACK),
        (258, pktap(105) + wifi(0x0080) + SYNACK),
    ]
    assert [one(frame, linktype=linktype)["status"] for linktype, frame in frames] == [NON_IP] * len(frames)


def test_the_frame_check_sequence_of_radiotap_is_no_payload():
    packet = bytearray(tcp("192.0.2.1", 1, "192.0.2.2", 2, "A", payload=bytes(10)))
    packet[2:4] = b"\0\0"
    has(one(radiotap(2, b"\x10") + wifi(DATA) + SNAP + bytes(packet) + b"fcs!", linktype=127), ip_bytes=50, payload=10)


def test_what_is_behind_the_length_of_pppoe_is_padding():
    packet = bytearray(tcp("192.0.2.1", 1, "192.0.2.2", 2, "A", payload=bytes(10)))
    packet[2:4] = b"\0\0"
    has(one(pppoe(PPP + bytes(packet)) + bytes(6), linktype=51), ip_bytes=50, payload=10)


def test_layers_are_followed_to_a_fixed_depth():
    for deep, status in ((MOST_LAYERS, OK), (MOST_LAYERS + 1, NON_IP)):
        assert one(ether(SYNACK, vlan=range(1, deep + 1)))["status"] == status
    assert open_link(192, struct.pack("<BBHI", 0, 0, 8, 192) * 30000, 10**6).kind == OTHER


@given(
    linktype=st.sampled_from([*LINKS, 777]),
    frame=st.one_of(st.binary(max_size=90), st.sampled_from([before + SYNACK for _, _, before in BEFORE])),
    flips=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 200),
)
@settings(deadline=None, max_examples=400)
def test_no_bytes_make_a_layer_raise_or_go_backwards(linktype, frame, flips, cut):
    damaged = bytearray(frame)
    for at, value in flips:
        if at < len(damaged):
            damaged[at] = value
    network = open_link(linktype, bytes(damaged[:cut]), len(damaged))
    assert network is None or (network.start >= 0 and network.end <= len(damaged) and len(network.vlans) <= MOST_LAYERS)


@given(before=st.sampled_from([row for row in BEFORE if row[1] != 149]), kind=st.sampled_from([LINK + 777, MPLS, IPV4]))
def test_following_ends_at_what_is_not_opened(before, kind):
    _, linktype, head = before
    assert open_link(linktype, head + SYNACK, len(head) + 40).kind == IPV4
    if kind != MPLS:
        assert follow(b"", Network(kind, 0, 0)) == Network(kind, 0, 0)
