"""True backscatter: somebody forged our address, and the answers come to us. Also reflection and SYN+ACK scans."""

from __future__ import annotations

from tests.verdict.scenarios.story import (
    DNS_ANSWER,
    ECHO_REPLY,
    NTP_ANSWER,
    PORT_UNREACHABLE,
    QUIC_HANDSHAKE,
    TIME_EXCEEDED,
    UNREACHABLE,
    Story,
    Truth,
    kind,
)

from backscatter.demo.wire import tcp, udp
from backscatter.verdict.model import Label

BACKSCATTER = kind(Truth.BACKSCATTER, Label.BACKSCATTER)
WEAK_BACKSCATTER = kind(Truth.BACKSCATTER, Label.BACKSCATTER, Label.UNDETERMINED)
LINUX_RETRIES = (0, 1, 3, 7, 15, 31)


def answered(story: Story, time: float, *, refused: bool = True, port: int | None = None) -> None:
    """One SYN+ACK, and our bare RST where the host refuses it."""
    story.theirs(time, "SA", 0, 1, port=port)
    if refused:
        story.ours(time + 0.0004, "R", 1, port=port)


@BACKSCATTER
def refused_once(story: Story) -> None:
    answered(story, story.at)


@BACKSCATTER
def refused_again_and_again(story: Story) -> None:
    for after in LINUX_RETRIES[: story.chance.randrange(2, 6)]:
        answered(story, story.at + after)


@BACKSCATTER
def unanswered_once(story: Story) -> None:
    answered(story, story.at, refused=False)


@BACKSCATTER
def unanswered_and_retransmitted(story: Story) -> None:
    for after in LINUX_RETRIES[: story.chance.randrange(2, 6)]:
        answered(story, story.at + after, refused=False)


@BACKSCATTER
def server_gives_up_with_rst(story: Story) -> None:
    for after in LINUX_RETRIES[:4]:
        answered(story, story.at + after, refused=False)
    story.theirs(story.at + 16, "R", 1)


def _several_seqs(story: Story, *, refused: bool) -> None:
    time = story.at
    for _ in range(story.chance.randrange(2, 6)):
        answered(story, time, refused=refused)
        story.isn, story.their = story.chance.randrange(2**32), story.chance.randrange(2**32)
        time += story.chance.uniform(1, 20)


@BACKSCATTER
def several_forged_seqs_on_one_tuple_refused(story: Story) -> None:
    _several_seqs(story, refused=True)


@BACKSCATTER
def several_forged_seqs_on_one_tuple_unanswered(story: Story) -> None:
    _several_seqs(story, refused=False)


@BACKSCATTER
def juno_ports(story: Story) -> None:
    story.port = story.chance.choice([1024, 3072])
    answered(story, story.at)
    answered(story, story.at + 40, port=4096 - story.port)


@BACKSCATTER
def closed_port_once(story: Story) -> None:
    story.refuses(story.at, 1)


@BACKSCATTER
def closed_port_many_seqs(story: Story) -> None:
    for number in range(5):
        story.refuses(story.at + number * 3, story.chance.randrange(2**32))


@BACKSCATTER
def port_closed_for_a_while_then_open(story: Story) -> None:
    story.refuses(story.at - 5, 1)
    answered(story, story.at)


@BACKSCATTER
def the_same_tuple_twice_minutes_apart(story: Story) -> None:
    answered(story, story.at)
    story.isn = story.chance.randrange(2**32)
    story.ends += 400
    answered(story, story.at + 390)
    story.at += 390


@BACKSCATTER
def refused_with_icmp_by_our_host(story: Story) -> None:
    quoted = story.theirs(story.at, "SA", 0, 1)
    story.error(story.at + 0.0004, story.local, quoted, PORT_UNREACHABLE, to=story.remote)


@BACKSCATTER
def refused_with_icmp_by_our_gateway(story: Story) -> None:
    quoted = story.theirs(story.at, "SA", 0, 1)
    story.error(story.at + 0.0004, story.gateway, quoted, UNREACHABLE, to=story.remote)


@BACKSCATTER
def refused_with_rst_and_ack(story: Story) -> None:
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0004, "RA", 1, 1)


@BACKSCATTER
def a_router_refuses_our_rst(story: Story) -> None:
    story.theirs(story.at, "SA", 0, 1)
    quoted = story.ours(story.at + 0.0004, "R", 1)
    story.error(story.at + 0.1, story.router, quoted, UNREACHABLE)


@BACKSCATTER
def a_router_refuses_our_rst_and_is_alerted_on(story: Story) -> None:
    a_router_refuses_our_rst(story)
    story.alert_proto, story.alert_remote = "icmp", story.router


@BACKSCATTER
def an_ecn_server(story: Story) -> None:
    story.theirs(story.at, "SAE", 0, 1)
    story.ours(story.at + 0.0004, "R", 1)


@BACKSCATTER
def flooded_server_answers_many_of_us(story: Story) -> None:
    answered(story, story.at)
    for number in range(14):
        host, seq = story.neighbour(number), story.chance.randrange(2**32)
        time = story.at + story.chance.uniform(-60, 60)
        ends = (story.remote, story.service, host, story.chance.randrange(1025, 65000))
        story.add(time, tcp(*ends, "SA", seq=5, ack=seq), outward=False)
        story.add(time + 0.0004, tcp(*ends[2:], *ends[:2], "R", seq=seq), outward=True)


@BACKSCATTER
def many_ports_of_one_host_without_ports_in_the_alert(story: Story) -> None:
    story.portless = True
    for number in range(8):
        story.isn = story.chance.randrange(2**32)
        answered(story, story.at + number, port=2000 + number)


def _forged_syn(story: Story) -> bytes:
    return tcp(story.local, story.port, story.remote, story.service, "S", seq=story.isn)


@BACKSCATTER
def victim_unreachable_by_its_router(story: Story) -> None:
    story.alert_proto, story.alert_remote = "icmp", story.router
    story.error(story.at, story.router, _forged_syn(story), UNREACHABLE)


@BACKSCATTER
def victim_itself_unreachable(story: Story) -> None:
    story.alert_proto = "icmp"
    forged = udp(story.local, story.port, story.remote, story.service, b"x" * 30)
    story.error(story.at, story.remote, forged, PORT_UNREACHABLE)


@BACKSCATTER
def time_exceeded_on_the_way_to_the_victim(story: Story) -> None:
    story.alert_proto, story.alert_remote = "icmp", story.router
    forged = udp(story.local, story.port, story.remote, 53, b"x" * 30)
    for number in range(3):
        story.error(story.at + number, story.router, forged, TIME_EXCEEDED)


@BACKSCATTER
def echo_reply(story: Story) -> None:
    story.alert_proto = "icmp"
    story.message(story.at, ECHO_REPLY[story.version], outward=False)


@BACKSCATTER
def dns_answer(story: Story) -> None:
    story.alert_proto, story.service = "udp", 53
    story.datagram(story.at, DNS_ANSWER, outward=False)


@BACKSCATTER
def dns_answer_to_a_closed_port(story: Story) -> None:
    story.alert_proto, story.service = "udp", 53
    quoted = story.datagram(story.at, DNS_ANSWER, outward=False)
    story.error(story.at + 0.0004, story.local, quoted, PORT_UNREACHABLE, to=story.remote)


@BACKSCATTER
def ntp_answer(story: Story) -> None:
    story.alert_proto, story.service = "udp", 123
    story.datagram(story.at, NTP_ANSWER, outward=False)


@BACKSCATTER
def quic_server(story: Story) -> None:
    story.alert_proto, story.service = "udp", 443
    for number in range(3):
        story.datagram(story.at + number, QUIC_HANDSHAKE, outward=False)


@WEAK_BACKSCATTER
def challenge_ack_of_a_flooded_server(story: Story) -> None:
    answered(story, story.at, refused=False)
    story.theirs(story.at + 0.5, "A", 1, 1)
    story.ours(story.at + 0.5004, "R", 1)


@WEAK_BACKSCATTER
def we_also_contacted_the_victim(story: Story) -> None:
    answered(story, story.at)
    port, story.port = story.port, story.port ^ 1
    story.isn = story.chance.randrange(2**32)
    story.closing(*story.talk(story.handshake(story.at - 100)))
    story.port = port


@kind(Truth.REFLECTION, Label.REFLECTION_TARGET)
def synacks_of_many_servers(story: Story) -> None:
    answered(story, story.at)
    for number in range(60):
        port = story.chance.randrange(1025, 65000)
        data = tcp(story.stranger(number), 80, story.local, port, "SA", seq=1, ack=story.chance.randrange(2**32))
        story.add(story.at + story.chance.uniform(-25, 25), data, outward=False)


@kind(Truth.REFLECTION, Label.REFLECTION_TARGET)
def closed_ports_of_many_hosts(story: Story) -> None:
    story.refuses(story.at, 1)
    for number in range(60):
        port = story.chance.randrange(1025, 65000)
        data = tcp(story.stranger(number), 80, story.local, port, "RA", seq=0, ack=story.chance.randrange(2**32))
        story.add(story.at + story.chance.uniform(-25, 25), data, outward=False)


@kind(Truth.REFLECTION, Label.REFLECTION_TARGET)
def dns_answers_of_many_servers(story: Story) -> None:
    story.alert_proto, story.service = "udp", 53
    story.datagram(story.at, DNS_ANSWER, outward=False)
    for number in range(60):
        data = udp(story.stranger(number), 53, story.local, story.port, DNS_ANSWER)
        story.add(story.at + story.chance.uniform(-25, 25), data, outward=False)


def _synack_scan(story: Story, ack: int) -> None:
    for number in range(14):
        time = story.at + number * 0.2
        data = tcp(story.remote, 30000 + number, story.neighbour(number), 443, "SA", seq=number, ack=ack)
        story.add(time, data, outward=False)
    story.add(story.at, tcp(story.remote, story.service, story.local, story.port, "SA", seq=9, ack=ack), outward=False)


@kind(Truth.SYNACK_SCAN, Label.SYNACK_SCAN)
def synack_scan_with_ack_zero(story: Story) -> None:
    _synack_scan(story, 0)


@kind(Truth.SYNACK_SCAN, Label.SYNACK_SCAN)
def synack_scan_with_one_ack(story: Story) -> None:
    _synack_scan(story, story.chance.randrange(1, 2**32))
