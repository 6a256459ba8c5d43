"""`backscatter captures`: what was captured, by whom and when, and where nobody looked."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from backscatter.cli import options, remote
from backscatter.cli.local import read_captures
from backscatter.cli.main import examples
from backscatter.cli.source import sources
from backscatter.cli.table import Column, print_table
from backscatter.cli.terminal import Speaker, printable
from backscatter.flow.filter import parse_time
from backscatter.flow.record import rfc3339
from backscatter.verdict.coverage import unbroken

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from backscatter.flow.census import Census, ScopeCensus
    from backscatter.flow.columns import FlowColumns
    from backscatter.verdict.coverage import Span

#: Cells of a drawn timeline: covered, in part, not at all; and the same where the terminal knows ASCII only.
CELLS, ASCII_CELLS = ("█", "▒", "·"), ("#", "+", ".")
WIDTH = 72
#: Gaps of a sensor that are listed below its line; there may be thousands.
GAPS_SHOWN = 20

COLUMNS = (
    Column("FIRST"),
    Column("SECONDS", right=True),
    Column("PACKETS", right=True),
    Column("DAMAGED", right=True),
    Column("DROPPED", right=True),
    Column("LOSS", right=True),
    Column("SCOPES"),
    Column("SENSOR"),
    Column("CAPTURE"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """The coverage of one scope by one sensor. Times ns; `gaps` lie between `spans`."""

    sensor: str
    scope: str
    spans: tuple[Span, ...]
    packets: int
    damaged_bytes: int
    dropped: int | None
    loss: float | None
    captures: int

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """Where nothing of it was captured, between the first and the last packet."""
        return [(one.end, other.start) for one, other in itertools.pairwise(self.spans)]


@click.command(
    short_help="List captures, and who covered what when.",
    epilog=examples(
        "backscatter captures --stack backscatter --since 2026-11-22T00:00:00Z --timeline",
        "backscatter captures *.pcap",
    ),
)
@options.captures_or_stack
@remote.stack_option
@click.option("--since", callback=options.checked(parse_time), metavar="T", help="RFC 3339 or epoch seconds.")
@click.option("--until", callback=options.checked(parse_time), metavar="T", help="As --since.")
@click.option("--timeline", is_flag=True, help="What each sensor covered of each scope, with the gaps.")
@options.as_json
def captures(
    captures: tuple[str, ...],
    *,
    stack_name: str | None,
    since: int | None,
    until: int | None,
    timeline: bool,
    as_json: bool,
) -> None:
    """List captures, or what the catalogue of a deployed store lists, by the time of their first packets.

    DAMAGED counts bytes that could not be read, DROPPED packets that the sensor says it dropped; LOSS is estimated from
    the traffic itself, `-` where there is too little to tell. With --timeline, what was covered without a gap: a gap is
    damage, or a silence between captures that is longer than 2 s and ten times the median time between packets.
    """
    remote.either(captures, stack_name)
    options.check_order(since, until)
    speaker = Speaker()
    if stack_name is not None:
        entries = remote.entries_of(remote.opened(stack_name), since, until, speaker)
        found = [(entry.census, {"flows": entry.flows, "version": entry.source.version}) for entry in entries]
    else:
        with contextlib.ExitStack() as stack:
            read = read_captures(sources(captures, speaker, stack), speaker, _NoFlows())
            found = [(census, {}) for census in read.censuses if _overlaps(census, since, until)]
    found.sort(key=lambda one: (one[0].start, one[0].piece))
    if timeline:
        _print_timeline(lines_of([census for census, _ in found]), as_json=as_json)
    elif as_json:
        for census, more in found:
            click.echo(json.dumps(record(census) | more))
    else:
        print_table(COLUMNS, [_row(census) for census, _ in found])
    click.get_current_context().exit(speaker.exit_code)


def record(census: Census) -> dict[str, Any]:
    """A capture as a JSON-able object."""
    return {
        "capture": census.piece,
        "sensor": census.sensor,
        "start": rfc3339(census.start),
        "end": rfc3339(census.end),
        "packets": census.packets,
        "scopes": {
            name: {
                "packets": scope.packets,
                "first": rfc3339(scope.first),
                "last": rfc3339(scope.last),
                "loss": _loss([scope]),
            }
            for name, scope in census.scopes.items()
        },
        "damaged_bytes": census.damaged_bytes,
        "damage": [[rfc3339(after), rfc3339(before)] for after, before in census.holes],
        "dropped": census.dropped,
        "loss": _loss(census.scopes.values()),
        "non_ip": census.non_ip,
        "undecodable": census.undecodable,
        "clock_ok": census.clock_ok,
        "notes": list(census.notes),
    }


def lines_of(censuses: Sequence[Census]) -> list[Line]:
    """The coverage of every scope by every sensor. Captures with an implausible clock cover nothing."""
    sensors: dict[str, list[Census]] = {}
    for census in sorted(censuses, key=lambda census: (census.start, census.end, census.piece)):
        if census.clock_ok and census.packets:
            sensors.setdefault(census.sensor, []).append(census)
    return [
        _line(sensor, scope, pieces)
        for sensor, pieces in sorted(sensors.items())
        for scope in sorted({scope for piece in pieces for scope in piece.scopes})
    ]


def _line(sensor: str, scope: str, pieces: Sequence[Census]) -> Line:
    of_scope = [piece.scopes[scope] for piece in pieces if scope in piece.scopes]
    said = [piece.dropped for piece in pieces if piece.dropped is not None]
    return Line(
        sensor,
        scope,
        tuple(unbroken(pieces, min(census.first for census in of_scope))),
        sum(census.packets for census in of_scope),
        sum(piece.damaged_bytes for piece in pieces),
        sum(said) if said else None,
        _loss(of_scope),
        len(pieces),
    )


def _loss(scopes: Collection[ScopeCensus]) -> float | None:
    """The share of noticed losses in the opportunities to notice one; None without opportunities."""
    chances = sum(scope.segments for scope in scopes)
    return round(sum(scope.lost for scope in scopes) / chances, 6) if chances else None


class _NoFlows:
    """Flows are built for what they tell of loss only."""

    def part(self, _flows: FlowColumns, _parts: int) -> None:
        """Nothing is wanted of them."""

    def add(self, _sensor: str, _part: None) -> None:
        """Nothing is kept."""


def _overlaps(census: Census, since: int | None, until: int | None) -> bool:
    return (since is None or census.end >= since) and (until is None or census.start <= until)


def _row(census: Census) -> tuple[str, ...]:
    loss = _loss(census.scopes.values())
    return (
        _moment(census.start),
        f"{(census.end - census.start) / 1e9:.0f}",
        str(census.packets),
        str(census.damaged_bytes),
        "-" if census.dropped is None else str(census.dropped),
        "-" if loss is None else f"{loss:.2%}",
        ", ".join(name or "-" for name in census.scopes),
        census.sensor if census.clock_ok else f"{census.sensor} (clock implausible)",
        census.piece,
    )


def _print_timeline(lines: Sequence[Line], *, as_json: bool) -> None:
    if as_json:
        for line in lines:
            click.echo(json.dumps(_line_record(line)))
        return
    if not lines:
        click.echo("nothing was covered")
        return
    first = min(line.spans[0].start for line in lines if line.spans)
    last = max(line.spans[-1].end for line in lines if line.spans)
    click.echo(f"{_moment(first)} to {_moment(last)} UTC, {max(last - first, 1) / WIDTH / 1e9:.3g} s a character")
    for line in lines:
        loss = "too little to tell" if line.loss is None else f"{line.loss:.2%}"
        dropped = "" if line.dropped is None else f", {line.dropped} dropped"
        damage = f", {line.damaged_bytes} bytes damaged" if line.damaged_bytes else ""
        captures = "1 capture" if line.captures == 1 else f"{line.captures} captures"
        about = f"{captures}, {line.packets} packets, loss {loss}{dropped}{damage}"
        click.echo(f"\n{printable(line.sensor) or '-'}  {printable(line.scope) or '(no scope)'}: {about}")
        click.echo(f"  {drawn(line.spans, first, last)}")
        for start, end in line.gaps[:GAPS_SHOWN]:
            click.echo(f"  gap {_moment(start)} to {_moment(end)}: {(end - start) / 1e9:.3f} s")
        if len(line.gaps) > GAPS_SHOWN:
            click.echo(f"  and {len(line.gaps) - GAPS_SHOWN} more gaps; --json has all")


def drawn(spans: Sequence[Span], first: int, last: int, width: int = WIDTH) -> str:
    """Covered time as characters, from `first` to `last` (ns). A cell with any gap in it shows one."""
    full, part, none = CELLS if _speaks_unicode() else ASCII_CELLS
    cells = []
    for i in range(width):
        begin, end = (first + (last - first) * edge // width for edge in (i, i + 1))
        covered = sum(max(0, min(end, span.end) - max(begin, span.start)) for span in spans)
        touched = any(span.start <= end and span.end >= begin for span in spans)
        cells.append(full if touched and covered >= end - begin else part if touched else none)
    return "".join(cells)


def _line_record(line: Line) -> dict[str, Any]:
    return {
        "sensor": line.sensor,
        "scope": line.scope,
        "captures": line.captures,
        "packets": line.packets,
        "spans": [[rfc3339(span.start), rfc3339(span.end)] for span in line.spans],
        "gaps": [[rfc3339(start), rfc3339(end)] for start, end in line.gaps],
        "damaged_bytes": line.damaged_bytes,
        "dropped": line.dropped,
        "loss": line.loss,
    }


def _moment(time: int) -> str:
    return rfc3339(time).replace("T", " ")[:23]


def _speaks_unicode() -> bool:
    try:
        "".join(CELLS).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
