import struct

import pytest
from tests.decode.oracle import decoded

from backscatter.decode.columns import DNS_ANSWER, DNS_QUERY, NTP_ANSWER, NTP_ASK, QUIC_INITIAL, QUIC_LONG, QUIC_SHORT
from backscatter.decode.speech import speech


def dns(flags, questions=1, answers=0, rest=b"\1a\2bc\0\0\1\0\1"):
    return struct.pack(">HHHHHH", 1, flags, questions, answers, 0, 0) + rest


ANSWER = dns(0x8180, 1, 1, bytes(40))


@pytest.mark.parametrize(
    ("ports", "payload", "says"),
    [
        ((40000, 53), dns(0x0100), DNS_QUERY),
        ((53, 40000), ANSWER, DNS_ANSWER),
        ((53, 53), ANSWER, DNS_ANSWER),
        ((5353, 5353), dns(0), DNS_QUERY),
        ((40000, 53), ANSWER, 0),  # an answer comes from a server's port
        ((40000, 80), dns(0x0100), 0),
        ((53, 40000), dns(0x8180, 1, 30), 0),  # 30 records have no room in there
        ((53, 40000), dns(0x8180 | 9 << 11), 0),  # no such opcode
        ((53, 40000), ANSWER[:11], 0),
    ],
)
def test_dns_is_told_by_port_and_by_counts_that_fit(ports, payload, says):
    assert speech(*ports, payload, len(payload)) == says


def test_a_cut_answer_is_judged_by_the_length_that_it_had():
    assert speech(53, 40000, dns(0x8180, 1, 30), 500) == DNS_ANSWER


@pytest.mark.parametrize(
    ("ports", "first", "length", "says"),
    [
        ((40000, 123), 0x23, 48, NTP_ASK),
        ((123, 40000), 0x24, 48, NTP_ANSWER),
        ((123, 123), 0x1C, 68, NTP_ANSWER),
        ((40000, 123), 0x24, 48, 0),
        ((123, 40000), 0x24, 47, 0),
        ((123, 123), 0x21, 48, 0),  # symmetric mode neither asks nor answers
        ((123, 40000), 0x3C, 48, 0),  # version 7
    ],
)
def test_ntp_is_told_by_mode(ports, first, length, says):
    assert speech(*ports, bytes([first]) + bytes(length - 1), length) == says


@pytest.mark.parametrize(
    ("first", "version", "says"),
    [
        (0xC3, 1, QUIC_INITIAL),
        (0xE3, 1, QUIC_LONG),
        (0xD3, 0x6B3343CF, QUIC_INITIAL),
        (0xC3, 0x6B3343CF, QUIC_LONG),
        (0xC3, 0xFF00001D, QUIC_INITIAL),
        (0x80, 0, QUIC_LONG),  # version negotiation has arbitrary bits
        (0x83, 1, 0),  # no fixed bit
        (0xC3, 0x12345678, 0),
        (0x43, 0, QUIC_SHORT),
        (0x03, 0, 0),
    ],
)
def test_quic_is_told_by_its_first_bits_and_version(first, version, says):
    payload = struct.pack(">BIB", first, version, 8) + bytes(30)
    assert speech(443, 40000, payload, 36) == says
    assert speech(40000, 443, payload, 36) == says
    assert speech(40000, 444, payload, 36) == 0


def test_a_connection_id_that_is_too_long_is_no_quic():
    assert speech(443, 40000, struct.pack(">BIB", 0xC3, 1, 21) + bytes(30), 36) == 0


def test_real_dns_servers_are_heard_as_answering(captures):
    packets, _ = decoded(captures / "malcolm__DNS.pcap")
    from_server = (packets["proto"] == 17) & (packets["src_port"] == 53) & (packets["payload"] > 12)
    spoken = packets["speech"][from_server]
    assert (spoken == DNS_ANSWER).mean() > 0.9
    to_server = (
        (packets["proto"] == 17) & (packets["dst_port"] == 53) & (packets["src_port"] != 53) & (packets["payload"] > 12)
    )
    assert not (packets["speech"][to_server] == DNS_ANSWER).any()


def test_the_mirrored_ntp_of_aws_asks_and_is_answered(captures):
    packets, _ = decoded(captures / "sv__vxlan-decoder-03-vxlan.pcap")
    assert packets["speech"][:2].tolist() == [NTP_ASK, NTP_ANSWER]
