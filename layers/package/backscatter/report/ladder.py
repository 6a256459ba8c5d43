"""A packet ladder: who sent what, and when, between two lifelines. Geometry only; the page's template draws it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscatter.report.escape import plain
from backscatter.report.text import clock_text
from backscatter.verdict.words import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backscatter.verdict.model import PacketLine, Verdict

#: Rungs that are drawn; further packets are counted.
MOST_RUNGS = 40

#: The drawing in its own units: lifelines, and the height of one rung and of a gap.
WIDTH, LOCAL_X, REMOTE_X, HEAD, STEP, GAP = 620, 130, 540, 76, 54, 44

#: Columns between the lifelines of a ladder in letters.
_TEXT_WIDTH = 34

_SECOND = 10**9

#: A pause that is worth a break in the time axis.
_PAUSE = 5 * _SECOND

#: As tcpdump prints a packet; tunnels stand in front, so the last `IP a > b:` is the innermost.
_PACKET = re.compile(r".*\bIP6? (?P<src>\S+) > (?P<dst>\S+): (?P<rest>.*)", re.DOTALL)
_FLAGS = re.compile(r"Flags \[(?P<flags>[^\]]*)\]")
_NUMBER = re.compile(r"\b(seq|ack|length) (\d+)")
_FLAG_NAMES = {"S": "SYN", "F": "FIN", "R": "RST", "P": "PSH", ".": "ACK", "U": "URG", "E": "ECE", "W": "CWR"}


@dataclass(frozen=True, slots=True)
class Rung:
    """One packet. `x1` to `x2` is its arrow (equal where its direction is unknown), `y` its height."""

    y: int
    x1: int
    x2: int
    time: str
    label: str
    numbers: str
    kind: str  # syn, reset or other: for colour
    local_port: str
    remote_port: str
    gap: str  # words for the pause before it, "" for none
    full: str


@dataclass(frozen=True, slots=True)
class Ladder:
    """A drawing of `height`; `more` packets were left out. `day` is when the first one came."""

    rungs: tuple[Rung, ...]
    height: int
    day: str
    more: int


def ladder(verdict: Verdict) -> Ladder | None:
    """The ladder of all packets in a verdict's evidence, each once, in time; None where there are none."""
    lines = sorted(
        {(line.capture, line.offset): line for piece in verdict.evidence for line in piece.packets}.values(),
        key=lambda line: (line.time, line.capture, line.offset),
    )
    if not lines:
        return None
    rungs = tuple(_rungs(verdict, lines[:MOST_RUNGS]))
    return Ladder(rungs, rungs[-1].y + 24, clock_text(lines[0].time), len(lines) - len(rungs))


def ladder_text(drawn: Ladder) -> list[str]:
    """The ladder in letters: our lifeline on the left, the remote's on the right, times and numbers behind."""
    lines = ["  ours" + "theirs".rjust(_TEXT_WIDTH)]
    for rung in drawn.rungs:
        if rung.gap:
            lines.append("    :" + f" {rung.gap} ".center(_TEXT_WIDTH - 1) + ":")
        fits = len(rung.label) < _TEXT_WIDTH - 6
        line = (f" {rung.label} " if fits else "").center(_TEXT_WIDTH - 2, "-")
        arrow = f"{line}>" if rung.x1 < rung.x2 else f"<{line}" if rung.x1 > rung.x2 else line.replace("-", ".") + "."
        told = rung.numbers if fits else rung.label
        lines.append(f"    |{arrow}|  {rung.time:<9} {told}".rstrip())
    if drawn.more:
        lines.append(f"    ... {drawn.more} more packets")
    return lines


def _rungs(verdict: Verdict, lines: Iterable[PacketLine]) -> Iterator[Rung]:
    y, before, origin = HEAD - STEP // 2, None, 0
    for line in lines:
        pause = 0 if before is None else line.time - before
        gap = f"{duration(pause)} later" if pause >= _PAUSE else ""
        if before is None or gap:
            origin = line.time
        y += STEP + (GAP if gap else 0)
        found = _PACKET.fullmatch(line.text)
        src, dst, rest = found.group("src", "dst", "rest") if found else ("", "", line.text)
        x1, x2 = _direction(verdict, src, dst)
        ports = _port(src), _port(dst)
        label, numbers = _words(rest)
        flags = label.split("+")
        yield Rung(
            y=y,
            x1=x1,
            x2=x2,
            time="0" if line.time == origin else f"+{duration(line.time - origin)}",
            label=label,
            numbers=numbers,
            kind="reset" if "RST" in flags else "syn" if "SYN" in flags else "other",
            local_port=ports[x1 > x2] if x1 != x2 else "",
            remote_port=ports[x1 < x2] if x1 != x2 else "",
            gap=gap,
            full=f"{clock_text(line.time)} {plain(line.text, 400)}",
        )
        before = line.time


def _direction(verdict: Verdict, src: str, dst: str) -> tuple[int, int]:
    """Where the arrow begins and ends; equal where neither end is known by its address."""
    if _is(src, verdict.remote.ip) or _is(dst, verdict.local.ip):
        return REMOTE_X, LOCAL_X
    if _is(dst, verdict.remote.ip) or _is(src, verdict.local.ip):
        return LOCAL_X, REMOTE_X
    return LOCAL_X, LOCAL_X


def _is(printed: str, address: str | None) -> bool:
    """Whether tcpdump's `address` or `address.port` is of this address."""
    return address is not None and (printed == address or printed.rpartition(".")[0] == address)


def _port(printed: str) -> str:
    """The port behind tcpdump's `address.port`; "" where there is none."""
    address, _, port = printed.rpartition(".")
    return port if port.isdecimal() and (":" in address or address.count(".") == 3) else ""


def _words(rest: str) -> tuple[str, str]:
    """What a packet is, in capitals, and its numbers."""
    found = _FLAGS.search(rest)
    if not found:
        return plain(rest, 52), ""
    order = [name for letter, name in _FLAG_NAMES.items() if letter in found["flags"]]
    numbers = dict(_NUMBER.findall(rest))
    told = [f"{name} {numbers[name]}" for name in ("seq", "ack") if name in numbers]
    if int(numbers.get("length", "0")[:10]):
        told.append(f"{numbers['length'][:10]} bytes")
    return "+".join(order) or "no flags", "  ".join(told)
