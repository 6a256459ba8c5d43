"""A text of any length, held only as far as somebody has to look ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Characters that are read and no longer needed are let go when they are this many, and most of what is held.
_DROP = 1 << 18

#: Characters kept before the place where reading goes on: how far its line was indented shows there.
BEHIND = 65


class Held:
    """The part of a text that is in memory: from a little before the place that is read to as far as was looked.

    text   what is held; places in it are good until the next `drop`
    ended  nothing comes after it
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self._pieces = iter(pieces)
        self.text = ""
        self.ended = False

    def reach(self, end: int) -> int:
        """Hold the text up to a place; how far it is held, less than asked for only where the text ends."""
        if len(self.text) < end and not self.ended:
            more = [self.text]
            size = len(self.text)
            while size < end:
                piece = next(self._pieces, None)
                if piece is None:
                    self.ended = True
                    break
                more.append(piece)
                size += len(piece)
            self.text = "".join(more)
        return min(end, len(self.text))

    def line_end(self, at: int, most: int) -> int:
        """Where the line ends that this place is in: its newline, the end of the text, or `most` characters on."""
        looked, step = at, 1 << 12
        while True:
            held = self.reach(min(at + step, at + most))
            newline = self.text.find("\n", looked, held)
            if newline >= 0:
                return newline
            if held < at + step or step >= most:
                return held
            looked, step = held, step * 4

    def drop(self, at: int) -> int:
        """Let go of what lies before a place, if that is worth it; where that place is afterwards."""
        if at <= _DROP or at <= len(self.text) // 2:
            return at
        cut = at - BEHIND
        self.text = self.text[cut:]
        return BEHIND
