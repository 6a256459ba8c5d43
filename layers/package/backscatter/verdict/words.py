"""How numbers and ends are said to people, in evidence and in everything that is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backscatter.finding.model import End

SECOND = 10**9


def duration(ns: int) -> str:
    """A span of time in the units that a person would choose: 338 µs, 4.2 s, 2 h 12 min."""
    seconds = ns // SECOND
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    if seconds >= 60:
        return f"{seconds // 60} min {seconds % 60} s"
    for unit, name in ((SECOND, "s"), (10**6, "ms"), (1000, "µs")):
        if ns >= unit:
            return f"{ns / unit:.3g} {name}"
    return f"{ns} ns"


def end_text(end: End, none: str = "unknown") -> str:
    """An end as address:port, IPv6 in brackets; the address or the port alone where the other is missing."""
    if end.ip is None:
        return none if end.port is None else f"port {end.port}"
    address = f"[{end.ip}]" if ":" in end.ip and end.port is not None else end.ip
    return address if end.port is None else f"{address}:{end.port}"
