"""Reading a capture from somewhere in its middle: where another reader stood, or at the first record behind a guess."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from backscatter.capture.expand import Expanded
from backscatter.capture.layout import NANO
from backscatter.capture.limits import Limits
from backscatter.capture.reader import Reader
from backscatter.capture.resync import FAR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backscatter.capture.layout import Layout
    from backscatter.capture.reader import Standing

#: A time that no packet has. Simple packet blocks have the time of the block before, which a guess does not know: they
#: get this one, so that nobody takes the guess for right.
NO_TIME = -(1 << 62)


def source_at(
    stream: BinaryIO, name: str, layout: Layout, standing: Standing, limits: Limits | None = None
) -> Expanded:
    """The expanded stream from the member on that `standing` names; `stream` begins with it.

    Of a capture that is not compressed, `stream` begins at `standing.at`. Otherwise what lies before that byte of the
    expanded stream is to be skipped (`Expanded.skip`), which may take long.
    """
    member = standing.member if layout.compression else (standing.at, standing.at)
    return Expanded(stream, name, limits or Limits(), compression_told=layout.compression, member=member)


def going_on(source: Expanded, name: str, layout: Layout, standing: Standing, limits: Limits | None = None) -> Reader:
    """A reader that goes on where another one stood, given a source that is there."""
    reader = Reader(source, name, _begun_anew(layout), limits or Limits())
    reader.go_on(standing)
    return reader


def guessing(
    stream: BinaryIO,
    at: int,
    name: str,
    layout: Layout,
    walker: Mapping[str, Any] | None,
    limits: Limits | None = None,
) -> Reader:
    """A reader that begins at the first record that it finds in `stream`, which begins at byte `at` of a capture.

    The capture is not compressed. `walker` is what its head says of its section (`Standing.walker`), for pcapng.
    """
    limits = limits or Limits()
    source = Expanded(stream, name, limits, compression_told="", member=(at, at))
    reader = Reader(source, name, _begun_anew(layout), limits)
    reader.search({**walker, "before": NO_TIME} if walker else None)
    return reader


def guessed_right(standing: Standing, begin: int | None, first: int | None, walker: Mapping[str, Any] | None) -> bool:
    """Whether a reader that guessed has begun as one would have that is told where the one before it stood.

    It began at byte `begin` of the stream, with a record of time `first` (ns), and believed `walker` of its section.
    """
    if begin != standing.at or first is None or first == NO_TIME or standing.last is None:
        return False
    # Somebody who knows the time before looks twice at a record that is far from it.
    if abs(first - standing.last) > FAR * NANO:
        return False
    return standing.walker is None or same_section(standing.walker, walker or {})


def same_section(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether walkers of pcapng know the same, but for the time of the last record."""
    return {**one, "before": 0} == {**other, "before": 0}


class Stretch(io.RawIOBase):
    """The bytes of an open file from some byte on. Others may read it too, also forked processes: it is not sought."""

    def __init__(self, file: int, at: int) -> None:
        self._file, self._at = file, at

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer with the next bytes; how many there were."""
        got = os.preadv(self._file, [buffer], self._at)
        self._at += got
        return got


def _begun_anew(layout: Layout) -> Layout:
    """The layout with what a reader of this container knows before it has read anything."""
    return replace(layout, sections=[] if layout.container == "pcapng" else list(layout.sections))
