"""Work on several cores: forked processes do some of it, and what they made comes back through pipes.

Threads would not do it. NumPy lets others run for the microseconds of one call at a time; on two cores they took half
as much CPU again to be a tenth faster. A process shares nothing but what was there when it was forked: the packets.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import threading
from io import FileIO
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from backscatter.flow.table import FLOW, FLOW_QUOTE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from backscatter.flow.build import Built

R = TypeVar("R")
S = TypeVar("S")

#: Fewer parts than this are done sooner than a process has begun.
WORTH = 8

#: What is sent before the rows of a part: how many rows, and quotes.
_COUNTS = struct.Struct("=QQ")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def may_fork() -> bool:
    """Whether this process may be forked: one with threads may not."""
    return hasattr(os, "fork") and threading.active_count() == 1


class Errand(Generic[R]):
    """Something that a forked process does meanwhile."""

    def __init__(self, work: Callable[[], R]) -> None:
        """Raises OSError where the system has no room for the process."""
        self._process, pipe = _forked(lambda pipe: _send_whole(pipe, pickle.dumps(work(), pickle.HIGHEST_PROTOCOL)))
        self._pipe: FileIO | None = FileIO(pipe)

    def done(self) -> R | None:
        """What it made, once it has ended; None if it has come to grief."""
        assert self._pipe is not None
        with self._pipe as pipe:
            data = pipe.read()
        self._pipe = None
        _, status = os.waitpid(self._process, 0)
        made: R | None = None
        if not status:
            made = pickle.loads(data)  # noqa: S301 - our own process wrote it, and wrote it whole
        return made

    def drop(self) -> None:
        """Nobody wants it any more; does nothing where it is done."""
        if self._pipe is not None:
            os.kill(self._process, signal.SIGKILL)
            self.done()


def over(parts: Sequence[S], work: Callable[[S], Built], processes: int = 1) -> Iterator[Built]:
    """What `work` makes of each part, in order; by so many processes at most, if there is enough to do.

    What a process that was forked could not do is done here, so that errors are this process's own. A process with
    threads is not forked.
    """
    helpers = _helpers(parts, work, min(processes, len(parts) // WORTH) if may_fork() else 1)
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
        self._process, self._pipe = _forked(lambda pipe: _send_all(pipe, map(work, parts)))

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


def _forked(send: Callable[[int], None]) -> tuple[int, int]:
    """A process that sends something through the pipe that it is given, and ours to receive it from.

    It ends without a word, whatever happens: with 0 if all was sent. Raises OSError where there is no room for it.
    """
    pipe, sending = os.pipe()
    try:
        process = os.fork()
    except OSError:
        os.close(pipe)
        os.close(sending)
        raise
    if not process:
        os.close(pipe)
        status = 1
        try:
            send(sending)
            status = 0
        finally:
            os._exit(status)
    os.close(sending)
    return process, pipe


def _send_all(pipe: int, made: Iterable[Built]) -> None:
    """Send parts, one behind the other."""
    for rows, quotes in made:
        _send_whole(pipe, _COUNTS.pack(len(rows), len(quotes)))
        _send_whole(pipe, rows.view(np.uint8).data)
        _send_whole(pipe, quotes.view(np.uint8).data)


def _send_whole(pipe: int, data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(pipe, left) :]
