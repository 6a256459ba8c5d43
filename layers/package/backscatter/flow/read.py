"""Bytes to flows: the captures of one sensor, read in the order of time, as flows and censuses."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from functools import partial
from io import BufferedReader, FileIO
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from backscatter.capture.limits import Limits
from backscatter.capture.reader import open_capture
from backscatter.decode.decoder import Decoder
from backscatter.errors import CaptureError
from backscatter.flow.abreast import Abreast
from backscatter.flow.builder import FlowBuilder, in_order
from backscatter.flow.census import Census, Losses, Tally
from backscatter.flow.early import Early
from backscatter.flow.ranges import RangeTally
from backscatter.flow.table import FLOW, FLOW_QUOTE, FlowTable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from backscatter.capture.layout import Layout
    from backscatter.capture.reader import Reader
    from backscatter.capture.record import Damage, RecordBlock
    from backscatter.decode.columns import Packets
    from backscatter.flow.columns import Built, FlowColumns

#: How far (ns) a file may begin before the one that it follows has ended: packets are stamped before they are written,
#: so at a rotation a few of them cross.
ROTATION_SLACK = 10_000_000

_NOTHING = np.zeros(0, FLOW), np.zeros(0, FLOW_QUOTE)


class Sink(Protocol):
    """Takes flows as they end, some at a time, each time in the order of their start."""

    def part(self, flows: FlowColumns, parts: int, /) -> Any:
        """What it wants of some flows that come in so many parts; it changes nothing: other processes may be asked."""

    def add(self, sensor: str, part: Any, /) -> None:
        """Take what was wanted of flows of a sensor."""


class Piece(NamedTuple):
    """A capture object: its name, for messages and evidence, and how to open its bytes."""

    name: str
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class PieceRead:
    """One capture, read.

    tally     what they add up to
    expanded  bytes of the expanded stream
    layout    how to read single records again; None where it is no capture
    damage    what could not be read
    dropped   packets that the sensor says it dropped
    error     why it could not be read, or not to its end; None where it was read
    """

    name: str
    tally: Tally = field(default_factory=Tally)
    expanded: int = 0
    layout: Layout | None = None
    damage: tuple[Damage, ...] = ()
    dropped: int | None = None
    error: CaptureError | None = None


@dataclass(frozen=True, slots=True)
class SensorFlows:
    """What the captures of one sensor hold: flows over all pieces, and of each piece its census and how it was read.

    `censuses` are of the pieces that hold packets. `table.pieces` names `pieces` in their order. `late` packets came so
    far behind others that their flows may have been cut.
    """

    sensor: str
    table: FlowTable
    censuses: tuple[Census, ...]
    pieces: tuple[PieceRead, ...]
    late: int = 0

    @property
    def errors(self) -> list[CaptureError]:
        """Why pieces could not be read, or not to their end."""
        return [piece.error for piece in self.pieces if piece.error]


def span_of(
    piece: Piece, limits: Limits | None = None, progress: Callable[[int], None] | None = None
) -> tuple[int, int] | None:
    """Times (ns) of the first and the last packet of a capture, of which nothing is decoded; None without packets.

    `progress` is called with the bytes read so far, as they are stored. Raises CaptureError where it is no capture.
    OSError of the stream itself is not caught.
    """
    span = None
    with piece.open() as stream:
        reader = open_capture(stream, piece.name, limits or Limits())
        with contextlib.closing(_blocks(reader, stream)) as blocks:
            for block in blocks:
                first, last = int(block.time.min()), int(block.time.max())
                span = (min(span[0], first), max(span[1], last)) if span else (first, last)
                if progress:
                    progress(_position(reader, stream))
    return span


def _blocks(reader: Reader, stream: BinaryIO) -> Generator[RecordBlock, None, None]:
    """The blocks of a capture; the next is read while one is used, where it has to be waited for.

    A file that lies there as it is read is not waited for: threads would only take the interpreter from each other.
    """
    return reader.blocks() if _is_plain(reader, stream) else _ahead(reader)


def _is_plain(reader: Reader, stream: BinaryIO) -> bool:
    return not reader.layout.compression and isinstance(stream, FileIO | BufferedReader)


def _position(reader: Reader, stream: BinaryIO) -> int:
    """Bytes read so far, as they are stored."""
    return stream.tell() if reader.layout.compression else reader.expanded


def _read(
    piece: Piece,
    number: int,
    decoder: Decoder,
    early: Early,
    take: Callable[[Packets], None],
    limits: Limits | None,
    progress: Callable[[int], None] | None,
    abreast: Callable[[Reader, FileIO | BufferedReader, RangeTally, int], Abreast] | None = None,
) -> PieceRead:
    """Read and decode one capture, giving each block's packets away as soon as they are there.

    A plain file is read by `abreast`, if there is one: others take what it does not tell here.
    """
    tally = RangeTally()
    with piece.open() as stream:
        try:
            reader = open_capture(stream, piece.name, limits or Limits())
        except CaptureError as error:
            return PieceRead(piece.name, error=error)
        others = None
        if abreast and isinstance(stream, FileIO | BufferedReader) and _is_plain(reader, stream):
            others = abreast(reader, stream, tally, number)
        # closed, so that nobody else goes on where this goes wrong
        with contextlib.closing(others.blocks() if others else _blocks(reader, stream)) as blocks:
            for block in blocks:
                packets = decoder.decode(block, number)
                tally.add(packets)
                take(early.through(packets))
                if progress:
                    progress(others.position if others else _position(reader, stream))
    return PieceRead(
        piece.name,
        tally=tally,
        expanded=reader.expanded,
        layout=reader.layout,
        damage=tuple(reader.damage),
        dropped=reader.dropped,
        error=reader.stopped,
    )


def _ahead(reader: Reader) -> Generator[RecordBlock, None, None]:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - a plain file never needs it

    blocks = reader.blocks()
    with ThreadPoolExecutor(1, "read") as reading:
        found = reading.submit(next, blocks, None)
        while (block := found.result()) is not None:
            found = reading.submit(next, blocks, None)
            yield block


def read_sensor(
    sensor: str,
    pieces: Sequence[Piece],
    limits: Limits | None = None,
    progress: Callable[[int], None] | None = None,
    sink: Sink | None = None,
    processes: int = 1,
) -> SensorFlows:
    """The whole way from bytes to flows, for the captures of one sensor in the order of time.

    Pieces that cannot be read are in the `errors` of what is returned, the others are read all the same. `progress`
    is called with the bytes read so far, as they are stored, over all pieces. Packets are dropped on the way: see
    `backscatter.flow.builder`.

    With `sink`, flows are given to it as soon as they are over, so that they need no room together: the table of what
    is returned has names but no rows. A plain file is read, and flows are built, by as many as `processes`, if there is
    much of it: they are forked, so a process that has threads goes without.
    """
    decoder = Decoder()
    flows = _Flows(sensor, [piece.name for piece in pieces], decoder, sink, processes)
    read: list[PieceRead] = []
    before = told = 0

    def tell(position: int) -> None:
        nonlocal told
        told = before + position
        if progress:
            progress(told)

    abreast = None if processes == 1 else partial(flows.abreast, limits=limits or Limits(), processes=processes)
    for number, piece in enumerate(pieces):
        read.append(_read(piece, number, decoder, flows.early, flows.add, limits, tell if progress else None, abreast))
        before = told
    return flows.finish(read)


class _Flows:
    """Flows of one sensor as they are finished, with what they say of loss."""

    def __init__(self, sensor: str, pieces: Sequence[str], decoder: Decoder, sink: Sink | None, processes: int) -> None:
        self._sensor, self._pieces, self._decoder = sensor, tuple(pieces) or ("",), decoder
        self.early = Early(decoder.fragments)
        self._losses = Losses()
        self._built: list[Built] = []
        self._sink = sink
        self._builder = FlowBuilder(self._keep, part=self._part, processes=processes)

    def add(self, packets: Packets) -> None:
        """Take packets of a piece."""
        self._builder.add(packets)

    def abreast(
        self,
        reader: Reader,
        stream: FileIO | BufferedReader,
        tally: RangeTally,
        number: int,
        limits: Limits,
        processes: int,
    ) -> Abreast:
        """Several processes for a piece with a number, a plain file."""
        return Abreast(
            stream,
            reader,
            limits,
            processes,
            decoder=self._decoder,
            tally=tally,
            early=self.early,
            builder=self._builder,
            piece=number,
        )

    def finish(self, pieces: Sequence[PieceRead]) -> SensorFlows:
        if len(self.early):
            self.add(self.early.rest())
        self._builder.finish()
        table = FlowTable(*(in_order(self._built) if self._built else _NOTHING), **self._names)
        censuses = tuple(
            piece.tally.census(
                self._decoder.scopes.values,
                self._losses,
                number,
                piece=piece.name,
                sensor=self._sensor,
                damage=piece.damage,
                dropped=piece.dropped,
            )
            for number, piece in enumerate(pieces)
            if piece.tally.packets
        )
        return SensorFlows(self._sensor, table, censuses, tuple(pieces), self._builder.late)

    def _part(self, flows: FlowColumns, parts: int) -> tuple[Losses, Any]:
        losses = Losses()
        losses.add(flows)
        return losses, self._sink.part(replace(flows, **self._names), parts) if self._sink else flows.built()

    def _keep(self, made: tuple[Losses, Any]) -> None:
        losses, part = made
        self._losses.join(losses)
        if self._sink:
            self._sink.add(self._sensor, part)
        else:
            self._built.append(part)

    @property
    def _names(self) -> dict[str, Any]:
        """What flows refer to by number."""
        scopes, tunnels = tuple(self._decoder.scopes.values), tuple(self._decoder.tunnels.values)
        return {"scopes": scopes, "tunnels": tunnels, "sensors": (self._sensor,), "pieces": self._pieces}


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
