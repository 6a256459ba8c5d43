"""What happened: packets between our host and a remote one, told from our side, with the truth about them."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING

from backscatter.demo.wire import icmp, icmp_error, tcp, udp

if TYPE_CHECKING:
    from collections.abc import Callable

    from backscatter.verdict.model import Label

#: When a story's deciding packets happen, in seconds on its clock; captures run from 0 to END unless the story says so.
AT, END = 400.0, 640.0

DNS_ANSWER = bytes.fromhex("123481800001000100000000") + b"\x03www\x07example\x03com\0\0\x01\0\x01" + b"\0" * 16
DNS_QUERY = bytes.fromhex("123401000001000000000000") + b"\x03www\x07example\x03com\0\0\x01\0\x01"
NTP_ASK, NTP_ANSWER = b"\x23" + bytes(47), b"\x24\x02" + bytes(46)
QUIC_INITIAL = bytes.fromhex("c00000000108") + bytes(1200)
QUIC_HANDSHAKE = bytes.fromhex("e00000000108") + bytes(900)
QUIC_SHORT = bytes.fromhex("40") + bytes(60)

UNREACHABLE = {4: (3, 1), 6: (1, 3)}
PORT_UNREACHABLE = {4: (3, 3), 6: (1, 4)}
TIME_EXCEEDED = {4: (11, 0), 6: (3, 0)}
ECHO, ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}


class Truth(StrEnum):
    """What really happened."""

    BACKSCATTER = "backscatter"
    OURS = "ours"  # our host opened it, asked, scanned, or takes part in it
    THEIRS = "theirs"  # they opened it, asked or scanned
    REFLECTION = "reflection"
    SYNACK_SCAN = "synack_scan"
    OPEN = "open"  # the packets that were captured allow several readings


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet at a time (seconds). `outward`: sent by our side. `odd`: seen in another scope or by another sensor."""

    time: float
    data: bytes
    outward: bool
    odd: bool = False


@dataclass
class Story:
    """A story being told: its packets, and how its capture departs from the usual.

    alert_proto  protocol that the alert names
    begins       capture starts here (s)
    ends         and ends here (s)
    needs        conditions of the world that the story cannot do without
    filtered     what the capture filter lets through, None for everything
    """

    chance: Random
    version: int
    packets: list[Packet] = field(default_factory=list)
    alert_proto: str = "tcp"
    alert_remote: str | None = None
    portless: bool = False
    at: float = AT
    begins: float = 0.0
    ends: float = END
    filtered: Callable[[Packet], bool] | None = None

    def __post_init__(self) -> None:
        self.local = "10.0.0.5" if self.version == 4 else "fd00::5"
        self.remote = "198.51.100.9" if self.version == 4 else "2001:db8:9::9"
        self.router = "198.51.100.1" if self.version == 4 else "2001:db8:9::1"
        self.gateway = "10.0.0.1" if self.version == 4 else "fd00::1"
        self.port = self.chance.randrange(1025, 65000)
        self.service = self.chance.choice([80, 443, 6667, 22, 25, 8080, 1433])
        self.isn = self.chance.choice([self.chance.randrange(2**32), 2**32 - 1, 2**32 - 2, 0])
        self.their = self.chance.randrange(2**32)
        self.rtt = self.chance.uniform(0.001, 0.3)

    def with_chance(self, seed: int) -> Story:
        """The same story with another hand at what its teller leaves open."""
        other = copy(self)
        other.chance = Random(seed)
        return other

    def stranger(self, number: int) -> str:
        """The address of one of many remote hosts."""
        return f"203.0.113.{number % 250 + 1}" if self.version == 4 else f"2001:db8:77::{number + 1:x}"

    def neighbour(self, number: int) -> str:
        """The address of one of our other hosts."""
        return f"10.0.1.{number % 250 + 1}" if self.version == 4 else f"fd00::1:{number + 1:x}"

    def add(self, time: float, data: bytes, *, outward: bool, odd: bool = False) -> None:
        """Any packet."""
        self.packets.append(Packet(time, data, outward, odd))

    def ours(
        self,
        time: float,
        flags: str,
        seq: int,
        ack: int = 0,
        *,
        size: int = 0,
        port: int | None = None,
        odd: bool = False,
        ttl: int = 64,
    ) -> bytes:
        """A TCP segment of our host, `seq` and `ack` beyond the initial numbers of both sides."""
        acks = (self.their + ack) % 2**32 if "A" in flags else 0
        data = tcp(
            self.local, port or self.port, self.remote, self.service, flags,
            seq=self.isn + seq, ack=acks, payload=b"x" * size, ttl=ttl, window=0 if "R" in flags else 64240,
        )  # fmt: skip
        self.add(time, data, outward=True, odd=odd)
        return data

    def theirs(
        self, time: float, flags: str, seq: int, ack: int = 0, *, size: int = 0, port: int | None = None
    ) -> bytes:
        """A TCP segment of the remote host, numbers as in `ours`."""
        acks = (self.isn + ack) % 2**32 if "A" in flags else 0
        data = tcp(
            self.remote, self.service, self.local, port or self.port, flags,
            seq=self.their + seq, ack=acks, payload=b"x" * size, ttl=50,
        )  # fmt: skip
        self.add(time, data, outward=False)
        return data

    def refuses(self, time: float, ack: int) -> None:
        """The RST+ACK with seq 0 of a closed port of theirs."""
        data = tcp(self.remote, self.service, self.local, self.port, "RA", seq=0, ack=self.isn + ack, window=0, ttl=50)
        self.add(time, data, outward=False)

    def datagram(
        self, time: float, payload: bytes, *, outward: bool, port: int | None = None, odd: bool = False
    ) -> bytes:
        """A UDP datagram on the story's tuple."""
        here, there = (self.local, port or self.port), (self.remote, self.service)
        data = udp(*here, *there, payload) if outward else udp(*there, *here, payload)
        self.add(time, data, outward=outward, odd=odd)
        return data

    def message(self, time: float, kind: int, *, outward: bool) -> None:
        """An ICMP message between the two hosts."""
        ends = (self.local, self.remote) if outward else (self.remote, self.local)
        self.add(time, icmp(*ends, kind), outward=outward)

    def error(self, time: float, sender: str, quoted: bytes, what: dict[int, tuple[int, int]], *, to: str = "") -> None:
        """An ICMP error about a packet, to our host unless told otherwise."""
        kind, code = what[self.version]
        keep = 28 if self.version == 4 else 48
        data = icmp_error(sender, to or self.local, kind, code, quoted, keep=keep)
        self.add(time, data, outward=sender in (self.local, self.gateway))

    def handshake(self, time: float) -> float:
        """SYN, SYN+ACK, ACK of a connection that we open; returns when it is done."""
        self.ours(time, "S", 0)
        self.theirs(time + self.rtt, "SA", 0, 1)
        self.ours(time + self.rtt + 0.0002, "A", 1, 1)
        return time + self.rtt + 0.001

    def talk(
        self, time: float, rounds: int = 3, here: int = 1, there: int = 1, size: int = 120
    ) -> tuple[float, int, int]:
        """Questions of ours with their answers; returns the time and both positions behind them."""
        for _ in range(rounds):
            self.ours(time, "PA", here, there, size=size)
            here += size
            self.theirs(time + self.rtt, "PA", there, here, size=2 * size)
            there += 2 * size
            self.ours(time + self.rtt + 0.0002, "A", here, there)
            time += self.rtt + self.chance.uniform(0.01, 2)
        return time, here, there

    def closing(self, time: float, here: int, there: int) -> float:
        """FIN of ours, of theirs, and the last ACK."""
        self.ours(time, "FA", here, there)
        self.theirs(time + self.rtt, "FA", there, here + 1)
        self.ours(time + self.rtt + 0.0002, "A", here + 1, there + 1)
        return time + self.rtt + 0.001


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of story. `accept`: what a judge may call it when its capture is whole and nothing was lost."""

    name: str
    truth: Truth
    accept: frozenset[Label]
    tell: Callable[[Story], None]


#: Every kind, in the order of its module.
KINDS: dict[str, Kind] = {}


def kind(truth: Truth, *accept: Label) -> Callable[[Callable[[Story], None]], Callable[[Story], None]]:
    """Register a story under its function's name."""

    def register(tell: Callable[[Story], None]) -> Callable[[Story], None]:
        KINDS[tell.__name__] = Kind(tell.__name__, truth, frozenset(accept), tell)
        return tell

    return register
