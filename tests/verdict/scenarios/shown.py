"""One story judged and shown with its packets: what the page of rules draws of each rule."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.verdict.scenarios.story import KINDS, Story
from tests.verdict.scenarios.trial import asked
from tests.verdict.scenarios.world import World, record_of, seen_by

from backscatter.capture.pick import pick
from backscatter.decode.line import packet_line
from backscatter.demo.wire import pcap, udp
from backscatter.flow.lookup import TableScene
from backscatter.flow.read import Piece, read_sensor
from backscatter.verdict.judge import judge
from backscatter.verdict.model import PacketLine, Verdict
from backscatter.verdict.packets import packets_wanted, with_packets
from backscatter.verdict.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

#: One sensor with all that a judge could wish for.
PLAIN = World(4, "none", "much", "one", 0, 65535, 0, 0)


def views_that_contradict_each_other(story: Story) -> None:
    """One scope shows our answer; another, in which our host is visible too, shows their packet without it."""
    story.theirs(story.at, "SA", 0, 1)
    story.ours(story.at + 0.0003, "R", 1)
    seen = [replace(packet, odd=True) for packet in story.packets if not packet.outward]
    story.packets += seen
    other = udp(story.local, 5000, story.stranger(1), 5001, b"x")
    story.add(story.at - 60, other, outward=True, odd=True)


def shown(tell: str | Callable[[Story], None], seed: int = 7) -> Verdict:
    """The verdict on a story in the plain world, its evidence with packets. `tell` is the name of a kind or a story."""
    story = Story(random.Random(seed), PLAIN.version)
    (KINDS[tell].tell if isinstance(tell, str) else tell)(story)
    finding = asked(story.with_chance(seed), PLAIN.alert)
    data = pcap(sorted(record_of(packet, PLAIN) for packet in seen_by(story, PLAIN, random.Random(seed))))
    sensor = read_sensor("one", [Piece("capture.pcap", lambda: io.BytesIO(data))])
    verdict = judge(finding, TableScene([sensor]), Settings())
    ((name, offsets),) = packets_wanted([verdict]).items()
    (piece,) = sensor.pieces
    blocks = pick(lambda at, length: data[at : at + length], piece.layout, offsets)
    lines = {
        (name, offset): PacketLine(int(block.time[0]), packet_line(block, 0), name, offset)
        for offset, block in blocks.items()
    }
    return with_packets(verdict, lines)
