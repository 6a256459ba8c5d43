"""From files to flows: files are gathered into sensors by their times, and the flows of each sensor are built."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from backscatter.cli.main import Failure
from backscatter.cli.terminal import Meter
from backscatter.errors import CaptureError
from backscatter.flow.builder import REORDERING
from backscatter.flow.conversation import SECOND
from backscatter.flow.cores import cores
from backscatter.flow.lookup import TableScene
from backscatter.flow.read import Piece, group_sensors, read_sensor, span_of
from backscatter.flow.table import FlowTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backscatter.capture.layout import Layout
    from backscatter.capture.record import Damage
    from backscatter.cli.source import Source
    from backscatter.cli.terminal import Speaker
    from backscatter.flow.census import Census
    from backscatter.flow.read import SensorFlows, Sink


class File(NamedTuple):
    """A file that is a capture: how its records can be read again, and what of it could not be read."""

    source: Source
    layout: Layout
    damage: tuple[Damage, ...]


class Captures(NamedTuple):
    """Everything that the files of a command hold.

    files    by name; those that are captures
    sensors  the views of the network that they are: flows and censuses of each
    """

    files: dict[str, File]
    sensors: tuple[SensorFlows, ...]

    @property
    def censuses(self) -> Iterator[Census]:
        """What each file with packets says of itself."""
        return (census for sensor in self.sensors for census in sensor.censuses)

    @property
    def span(self) -> tuple[int, int] | None:
        """Times (ns) of the first and the last packet of all files; None without packets."""
        spans = [(census.start, census.end) for census in self.censuses]
        return (min(start for start, _ in spans), max(end for _, end in spans)) if spans else None

    def table(self) -> FlowTable:
        """The flows of all sensors, ordered by start; views of one conversation stay rows of their own."""
        tables = [sensor.table for sensor in self.sensors]
        return tables[0] if len(tables) == 1 else FlowTable.joined(tables)

    def scene(self) -> TableScene:
        """What a judge looks at."""
        return TableScene(self.sensors)


def read_captures(found: Sequence[Source], speaker: Speaker, sink: Sink | None = None) -> Captures:
    """Read what is a capture of the files found; tell `speaker` what is none, and what of the others is damaged.

    With `sink`, flows are given to it as they end, as `read_sensor` does, and none are kept. Raises Failure where there
    is no capture at all.
    """
    groups = grouped(found, speaker)
    files: dict[str, File] = {}
    sensors: list[SensorFlows] = []
    with Meter("reading captures", sum(source.size for group in groups for source in group)) as meter:
        for group in groups:
            sensor = _read_group(group, speaker, meter, sink)
            if sensor is None:
                continue
            for source, piece in zip(group, sensor.pieces, strict=True):
                if piece.layout is None:
                    speaker.problem(str(piece.error))
                    continue
                told_damage(source.name, piece.damage, speaker)
                files[source.name] = File(source, piece.layout, piece.damage)
            _told_late(sensor, speaker)
            sensors.append(replace(sensor, pieces=()))
    if not files:
        raise Failure("no capture could be read")
    return Captures(files, tuple(sensors))


def grouped(found: Sequence[Source], speaker: Speaker) -> list[list[Source]]:
    """The files that are pieces of one sensor, in the order of time.

    Their times show it, so that of several files each is looked through before it is read: packets are far more than
    memory holds.
    """
    if len(found) == 1:
        return [list(found)]
    captures: list[Source] = []
    spans: list[tuple[int, int] | None] = []
    with Meter("sorting captures by time", sum(source.size for source in found)) as meter:
        for source in found:
            try:
                spans.append(span_of(Piece(source.name, source.open), progress=meter.at))
                captures.append(source)
            except CaptureError as error:
                speaker.problem(str(error))
            except OSError as error:
                speaker.problem(f"{source.name}: {error.strerror or error}")
            meter.done(source.size)
    return [[captures[index] for index in group] for group in group_sensors(spans)]


def _read_group(group: Sequence[Source], speaker: Speaker, meter: Meter, sink: Sink | None) -> SensorFlows | None:
    """The flows of one sensor, which take no room besides; None where its files cannot be read after all."""
    pieces = [Piece(source.name, source.open) for source in group]
    try:
        return read_sensor(group[0].name, pieces, progress=meter.at, sink=sink, processes=cores())
    except OSError as error:
        speaker.problem(f"{', '.join(source.name for source in group)}: {error.strerror or error}")
        return None
    finally:
        meter.done(sum(source.size for source in group))


def _told_late(sensor: SensorFlows, speaker: Speaker) -> None:
    if sensor.late:
        speaker.note(
            f"{sensor.sensor}: {sensor.late} packets stand more than {REORDERING // SECOND} s behind later ones;"
            " conversations that they belong to may be told as several flows"
        )


def told_damage(name: str, damage: Iterable[Damage], speaker: Speaker) -> None:
    """Say where a file could not be read, and how much of it."""
    for one in damage:
        speaker.problem(f"{name}: byte {one.offset}: {one.length} bytes not read: {one.reason}")
