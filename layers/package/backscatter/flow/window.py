"""A stretch of time in which flows are asked for."""

from __future__ import annotations

from typing import NamedTuple


class Window(NamedTuple):
    """A stretch of time, both ends included, ns since 1970-01-01 UTC."""

    start: int
    end: int
