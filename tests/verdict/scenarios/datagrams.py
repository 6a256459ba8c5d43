"""What our own host asked by UDP and ICMP, and what came of it."""

from __future__ import annotations

from tests.verdict.scenarios.story import (
    DNS_ANSWER,
    DNS_QUERY,
    ECHO,
    ECHO_REPLY,
    NTP_ANSWER,
    NTP_ASK,
    PORT_UNREACHABLE,
    QUIC_HANDSHAKE,
    QUIC_INITIAL,
    QUIC_SHORT,
    TIME_EXCEEDED,
    UNREACHABLE,
    Story,
    Truth,
    kind,
)

from backscatter.demo.wire import icmp
from backscatter.verdict.model import Label

ESTABLISHED = kind(Truth.OURS, Label.CONNECTION_ESTABLISHED)
ATTEMPTED = kind(Truth.OURS, Label.CONNECTION_ATTEMPTED)


@ESTABLISHED
def dns_lookup(story: Story) -> None:
    story.alert_proto, story.service = "udp", 53
    story.datagram(story.at, DNS_QUERY, outward=True)
    story.datagram(story.at + story.rtt, DNS_ANSWER, outward=False)


@ESTABLISHED
def dns_answer_after_more_than_a_minute(story: Story) -> None:
    story.alert_proto, story.service = "udp", 53
    story.datagram(story.at - 70, DNS_QUERY, outward=True)
    story.datagram(story.at, DNS_ANSWER, outward=False)


@kind(Truth.OURS, Label.CONNECTION_ESTABLISHED, Label.UNDETERMINED)
def dns_answer_repeated_after_many_minutes(story: Story) -> None:
    story.alert_proto, story.service = "udp", 53
    story.datagram(60, DNS_QUERY, outward=True)
    story.at, story.ends = 1025, 1240
    story.datagram(story.at - 100, DNS_ANSWER, outward=False)


@ESTABLISHED
def time_from_ntp(story: Story) -> None:
    story.alert_proto, story.service = "udp", 123
    for number in range(3):
        story.datagram(story.at + 64 * number, NTP_ASK, outward=True)
        story.datagram(story.at + 64 * number + story.rtt, NTP_ANSWER, outward=False)


@ESTABLISHED
def quic_connection(story: Story) -> None:
    story.alert_proto, story.service = "udp", 443
    story.datagram(story.at, QUIC_INITIAL, outward=True)
    story.datagram(story.at + story.rtt, QUIC_HANDSHAKE, outward=False)
    story.datagram(story.at + 1, QUIC_SHORT, outward=True)
    story.datagram(story.at + 70, QUIC_SHORT, outward=False)


@kind(Truth.OURS, Label.CONNECTION_ESTABLISHED, Label.INBOUND_CONNECTION, Label.UNDETERMINED)
def quic_session_in_the_middle(story: Story) -> None:
    story.alert_proto, story.service = "udp", 443
    story.begins = story.at - 20
    story.datagram(story.at, QUIC_SHORT, outward=False)
    if story.chance.random() < 0.5:
        story.datagram(story.at + 0.01, QUIC_SHORT, outward=True)


@kind(Truth.OURS, Label.CONNECTION_ESTABLISHED, Label.UNDETERMINED)
def quic_answers_without_the_begin(story: Story) -> None:
    story.alert_proto, story.service = "udp", 443
    story.begins = story.at - 1
    story.datagram(story.at, QUIC_HANDSHAKE, outward=False)


@kind(Truth.OURS, Label.CONNECTION_ESTABLISHED, Label.UNDETERMINED)
def other_udp_of_theirs_without_the_begin(story: Story) -> None:
    story.alert_proto, story.service = "udp", 51820
    story.begins = story.at - 20
    story.datagram(story.at, b"\4" + bytes(60), outward=False)


@ATTEMPTED
def udp_without_answer(story: Story) -> None:
    story.alert_proto, story.service = "udp", 4444
    story.datagram(story.at, b"hello", outward=True)


@ATTEMPTED
def udp_to_a_closed_port(story: Story) -> None:
    story.alert_proto, story.service = "udp", 4444
    quoted = story.datagram(story.at, b"hello", outward=True)
    story.error(story.at + story.rtt, story.remote, quoted, PORT_UNREACHABLE)


@ATTEMPTED
def traceroute(story: Story) -> None:
    story.alert_proto, story.alert_remote, story.service = "icmp", story.router, 33434
    quoted = story.datagram(story.at, b"hello", outward=True)
    story.error(story.at + story.rtt, story.router, quoted, TIME_EXCEEDED)


@ATTEMPTED
def an_error_about_a_packet_in_another_scope_or_sensor(story: Story) -> None:
    story.alert_proto, story.alert_remote, story.service = "icmp", story.router, 33434
    quoted = story.datagram(story.at, b"hello", outward=True, odd=True)
    story.error(story.at + story.rtt, story.router, quoted, TIME_EXCEEDED)


@ESTABLISHED
def ping(story: Story) -> None:
    story.alert_proto = "icmp"
    for number in range(3):
        story.message(story.at + number, ECHO[story.version], outward=True)
        story.message(story.at + number + story.rtt, ECHO_REPLY[story.version], outward=False)


@ATTEMPTED
def ping_without_answer(story: Story) -> None:
    story.alert_proto = "icmp"
    story.message(story.at, ECHO[story.version], outward=True)


@ATTEMPTED
def ping_that_a_router_refuses(story: Story) -> None:
    story.alert_proto, story.alert_remote = "icmp", story.router
    quoted = icmp(story.local, story.remote, ECHO[story.version])
    story.add(story.at, quoted, outward=True)
    story.error(story.at + story.rtt, story.router, quoted, UNREACHABLE)


@ATTEMPTED
def ping_that_the_host_refuses(story: Story) -> None:
    story.alert_proto = "icmp"
    quoted = icmp(story.local, story.remote, ECHO[story.version])
    story.add(story.at, quoted, outward=True)
    story.error(story.at + story.rtt, story.remote, quoted, UNREACHABLE)


@kind(Truth.OURS, Label.CONNECTION_ESTABLISHED, Label.CONNECTION_ATTEMPTED, Label.UNDETERMINED)
def echo_reply_minutes_after_our_ping(story: Story) -> None:
    story.alert_proto = "icmp"
    story.message(60, ECHO[story.version], outward=True)
    story.at, story.ends = 1025, 1240
    story.message(story.at - 100, ECHO_REPLY[story.version], outward=False)
