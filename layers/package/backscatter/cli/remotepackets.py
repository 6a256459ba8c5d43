"""Packets of a deployed store's captures: by their places in the objects, or from copies of whole objects."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backscatter.cli import remote
from backscatter.cli.source import Source
from backscatter.cli.terminal import Meter
from backscatter.decode.columns import PLACE_BITS
from backscatter.errors import BackscatterError, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack

    from numpy.typing import NDArray

    from backscatter.capture.record import RecordBlock
    from backscatter.cli.terminal import Speaker
    from backscatter.cloud.stack import Stack
    from backscatter.flow.filter import Filter
    from backscatter.flow.table import FlowTable
    from backscatter.store.catalogue import Entry

#: Packets that are read one by one; more are better read from whole captures.
MOST_PACKETS = 50_000

_STEP = 1 << 20


def remote_packets(
    stack_name: str, wanted: Filter, speaker: Speaker, most_items: int
) -> Iterator[tuple[str, RecordBlock]]:
    """(capture, one-record block) of the first packets of every flow that the filter leaves, capture by capture."""
    from backscatter.cloud.evidence import read_records  # noqa: PLC0415
    from backscatter.cloud.remote import told  # noqa: PLC0415

    stack = remote.opened(stack_name)
    search, table = remote.find(stack, wanted, speaker, most_items)
    places = offsets_of(table)
    if sum(map(len, places.values())) > MOST_PACKETS:
        raise RequestError(f"these are more than {MOST_PACKETS} packets: narrow it, or use --whole")
    entries = {entry.census.piece: entry for entry in search.entries}
    for piece, offsets in places.items():
        entry = entries[piece]
        if compression := entry.layout.get("compression"):
            speaker.note(f"{piece}: is compressed ({compression}) and has to be read through")
        reads: list[int] = []
        try:
            with told():
                found = read_records(stack, entry, offsets.tolist(), reads.append)
        except BackscatterError as error:
            speaker.problem(f"{piece}: its packets cannot be read: {error}")
            continue
        if len(found) < len(offsets):
            speaker.problem(f"{piece}: {len(offsets) - len(found)} packets are not where the store says")
        speaker.note(f"{piece}: {len(found)} packets in {len(reads)} reads of {sum(reads)} bytes")
        yield from ((piece, block) for block in found.values())
    rest = int((table.rows["src_packets"] + table.rows["dst_packets"]).sum()) - sum(map(len, places.values()))
    if rest > 0:
        speaker.note(f"{rest} more packets of these flows are behind the first four of a side: --whole shows them")


def offsets_of(table: FlowTable) -> dict[str, NDArray[np.int64]]:
    """Where the first packets of the flows are: offsets by capture, each once, ascending."""
    places = np.concatenate([table.rows[f"{side}_places"].ravel() for side in ("src", "dst")])
    places = np.unique(places[places >= 0])
    piece = places >> PLACE_BITS
    offsets = places & ((1 << PLACE_BITS) - 1)
    return {table.pieces[number]: offsets[piece == number] for number in np.unique(piece).tolist()}


def copies(stack_name: str, wanted: Filter, speaker: Speaker, most_items: int, stack: ExitStack) -> list[Source]:
    """Copies of the captures that hold flows which the filter leaves, in a folder that goes when `stack` is closed."""
    from backscatter.cloud.remote import told  # noqa: PLC0415

    deployed = remote.opened(stack_name)
    search, table = remote.find(deployed, wanted, speaker, most_items)
    held = offsets_of(table)
    entries = [entry for entry in search.entries if entry.census.piece in held]
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backscatter-")))
    found = []
    with Meter("copying captures", len(entries), of_bytes=False) as meter:
        for number, entry in enumerate(entries):
            path = folder / str(number)
            try:
                with told():
                    size = _copy(deployed, entry, path)
            except BackscatterError as error:
                speaker.problem(f"{entry.census.piece}: cannot be read: {error}")
                continue
            found.append(Source(entry.census.piece, path, size))
            meter.at(number + 1)
    if found:
        speaker.note(f"{len(found)} captures of {sum(source.size for source in found)} bytes were read through")
    return found


def _copy(deployed: Stack, entry: Entry, path: Path) -> int:
    from backscatter.cloud.objects import ObjectName, open_object  # noqa: PLC0415

    source = entry.source
    stream, reader = open_object(deployed.s3, ObjectName.identified(source.bucket, source.key, source.version))
    with reader, path.open("wb") as copy:
        while some := reader.read(_STEP):
            copy.write(some)
    return stream.size
