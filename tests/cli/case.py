"""The 2007 case as captures and alerts made from its published numbers, and a way to run the real command."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

from backscatter.demo import case2007
from backscatter.demo.case2007 import Record, moment
from backscatter.demo.wire import pcap

if TYPE_CHECKING:
    from pathlib import Path

LOCAL, REMOTE, FRIEND = case2007.OURS, case2007.VICTIM, "192.0.2.7"
ALERT = case2007.sguil_alert()
COMMUNITY_IDS = ("1:0SMa70aty2e1lVvIdRUl+DXfuJs=", "1:e9p/RECR8m+Y30v9rkqUQ0waKPs=")

#: An ordinary connection of our host amid the day, and its local port.
AT, PORT = moment("2007-03-20T18:30:00"), 20000


def pairs() -> list[Record]:
    """The four packets of the case."""
    return list(case2007.pairs())


def session(at: int = AT, port: int = PORT, remote: tuple[str, int] = (FRIEND, 443)) -> list[Record]:
    """An ordinary connection of our host: 10 packets, 6 of them ours, in less than a second."""
    return case2007.session(at, port, remote, random.Random(port), (b"ask",))


def day() -> list[Record]:
    """The case with ordinary traffic of the same host around it, so that coverage is provable."""
    return sorted([*case2007.ordinary(), *session(), *pairs()])


def write(path: Path, records: list[Record], **how) -> str:
    """A capture of the records; its name."""
    path.write_bytes(pcap(records, **how))
    return str(path)


def run(
    *arguments: str, stdin: bytes | None = None, environment: dict[str, str] | None = None
) -> tuple[int, bytes, str]:
    """The real command in a process of its own: exit code, stdout, stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "backscatter", *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, "COLUMNS": "60", **(environment or {})},
    )
    return done.returncode, done.stdout, done.stderr.decode()
