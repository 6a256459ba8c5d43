"""The case of March 2007, made from its published numbers: its captures, and its alert in two formats.

An IDS told of a bot calling its IRC controller. The packets tell otherwise: a SYN+ACK that nobody had asked for came
first, and what looked like the call was our RST to it. Four packets were published, two answers to each of two forged
SYNs; around them lies ordinary traffic of the same host, made up, so that a capture can prove that our SYN is missing
because it was never sent. The source of the numbers: R. Bejtlich, "Backscatter Detected", TaoSecurity, March 2007.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from backscatter.demo.wire import ether, pcap, tcp

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND = 10**9
DAY = 24 * 3600 * SECOND

OURS = "69.143.202.28"
VICTIM = "193.109.122.67"
IRC = 6667

#: Who is called in the story in which somebody really calls (RFC 5737 keeps these addresses for documentation).
CONTROLLER = "198.51.100.23"
FRIENDS = (("192.0.2.80", 443), ("192.0.2.81", 80), ("203.0.113.25", 25))

Record = tuple[int, bytes]


def moment(text: str) -> int:
    """Nanoseconds since 1970 of a UTC time such as 2007-03-20T18:04:19.731091."""
    time = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(time.replace(microsecond=0).timestamp()) * SECOND + time.microsecond * 1000


#: (time of the SYN+ACK, time of the RST, our port, seq of the SYN+ACK, its ack: the forged SYN's seq + 1).
#: Of the second pair only time and port were published; its sequence numbers are made up.
PAIRS = (
    (moment("2007-03-20T18:04:19.731091"), moment("2007-03-20T18:04:19.731429"), 1024, 4257997451, 2934031229),
    (moment("2007-03-20T20:17:14.482305"), moment("2007-03-20T20:17:14.482661"), 3072, 3118402257, 1715937612),
)
FIRST = PAIRS[0][0]

#: The capture begins and ends this far from the pairs: more than the 127 s in which a connect can still time out.
START, END = PAIRS[0][0] - 900 * SECOND, PAIRS[1][1] + 600 * SECOND


def pairs(later: int = 0) -> Iterator[Record]:
    """The four packets, `later` nanoseconds after they happened."""
    for asked, answered, port, seq, ack in PAIRS:
        synack = tcp(VICTIM, IRC, OURS, port, "SA", seq=seq, ack=ack, window=2048, ttl=49)
        rst = tcp(OURS, port, VICTIM, IRC, "R", seq=ack, window=0, ttl=64, ip_id=2644)
        yield asked + later, ether(synack)
        yield answered + later, ether(rst)


def session(time: int, ours: int, remote: tuple[str, int], rng: random.Random, asks: tuple[bytes, ...]) -> list[Record]:
    """A whole connection of our host from port `ours`: handshake, questions and answers, the end. 20 ms away."""
    here, there = rng.randrange(2**32), rng.randrange(2**32)
    steps = [("out", "S", b""), ("in", "SA", b""), ("out", "A", b"")]
    for ask in asks:
        steps += [("out", "PA", ask), ("in", "A", b""), ("in", "PA", rng.randbytes(rng.randrange(200, 1200)))]
        steps.append(("out", "A", b""))
    steps += [("out", "FA", b""), ("in", "FA", b""), ("out", "A", b"")]
    records = []
    for way, flags, payload in steps:
        time += rng.randrange(2_000_000, 20_000_000)
        ack = "A" in flags
        taken = len(payload) + ("S" in flags) + ("F" in flags)
        if way == "out":
            packet = tcp(OURS, ours, *remote, flags, seq=here, ack=there if ack else 0, payload=payload)
            here = (here + taken) % 2**32
        else:
            packet = tcp(*remote, OURS, ours, flags, seq=there, ack=here, payload=payload, ttl=49)
            there = (there + taken) % 2**32
        records.append((time, ether(packet)))
    return records


def ordinary(later: int = 0) -> list[Record]:
    """What the host does all day: a short connection every 20 s or so, none of them to the case's remotes."""
    rng = random.Random(2007)  # noqa: S311  # the same traffic every time
    time, port, records = START + later, 32768, []
    while time < END + later:
        records += session(time, port, rng.choice(FRIENDS), rng, (b"GET / HTTP/1.0\r\n\r\n",) * rng.randrange(1, 4))
        time += rng.randrange(10, 30) * SECOND
        port += 1
    return records


def capture(later: int = 0) -> bytes:
    """The pcap file of the case: both pairs in the ordinary traffic of the host, two and a half hours."""
    return pcap(sorted([*ordinary(later), *pairs(later)]))


def calling_capture(later: int = 0) -> bytes:
    """A pcap file of a day on which the host really calls a controller: handshake, login, and an order comes back."""
    login = (b"NICK xk29\r\nUSER xk29 0 * :x\r\n", b"JOIN #owned\r\n", b"PONG :irc\r\n")
    rng = random.Random(6667)  # noqa: S311  # the same traffic every time
    call = session(FIRST + later, 1042, (CONTROLLER, IRC), rng, login)
    return pcap(sorted([*ordinary(later), *call]))


def sguil_alert() -> str:
    """The alert as the analyst saw it in Sguil, and published it."""
    return f"""Count:2 Event#1.204541 2007-03-20 18:04:19
BLEEDING-EDGE DROP Known Bot C&C Server Traffic (group 1)
{OURS} -> {VICTIM}
IPVer=4 hlen=5 tos=0 dlen=40 ID=2644 flags=2 offset=0 ttl=64 chksum=58655
Protocol: 6 sport=1024 -> dport={IRC}

Seq=2934031229 Ack=0 Off=5 Res=0 Flags=*****R** Win=0 urp=54297 chksum=0
Payload:
None.
"""


def guardduty_finding(
    later: int = 0, *, remote: str = VICTIM, ours: int = 1024, finding: str = "18f0c2007a1b4d6e9c3f5a7b8d9e0f12"
) -> dict[str, Any]:
    """The `detail` of GuardDuty's event about a conversation of our host with port 6667 of a remote."""
    seen, updated = (
        datetime.fromtimestamp((FIRST + later) // SECOND + seconds, UTC).isoformat().replace("+00:00", ".000Z")
        for seconds in (0, 300)
    )
    return {
        "schemaVersion": "2.0",
        "accountId": "000000000000",
        "region": "us-east-1",
        "partition": "aws",
        "id": finding,
        "arn": f"arn:aws:guardduty:us-east-1:000000000000:detector/demo/finding/{finding}",
        "type": "Backdoor:EC2/C&CActivity.B",
        "title": "The EC2 instance i-0demo is communicating with a known command and control server.",
        "description": "The EC2 instance is communicating outbound with a known command and control server.",
        "severity": 8,
        "createdAt": updated,
        "updatedAt": updated,
        "resource": {
            "resourceType": "Instance",
            "instanceDetails": {
                "instanceId": "i-0demo",
                "networkInterfaces": [{"networkInterfaceId": "eni-0demo", "privateIpAddress": OURS, "publicIp": OURS}],
            },
        },
        "service": {
            "serviceName": "guardduty",
            "detectorId": "demo",
            "eventFirstSeen": seen,
            "eventLastSeen": seen,
            "count": 1,
            "archived": False,
            "resourceRole": "TARGET",
            "action": {
                "actionType": "NETWORK_CONNECTION",
                "networkConnectionAction": {
                    "connectionDirection": "OUTBOUND",
                    "protocol": "TCP",
                    "blocked": False,
                    "localNetworkInterface": "eni-0demo",
                    "localIpDetails": {"ipAddressV4": OURS},
                    "localPortDetails": {"port": ours, "portName": "Unknown"},
                    "remoteIpDetails": {"ipAddressV4": remote},
                    "remotePortDetails": {"port": IRC, "portName": "IRC"},
                },
            },
        },
    }
