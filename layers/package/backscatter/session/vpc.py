"""VPC Flow Logs as text: versions 2 to 5 and later, in the default format or in any order that a header line gives.

Format: https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html
S3 objects are gzip with a header line; CloudWatch Logs has none, exports put a time in front of each line. Flags are
OR-ed over the aggregation interval and tell SYN (2), FIN (1), RST (4) and SYN-ACK (18) only: ACK and PSH by themselves
are 0. Parquet is not read: there is no small reader of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backscatter.errors import FindingError
from backscatter.flow.address import Address
from backscatter.session.model import Gap, Sent, Session

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

SECOND = 10**9

#: The default format: version 2.
DEFAULT = (
    *("version", "account-id", "interface-id", "srcaddr", "dstaddr", "srcport", "dstport", "protocol"),
    *("packets", "bytes", "start", "end", "action", "log-status"),
)

#: Without these a record says nothing of a conversation.
NEEDED = ("srcaddr", "dstaddr", "protocol", "packets", "bytes", "start", "end")

ENDS = ("srcaddr", "dstaddr", "pkt-srcaddr", "pkt-dstaddr")
PORTED = (6, 17, 132)
LATEST = 2**63 - 1
_EXPORTED = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}Z ")
_AS_NAMES = str.maketrans({"$": None, "{": None, "}": None, "_": "-"})

SOURCE = "vpc flow log"


class Layout:
    """Which column holds what; columns that a log does not have read as "-"."""

    def __init__(self, names: Sequence[str]) -> None:
        self.columns = {name: at for at, name in enumerate(names)}
        self.width = len(names)
        self.ends = [self.columns[name] for name in ENDS if name in self.columns]
        self.status = self.columns.get("log-status")

    @classmethod
    def told(cls, line: bytes) -> Layout | None:
        """The layout that a header line gives; None where it is none."""
        names = line.decode("ascii", "replace").lower().translate(_AS_NAMES).split()
        return cls(names) if "srcaddr" in names and "dstaddr" in names else None

    @property
    def missing(self) -> list[str]:
        """Columns without which nothing can be said."""
        return [name for name in NEEDED if name not in self.columns]


def is_record(line: bytes) -> bool:
    """Whether a line is a record in the default format, with or without the time of an export."""
    fields = without_time(line).split()
    return len(fields) == len(DEFAULT) and fields[0] == b"2" and fields[-1] in (b"OK", b"NODATA", b"SKIPDATA")


def without_time(line: bytes) -> bytes:
    """A line without the time that an export from CloudWatch Logs puts in front."""
    found = _EXPORTED.match(line)
    return line[found.end() :] if found else line


def read(line: bytes, layout: Layout, name: str, number: int, wanted: Container[bytes]) -> Session | Gap | None:
    """The session of a line; None where it has no record or is about none of the `wanted` hosts (as text in bytes).

    Raises FindingError naming the column that cannot be read.
    """
    fields = without_time(line).split()
    if len(fields) != layout.width:
        raise FindingError(name, number, f"{len(fields)} columns instead of {layout.width}")
    status = b"OK" if layout.status is None else fields[layout.status]
    if status == b"SKIPDATA":
        record = _Record(fields, layout, name, number)
        return Gap(record.moment("start"), record.moment("end"), record.place)
    if status == b"NODATA" or not any(_known(fields[at], wanted) for at in layout.ends):
        return None
    return _session(_Record(fields, layout, name, number))


def _known(address: bytes, wanted: Container[bytes]) -> bool:
    if address in wanted or b":" not in address:
        return address in wanted
    try:  # IPv6 may be written in more ways than one
        return str(Address.parse(address.decode("ascii"))).encode() in wanted
    except ValueError:
        return False


class _Record:
    """The columns of one line by name."""

    def __init__(self, fields: Sequence[bytes], layout: Layout, name: str, number: int) -> None:
        self._fields, self._columns, self._name, self._number = fields, layout.columns, name, number

    @property
    def place(self) -> str:
        return f"{self._name}:{self._number}"

    def text(self, column: str) -> bytes:
        at = self._columns.get(column)
        return b"-" if at is None else self._fields[at]

    def count(self, column: str, most: int = 1 << 62) -> int:
        told = self.text(column)
        if not told.isdigit() or len(told) > 19 or int(told) > most:
            raise self._wrong(column, told, "such number")
        return int(told)

    def moment(self, column: str) -> int:
        """A time, ns."""
        return self.count(column, LATEST // SECOND - 1) * SECOND

    def address(self, column: str) -> Address | None:
        told = self.text(column)
        try:
            return None if told == b"-" else Address.parse(told.decode("ascii"))
        except ValueError:
            raise self._wrong(column, told, "address") from None

    def _wrong(self, column: str, told: bytes, wanted: str) -> FindingError:
        shown = ascii(told[:40].decode("latin-1"))
        return FindingError(self._name, self._number, f"column {column}: {shown} is no {wanted}")


def _session(record: _Record) -> Session | None:
    src, dst = record.address("srcaddr"), record.address("dstaddr")
    if src is None or dst is None:
        return None
    original = record.address("pkt-srcaddr") or src, record.address("pkt-dstaddr") or dst
    proto, start = record.count("protocol", 255), record.moment("start")
    flags = None if record.text("tcp-flags") == b"-" else record.count("tcp-flags", 255)
    action = record.text("action").decode("latin-1")
    sport, dport = (
        record.count(column, 0xFFFF) if proto in PORTED and record.text(column) != b"-" else None
        for column in ("srcport", "dstport")
    )
    return Session(
        proto=proto,
        src=src,
        dst=dst,
        sport=sport,
        dport=dport,
        start=start,
        end=max(record.moment("end"), start) + SECOND - 1,
        forth=Sent(record.count("packets"), record.count("bytes"), flags, hidden=True),
        back=None,
        action=action if action in ("ACCEPT", "REJECT") else "",
        began=False,
        source=SOURCE,
        place=record.place,
        others=None if original == (src, dst) else original,
    )
