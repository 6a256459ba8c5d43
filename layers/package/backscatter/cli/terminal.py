"""How a command speaks: data to stdout, notes and problems to stderr, and the exit code that follows from them."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

import click

from backscatter.report.escape import plain

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

#: Work shorter than this (seconds) shows no progress bar.
PATIENCE = 0.7

#: Seconds from one picture of a progress bar to the next.
AGAIN = 0.1

#: Longest line on stderr, in characters.
MOST = 4000


def printable(text: str) -> str:
    """The text with all spelled out that a terminal would obey: names of files and alerts are strangers' text."""
    return text if text.isascii() and text.isprintable() else plain(text, MOST)


class Speaker:
    """Says on stderr what happened; remembers whether some input could not be read."""

    def __init__(self) -> None:
        self.problems = 0

    def note(self, text: str) -> None:
        """Say what a person may want to know; nothing is wrong with the input."""
        click.echo(printable(text), err=True)

    def problem(self, text: str) -> None:
        """Say what was damaged, cut short or unreadable: where, and how much."""
        self.problems += 1
        click.echo(printable(text), err=True)

    @property
    def exit_code(self) -> int:
        """0, or 1 where a problem was told."""
        return 1 if self.problems else 0


class Meter:
    """A progress bar on stderr, over bytes or over things: only on a terminal, and only once work turns out long."""

    def __init__(self, what: str, total: int, *, of_bytes: bool = True) -> None:
        self._what = what
        self._total = total
        self._of_bytes = of_bytes
        self._before = 0
        self._since = self._drawn = time.monotonic()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def at(self, position: int) -> None:
        """The file at hand is read up to a position in bytes."""
        if self._progress is not None and self._task is not None:
            now = time.monotonic()
            if now - self._drawn > AGAIN:
                self._drawn = now
                self._progress.update(self._task, completed=self._before + position, refresh=True)
        elif self._shown and time.monotonic() - self._since > PATIENCE:
            self._start()

    def done(self, size: int) -> None:
        """The file at hand, of `size` bytes, is done."""
        self._before += size

    def _start(self) -> None:
        from rich import progress  # noqa: PLC0415 - short work never needs it
        from rich.console import Console  # noqa: PLC0415

        amount = progress.DownloadColumn() if self._of_bytes else progress.MofNCompleteColumn()
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            amount,
            progress.TimeRemainingColumn(),
        )
        # drawn by us and by no thread of its own: a process with threads is not forked
        self._progress = progress.Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
        self._task = self._progress.add_task(self._what, total=self._total, completed=self._before)
        self._progress.start()
