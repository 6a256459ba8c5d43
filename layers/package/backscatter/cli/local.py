"""From files to flows: each file is decoded once, files are gathered into sensors by their times, flows are built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscatter.capture.reader import open_capture
from backscatter.cli.main import Failure
from backscatter.cli.terminal import Meter
from backscatter.decode.columns import Packets
from backscatter.decode.decoder import Decoder
from backscatter.errors import CaptureError
from backscatter.flow.build import build_flows
from backscatter.flow.table import FlowTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backscatter.capture.layout import Layout
    from backscatter.capture.reader import Reader
    from backscatter.capture.record import Damage
    from backscatter.cli.source import Source
    from backscatter.cli.terminal import Speaker


@dataclass(frozen=True, slots=True)
class File:
    """A file that is a capture, and how its records can be read again."""

    source: Source
    layout: Layout


def read_captures(found: Sequence[Source], speaker: Speaker):
    decoder = Decoder()
    files, readers, parts = [], [], []
    with Meter("reading captures", sum(source.size for source in found)) as meter:
        for source in found:
            with source.open() as stream:
                try:
                    reader = open_capture(stream, source.name)
                except CaptureError as error:
                    speaker.problem(str(error))
                    continue
                tables = []
                for block in reader.blocks():
                    tables.append(decoder.decode(block, len(files)))
                told_damage(source.name, reader.damage, speaker)
            files.append(File(source, reader.layout))
            readers.append(reader)
            parts.append(Packets.joined(tables))
    if not files:
        raise Failure("no capture could be read")
    return Captures(files, readers, parts, decoder)


class Captures:
    def __init__(s, files, readers, parts, decoder):
        s.t = build_flows(
            Packets.joined(parts), decoder.scopes.values, decoder.tunnels.values, pieces=[f.source.name for f in files]
        )

    def table(s):
        return s.t


def told_damage(name: str, damage: Iterable[Damage], speaker: Speaker) -> None:
    """Say where a file could not be read, and how much of it."""
    for one in damage:
        speaker.problem(f"{name}: byte {one.offset}: {one.length} bytes not read: {one.reason}")
