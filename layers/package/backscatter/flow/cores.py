"""Flows on several cores: forked processes build every so manieth part, and their rows come back through pipes.

Threads would not do it. NumPy lets others run for the microseconds of one call at a time; on two cores they took half
as much CPU again to be a tenth faster. A process shares nothing but what was there when it was forked: the packets.
"""

from __future__ import annotations

import os
import struct
import threading
from typing import TYPE_CHECKING, NoReturn, TypeVar

import numpy as np

from backscatter.flow.table import FLOW, FLOW_QUOTE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from backscatter.flow.build import Built

S = TypeVar("S")

#: Fewer parts than this are done sooner than a process has begun.
WORTH = 8

#: What is sent before the rows of a part: how many rows, and quotes.
_COUNTS = struct.Struct("=QQ")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def over(parts: Sequence[S], work: Callable[[S], Built], processes: int = 1) -> Iterator[Built]:
    """What `work` makes of each part, in order; by so many processes at most, if there is enough to do.

    What a process that was forked could not do is done here, so that errors are this process's own. A process with
    threads is not forked.
    """
    forks = hasattr(os, "fork") and threading.active_count() == 1
    helpers = _helpers(parts, work, min(processes, len(parts) // WORTH) if forks else 1)
    try:
        for number, part in enumerate(parts):
            turn = number % (len(helpers) + 1)
            built = helpers[turn - 1].next() if turn else None
            yield work(part) if built is None else built
    finally:
        _end(helpers)


def _helpers(parts: Sequence[S], work: Callable[[S], Built], count: int) -> list[_Helper]:
    """The other ones of `count` processes; none where the system has no room for one of them."""
    helpers: list[_Helper] = []
    try:
        # those that were forked before one that cannot be are in the list then
        helpers.extend(_Helper(parts[number::count], work) for number in range(1, count))
    except OSError:
        _end(helpers)
        return []
    return helpers


def _end(helpers: Sequence[_Helper]) -> None:
    """Let them go; those still at work end when they want to send the next part.

    Each holds the pipes of those forked before it, which are closed only when it has ended: none is waited for until
    all of ours are closed.
    """
    for helper in helpers:
        helper.close()
    for helper in helpers:
        helper.wait()


class _Helper:
    """A process that does some parts."""

    def __init__(self, parts: Iterable[S], work: Callable[[S], Built]) -> None:
        self._pipe, sending = os.pipe()
        try:
            self._process = os.fork()
        except OSError:
            os.close(self._pipe)
            os.close(sending)
            raise
        if not self._process:
            os.close(self._pipe)
            _send_all(sending, map(work, parts))
        os.close(sending)

    def next(self) -> Built | None:
        """What it made of its next part; None if it has come to grief."""
        counts = np.zeros(_COUNTS.size, np.uint8)
        if not self._fill(counts):
            return None
        rows, quotes = (
            np.empty(count, form) for count, form in zip(_COUNTS.unpack(counts.data), (FLOW, FLOW_QUOTE), strict=True)
        )
        return (rows, quotes) if self._fill(rows) and self._fill(quotes) else None

    def close(self) -> None:
        """Receive no more."""
        os.close(self._pipe)

    def wait(self) -> None:
        """Wait for its end."""
        os.waitpid(self._process, 0)

    def _fill(self, table: NDArray[np.generic]) -> bool:
        """Receive a table; whether there was as much."""
        left = table.view(np.uint8).data
        while left:
            got = os.readv(self._pipe, [left])
            if not got:
                return False
            left = left[got:]
        return True


def _send_all(pipe: int, made: Iterable[Built]) -> NoReturn:
    """What a forked process does: it sends, and ends without a word, whatever happens."""
    try:
        for rows, quotes in made:
            counts = memoryview(_COUNTS.pack(len(rows), len(quotes)))
            for data in (counts, rows.view(np.uint8).data, quotes.view(np.uint8).data):
                left = data
                while left:
                    left = left[os.write(pipe, left) :]
    finally:
        os._exit(0)
