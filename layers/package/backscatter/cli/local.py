"""From files to flows: each file is decoded once, files are gathered into sensors by their times, flows are built."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backscatter.cli.main import Failure
from backscatter.cli.terminal import Meter
from backscatter.decode.decoder import Decoder
from backscatter.flow.builder import REORDERING
from backscatter.flow.conversation import SECOND
from backscatter.flow.cores import cores
from backscatter.flow.lookup import TableScene
from backscatter.flow.read import Piece, group_sensors, read_piece, read_sensor, sensor_flows
from backscatter.flow.table import FlowTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backscatter.capture.layout import Layout
    from backscatter.capture.record import Damage
    from backscatter.cli.source import Source
    from backscatter.cli.terminal import Speaker
    from backscatter.flow.census import Census
    from backscatter.flow.read import PieceRead, SensorFlows, Sink


@dataclass(frozen=True, slots=True)
class File:
    """A file that is a capture: how its records can be read again, and what of it could not be read."""

    source: Source
    layout: Layout
    damage: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class Captures:
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
    with Meter("reading captures", sum(source.size for source in found)) as meter:
        if len(found) == 1:
            return _alone(found[0], speaker, meter, sink)
        return _together(found, speaker, meter, sink)


def _alone(source: Source, speaker: Speaker, meter: Meter, sink: Sink | None) -> Captures:
    """One file is one sensor: its packets are flows as soon as they are read, and take no room besides."""
    try:
        sensor = read_sensor(
            source.name, [Piece(source.name, source.open)], progress=meter.at, sink=sink, processes=cores()
        )
    except OSError as error:
        speaker.problem(f"{source.name}: {error.strerror or error}")
        raise Failure("no capture could be read") from error
    (piece,) = sensor.pieces
    file = _told(source, piece, speaker, meter)
    if file is None:
        raise Failure("no capture could be read")
    _told_late(sensor, speaker)
    return Captures({source.name: file}, (replace(sensor, pieces=()),))


def _together(found: Sequence[Source], speaker: Speaker, meter: Meter, sink: Sink | None) -> Captures:
    """Which files are pieces of one sensor shows when all of them are read."""
    decoder = Decoder()
    files: dict[str, File] = {}
    pieces: list[PieceRead] = []
    for source in found:
        try:
            piece = _decoded(source, decoder, meter)
        except OSError as error:
            speaker.problem(f"{source.name}: {error.strerror or error}")
            continue
        file = _told(source, piece, speaker, meter)
        if file is not None:
            files[source.name] = file
            pieces.append(piece)
    if not pieces:
        raise Failure("no capture could be read")
    sensors = []
    for group in group_sensors([piece.span for piece in pieces]):
        of_sensor = [pieces[index] for index in group]
        sensor = sensor_flows(of_sensor[0].name, of_sensor, decoder, sink, cores())
        _told_late(sensor, speaker)
        sensors.append(replace(sensor, pieces=()))  # flows are built: their packets may go
    return Captures(files, tuple(sensors))


def _decoded(source: Source, decoder: Decoder, meter: Meter) -> PieceRead:
    return read_piece(Piece(source.name, source.open), decoder, progress=meter.at)


def _told(source: Source, piece: PieceRead, speaker: Speaker, meter: Meter) -> File | None:
    """A file that was read, and what is wrong with it told; None where it is no capture."""
    meter.done(source.size)
    if piece.layout is None:
        speaker.problem(str(piece.error))
        return None
    told_damage(source.name, piece.damage, speaker)
    return File(source, piece.layout, piece.damage)


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
