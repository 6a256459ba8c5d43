"""Reading a capture from somewhere in its middle: where another reader stood, or at the first record behind a guess."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from backscatter.capture.expand import Expanded
from backscatter.capture.limits import Limits
from backscatter.capture.reader import Reader

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


def _begun_anew(layout: Layout) -> Layout:
    """The layout with what a reader of this container knows before it has read anything."""
    return replace(layout, sections=[] if layout.container == "pcapng" else list(layout.sections))
