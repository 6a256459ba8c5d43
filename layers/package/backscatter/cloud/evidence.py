"""The packets behind a verdict, read from where they lie in S3: a few ranged reads a capture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO, cast

from backscatter.capture.layout import Layout
from backscatter.capture.pick import expanding_read, pick
from backscatter.cloud.objects import ObjectName, open_object, read_range
from backscatter.decode.line import packet_line
from backscatter.errors import BackscatterError
from backscatter.verdict.model import Effect, Evidence, PacketLine
from backscatter.verdict.packets import packets_wanted, with_packets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backscatter.capture.record import RecordBlock
    from backscatter.cloud.stack import Stack
    from backscatter.store.catalogue import Entry
    from backscatter.store.scene import StoredScene
    from backscatter.verdict.model import Verdict

#: Bytes of a compressed capture, expanded, that are read through for its packets: a verdict does not wait for more.
MOST_EXPANDED = 256 << 20


def with_evidence(stack: Stack, scene: StoredScene, verdict: Verdict) -> Verdict:
    """The verdict with its packets. A capture that cannot be read any more changes nothing, and is told as missing."""
    lines: dict[tuple[str, int], PacketLine] = {}
    missing = []
    for piece, wanted in packets_wanted([verdict]).items():
        entry = scene.entry(piece)
        offsets = wanted
        if entry and entry.layout.get("compression"):
            offsets = [offset for offset in wanted if offset < MOST_EXPANDED]
        if len(offsets) < len(wanted):
            text = f"Packets behind the first {MOST_EXPANDED >> 20} MiB of {piece} are not shown: it is compressed."
            missing.append(Evidence(Effect.MISSING, text))
        try:
            found = read_packets(stack, entry, offsets) if entry else {}
        except BackscatterError as error:
            missing.append(Evidence(Effect.MISSING, f"The packets cannot be shown: {error}"))
            continue
        lines.update({(piece, line.offset): line for line in found.values()})
    return with_packets(replace(verdict, evidence=(*verdict.evidence, *missing)), lines)


def read_packets(stack: Stack, entry: Entry, offsets: Sequence[int]) -> dict[int, PacketLine]:
    """The packets of a capture as lines, by the offsets of their records, as `read_records` gives them."""
    return {
        offset: PacketLine(int(block.time[0]), packet_line(block, 0), entry.census.piece, offset)
        for offset, block in read_records(stack, entry, offsets).items()
    }


def read_records(
    stack: Stack, entry: Entry, offsets: Sequence[int], asked: Callable[[int], None] = lambda _: None
) -> dict[int, RecordBlock]:
    """One-record blocks of a capture by the offsets of their records; those that are not there have no entry.

    A compressed capture is read through up to the last of them. `asked` hears of every ranged read, in bytes. Raises
    Gone where the object is not the one that was ingested, Hopeless where it may not be read, CaptureError where it is
    not what its catalogue entry says.
    """
    name = ObjectName.identified(entry.source.bucket, entry.source.key, entry.source.version)
    layout = Layout.from_json(dict(entry.layout))
    if layout.compression:
        stream, reader = open_object(stack.s3, name)
        with reader:
            asked(stream.size)
            read = expanding_read(cast("BinaryIO", reader), name.url, stack.limits)
            return pick(read, layout, offsets, stack.limits)

    def read_some(offset: int, length: int) -> bytes:
        asked(length)
        return read_range(stack.s3, name, offset, length)

    return pick(read_some, layout, offsets, stack.limits)
