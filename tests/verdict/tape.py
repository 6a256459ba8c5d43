"""A tape of made packets: what a test says happened, around ordinary traffic that proves the capture was whole."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

from backscatter.demo.wire import ether, pcap, tcp
from backscatter.finding.model import End, Finding, Tuple
from backscatter.flow.lookup import TableScene
from backscatter.flow.read import Piece, read_sensor
from backscatter.verdict.judge import judge
from backscatter.verdict.settings import Settings

SECOND = 10**9
T0 = 1_700_000_000 * SECOND
LOCAL, REMOTE = "10.0.0.5", "198.51.100.9"
PORT, SERVICE = 40000, 6667
ISN = 4_000_000_000  # near the wrap of the sequence space, on purpose


def seconds(number: float) -> int:
    """A time on the tape, `number` seconds after T0, in ns."""
    return T0 + round(number * SECOND)


@dataclass
class Tape:
    """Packets at times in seconds; `vlan` is the scope of those that say nothing else."""

    vlan: tuple[int, ...] = ()
    records: list[tuple[int, bytes]] = field(default_factory=list)

    def add(self, time: float, packet: bytes, vlan: tuple[int, ...] | None = None) -> Tape:
        self.records.append((seconds(time), ether(packet, vlan=self.vlan if vlan is None else vlan)))
        return self

    def ours(self, time: float, flags: str, *, port: int = PORT, vlan=None, **numbers) -> Tape:
        return self.add(time, tcp(LOCAL, port, REMOTE, SERVICE, flags, **numbers), vlan)

    def theirs(
        self, time: float, flags: str, *, port: int = PORT, service: int = SERVICE, vlan=None, **numbers
    ) -> Tape:
        return self.add(time, tcp(REMOTE, service, LOCAL, port, flags, **numbers), vlan)

    def synack(self, time: float, **more) -> Tape:
        """Their SYN+ACK to a SYN with seq ISN - 1."""
        return self.theirs(time, "SA", **{"seq": 77, "ack": ISN, **more})

    def refusal(self, time: float, **more) -> Tape:
        """Our exact answer to it."""
        return self.ours(time, "R", **{"seq": ISN, "window": 0, **more})

    def backscatter(self, time: float, **more) -> Tape:
        return self.synack(time, **more).refusal(time + 0.0003, **more)

    def ordinary(
        self, start: float, end: float, *, host: str = LOCAL, every: float = 20, first_port: int = 50000
    ) -> Tape:
        """Whole connections of our host with somebody else, one each `every` seconds from `start` to `end`."""
        time, port = start, first_port
        while time < end:
            self.connection(time, host, port, "192.0.2.80", 443)
            time, port = time + every, port + 1
        return self

    def connection(self, time: float, one: str, port: int, other: str, service: int, exchanges: int = 3) -> Tape:
        """A whole connection that `one` opens: handshake, questions and answers, FIN both ways."""
        here, there = 1000, 9000
        for flags, from_one, size in [
            ("S", True, 0), ("SA", False, 0), ("A", True, 0),
            *[("PA", True, 100), ("PA", False, 300), ("A", True, 0)] * exchanges,
            ("FA", True, 0), ("FA", False, 0), ("A", True, 0),
        ]:  # fmt: skip
            ack = 0 if flags == "S" else (there if from_one else here)
            ends = (one, port, other, service) if from_one else (other, service, one, port)
            self.add(time, tcp(*ends, flags, seq=here if from_one else there, ack=ack, payload=b"x" * size))
            taken = size + ("S" in flags) + ("F" in flags)
            here, there = (here + taken, there) if from_one else (here, there + taken)
            time += 0.01
        return self

    def scene(self, cuts: tuple[float, ...] = ()) -> TableScene:
        """The scene of one sensor, its capture cut into rotated pieces at the given times."""
        edges = [*(seconds(cut) for cut in cuts), 1 << 62]
        records = sorted(self.records, key=lambda record: record[0])
        pieces, begin = [], 0
        for number, edge in enumerate(edges):
            part = [record for record in records if begin <= record[0] < edge]
            begin = edge
            if part:
                data = pcap(part)
                pieces.append(Piece(f"piece-{number}.pcap", lambda data=data: io.BytesIO(data)))
        return TableScene([read_sensor("tap", pieces)])

    def judged(self, finding: Finding | None = None, *, cuts: tuple[float, ...] = (), settings: Settings | None = None):
        return judge(finding or alert(), self.scene(cuts), settings or Settings())


def alert(
    time: float = 300.0,
    *,
    until: float | None = None,
    proto: str | None = "tcp",
    local: End | None = None,
    remote: End | None = None,
    **more,
) -> Finding:
    """An alert on our host calling theirs."""
    about = Tuple(proto, local or End(LOCAL, PORT), remote or End(REMOTE, SERVICE))
    first, last = seconds(time), seconds(time if until is None else until)
    return Finding("id", "suricata", "2000345", "Known controller", 1, first, last, **{"tuples": (about,), **more})
