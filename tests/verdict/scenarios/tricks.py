"""Genuine contacts that look like backscatter by accident or on purpose: somebody knows the rules, and owns the remote.

None of these may be called backscatter, whatever else is said of them.
"""

from __future__ import annotations

from tests.verdict.scenarios.attempts import SYNS
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
    Story,
    Truth,
    kind,
)

from backscatter.demo.wire import icmp, ip, tcp, udp
from backscatter.verdict.model import Label

#: It was ours, and a judge may say so or that it cannot tell.
OURS = kind(Truth.OURS, Label.CONNECTION_ESTABLISHED, Label.CONNECTION_ATTEMPTED, Label.UNDETERMINED)
#: A remote that talks to something on our host, which does not talk back on this tuple.
THEIRS = kind(
    Truth.THEIRS,
    Label.CONNECTION_ESTABLISHED,
    Label.CONNECTION_ATTEMPTED,
    Label.INBOUND_CONNECTION,
    Label.UNDETERMINED,
)


def _asked_elsewhere(story: Story, time: float, *, port: int | None = None) -> None:
    """Our SYN to another address than the one that will answer."""
    ends = (story.local, port or story.port, story.stranger(1), story.service)
    story.add(time, tcp(*ends, "S", seq=story.isn), outward=True)


@OURS
def answered_by_another_address_of_a_load_balancer(story: Story) -> None:
    _asked_elsewhere(story, story.at - story.rtt)
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)


@OURS
def answered_by_another_address_again_and_again(story: Story) -> None:
    for after in SYNS[:4]:
        _asked_elsewhere(story, story.at + after)
        story.theirs(story.at + after + story.rtt, "SA", 0, 1)
        story.ours(story.at + after + story.rtt + 0.0003, "R", 1)


@OURS
def refused_by_another_address(story: Story) -> None:
    _asked_elsewhere(story, story.at - story.rtt)
    story.refuses(story.at, 1)


@OURS
def answered_by_another_address_and_unanswered(story: Story) -> None:
    _asked_elsewhere(story, story.at - story.rtt)
    story.theirs(story.at, "SA", 0, 1)


@OURS
def answered_to_another_port_than_asked(story: Story) -> None:
    story.ours(story.at - story.rtt, "S", 0, port=story.port ^ 1)
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)


@OURS
def dns_answer_from_another_address_of_the_server(story: Story) -> None:
    story.alert_proto, story.service = "udp", 53
    query = udp(story.local, story.port, story.stranger(1), 53, DNS_QUERY)
    story.add(story.at - story.rtt, query, outward=True)
    story.datagram(story.at, DNS_ANSWER, outward=False)


@OURS
def time_from_another_address_of_the_server(story: Story) -> None:
    story.alert_proto, story.service = "udp", 123
    story.add(story.at - 1, udp(story.local, story.port, story.stranger(1), 123, NTP_ASK), outward=True)
    story.datagram(story.at, NTP_ANSWER, outward=False)


@OURS
def quic_server_that_answers_from_another_address(story: Story) -> None:
    story.alert_proto, story.service = "udp", 443
    story.add(story.at - 1, udp(story.local, story.port, story.stranger(1), 443, QUIC_INITIAL), outward=True)
    story.datagram(story.at, QUIC_HANDSHAKE, outward=False)


@OURS
def reply_to_our_ping_of_a_group(story: Story) -> None:
    """A broadcast or multicast ping is answered by hosts whose addresses nobody asked."""
    story.alert_proto = "icmp"
    group = "255.255.255.255" if story.version == 4 else "ff0e::1"
    story.add(story.at - story.rtt, icmp(story.local, group, ECHO[story.version]), outward=True)
    story.message(story.at, ECHO_REPLY[story.version], outward=False)


@THEIRS
def words_in_the_payload_of_synacks(story: Story) -> None:
    for number in range(3):
        story.isn += 1000
        story.theirs(story.at + number, "SA", 0, 1, size=90)
        story.ours(story.at + number + 0.0003, "R", 1)


@THEIRS
def words_in_the_payload_of_a_rst(story: Story) -> None:
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)
    story.theirs(story.at + 1, "R", 1, size=40)


@THEIRS
def words_in_the_payload_of_a_closed_port_s_rst(story: Story) -> None:
    data = tcp(
        story.remote, story.service, story.local, story.port, "RA", seq=0, ack=story.isn + 1, payload=b"x" * 40, ttl=50
    )
    story.add(story.at, data, outward=False)


@OURS
def words_of_ours_in_the_payload_of_refusals(story: Story) -> None:
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, story.chance.choice(["R", "RA"]), 1, 1, size=60)


@OURS
def words_of_ours_in_the_number_of_refusals(story: Story) -> None:
    """One SYN+ACK, and many exact RSTs: their times are the message."""
    story.theirs(story.at, "SA", 0, 1)
    for number in range(story.chance.randrange(2, 9)):
        story.ours(story.at + 0.0003 + number * 0.7, "R", 1)


@OURS
def words_of_ours_in_the_ack_of_refusals(story: Story) -> None:
    for number in range(3):
        story.theirs(story.at + number, "SA", 0, 1)
        story.ours(story.at + number + 0.0003, "RA", 1, 5000 + 17 * number)


@OURS
def words_of_ours_in_the_flags_of_refusals(story: Story) -> None:
    for number in range(3):
        story.theirs(story.at + number, "SA", 0, 1)
        story.ours(story.at + number + 0.0003, story.chance.choice(["RP", "RU", "RPU", "RC", "RE"]), 1)


@OURS
def words_of_ours_in_refusals_by_icmp(story: Story) -> None:
    quoted = story.theirs(story.at, "SA", 0, 1)
    for number in range(6):
        told = quoted[:-4] + bytes([number] * 4)
        story.error(story.at + 0.0004 + number, story.local, told, PORT_UNREACHABLE, to=story.remote)


@OURS
def closed_late_by_a_host_whose_syn_had_options_only_we_know(story: Story) -> None:
    """A connection in which the first refusal comes long after the answer: somebody had held it."""
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + story.chance.uniform(3.1, 60), "R", 1)


@OURS
def our_syn_carries_fin(story: Story) -> None:
    story.ours(story.at, "SF", 0)
    story.theirs(story.at + story.rtt, "SA", 0, 1)
    story.ours(story.at + story.rtt + 0.0003, "R", 1)


@OURS
def our_syn_carries_rst(story: Story) -> None:
    story.ours(story.at, "SR", 0)
    story.theirs(story.at + story.rtt, "SA", 0, 1)
    story.ours(story.at + story.rtt + 0.0003, "R", 1)


@OURS
def we_open_with_no_flags_at_all(story: Story) -> None:
    story.ours(story.at, "", 0, size=10)
    story.theirs(story.at + story.rtt, "SA", 0, 1)
    story.ours(story.at + story.rtt + 0.0003, "R", 1)


def _in_pieces(story: Story, time: float, packet: bytes, size: int, *, outward: bool) -> None:
    """An IPv4 packet in fragments of `size` bytes; IPv6 goes whole, since this kind of trick is another there."""
    if packet[0] >> 4 != 4:
        story.add(time, packet, outward=outward)
        return
    body, src, dst = packet[20:], story.local, story.remote
    for at in range(0, len(body), size):
        more = 0x2000 if at + size < len(body) else 0
        piece = ip(src, dst, 6, body[at : at + size], ip_id=777, fragment=more | at // 8)
        story.add(time + at / 1e6, piece, outward=outward)


@OURS
def our_syn_in_tiny_fragments(story: Story) -> None:
    """The flags lie in the second fragment (RFC 1858)."""
    syn = tcp(story.local, story.port, story.remote, story.service, "S", seq=story.isn)
    _in_pieces(story, story.at, syn, 8, outward=True)
    story.theirs(story.at + story.rtt, "SA", 0, 1)
    story.ours(story.at + story.rtt + 0.0003, "R", 1)


@OURS
def our_data_in_tiny_fragments(story: Story) -> None:
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)
    data = tcp(
        story.local, story.port, story.remote, story.service, "PA", seq=story.isn + 1, ack=story.their + 1,
        payload=b"x" * 40,
    )  # fmt: skip
    _in_pieces(story, story.at + 1, data, 8, outward=True)


@OURS
def idle_connection_whose_begin_lies_an_hour_back(story: Story) -> None:
    story.at, story.ends = 4000, 4240
    story.talk(story.handshake(100))
    story.isn += 99999
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)


@OURS
def an_answer_to_words_of_ours_twenty_minutes_before(story: Story) -> None:
    story.alert_proto, story.service = "udp", 53
    story.datagram(60, DNS_QUERY, outward=True)
    story.at, story.ends = 1600, 1840
    story.datagram(story.at, DNS_ANSWER, outward=False)


@OURS
def told_by_another_channel_at_the_same_time(story: Story) -> None:
    """The command comes in SYN+ACKs, the answer goes by another port of the same remote."""
    for number in range(3):
        story.isn += 4096
        story.theirs(story.at + number, "SA", 0, 1)
        story.ours(story.at + number + 0.0003, "R", 1)
    port, service = story.port, story.service
    story.port, story.service, story.isn = story.port ^ 1, 53, story.isn + 31337
    story.closing(*story.talk(story.handshake(story.at - 200), 1))
    story.port, story.service = port, service


@OURS
def told_by_icmp_at_the_same_time(story: Story) -> None:
    """The command comes in SYN+ACKs, the answer goes in pings."""
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)
    for number in range(8):
        story.message(story.at + 2 + number, ECHO[story.version], outward=True)


@OURS
def told_by_unasked_echo_replies_at_the_same_time(story: Story) -> None:
    """The command comes in SYN+ACKs, the answer goes in echo replies that nobody asked for."""
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)
    for number in range(8):
        story.message(story.at + 2 + number, ECHO_REPLY[story.version], outward=True)


@OURS
def told_by_another_protocol_at_the_same_time(story: Story) -> None:
    """The answer goes in packets of a protocol without ports (GRE with nothing known inside)."""
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)
    for number in range(8):
        story.add(story.at + 2 + number, ip(story.local, story.remote, 253, b"x" * 40), outward=True)


@OURS
def told_by_datagrams_at_the_same_time(story: Story) -> None:
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)
    for number in range(8):
        data = udp(story.local, 5000 + number, story.remote, 6000, b"x" * 40)
        story.add(story.at + 2 + number, data, outward=True)


@OURS
def told_by_bare_segments_at_the_same_time(story: Story) -> None:
    """The answer goes in pure ACKs or RSTs of another port, which belong to no connection."""
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)
    flags = story.chance.choice(["A", "R", "RA", "FA", "", "FPU"])
    for number in range(8):
        story.ours(story.at + 2 + number, flags, 1000 * number, 1, port=story.port ^ 1)


@OURS
def our_syn_half_an_hour_before_and_an_answer_in_time_with_nobody_left(story: Story) -> None:
    """The same seq, long after every timeout: the SYN is ours at any distance."""
    story.at, story.ends = 2200, 2440
    story.ours(100, "S", 0)
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)


@OURS
def our_syn_is_captured_far_too_late(story: Story) -> None:
    """A sensor that shuffles: our SYN stands minutes behind its answer."""
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)
    story.ours(story.at + story.chance.uniform(5, 100), "S", 0)


@OURS
def a_handshake_that_our_firewall_answers_for_us(story: Story) -> None:
    """A proxy completes the handshake beyond the sensor; only what it leaves to us is seen."""
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)
    for number in range(6):
        story.theirs(story.at + 0.2 + number, "PA", 1 + 30 * number, 1, size=30)


@OURS
def a_null_session_with_words_in_our_rsts(story: Story) -> None:
    for number in range(3):
        data = tcp(story.remote, story.service, story.local, story.port, "", seq=5, payload=b"", ttl=50)
        story.add(story.at + number, data, outward=False)
        story.ours(story.at + number + 0.0003, "RA", 0, 1, size=50)
