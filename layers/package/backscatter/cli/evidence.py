"""Evidence, read back: the packets that verdicts cite, from where they lie in the captures, each file in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from backscatter.capture.pick import expanding_read, pick
from backscatter.decode.columns import PLACE_BITS
from backscatter.decode.line import packet_line
from backscatter.errors import CaptureError
from backscatter.verdict.model import PacketLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from backscatter.capture.layout import Layout
    from backscatter.cli.local import File
    from backscatter.cli.terminal import Speaker
    from backscatter.verdict.model import Verdict

OFFSET_BITS = (1 << PLACE_BITS) - 1

#: (capture, offset) -> the packet there
Lines = dict[tuple[str, int], PacketLine]


def read_evidence(verdicts: Iterable[Verdict], files: Mapping[str, File], speaker: Speaker) -> Lines:
    """The packets that the evidence of the verdicts points at. A file that cannot be read again is told, and costs
    its own packets alone.
    """
    wanted: dict[str, set[int]] = {}
    for verdict in verdicts:
        for evidence in verdict.evidence:
            for place in evidence.places:
                capture = verdict.flows.pieces[place >> PLACE_BITS]
                wanted.setdefault(capture, set()).add(place & OFFSET_BITS)
    lines: Lines = {}
    for capture, offsets in wanted.items():
        try:
            lines.update(_read_file(files[capture], sorted(offsets)))
        except (CaptureError, OSError) as error:
            speaker.problem(f"{capture}: its packets could not be read again as evidence: {error}")
    return lines


def _read_file(file: File, offsets: list[int]) -> Lines:
    with file.source.open() as stream:
        read = _read_by_offset(stream, file.source.name, file.layout)
        blocks = pick(read, file.layout, offsets)
    return {
        (file.source.name, offset): PacketLine(
            int(block.time[0]), packet_line(block, 0), file.source.name, offset
        )
        for offset, block in blocks.items()
    }


def _read_by_offset(stream: BinaryIO, name: str, layout: Layout) -> Callable[[int, int], bytes]:
    if layout.compression:
        return expanding_read(stream, name)

    def read(offset: int, length: int) -> bytes:
        stream.seek(offset)
        return stream.read(length)

    return read
