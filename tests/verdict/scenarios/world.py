"""How it was captured: encapsulation, rotation, snap length, reordering, loss, other traffic, sensors."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING

from tests.verdict.scenarios.alerts import FORMATS
from tests.verdict.scenarios.story import END, Packet, Story

from backscatter.demo.wire import ether, geneve, pcap, tcp, udp, vxlan
from backscatter.flow.lookup import TableScene
from backscatter.flow.read import Piece, read_sensor

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from backscatter.flow.read import SensorFlows

SECOND = 10**9
EPOCH = 1_700_000_000 * SECOND

#: How a packet of one direction is wrapped: (packet, outward, odd) -> frame. `odd` ones are in a scope of their own.
ENCAPSULATIONS: dict[str, Callable[[bytes, bool, bool], bytes]] = {
    "none": lambda packet, _, odd: ether(packet, vlan=(9,) if odd else ()),
    "vlan": lambda packet, _, odd: ether(packet, vlan=(9,) if odd else (5,)),
    "qinq": lambda packet, _, odd: ether(packet, vlan=(100, 9 if odd else 7)),
    "vxlan": lambda packet, _, odd: ether(vxlan(ether(packet), 9 if odd else 5)),
    "geneve+vxlan": lambda packet, _, odd: ether(geneve(ether(vxlan(ether(packet), 9 if odd else 5)), 77)),
    "a vlan for each direction": lambda packet, outward, odd: ether(packet, vlan=(9 if odd else 1 + outward,)),
}

#: How often there is ordinary traffic, in seconds between connections.
TRAFFIC = {"none": None, "little": 150.0, "much": 20.0}

SENSORS = (
    "one",
    "two that see the same",
    "two whose clocks differ",
    "two that share the packets",
    "another that was off",
)


@dataclass(frozen=True, slots=True)
class World:
    """The conditions of a capture."""

    version: int
    encapsulation: str
    traffic: str
    sensors: str
    cuts: int
    snap: int
    reordered: float
    loss: float
    alert: str = "eve"

    @classmethod
    def drawn(cls, chance: random.Random, *, lossy: bool) -> World:
        """Random conditions; often the ordinary ones, so that every other one is also seen alone."""
        return cls(
            version=chance.choice([4, 4, 6]),
            encapsulation=chance.choice(["none", "none", *ENCAPSULATIONS]),
            traffic=chance.choice(["much", "much", "much", "little", "none"]),
            sensors=chance.choice(["one", "one", "one", *SENSORS]),
            cuts=chance.choice([0, 0, 0, 1, 4, 12]),
            snap=chance.choice([65535, 65535, 65535, 220, 220, 60]),
            reordered=chance.choice([0, 0, 0, 0.001, 0.02, 2.5]),
            loss=chance.uniform(0, 0.3) if lossy else 0.0,
            alert=chance.choice(list(FORMATS)),
        )

    @property
    def covers(self) -> bool:
        """Whether silence means something here: other traffic, both directions in one scope, every sensor awake."""
        return (
            self.traffic == "much"
            and self.encapsulation != "a vlan for each direction"
            and self.sensors in ("one", "two that see the same", "two whose clocks differ")
            and self.loss == 0
            and self.snap >= 200  # below, flags are cut off behind some headers
            and self.reordered < 1  # whole connections are shuffled then, which looks like loss
        )


@lru_cache(maxsize=20_000)
def wrapped(encapsulation: str, packet: bytes, outward: bool, odd: bool) -> bytes:  # noqa: FBT001  a cache's key
    """The frame of a packet; ordinary traffic is the same in every scenario, so it is wrapped once."""
    return ENCAPSULATIONS[encapsulation](packet, outward, odd)


@cache
def ordinary(version: int, every: float, ends: float) -> tuple[Packet, ...]:
    """Whole connections of our host and of its neighbour with others, one each `every` seconds."""
    hosts = ("10.0.0.5", "10.0.0.77", "192.0.2.80") if version == 4 else ("fd00::5", "fd00::77", "2001:db8:80::80")
    packets: list[Packet] = []
    time, port = 1.0, 50000
    while time < ends:
        for host in hosts[:2]:
            packets += _connection(time + (host == hosts[1]), host, port, hosts[2])
        time, port = time + every, port + 1
    if every < 60:
        # A steady trickle, so that the silence between two connections is no hole where the capture is rotated there.
        beat = udp(hosts[1], 514, hosts[2], 514, b"beat")
        packets += [Packet(number * 1.9, beat, outward=True) for number in range(int(ends / 1.9))]
    return tuple(packets)


def _connection(time: float, one: str, port: int, other: str) -> list[Packet]:
    here, there, packets = 1000, 9000, []
    for flags, outward, size in [
        ("S", True, 0), ("SA", False, 0), ("A", True, 0),
        *[("PA", True, 100), ("PA", False, 300), ("A", True, 0)] * 3,
        ("FA", True, 0), ("FA", False, 0), ("A", True, 0),
    ]:  # fmt: skip
        ack = 0 if flags == "S" else (there if outward else here)
        ends = (one, port, other, 443) if outward else (other, 443, one, port)
        data = tcp(*ends, flags, seq=here if outward else there, ack=ack, payload=b"x" * size)
        packets.append(Packet(time, data, outward))
        taken = size + ("S" in flags) + ("F" in flags)
        here, there = (here + taken, there) if outward else (here, there + taken)
        time += 0.03
    return packets


def seen_by(story: Story, world: World, chance: random.Random) -> list[Packet]:
    """The packets of a story, amid others, that reach a capture, at the times that it gives them."""
    every = TRAFFIC[world.traffic]
    around = ordinary(story.version, every, max(story.ends, END)) if every else ()
    seen = []
    for packet in (*around, *story.packets):
        delay = chance.uniform(0, world.reordered) if world.reordered and (packet.outward or world.reordered < 1) else 0
        time = packet.time + delay
        wanted = story.filtered is None or story.filtered(packet)
        if wanted and story.begins <= time <= story.ends and chance.random() >= world.loss:
            seen.append(Packet(time, packet.data, packet.outward, packet.odd))
    return seen


def captured(story: Story, world: World, chance: random.Random) -> TableScene:
    """What the sensors of a world make of a story."""
    seen = seen_by(story, world, chance)
    if world.sensors == "two that see the same":
        views = {"one": seen, "two": seen}
    elif world.sensors == "two whose clocks differ":
        views = {"one": seen, "two": [replace(packet, time=packet.time + 0.7) for packet in seen]}
    elif world.sensors == "two that share the packets":
        second = [packet.odd or chance.random() < 0.5 for packet in seen]
        views = {
            "one": [packet for packet, there in zip(seen, second, strict=True) if not there],
            "two": [packet for packet, there in zip(seen, second, strict=True) if there],
        }
    elif world.sensors == "another that was off":
        views = {"one": seen, "two": [packet for packet in seen if packet.time < min(100.0, story.at - 200)]}
    else:
        views = {"one": seen}
    cuts = sorted(chance.uniform(story.begins, story.ends) for _ in range(world.cuts))
    return TableScene(sensors_of(views, cuts, world))


def sensors_of(views: Mapping[str, Sequence[Packet]], cuts: Sequence[float], world: World) -> list[SensorFlows]:
    """The flows of each sensor by its name, its capture rotated at the cuts (s)."""
    return [
        _sensor(name, [record_of(packet, world) for packet in view], cuts, world)
        for name, view in views.items()
        if view
    ]


def record_of(packet: Packet, world: World) -> tuple[int, bytes]:
    """A packet as a record of a capture in a world: its time (ns) and frame."""
    frame = wrapped(world.encapsulation, packet.data, packet.outward, packet.odd)
    return EPOCH + round(packet.time * SECOND), frame


def _sensor(name: str, records: list[tuple[int, bytes]], cuts: Sequence[float], world: World) -> SensorFlows:
    """The flows of one sensor whose capture was rotated at the cuts."""
    records.sort(key=lambda record: record[0])
    pieces, begin = [], 0
    for number, edge in enumerate([*(EPOCH + round(cut * SECOND) for cut in cuts), 1 << 62]):
        part = [record for record in records if begin <= record[0] < edge]
        begin = edge
        if part:
            pieces.append(Piece(f"{name}-{number}.pcap", partial(io.BytesIO, pcap(part, snaplen=world.snap))))
    return read_sensor(name, pieces)
