import io
import re
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscatter.capture.reader import open_capture
from backscatter.decode.line import clock, packet_line
from backscatter.demo import wire
from backscatter.demo.wire import ether, geneve, icmp, icmp_error, ip, pcap, tcp, udp, vxlan

T = 1174413859731091000


def line(frame, *, linktype=wire.ETHERNET, snaplen=262144):
    (block,) = open_capture(io.BytesIO(pcap([(T, frame)], linktype=linktype, snaplen=snaplen)), "x").blocks()
    return packet_line(block, 0)


SYNACK = tcp("193.109.122.67", 6667, "69.143.202.28", 1024, "SA", seq=4257997451, ack=2934031229, window=2048)


def test_the_2007_packets_read_as_tcpdump_printed_them():
    assert line(ether(SYNACK)) == (
        "IP 193.109.122.67.6667 > 69.143.202.28.1024: Flags [S.], seq 4257997451, ack 2934031229, win 2048, length 0"
    )
    rst = tcp("69.143.202.28", 1024, "193.109.122.67", 6667, "R", seq=2934031229, window=0)
    assert line(ether(rst)) == "IP 69.143.202.28.1024 > 193.109.122.67.6667: Flags [R], seq 2934031229, win 0, length 0"


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (tcp("::1", 1, "2001:db8::2", 2, "PA", seq=2**32 - 2, ack=5, window=9, payload=b"abc"), "IP6 ::1.1 > 2001:db8::2.2: Flags [P.], seq 4294967294:1, ack 5, win 9, length 3"),
        (tcp("192.0.2.1", 1, "192.0.2.2", 2, "A", ack=5, window=9), "IP 192.0.2.1.1 > 192.0.2.2.2: Flags [.], ack 5, win 9, length 0"),
        (tcp("192.0.2.1", 1, "192.0.2.2", 2, "", window=9), "IP 192.0.2.1.1 > 192.0.2.2.2: Flags [none], win 9, length 0"),
        (tcp("192.0.2.1", 1, "192.0.2.2", 2, "FPU", window=9), "IP 192.0.2.1.1 > 192.0.2.2.2: Flags [FPU], seq 0, win 9, urg 0, length 0"),
        (tcp("192.0.2.1", 1, "192.0.2.2", 2, "SEC", window=9), "IP 192.0.2.1.1 > 192.0.2.2.2: Flags [SEW], seq 0, win 9, length 0"),
        (udp("192.0.2.1", 1, "192.0.2.2", 2, b"abc"), "IP 192.0.2.1.1 > 192.0.2.2.2: UDP, length 3"),
        (icmp("192.0.2.1", "192.0.2.2", 8, rest=struct.pack(">HH", 6901, 3), payload=bytes(56)), "IP 192.0.2.1 > 192.0.2.2: ICMP echo request, id 6901, seq 3, length 64"),
        (icmp("::1", "::2", 129, rest=struct.pack(">HH", 1, 2)), "IP6 ::1 > ::2: ICMP6, echo reply, id 1, seq 2, length 8"),
        (icmp_error("192.0.2.1", "192.0.2.2", 3, 3, udp("192.0.2.2", 5, "192.0.2.1", 53)), "IP 192.0.2.1 > 192.0.2.2: ICMP 192.0.2.1 udp port 53 unreachable, length 36"),
        (icmp_error("192.0.2.1", "192.0.2.2", 3, 1, SYNACK), "IP 192.0.2.1 > 192.0.2.2: ICMP host 69.143.202.28 unreachable, length 36"),
        (icmp_error("192.0.2.1", "192.0.2.2", 11, 0, SYNACK), "IP 192.0.2.1 > 192.0.2.2: ICMP time exceeded in-transit, length 36"),
        (icmp_error("192.0.2.1", "192.0.2.2", 3, 3, b""), "IP 192.0.2.1 > 192.0.2.2: ICMP ? port ? unreachable, length 8"),
        (ip("192.0.2.1", "192.0.2.2", 50, bytes(8)), "IP 192.0.2.1 > 192.0.2.2: ESP, length 8"),
        (ip("192.0.2.1", "192.0.2.2", 200, bytes(8)), "IP 192.0.2.1 > 192.0.2.2: ip-proto-200, length 8"),
        (ip("192.0.2.1", "192.0.2.2", 17, bytes(8), fragment=185), "IP 192.0.2.1 > 192.0.2.2: UDP fragment, offset 1480, length 8"),
        (ip("192.0.2.1", "192.0.2.2", 132, struct.pack(">HHII", 5, 6, 0, 0)), "IP 192.0.2.1.5 > 192.0.2.2.6: sctp, length 12"),
    ],
)  # fmt: skip
def test_packets_read_as_tcpdump_prints_them(packet, text):
    assert line(packet, linktype=wire.RAW_IP) == text


def test_tunnels_stand_in_front():
    assert line(ether(vxlan(ether(SYNACK), 7))).startswith("vxlan vni:7: IP 193.109.122.67.6667 > ")
    assert line(ether(geneve(ether(vxlan(ether(SYNACK), 7)), 9), vlan=(3, 4))).startswith(
        "vlan 3, vlan 4, geneve, vxlan vni:7: IP "
    )
    assert line(ether(geneve(ether(SYNACK), 9))).startswith("geneve vni:9: IP 193")


def test_what_cannot_be_read_says_so():
    assert line(bytes(12) + b"\x08\x06" + bytes(28)) == "no IP, link type 1, length 42"
    assert line(ether(SYNACK), snaplen=20) == "unreadable headers, link type 1, length 54"
    assert "Flags [unknown" in line(ether(SYNACK), snaplen=44)


def test_a_clock_has_nine_decimals():
    assert clock(T) == "2007-03-20 18:04:19.731091000"
    assert clock(0) == "1970-01-01 00:00:00.000000000"
    assert clock(-1) == "1969-12-31 23:59:59.999999999"


@settings(deadline=None)
@given(
    st.binary(max_size=150),
    st.sampled_from([0, 1, 101, 113, 276, 999]),
    st.sampled_from([b"", ether(SYNACK)[:34], ether(icmp_error("::1", "::2", 1, 4, SYNACK))[:62]]),
)
def test_a_line_is_printable_ascii_whatever_the_bytes(data, linktype, head):
    assert re.fullmatch(r"[ -~]+", line(head + data, linktype=linktype))


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_time_has_a_clock(time):
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9}", clock(time))


#: tcpdump's text for packets of which we print the same.
PUBLISHED = [
    ("tcpdump__gso-ipv6-geneve-ipv4.pcap", 0, "192.168.1.2.36991 > 192.168.1.1.41507: Flags [P.], seq 1242530197:1242537087, ack 2919862022, win 169, length 6890"),
    ("tcpdump__rip_error_hexdump.pcap", 0, "0.254.96.182.520 > 255.127.128.111.65535: UDP, length 42"),
    ("tcpdump__mptcp-tcprst.pcap", 0, "IP 192.0.2.1.55739 > 192.168.76.28.8080: Flags [R.], seq 1, ack 2176696966, win 256, length 0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "index", "text"), PUBLISHED)
def test_real_packets_read_as_in_the_published_tcpdump_output(captures, name, index, text):
    with (captures / name).open("rb") as stream:
        (block,) = open_capture(stream, name).blocks()
    assert packet_line(block, index).endswith(text)
    # the published text has options and checksums between: every number of ours stands in it
    published = (captures / "oracle" / f"{name}.tcpdump.out").read_text()
    assert all(number in published for number in re.findall(r"\d{4,}", text))


def test_every_packet_of_every_capture_has_a_line(captures):
    for path in sorted(captures.glob("*.pcap*")):
        with path.open("rb") as stream:
            for block in open_capture(stream, path.name).blocks():
                for index in range(min(len(block), 50)):
                    assert re.fullmatch(r"[ -~]+", packet_line(block, index)), path.name
