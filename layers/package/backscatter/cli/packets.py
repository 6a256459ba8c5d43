"""`backscatter packets`: the packets themselves, as tcpdump prints them or as a new capture.

Two passes over the files, so that memory does not grow with the packets' bytes: the first tells which records remain
and when they were, the second reads those again in time order.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from backscatter.capture.reader import open_capture
from backscatter.capture.write import PcapWriter
from backscatter.cli import options, remote
from backscatter.cli.local import grouped, told_damage
from backscatter.cli.main import Failure, examples
from backscatter.cli.remotepackets import copies, remote_packets
from backscatter.cli.source import STDIN, Source, sources
from backscatter.cli.terminal import Meter, Speaker
from backscatter.decode.columns import PLACE_BITS
from backscatter.decode.decoder import Decoder
from backscatter.decode.line import clock, packet_line
from backscatter.errors import CaptureError, RequestError
from backscatter.flow.early import Early
from backscatter.flow.record import rfc3339
from backscatter.flow.runs import run_starts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

    from backscatter.capture.record import RecordBlock
    from backscatter.decode.columns import Packets
    from backscatter.flow.filter import Filter


@dataclass(frozen=True, slots=True)
class Chosen:
    """The records of one file that a filter leaves, in file order: times (ns), offsets, and their link types."""

    time: NDArray[np.int64]
    offset: NDArray[np.int64]
    linktypes: frozenset[int]


@dataclass(frozen=True, slots=True)
class Record:
    """One record to print: where it came from and a block that holds it."""

    source: Source
    block: RecordBlock
    index: int

    @property
    def time(self) -> int:
        """When it was captured, ns since 1970-01-01 UTC."""
        return int(self.block.time[self.index])

    @property
    def data(self) -> bytes:
        """The captured bytes."""
        start = int(self.block.body[self.index])
        return self.block.data[start : start + int(self.block.caplen[self.index])].tobytes()


@click.command(
    short_help="Print packets as tcpdump would, or write them as a capture.",
    epilog=examples(
        "backscatter packets capture.pcap --host 193.109.122.67",
        "backscatter packets capture.pcap --flow 1:0SMa70aty2e1lVvIdRUl+DXfuJs= --write evidence.pcap",
        "backscatter packets --stack backscatter --host 10.0.0.5 --since 2026-11-22T00:00:00Z",
    ),
)
@options.captures_or_stack
@remote.stack_option
@remote.most_items_option
@click.option("--whole", is_flag=True, help="With --stack: read the captures through, for all packets of long flows.")
@options.filters
@click.option("--write", "target", metavar="FILE", help="Write a pcap instead (nanoseconds; - is stdout).")
@options.as_json
def packets(
    captures: tuple[str, ...],
    target: str | None,
    *,
    stack_name: str | None,
    most_items: int,
    whole: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Print the packets of captures as `tcpdump -nn -S` does, with date and time in UTC, in time order.

    Filters repeat as OR, different filters join as AND. --flow takes a conversation's community id, as `backscatter
    flows` prints it. With --json, one object per packet: time, text, capture, offset.

    With --stack, the store says where in their captures the first packets of each flow are, four of either side, and
    these are read from S3 in a few ranged reads; --whole copies the captures that hold such flows here and reads them
    through. A compressed capture has no ranges: it is read through up to the last packet, and stderr says so.
    """
    remote.either(captures, stack_name)
    if target is not None and as_json:
        raise click.UsageError("--write and --json exclude each other")
    wanted, speaker = options.chosen_filter(**chosen), Speaker()
    with contextlib.ExitStack() as stack:
        if stack_name is not None and not whole:
            records, linktypes = _stored(stack_name, wanted, speaker, most_items)
        else:
            if stack_name is not None:
                found = copies(stack_name, wanted, speaker, most_items, stack)
            else:
                found = sources(captures, speaker, stack)
            if target is not None:
                _spare_inputs(target, found)
            selection = _select(found, wanted, speaker) if found or stack_name is None else []
            records = _in_time_order(selection) if selection else iter(())
            linktypes = {kind for _, part in selection for kind in part.linktypes}
        if target is not None:
            count = _write(target, records, linktypes)
            packets = "1 packet" if count == 1 else f"{count} packets"
            speaker.note(f"{packets} written to {'stdout' if target == STDIN else target}")
        elif as_json:
            for record in records:
                click.echo(json.dumps(_record(record)))
        else:
            for record in records:
                click.echo(f"{clock(record.time)} {packet_line(record.block, record.index)}")
    click.get_current_context().exit(speaker.exit_code)


def _stored(stack_name: str, wanted: Filter, speaker: Speaker, most_items: int) -> tuple[Iterator[Record], set[int]]:
    """The packets that the store knows the places of, by time, and their link types."""
    found = [
        Record(Source(name, Path(), 0), block, 0)
        for name, block in remote_packets(stack_name, wanted, speaker, most_items)
        if (wanted.since is None or block.time[0] >= wanted.since)
        and (wanted.until is None or block.time[0] <= wanted.until)
    ]
    found.sort(key=lambda record: record.time)
    return iter(found), {int(record.block.linktype[0]) for record in found}


def _record(record: Record) -> dict[str, object]:
    return {
        "time": rfc3339(record.time),
        "text": packet_line(record.block, record.index),
        "capture": record.source.name,
        "offset": int(record.block.offset[record.index]),
    }


def _select(found: Sequence[Source], wanted: Filter, speaker: Speaker) -> list[tuple[Source, Chosen]]:
    """First pass: what the filter leaves of each file that is a capture; those of one sensor in the order of time."""
    groups = grouped(found, speaker)
    selection: list[tuple[Source, Chosen]] = []
    with Meter("choosing packets", sum(source.size for group in groups for source in group)) as meter:
        for group in groups:
            selection += _choose(group, wanted, speaker, meter)
    if not selection:
        raise Failure("no capture could be read")
    return selection


def _choose(group: Sequence[Source], wanted: Filter, speaker: Speaker, meter: Meter) -> list[tuple[Source, Chosen]]:
    """What the filter leaves of the files of one sensor; a problem is told where one can't be read.

    A fragment is chosen with its first one, which may come later and in the next file, as flows are built.
    """
    decoder = Decoder()
    early = Early(decoder.fragments)
    chosen = _Places()
    read: list[tuple[int, Source, _LinkTypes]] = []

    def take(packets: Packets) -> None:
        chosen.add(packets, wanted.packets(packets, decoder.scopes.values))

    for number, source in enumerate(group):
        linktypes = _LinkTypes()
        try:
            with source.open() as stream:
                reader = open_capture(stream, source.name)
                for block in reader.blocks():
                    linktypes.add(block)
                    take(early.through(decoder.decode(block, number)))
                    meter.at(stream.tell())
        except CaptureError as error:
            speaker.problem(str(error))
        except OSError as error:
            speaker.problem(f"{source.name}: {error.strerror or error}")
        else:
            told_damage(source.name, reader.damage, speaker)
            read.append((number, source, linktypes))
        meter.done(source.size)
    take(early.rest())
    return [(source, chosen.of(number, linktypes)) for number, source, linktypes in read]


class _Places:
    """Times and places of packets of several files, in whatever order they come."""

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def add(self, packets: Packets, mask: NDArray[np.bool_]) -> None:
        self._parts.append((packets["time"][mask], packets["place"][mask]))

    def of(self, number: int, linktypes: _LinkTypes) -> Chosen:
        """Those of one file in its order."""
        time, piece, offset = self._ordered
        some = slice(*np.searchsorted(piece, [number, number + 1]))
        return Chosen(time[some], offset[some], linktypes.of(offset[some]))

    @cached_property
    def _ordered(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        times, places = zip(*self._parts, strict=True)
        place = np.concatenate(places)
        order = np.argsort(place, kind="stable")
        place = place[order]
        return np.concatenate(times)[order], place >> PLACE_BITS, place & ((1 << PLACE_BITS) - 1)


class _LinkTypes:
    """The link types of a file's records, of which there are few or one."""

    def __init__(self) -> None:
        self._offsets: list[NDArray[np.int64]] = []
        self._kinds: list[NDArray[Any]] = []

    def add(self, block: RecordBlock) -> None:
        """Take a block's: where another begins."""
        begin = np.flatnonzero(run_starts(block.linktype))
        self._offsets.append(block.offset[begin])
        self._kinds.append(block.linktype[begin])

    def of(self, offset: NDArray[np.int64]) -> frozenset[int]:
        """The link types of records at these offsets."""
        if not len(offset):
            return frozenset()
        at = np.searchsorted(np.concatenate(self._offsets), offset, side="right") - 1
        return frozenset(np.unique(np.concatenate(self._kinds)[at]).tolist())


def _in_time_order(selection: Sequence[tuple[Source, Chosen]]) -> Iterator[Record]:
    """Second pass: the chosen records of all files by time, ties by file and offset.

    The first pass knows which record is next and in which file; that file is read on until it comes, and what comes
    earlier than its turn waits. Captures are almost in order, so little waits and few files are open at once.
    """
    time = np.concatenate([chosen.time for _, chosen in selection])
    file = np.repeat(np.arange(len(selection)), [len(chosen.time) for _, chosen in selection])
    order = np.argsort(time, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    readers = [_read_again(source, chosen, rank[file == number]) for number, (source, chosen) in enumerate(selection)]
    waiting: dict[int, Record] = {}
    for turn, number in enumerate(file[order].tolist()):
        while turn not in waiting:
            at, record = next(readers[number])
            waiting[at] = record
        yield waiting.pop(turn)


def _read_again(source: Source, chosen: Chosen, ranks: NDArray[np.int64]) -> Iterator[tuple[int, Record]]:
    """The chosen records of one file as they lie in it, each with its rank. Raises CaptureError if the file changed."""
    done = 0
    with source.open() as stream:
        for block in open_capture(stream, source.name).blocks():
            # Offsets ascend in a file and in a block, so the block's share of the chosen ones is one stretch.
            upto = int(np.searchsorted(chosen.offset, block.offset[-1], side="right"))
            index = np.searchsorted(block.offset, chosen.offset[done:upto])
            if not np.array_equal(block.offset[index], chosen.offset[done:upto]):
                break
            for i, rank in zip(index.tolist(), ranks[done:upto].tolist(), strict=True):
                yield rank, Record(source, block, i)
            done = upto
            if done == len(ranks):
                return
    raise CaptureError(source.name, int(chosen.offset[done]), "the file changed while it was read; read it again")


def _spare_inputs(target: str, found: Sequence[Source]) -> None:
    """Raises RequestError if the capture to be written is one of those to be read."""
    if target != STDIN and os.path.exists(target):  # noqa: PTH110 - samefile and exists on what the person wrote
        for source in found:
            if os.path.samefile(target, source.path):  # noqa: PTH121
                raise RequestError(f"--write {target}: this is the capture {source.name} itself")


def _write(target: str, records: Iterator[Record], linktypes: set[int]) -> int:
    """Write the records as one pcap; how many. A file appears under its name only when it is whole."""
    if len(linktypes) > 1:
        kinds = ", ".join(map(str, sorted(linktypes)))
        raise RequestError(
            f"--write {target}: a pcap has one link type and the packets have several link types ({kinds}): "
            "filter, or name fewer files"
        )
    linktype = min(linktypes, default=1)
    if target == STDIN:
        return _write_records(sys.stdout.buffer, records, linktype)
    path = Path(target)
    if path.exists() and not path.is_file():  # a pipe or a device is written where it stands
        with path.open("wb") as stream:
            return _write_records(stream, records, linktype)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        stream = unfinished.open("xb")
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from error  # under the name that the person gave
    try:
        with stream:
            count = _write_records(stream, records, linktype)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return count


def _write_records(stream: BinaryIO, records: Iterator[Record], linktype: int) -> int:
    writer = PcapWriter(stream, linktype)
    count = 0
    for record in records:
        try:
            writer.write(record.time, record.data, int(record.block.wirelen[record.index]))
        except ValueError as error:
            offset = int(record.block.offset[record.index])
            raise RequestError(f"{record.source.name}: byte {offset}: cannot be written: {error}") from error
        count += 1
    stream.flush()
    return count
