"""A stretch of time in which flows are asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, both ends included, ns since 1970-01-01 UTC."""

    start: int
    end: int
