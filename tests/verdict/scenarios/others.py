"""What they did to us, and what the captured packets leave open."""

from __future__ import annotations

from tests.verdict.scenarios.genuine import synack_or_rst
from tests.verdict.scenarios.story import (
    DNS_ANSWER,
    DNS_QUERY,
    ECHO,
    ECHO_REPLY,
    PORT_UNREACHABLE,
    Story,
    Truth,
    kind,
)

from backscatter.demo.wire import tcp
from backscatter.verdict.model import Label

INBOUND = kind(Truth.THEIRS, Label.INBOUND_CONNECTION)
PROBED = kind(Truth.THEIRS, Label.INBOUND_SCAN)
UNDECIDED = kind(Truth.OPEN, Label.UNDETERMINED)
EITHER = kind(Truth.OPEN, Label.UNDETERMINED, Label.BACKSCATTER)


@INBOUND
def they_connect(story: Story) -> None:
    story.theirs(story.at, "S", 0)
    story.ours(story.at + 0.0003, "SA", 0, 1)
    story.theirs(story.at + story.rtt, "A", 1, 1)
    story.theirs(story.at + story.rtt + 0.01, "PA", 1, 1, size=90)
    story.ours(story.at + story.rtt + 0.02, "PA", 1, 91, size=900)
    story.theirs(story.at + 2 * story.rtt + 0.03, "FA", 91, 901)


@INBOUND
def they_connect_and_our_side_is_not_captured(story: Story) -> None:
    they_connect(story)
    story.filtered = lambda packet: not packet.outward


@INBOUND
def they_connect_and_their_side_is_not_captured(story: Story) -> None:
    they_connect(story)
    story.filtered = lambda packet: packet.outward


@PROBED
def half_open_scan_of_theirs(story: Story) -> None:
    story.theirs(story.at, "S", 0)
    story.ours(story.at + 0.0003, "SA", 0, 1)
    story.theirs(story.at + story.rtt, "R", 1)


@PROBED
def our_closed_port(story: Story) -> None:
    data = story.theirs(story.at, "S", 0)
    closed = tcp(story.local, story.port, story.remote, story.service, "RA", seq=0, ack=story.their + 1)
    if story.chance.random() < 0.7:
        story.add(story.at + 0.0003, closed, outward=True)
    else:
        story.error(story.at + 0.0003, story.local, data, PORT_UNREACHABLE, to=story.remote)


@PROBED
def their_syns_are_dropped(story: Story) -> None:
    for after in (0, 1, 3, 7):
        story.theirs(story.at + after, "S", 0)


@PROBED
def null_fin_or_xmas_probe(story: Story) -> None:
    story.theirs(story.at, story.chance.choice(["", "FPU", "F", "PU"]), 0)


@UNDECIDED
def ack_scan_of_theirs(story: Story) -> None:
    story.theirs(story.at, "A", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)


@PROBED
def their_ping_without_answer(story: Story) -> None:
    story.alert_proto = "icmp"
    story.message(story.at, ECHO[story.version], outward=False)


@INBOUND
def their_ping(story: Story) -> None:
    story.alert_proto = "icmp"
    story.begins = story.chance.choice([0, story.at - 10])
    story.message(story.at, ECHO[story.version], outward=False)
    story.message(story.at + 0.0003, ECHO_REPLY[story.version], outward=True)


@INBOUND
def they_ask_our_dns_server(story: Story) -> None:
    story.alert_proto, story.port, story.service = "udp", 53, 5000
    story.begins = story.chance.choice([0, story.at - 10])
    story.datagram(story.at, DNS_QUERY, outward=False)
    story.datagram(story.at + 0.0003, DNS_ANSWER, outward=True)


@INBOUND
def they_ask_our_dns_server_again_and_again(story: Story) -> None:
    story.alert_proto, story.port, story.service = "udp", 53, 5000
    for number in range(4):
        story.datagram(story.at - 240 + number * 80, DNS_QUERY, outward=False)
        story.datagram(story.at - 240 + number * 80 + 0.0003, DNS_ANSWER, outward=True)


@kind(Truth.THEIRS, Label.INBOUND_CONNECTION, Label.CONNECTION_ESTABLISHED)
def they_asked_our_server_long_before_too(story: Story) -> None:
    story.alert_proto, story.port, story.service = "udp", 5353 ^ 1, 5000
    story.datagram(20, b"ask", outward=False)
    story.datagram(20.001, b"answer", outward=True)
    story.at, story.ends = 1025, 1240
    story.datagram(story.at - 100, b"ask", outward=False)
    story.datagram(story.at - 99.999, b"answer", outward=True)


@PROBED
def udp_probe(story: Story) -> None:
    story.alert_proto = "udp"
    story.port, story.service = story.chance.choice([(53, 5000), (1900, 7777)])
    story.datagram(story.at, DNS_QUERY, outward=False)


@UNDECIDED
def a_lone_rst(story: Story) -> None:
    story.theirs(story.at, "R", 1)


@UNDECIDED
def their_data_first(story: Story) -> None:
    story.theirs(story.at, "PA", 1, 1, size=60)


@UNDECIDED
def a_rst_that_fits_nothing(story: Story) -> None:
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 6)


@EITHER
def capture_begins_after_our_syn(story: Story) -> None:
    """The happy eyeballs story again, but its SYN lies before the capture: the guard time allows `possible`."""
    story.ours(story.at, "S", 0)
    story.theirs(story.at + 0.3, "SA", 0, 1)
    story.ours(story.at + 0.3002, "R", 1)
    story.begins = story.at + 0.1


@EITHER
def forged_but_at_the_begin_of_the_capture(story: Story) -> None:
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)
    story.begins = story.at - story.chance.uniform(0, 29)


@UNDECIDED
def unanswered_at_the_begin_of_the_capture(story: Story) -> None:
    story.theirs(story.at, "SA", 0, 1)
    story.begins = story.at - story.chance.uniform(0, 120)


@EITHER
def forged_with_little_look_back(story: Story) -> None:
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)
    story.begins = story.at - story.chance.uniform(35, 120)


@EITHER
def a_filter_that_hides_syns_and_a_half_open_probe(story: Story) -> None:
    """A telescope's filter shows our SYN scan as backscatter; nothing in it can tell, so it is never confirmed."""
    story.ours(story.at, "S", 0)
    story.theirs(story.at + story.rtt, "SA", 0, 1)
    story.ours(story.at + story.rtt + 0.0002, "R", 1)
    story.filtered = synack_or_rst
