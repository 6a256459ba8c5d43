"""Bytes to flows: the captures of one sensor, read in the order of time, as flows and censuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from backscatter.capture.limits import Limits
from backscatter.capture.reader import open_capture
from backscatter.decode.columns import PLACE_BITS, Packets
from backscatter.decode.decoder import Decoder
from backscatter.errors import CaptureError
from backscatter.flow.build import build_flows
from backscatter.flow.census import Census, take_census

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backscatter.capture.layout import Layout
    from backscatter.capture.record import Damage
    from backscatter.flow.table import FlowTable

#: How far (ns) a file may begin before the one that it follows has ended: packets are stamped before they are written,
#: so at a rotation a few of them cross.
ROTATION_SLACK = 10_000_000


@dataclass(frozen=True, slots=True)
class Piece:
    """A capture object: its name, for messages and evidence, and how to open its bytes."""

    name: str
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class PieceRead:
    """One capture, decoded.

    packets   its packet table; places carry piece 0
    expanded  bytes of the expanded stream
    layout    how to read single records again; None where it is no capture
    damage    what could not be read
    dropped   packets that the sensor says it dropped
    error     why it could not be read, or not to its end; None where it was read
    """

    name: str
    packets: Packets
    expanded: int = 0
    layout: Layout | None = None
    damage: tuple[Damage, ...] = ()
    dropped: int | None = None
    error: CaptureError | None = None

    @property
    def span(self) -> tuple[int, int] | None:
        """Times (ns) of its first and last packet; None without packets."""
        time = self.packets["time"]
        return (int(time.min()), int(time.max())) if len(time) else None


@dataclass(frozen=True, slots=True)
class SensorFlows:
    """What the captures of one sensor hold: flows over all pieces, and of each piece its census and how it was read.

    `censuses` are of the pieces that hold packets. `table.pieces` names `pieces` in their order.
    """

    sensor: str
    table: FlowTable
    censuses: tuple[Census, ...]
    pieces: tuple[PieceRead, ...]

    @property
    def errors(self) -> list[CaptureError]:
        """Why pieces could not be read, or not to their end."""
        return [piece.error for piece in self.pieces if piece.error]


def read_piece(
    piece: Piece, decoder: Decoder, limits: Limits | None = None, progress: Callable[[int], None] | None = None
) -> PieceRead:
    """Read and decode one capture. One that cannot be read costs only itself: its error is in what is returned.

    The decoder keeps the names that the columns refer to; pieces of one sensor share one. `progress` is called with
    the bytes of the expanded stream read so far. OSError of the stream itself is not caught.
    """
    tables: list[Packets] = []
    with piece.open() as stream:
        try:
            reader = open_capture(stream, piece.name, limits or Limits())
        except CaptureError as error:
            return PieceRead(piece.name, Packets.empty(0), error=error)
        for block in reader.blocks():
            tables.append(decoder.decode(block))
            if progress:
                progress(reader.expanded)
    return PieceRead(
        piece.name,
        Packets.joined(tables),
        reader.expanded,
        reader.layout,
        tuple(reader.damage),
        reader.dropped,
        reader.stopped,
    )


def sensor_flows(sensor: str, pieces: Sequence[PieceRead], decoder: Decoder) -> SensorFlows:
    """Flows and censuses of pieces that one decoder decoded, over all of them in one pass."""
    numbered = [
        Packets({**piece.packets.columns, "place": piece.packets["place"] | number << PLACE_BITS}, piece.packets.quotes)
        for number, piece in enumerate(pieces)
    ]
    scopes = decoder.scopes.values
    table = build_flows(
        Packets.joined(numbered),
        scopes,
        decoder.tunnels.values,
        sensor=sensor,
        pieces=[piece.name for piece in pieces] or ("",),
    )
    censuses = tuple(
        take_census(piece.packets, scopes, table, number, damage=piece.damage, dropped=piece.dropped)
        for number, piece in enumerate(pieces)
        if len(piece.packets)
    )
    return SensorFlows(sensor, table, censuses, tuple(pieces))


def read_sensor(
    sensor: str,
    pieces: Sequence[Piece],
    limits: Limits | None = None,
    progress: Callable[[int], None] | None = None,
) -> SensorFlows:
    """The whole way from bytes to flows, for the captures of one sensor in the order of time.

    Pieces that cannot be read are in the `errors` of what is returned, the others are read all the same. `progress`
    is called with the bytes of expanded stream read so far, over all pieces.
    """
    decoder = Decoder()
    read: list[PieceRead] = []
    before = 0
    for piece in pieces:
        tell = (lambda position, before=before: progress(before + position)) if progress else None
        read.append(read_piece(piece, decoder, limits, tell))
        before += read[-1].expanded
    return sensor_flows(sensor, read, decoder)


def group_sensors(spans: Sequence[tuple[int, int] | None], slack: int = ROTATION_SLACK) -> list[list[int]]:
    """Which captures are pieces of one sensor, by when they begin and end (ns).

    Captures that follow each other in time are pieces of one sensor, captures that overlap are different ones. Taken
    by their begin, each joins the sensor that ended last before it, else it is a new one. Returns the indices of each
    sensor's pieces in the order of time. Captures without packets (None) say nothing of when they were; they join the
    first sensor. `slack` is how far (ns) one may begin before the one that it follows has ended.
    """
    sensors: list[list[int]] = []
    last: list[tuple[int, int]] = []  # the span of each sensor's last piece
    for span, index in sorted((span, index) for index, span in enumerate(spans) if span is not None):
        free = [number for number, before in enumerate(last) if _follows(before, span, slack)]
        if free:
            number = max(free, key=lambda number: last[number][1])
            sensors[number].append(index)
            last[number] = span
        else:
            sensors.append([index])
            last.append(span)
    silent = [index for index, span in enumerate(spans) if span is None]
    if silent:
        sensors = sensors or [[]]
        sensors[0] += silent
    return sensors


def _follows(before: tuple[int, int], span: tuple[int, int], slack: int) -> bool:
    """Whether a capture goes on where another ended, give or take the packets that cross at a rotation.

    A crossing is short in itself and beside both captures; two captures of the same span are two views of it.
    """
    overlap = before[1] - span[0]
    shorter = min(before[1] - before[0], span[1] - span[0])
    return span != before and span[1] >= before[1] and overlap <= min(slack, shorter // 2)
