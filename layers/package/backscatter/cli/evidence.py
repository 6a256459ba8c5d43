"""Evidence, read back: the packets that verdicts cite, from where they lie in the captures, each file in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from backscatter.capture.pick import expanding_read, pick
from backscatter.decode.line import packet_line
from backscatter.errors import CaptureError
from backscatter.verdict.model import PacketLine
from backscatter.verdict.packets import packets_wanted, with_packets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backscatter.capture.layout import Layout
    from backscatter.cli.local import File
    from backscatter.cli.terminal import Speaker
    from backscatter.verdict.model import Verdict

    Lines = dict[tuple[str, int], PacketLine]


def with_evidence(verdicts: Sequence[Verdict], files: Mapping[str, File], speaker: Speaker) -> list[Verdict]:
    """The verdicts with the packets that their evidence points at.

    A packet that cannot be read again is told to `speaker`, and is missing from its verdict alone.
    """
    lines: Lines = {}
    for name, offsets in packets_wanted(verdicts).items():
        try:
            found = _read_file(files[name], offsets)
        except (CaptureError, OSError) as error:
            speaker.problem(f"{name}: packets could not be read again as evidence: {error}")
            continue
        if len(found) < len(offsets):
            speaker.problem(f"{name}: {len(offsets) - len(found)} packets could not be read again as evidence")
        lines.update(found)
    return [with_packets(verdict, lines) for verdict in verdicts]


def _read_file(file: File, offsets: Sequence[int]) -> Lines:
    name = file.source.name
    with file.source.open() as stream:
        blocks = pick(_read_by_offset(stream, name, file.layout), file.layout, offsets)
    return {
        (name, offset): PacketLine(int(block.time[0]), packet_line(block, 0), name, offset)
        for offset, block in blocks.items()
    }


def _read_by_offset(stream: BinaryIO, name: str, layout: Layout) -> Callable[[int, int], bytes]:
    if layout.compression:
        return expanding_read(stream, name)

    def read(offset: int, length: int) -> bytes:
        stream.seek(offset)
        return stream.read(length)

    return read
