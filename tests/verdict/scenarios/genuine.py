"""What our own host did, however much it looks like an answer to somebody else."""

from __future__ import annotations

from dataclasses import replace

from tests.verdict.scenarios.story import (
    Packet,
    Story,
    Truth,
    kind,
)

from backscatter.demo.wire import udp
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
