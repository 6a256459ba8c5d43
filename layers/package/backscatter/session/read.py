"""From bytes to session records, line by line: which format it is shows in the content, never in a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from backscatter.capture.expand import Expanded
from backscatter.capture.limits import GIB, MIB, Limits
from backscatter.capture.reader import is_capture
from backscatter.errors import FindingError, NoSessions
from backscatter.session import eve, vpc

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from backscatter.session.model import Gap, Session

    Line = Callable[[bytes, int], Session | Gap | None]

#: Bytes of a line; no record comes near.
LONGEST = 1 << 17
#: Lines of a file that are each told as unreadable; of more it is enough to know how many.
MOST_TOLD = 100
_STEP = 1 << 18
#: Bytes that show whether a file is a capture.
_HEAD = 64
LIMITS = Limits(expanded_bytes=64 * GIB, ratio_from=256 * MIB)


def read_sessions(
    stream: BinaryIO, name: str, wanted: Container[bytes], progress: Callable[[int], None] | None = None
) -> Iterator[Session | Gap | FindingError]:
    """The records of a file that are about one of the `wanted` hosts (as text in bytes), plain or compressed.

    Lines that cannot be read are yielded as FindingError; only a line is lost with each. `progress` is called with
    bytes of the file read, now and then. A file of no format that we read yields one NoSessions that says so.
    """
    expanded = Expanded(stream, name, LIMITS)
    read: Line | None = None
    broken = number = 0
    if is_capture(expanded.peek(_HEAD)):
        yield NoSessions(name, 0, "this is a packet capture and holds no session records; name it among the captures")
        return
    for number, line in _lines(expanded, stream, progress):
        try:
            header = vpc.Layout.told(line) if b"srcaddr" in line else None  # files may lie one behind the other
            if header is not None:
                read = _vpc(header, name, number, wanted)
                continue
            read = read or _recognised(line, name, number, wanted)
            found = read(line, number)
        except FindingError as error:
            if read is None:
                yield NoSessions(name, error.line, error.message)
                return
            broken += 1
            if broken <= MOST_TOLD:
                yield error
            continue
        if found is not None:
            yield found
    if not number:
        yield NoSessions(name, 0, "no session records: the file is empty")
    if broken > MOST_TOLD:
        yield FindingError(name, number, f"{broken - MOST_TOLD} more lines before this one could not be read")
    if expanded.trouble or expanded.stopped:
        yield FindingError(name, 0, f"{expanded.trouble}; what came before was read")


def _recognised(line: bytes, name: str, number: int, wanted: Container[bytes]) -> Line:
    if line[:1] == b"{":
        return lambda text, at: eve.read(text, name, at, wanted)
    if vpc.is_record(line):
        return _vpc(vpc.Layout(vpc.DEFAULT), name, number, wanted)
    raise FindingError(name, number, "no session record: EVE as JSON lines and VPC Flow Logs as text are read")


def _vpc(layout: vpc.Layout, name: str, number: int, wanted: Container[bytes]) -> Line:
    if layout.missing:
        raise FindingError(name, number, f"a flow log without the columns {', '.join(layout.missing)}")
    return lambda text, at: vpc.read(text, layout, name, at, wanted)


def _lines(expanded: Expanded, stream: BinaryIO, progress: Callable[[int], None] | None) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers, without empty ones; what a line has beyond LONGEST is not looked at."""
    rest, number, cut = b"", 0, False
    while block := expanded.read(_STEP):
        if progress:
            progress(stream.tell())
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        for line in lines:
            number += 1
            if cut:
                cut = False
            elif text := line.strip():
                yield number, text
        if len(rest) > LONGEST:
            if not cut:
                yield number + 1, rest[:LONGEST]
            rest, cut = b"", True
    if rest.strip() and not cut:
        yield number + 1, rest.strip()
