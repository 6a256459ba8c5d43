"""Work on several cores: forked processes do some of it, and what they made comes back through pipes.

Threads would not do it. NumPy lets others run for the microseconds of one call at a time; on two cores they took half
as much CPU again to be a tenth faster. A process shares nothing but what was there when it was forked.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

R = TypeVar("R")
S = TypeVar("S")

#: Fewer parts than this for each process are done sooner than it has begun.
WORTH = 8

#: Bytes that a process may send ahead, and go on, before they are received.
AHEAD = 1 << 20

#: What is sent before all else: how many bytes something has as a pickle, and how many arrays lie beside it.
_HEAD = struct.Struct("=QQ")
_LENGTH = struct.Struct("=Q")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def may_fork() -> bool:
    """Whether this process may be forked: one with threads may not."""
    return hasattr(os, "fork") and threading.active_count() == 1


def over(parts: Sequence[S], work: Callable[[S], R], processes: int = 1) -> Iterator[R]:
    """What `work` makes of each part, in order; by so many processes at most, if there is enough to do.

    The first part is always done here, before there are others: they know what came of it. What a process could not do
    that was forked is done here too, so that errors are this process's own. A process with threads is not forked.
    """
    for part in parts[:1]:
        yield work(part)
    rest = parts[1:]
    helpers = _helpers(rest, work, min(processes, len(rest) // WORTH) if may_fork() else 1)
    try:
        for number, part in enumerate(rest):
            turn = number % (len(helpers) + 1)
            made = helpers[turn - 1].next() if turn else None
            yield work(part) if made is None else made
    finally:
        for helper in helpers:
            helper.end()


def _helpers(parts: Sequence[S], work: Callable[[S], R], count: int) -> list[Helper[R]]:
    """The other ones of `count` processes; none where the system has no room for one of them."""
    helpers: list[Helper[R]] = []
    try:
        # those that were forked before one that cannot be are in the list then
        helpers.extend(Helper(map(work, parts[number::count])) for number in range(1, count))
    except BaseException as error:
        for helper in helpers:
            helper.end()
        if not isinstance(error, OSError):
            raise
        return []
    return helpers


class Helper(Generic[R]):
    """A forked process that makes something, one after the other: what can be pickled, but None."""

    def __init__(self, made: Iterable[R]) -> None:
        """Raises OSError where the system has no room for it."""
        import fcntl  # noqa: PLC0415 - only where processes are forked there is one

        self._pipe, sending = os.pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):  # the system grants no more
                fcntl.fcntl(sending, fcntl.F_SETPIPE_SZ, AHEAD)
        try:
            self._process = os.fork()
        except OSError:
            os.close(self._pipe)
            os.close(sending)
            raise
        if not self._process:
            try:
                os.close(self._pipe)
                for one in made:
                    _send(sending, one)
            finally:
                os._exit(0)  # without a word, whatever happened: what it was to do is done by others
        os.close(sending)

    def next(self) -> R | None:
        """What it made next; None if it has come to grief, or to its end."""
        head = self._received(_HEAD.size)
        if head is None:
            return None
        size, count = _HEAD.unpack(head.data)
        # arrays take the memory that they are received into for their own
        told, arrays = self._received(size), [self._array() for _ in range(count)]
        if told is None or not all(array is not None for array in arrays):
            return None
        made: R = pickle.loads(told.data, buffers=arrays)  # noqa: S301 - our own process wrote it
        return made

    def end(self) -> None:
        """Nobody wants any more of it."""
        os.close(self._pipe)
        # where SIGCHLD is ignored nobody has to wait for it
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)

    def _array(self) -> NDArray[np.uint8] | None:
        length = self._received(_LENGTH.size)
        return None if length is None else self._received(*_LENGTH.unpack(length.data))

    def _received(self, size: int) -> NDArray[np.uint8] | None:
        """So many bytes; None if there are not as many."""
        octets = np.empty(size, np.uint8)
        left = octets.data
        while left:
            got = os.readv(self._pipe, [left])
            if not got:
                return None
            left = left[got:]
        return octets


def _send(pipe: int, made: object) -> None:
    arrays: list[pickle.PickleBuffer] = []
    told = pickle.dumps(made, pickle.HIGHEST_PROTOCOL, buffer_callback=arrays.append)
    _send_all(pipe, _HEAD.pack(len(told), len(arrays)))
    _send_all(pipe, told)
    for array in arrays:
        with array.raw() as octets:
            _send_all(pipe, _LENGTH.pack(len(octets)))
            _send_all(pipe, octets)


def _send_all(pipe: int, data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(pipe, left) :]
