"""What could not be read of a file of alerts, told short: the first of each kind, and how many more."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backscatter.errors import FindingError

#: What makes one error differ from another of its kind: numbers, and what is quoted.
_OWN = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|0x[0-9a-fA-F]+|[0-9]+")

#: Kinds that are told apart; those beyond are of one kind. Lines that are named of a kind.
_MOST_KINDS, _MOST_NAMED = 200, 10


class More(NamedTuple):
    """What is told of the errors of a kind behind the first, and how many those are."""

    text: str
    errors: int


class _Kind:
    """The errors of one kind but the first."""

    __slots__ = ("count", "ends", "first")

    def __init__(self, first: FindingError) -> None:
        self.first = first
        self.count = 0
        self.ends: list[tuple[int, int]] = []  # stretches of lines, first and last

    def add(self, error: FindingError) -> None:
        self.count += 1
        if self.ends and self.ends[-1][1] + 1 == error.line:
            self.ends[-1] = self.ends[-1][0], error.last
        elif len(self.ends) <= _MOST_NAMED:
            self.ends.append((error.line, error.last))


class Troubles:
    """Errors of a file. `count` is how many there were, of all files so far; each counts, whether told or not."""

    def __init__(self) -> None:
        self.count = 0
        self._kinds: dict[str, _Kind] = {}

    def is_news(self, error: FindingError) -> bool:
        """Whether the error is the first of its kind in this file, which is to be told at once."""
        self.count += 1
        kind = _OWN.sub("", error.message)
        if kind not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            kind = ""
        known = self._kinds.get(kind)
        if known is None:
            self._kinds[kind] = _Kind(error)
            return True
        known.add(error)
        return False

    def more(self) -> Iterator[More]:
        """Of each kind that came more than once how many more there were, and where. The next file begins anew."""
        for kind in self._kinds.values():
            if kind.count:
                like = f"{kind.first.name}: {kind.first.message[:80]}: and {kind.count:,} more like it"
                yield More(like + _lines(kind.ends), kind.count)
        self._kinds = {}


def _lines(ends: list[tuple[int, int]]) -> str:
    """`: lines 4, 6 to 9, ...`; nothing where the file has no lines."""
    named = [str(first) if first == last else f"{first} to {last}" for first, last in ends[:_MOST_NAMED] if first]
    if not named:
        return ""
    return f": {'lines' if len(named) > 1 or 'to' in named[0] else 'line'} {', '.join(named)}" + (
        ", ..." if len(ends) > _MOST_NAMED else ""
    )
