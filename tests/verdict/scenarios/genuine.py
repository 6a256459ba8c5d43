"""What our own host did, however much it looks like an answer to somebody else."""

from __future__ import annotations

from dataclasses import replace

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
    Packet,
    Story,
    Truth,
    kind,
)

from backscatter.demo.wire import icmp, tcp, udp
from backscatter.verdict.model import Label

ESTABLISHED = kind(Truth.OURS, Label.CONNECTION_ESTABLISHED)
ATTEMPTED = kind(Truth.OURS, Label.CONNECTION_ATTEMPTED)
TRIED = kind(Truth.OURS, Label.CONNECTION_ATTEMPTED, Label.CONNECTION_ESTABLISHED)
HIDDEN = kind(Truth.OURS, Label.CONNECTION_ESTABLISHED, Label.CONNECTION_ATTEMPTED, Label.UNDETERMINED)

#: Linux: when SYNs are sent again; the connect ends at 127 s.
SYNS = (0, 1, 3, 7, 15, 31, 63)


@ESTABLISHED
def whole_connection(story: Story) -> None:
    story.closing(*story.talk(story.handshake(story.at)))


@ESTABLISHED
def slow_server(story: Story) -> None:
    tries = SYNS[: story.chance.randrange(2, 8)]
    for after in tries[:-1]:
        story.ours(story.at + after - tries[-1], "S", 0)
    story.closing(*story.talk(story.handshake(story.at)))


@ESTABLISHED
def aborted_with_data_unread(story: Story) -> None:
    time, here, there = story.talk(story.handshake(story.at), 2)
    story.theirs(time, "PA", there, here, size=500)
    story.ours(time + 0.001, "R", here)


@ESTABLISHED
def connected_and_reset_before_data(story: Story) -> None:
    time = story.handshake(story.at)
    story.ours(time, story.chance.choice(["R", "RA"]), 1, 1)


@ESTABLISHED
def reset_by_the_server(story: Story) -> None:
    time, here, there = story.talk(story.handshake(story.at), 1)
    story.theirs(time, "R", there, here)


@ESTABLISHED
def banner_first(story: Story) -> None:
    time = story.handshake(story.at)
    story.theirs(time, "PA", 1, 1, size=40)
    story.ours(time + 0.001, "A", 1, 41)
    story.closing(*story.talk(time + 1, 1, 1, 41))


@ESTABLISHED
def fast_open_with_data_in_the_syn(story: Story) -> None:
    story.ours(story.at, "S", 0, size=80)
    story.theirs(story.at + story.rtt, "SA", 0, 81)
    story.theirs(story.at + story.rtt + 0.001, "PA", 1, 81, size=200)
    story.ours(story.at + story.rtt + 0.002, "A", 81, 201)


@TRIED
def fast_open_refused(story: Story) -> None:
    story.ours(story.at, "S", 0, size=80)
    story.refuses(story.at + story.rtt, 81)


@ESTABLISHED
def simultaneous_open_with_data(story: Story) -> None:
    story.ours(story.at, "S", 0)
    story.theirs(story.at + 0.01, "S", 0)
    story.ours(story.at + 0.0104, "SA", 0, 1)
    story.theirs(story.at + 0.02, "SA", 0, 1)
    story.talk(story.at + 0.1)


@TRIED
def simultaneous_open_without_data(story: Story) -> None:
    story.ours(story.at, "S", 0)
    story.theirs(story.at + 0.01, "S", 0)
    story.ours(story.at + 0.0104, "SA", 0, 1)
    story.theirs(story.at + 0.02, "SA", 0, 1)


@ESTABLISHED
def first_data_with_the_ack_of_the_handshake(story: Story) -> None:
    story.ours(story.at - 3, "S", 0)
    story.ours(story.at - 2, "S", 0)
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "PA", 1, 1, size=30)
    story.theirs(story.at + 0.3, "RA", 1, 31)


@ESTABLISHED
def synack_again_because_our_ack_got_lost_on_the_way(story: Story) -> None:
    time = story.handshake(story.at)
    for after in (1, 3):
        story.theirs(time + after, "SA", 0, 1)
        story.ours(time + after + 0.0003, "A", 1, 1)


@ESTABLISHED
def connection_of_another_network_with_our_addresses(story: Story) -> None:
    """Overlapping addresses: backscatter in one scope, a whole connection in another. The graver reading holds."""
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)
    told = len(story.packets)
    story.isn += 5000
    story.closing(*story.talk(story.handshake(story.at + 20)))
    story.packets[told:] = [replace(packet, odd=True) for packet in story.packets[told:]]


@ESTABLISHED
def port_reused_after_a_connection(story: Story) -> None:
    story.closing(*story.talk(story.handshake(story.at - 120)))
    story.isn += 10**6
    story.ours(story.at, "S", 0)
    story.theirs(story.at + story.rtt, "SA", 0, 1)
    story.ours(story.at + story.rtt + 0.0002, "R", 1)


@ESTABLISHED
def late_synack_after_a_closed_connection(story: Story) -> None:
    story.closing(*story.talk(story.handshake(story.at - 40), 1))
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)


@ESTABLISHED
def late_fin_after_time_wait(story: Story) -> None:
    time, here, there = story.talk(story.handshake(story.at - 100), 1)
    story.closing(time, here, there)
    story.theirs(story.at, "FA", there, here + 1)
    story.ours(story.at + 0.0003, "R", here + 1)


@ESTABLISHED
def syn_delivered_after_its_synack(story: Story) -> None:
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.001, "A", 1, 1)
    story.ours(story.at + story.chance.uniform(0.01, 2.9), "S", 0)
    story.talk(story.at + 3)


@ATTEMPTED
def half_open_probe_delivered_after_its_synack(story: Story) -> None:
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.001, "R", 1)
    story.ours(story.at + story.chance.uniform(0.01, 2.9), "S", 0)


@kind(Truth.OURS, Label.CONNECTION_ESTABLISHED, Label.UNDETERMINED)
def midstream_data_both_ways(story: Story) -> None:
    story.closing(*story.talk(story.at, 3, 5000, 9000))


@HIDDEN
def keep_alives_of_an_idle_connection(story: Story) -> None:
    for number in range(4):
        time = story.at + number * 45
        story.theirs(time, "A", 8999, 5000)
        story.ours(time + 0.0003, "A", 5000, 9000)


@HIDDEN
def reset_of_an_idle_connection_by_their_keep_alive(story: Story) -> None:
    story.theirs(story.at, "A", 8999, 5000)
    story.ours(story.at + 0.0003, "R", 5000)


@HIDDEN
def idle_connection_reset_by_their_side(story: Story) -> None:
    story.theirs(story.at, story.chance.choice(["R", "RA"]), 9000, 5000)


@HIDDEN
def challenge_ack_to_a_syn_on_our_connection(story: Story) -> None:
    story.theirs(story.at, "S", 77777)
    story.ours(story.at + 0.0003, "A", 5000, 9000)
    story.theirs(story.at + 0.2, "R", 9000)


@HIDDEN
def only_their_side_captured(story: Story) -> None:
    story.closing(*story.talk(story.handshake(story.at)))
    story.filtered = lambda packet: not packet.outward


@HIDDEN
def only_their_synack_captured(story: Story) -> None:
    story.theirs(story.at, "SA", 0, 1)
    story.filtered = lambda packet: not packet.outward


@HIDDEN
def only_their_side_and_our_broadcasts_captured(story: Story) -> None:
    story.theirs(story.at, "SA", 0, 1)
    broadcast = "10.0.0.255" if story.version == 4 else "ff02::1"
    story.filtered = lambda packet: not packet.outward or packet.data == announcement
    announcement = udp(story.local, 137, broadcast, 137, b"here I am")
    for number in range(6):
        story.add(50 + number * 90, announcement, outward=True)


@HIDDEN
def a_filter_that_hides_syns(story: Story) -> None:
    story.handshake(story.at)
    story.filtered = synack_or_rst


def synack_or_rst(packet: Packet) -> bool:
    """Corsaro's filter for backscatter: (SYN and ACK) or RST."""
    head = 20 if packet.data[0] >> 4 == 4 else 40
    proto = packet.data[9] if head == 20 else packet.data[6]
    flags = packet.data[head + 13] if len(packet.data) > head + 13 else 0
    return proto == 6 and (flags & 0x12 == 0x12 or bool(flags & 4))


@kind(Truth.OURS, Label.CONNECTION_ESTABLISHED, Label.CONNECTION_ATTEMPTED)
def only_our_side_captured(story: Story) -> None:
    story.closing(*story.talk(story.handshake(story.at)))
    story.filtered = lambda packet: packet.outward


# -- attempts ----------------------------------------------------------------------------------------------------------


@ATTEMPTED
def unanswered_connect(story: Story) -> None:
    for after in SYNS:
        story.ours(story.at - 63 + after, "S", 0)


@ATTEMPTED
def refused_connect(story: Story) -> None:
    story.ours(story.at, "S", 0)
    story.refuses(story.at + story.rtt, 1)


@ATTEMPTED
def unreachable_connect(story: Story) -> None:
    quoted = story.ours(story.at, "S", 0)
    story.error(story.at + story.rtt, story.router, quoted, UNREACHABLE)


@ATTEMPTED
def unreachable_connect_and_the_error_is_alerted_on(story: Story) -> None:
    unreachable_connect(story)
    story.alert_proto, story.alert_remote = "icmp", story.router


def _half_open(story: Story, time: float) -> None:
    story.ours(time, "S", 0)
    story.theirs(time + story.rtt, "SA", 0, 1)
    story.ours(time + story.rtt + 0.0002, "R", 1)


@ATTEMPTED
def one_half_open_probe(story: Story) -> None:
    _half_open(story, story.at)


@ATTEMPTED
def half_open_scan(story: Story) -> None:
    _half_open(story, story.at)
    for number in range(20):
        time, ends = story.at - 20 + number, (story.local, 60000, story.stranger(number), 80)
        story.add(time, tcp(*ends, "S", seq=5), outward=True)
        story.add(time + 0.1, tcp(*ends[2:], *ends[:2], "SA", seq=9, ack=6), outward=False)
        story.add(time + 0.1002, tcp(*ends, "R", seq=6), outward=True)


@ATTEMPTED
def half_open_scan_of_closed_ports(story: Story) -> None:
    story.ours(story.at, "S", 0)
    story.refuses(story.at + story.rtt, 1)
    for port in range(20):
        data = tcp(story.local, 60000, story.remote, 100 + port, "S", seq=5)
        story.add(story.at - 20 + port, data, outward=True)
        answer = tcp(story.remote, 100 + port, story.local, 60000, "RA", seq=0, ack=6)
        story.add(story.at - 20 + port + 0.1, answer, outward=False)


@ATTEMPTED
def given_up_in_syn_sent(story: Story) -> None:
    """Happy eyeballs: another address won, the socket is closed, and the answer comes late."""
    wait = story.chance.choice([0.3, 1, 5])
    story.ours(story.at, "S", 0)
    story.theirs(story.at + wait, "SA", 0, 1)
    story.ours(story.at + wait + 0.0002, "R", 1)


@ATTEMPTED
def given_up_after_twenty_seconds_and_answered_later(story: Story) -> None:
    for after in SYNS[:5]:
        story.ours(story.at - 45 + after, "S", 0)
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)


@ATTEMPTED
def answered_after_the_whole_connect_timeout(story: Story) -> None:
    for after in SYNS:
        story.ours(story.at - 126 + after, "S", 0)
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)


@ATTEMPTED
def reset_by_our_firewall(story: Story) -> None:
    story.ours(story.at, "S", 0)
    for after in (0, 1, 3):
        story.theirs(story.at + story.rtt + after, "SA", 0, 1)
        story.ours(story.at + story.rtt + after + 0.0002, "R", 1, ttl=63)


@ATTEMPTED
def our_syn_has_another_number(story: Story) -> None:
    """An old SYN+ACK meets a new SYN of ours: its ack is unacceptable, our host answers RST."""
    story.ours(story.at - 0.1, "S", 777)
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)


@ATTEMPTED
def our_syn_in_another_scope_or_sensor(story: Story) -> None:
    story.ours(story.at, "S", 0, odd=True)
    story.theirs(story.at + story.rtt, "SA", 0, 1)
    story.ours(story.at + story.rtt + 0.0002, "R", 1)


@ATTEMPTED
def our_matching_syn_long_before(story: Story) -> None:
    story.ours(10, "S", 0)
    story.at, story.ends = 1500, 1740
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)


@HIDDEN
def ack_scan_of_ours(story: Story) -> None:
    story.ours(story.at, "A", 1, 1)
    story.theirs(story.at + story.rtt, "R", 1)


# -- UDP and ICMP ------------------------------------------------------------------------------------------------------


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
