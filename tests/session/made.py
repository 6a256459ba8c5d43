"""Session records as their sources write them."""

from __future__ import annotations

import io
import json

from backscatter.errors import FindingError
from backscatter.finding.model import End, Finding, Tuple
from backscatter.flow.address import Address
from backscatter.flow.lookup import TableScene
from backscatter.session.log import Sessions
from backscatter.session.read import read_sessions
from backscatter.verdict.judge import judge
from backscatter.verdict.sessions import with_sessions
from backscatter.verdict.settings import Settings

T0 = 1_700_000_000
LOCAL, REMOTE, PORT, SERVICE = "10.0.0.5", "198.51.100.9", 40000, 443

HEADER = "version srcaddr dstaddr srcport dstport protocol packets bytes start end action tcp-flags log-status"
NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1}


def vpc(
    way: str,
    flags,
    packets: int = 1,
    size: int | None = None,
    *,
    at: int = 300,
    action: str = "ACCEPT",
    proto="tcp",
    port=PORT,
    service=SERVICE,
    remote=REMOTE,
    lasts=20,
) -> str:
    """A line of a flow log with HEADER: `way` "in" or "out"."""
    ends = (remote, LOCAL, service, port) if way == "in" else (LOCAL, remote, port, service)
    size = 60 * packets if size is None else size
    return f"5 {' '.join(map(str, ends))} {NUMBERS[proto]} {packets} {size} {T0 + at} {T0 + at + lasts} {action} {flags} OK"


def log(*lines: str, around: bool = True) -> bytes:
    """A flow log; `around`: with what else our host does all the time."""
    other = [vpc("out", 3, 9, 900, at=at, remote="192.0.2.80", port=50000 + at) for at in range(-1200, 1300, 60)]
    return "\n".join([HEADER, *lines, *(other if around else ())]).encode() + b"\n"


def eve(
    src,
    dst,
    forth: tuple[int, int, str],
    back: tuple[int, int, str] | None,
    *,
    at: int = 300,
    proto="TCP",
    event="flow",
) -> str:
    """A flow (or netflow) event: (packets, bytes, flags in hex) each way; ends are (address, port)."""
    start, end = (
        f"2023-11-14T22:{13 + (20 + time) // 60:02d}:{(20 + time) % 60:02d}.000000+0000" for time in (at, at + 20)
    )
    if event == "flow":
        counted = {
            "pkts_toserver": forth[0],
            "bytes_toserver": forth[1],
            "pkts_toclient": back[0],
            "bytes_toclient": back[1],
        }
        tcp = {"tcp_flags": "1f", "tcp_flags_ts": forth[2], "tcp_flags_tc": back[2]}
    else:
        counted, tcp = {"pkts": forth[0], "bytes": forth[1]}, {"tcp_flags": forth[2]}
    return json.dumps(
        {
            "timestamp": end, "event_type": event, "src_ip": src[0], "src_port": src[1], "dest_ip": dst[0],
            "dest_port": dst[1], "proto": proto, event: {**counted, "start": start, "end": end}, "tcp": tcp,
        }
    )  # fmt: skip


def alert(proto: str | None = "tcp", *, port: int | None = PORT, service: int | None = SERVICE, aliases=()) -> Finding:
    """An alert on our host calling theirs."""
    time = (T0 + 300) * 10**9
    about = Tuple(proto, End(LOCAL, port), End(REMOTE, service))
    return Finding("id", "suricata", "1", "Known controller", 1, time, time, tuples=(about,), aliases=aliases)


def sessions(*files: bytes, pairs=((LOCAL, REMOTE),)) -> tuple[Sessions, list[FindingError]]:
    found = Sessions(frozenset(map(Address.parse, pair)) for pair in pairs)
    errors = []
    for number, data in enumerate(files):
        for record in read_sessions(io.BytesIO(data), f"file-{number}", found.hosts):
            errors.append(record) if isinstance(record, FindingError) else found.add(record)
    return found, errors


def judged(*files: bytes, finding: Finding | None = None, scene=None):
    """The verdict on an alert by session records, and by a scene where one is given."""
    finding, settings = finding or alert(), Settings()
    found, errors = sessions(*files)
    assert errors == []
    return with_sessions(judge(finding, scene or TableScene(()), settings), found, settings)
