"""The 2007 case as captures and alerts made from its published numbers, and a way to run the real command."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from backscatter.demo.wire import ether, pcap, tcp

LOCAL, REMOTE, FRIEND = "69.143.202.28", "193.109.122.67", "192.0.2.80"
COMMUNITY_IDS = ("1:0SMa70aty2e1lVvIdRUl+DXfuJs=", "1:e9p/RECR8m+Y30v9rkqUQ0waKPs=")

ALERT = f"""Count:1 Event#1.78890 2007-03-20 18:04:19
BLEEDING-EDGE TROJAN Known Bot C&C Server Traffic (group 4)
{LOCAL} -> {REMOTE}
IPVer=4 hlen=5 tos=0 dlen=40 ID=2644 flags=0 offset=0 ttl=64 chksum=19204
Protocol: 6 sport=1024 -> dport=6667

Seq=2934031229 Ack=0 Off=5 Res=0 Flags=*****R** Win=0 urp=0 chksum=42301
Payload: None.
"""

Record = tuple[int, bytes]


def ns(text: str) -> int:
    """Nanoseconds of a UTC time such as 2007-03-20T18:04:19.731091."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000


def pair(at: int, port: int, seq: int, ack: int) -> list[Record]:
    """A SYN+ACK of the flooded server and our RST, as they were on the wire."""
    synack = tcp(REMOTE, 6667, LOCAL, port, "SA", seq=seq, ack=ack, window=2048, ttl=48)
    rst = tcp(LOCAL, port, REMOTE, 6667, "R", seq=ack, window=0, ttl=64, ip_id=2644)
    return [(at, ether(synack)), (at + 338_000, ether(rst))]


def pairs() -> list[Record]:
    """The four packets of the case."""
    return [
        *pair(ns("2007-03-20T18:04:19.731091"), 1024, 4257997451, 2934031229),
        *pair(ns("2007-03-20T20:17:14.574021"), 3072, 1823947105, 1240983552),
    ]


def session(at: int, port: int, remote: str = FRIEND, remote_port: int = 443) -> list[Record]:
    """An ordinary connection of our host: handshake, request, answer, end."""
    out = {"src": LOCAL, "sport": port, "dst": remote, "dport": remote_port}
    back = {"src": remote, "sport": remote_port, "dst": LOCAL, "dport": port}
    steps = [
        tcp(**out, flags="S", seq=1000),
        tcp(**back, flags="SA", seq=5000, ack=1001),
        tcp(**out, flags="A", seq=1001, ack=5001),
        tcp(**out, flags="PA", seq=1001, ack=5001, payload=b"ask" * 20),
        tcp(**back, flags="PA", seq=5001, ack=1061, payload=b"answer" * 20),
        tcp(**out, flags="FA", seq=1061, ack=5121),
        tcp(**back, flags="FA", seq=5121, ack=1062),
        tcp(**out, flags="A", seq=1062, ack=5122),
    ]
    return [(at + i * 10**7, ether(step)) for i, step in enumerate(steps)]


def day() -> list[Record]:
    """The case with ordinary traffic of the same host around it, so that coverage is provable."""
    start = ns("2007-03-20T17:55:00")
    records = [r for n in range(150) for r in session(start + n * 60 * 10**9, 40000 + n)]
    return sorted([*records, *pairs()])


def write(path: Path, records: list[Record], **how) -> str:
    """A capture of the records; its name."""
    path.write_bytes(pcap(records, **how))
    return str(path)


def run(*arguments: str, stdin: bytes | None = None, cwd: Path | None = None) -> tuple[int, str, str]:
    """The real command in a process of its own: exit code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "backscatter", *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=60,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "60"},
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()
