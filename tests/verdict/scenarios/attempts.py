"""What our own host tried, however much the answer to it looks like one to somebody else."""

from __future__ import annotations

from tests.verdict.scenarios.story import UNREACHABLE, Story, Truth, kind

from backscatter.demo.wire import tcp
from backscatter.verdict.model import Label

ATTEMPTED = kind(Truth.OURS, Label.CONNECTION_ATTEMPTED)
HIDDEN = kind(Truth.OURS, Label.CONNECTION_ESTABLISHED, Label.CONNECTION_ATTEMPTED, Label.UNDETERMINED)

#: Linux: when SYNs are sent again; the connect ends at 127 s.
SYNS = (0, 1, 3, 7, 15, 31, 63)


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
