"""Putting a capture into the store: its segments first, then its listing, then the record that it is done.

Everything follows from the object and its flows, so a redelivered event writes the same items again, and whoever is
killed on the way leaves nothing that is listed and not wholly there.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from backscatter.decode.columns import NOWHERE, PLACE_BITS
from backscatter.errors import StoreError
from backscatter.flow.record import rfc3339
from backscatter.store import segments
from backscatter.store.catalogue import CaptureObject, Entry, bounded, from_item, listing_keys, shelves_of, to_items
from backscatter.store.cost import Cost, Meter
from backscatter.store.filing import Filing, Shelves
from backscatter.store.frame import expand, squeeze
from backscatter.store.hosts import Bloom, HostHash
from backscatter.store.items import EXPIRES
from backscatter.store.layout import SCHEMA
from backscatter.store.memory import MemoryItems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from backscatter.flow.census import Census
    from backscatter.flow.table import FlowTable
    from backscatter.store.filing import Segment
    from backscatter.store.items import Items


#: What `declare` costs: ingest writes an intent first (`store.cleaning`). Its bytes vary with the name of the object.
INTENT = Cost(items=1, bytes=350, write_units=1)

#: Told what is about to be written: how many parts each bucket has, and the keys of the listing, if it comes next.
Declare: TypeAlias = "Callable[[Sequence[int], Sequence[tuple[str, str]]], None]"

#: Bytes of a part's record, expanded.
_RECORD_LARGEST = 16 << 20


class Stored(NamedTuple):
    """What became of a capture: `new` is False where it was listed before, and then nothing was written."""

    capture: str
    new: bool
    cost: Cost


class Volume(NamedTuple):
    """Segments that were written together: all of a capture, or one part of a capture that was shared out.

    name     what the keys of its segments begin with
    shelves  where they lie
    hosts    filter of the hosts that their flows and quotes name
    """

    name: str
    shelves: Shelves
    hosts: Bloom


def volumes(items: Items, entry: Entry) -> list[Volume | None]:
    """The volumes that hold the flows of a capture; None for one that is missing, which is a hole.

    Nothing is read for a capture that was stored together. Raises StoreError where a record is damaged.
    """
    if not entry.parts:
        return [Volume(entry.capture, entry.shelves, entry.hosts)]
    keys = [part_key(entry.capture, part) for part in range(entry.parts)]
    found = {(str(item["pk"]), str(item["sk"])): item for item in items.get_all(keys)}
    return [_volume(entry.capture, part, found.get(key)) for part, key in enumerate(keys)]


def part_name(capture: str, part: int) -> str:
    """What the keys of the segments of a part begin with."""
    return f"{capture}.{part}"


def part_key(capture: str, part: int) -> tuple[str, str]:
    """The key of the record of a part."""
    return f"capture#{capture}", f"part#{part:06d}"


def part_item(
    capture: str, part: int, filing: Filing, *, losses: Mapping[str, Any], flows: int, expires_at: int
) -> dict[str, object]:
    """The record of a part whose segments are all written: `losses` by scope, as `flow.census` counts them."""
    pk, sk = part_key(capture, part)
    record = {"runs": filing.shelves.runs, "losses": losses, "talkers": filing.talkers()}
    return {
        "pk": pk,
        "sk": sk,
        "record": squeeze(json.dumps(record, separators=(",", ":")).encode()),
        "hosts": filing.bloom.bits,
        "probes": filing.bloom.probes,
        "flows": flows,
        EXPIRES: expires_at,
    }


class Part(NamedTuple):
    """The record of a part that is stored: how many flows, their losses by scope, and its busiest hosts."""

    flows: int
    losses: Mapping[str, Any]
    talkers: tuple[str, ...]


def put_part(
    items: Items,
    key: bytes,
    capture: str,
    part: int,
    table: FlowTable,
    *,
    losses: Mapping[str, Any],
    expires_at: int,
    declare: Declare = lambda *_: None,
) -> None:
    """Store the flows of one part of a capture, and then its record; `declare` as of `put_capture`."""
    filing = Filing(table, HostHash(key))
    name = part_name(capture, part)
    (piece,) = table.pieces
    segments_of = _declared(filing, lambda shelves: declare(shelves, ()), _segments_as_items(name, piece, expires_at))
    items.put_all(segments_of)
    items.put_all([part_item(capture, part, filing, losses=losses, flows=len(table), expires_at=expires_at)])


def stored_parts(items: Items, capture: str, count: int) -> dict[int, Part]:
    """Those of `count` parts that are stored. Raises StoreError where a record is damaged."""
    keys = {part_key(capture, part): part for part in range(count)}
    found: dict[int, Part] = {}
    for item in items.get_all(list(keys)):
        record, flows = part_record(item), item["flows"]
        assert isinstance(flows, int)
        found[keys[str(item["pk"]), str(item["sk"])]] = Part(flows, record["losses"], tuple(record["talkers"]))
    return dict(sorted(found.items()))


def list_parts(
    items: Items,
    parts: Mapping[int, Part],
    census: Census,
    source: CaptureObject,
    *,
    group: str,
    layout: Mapping[str, Any],
    expires_at: int,
    declare: Declare = lambda *_: None,
) -> None:
    """List a capture all of whose parts are stored; for the arguments see `put_capture`."""
    flows = sum(part.flows for part in parts.values())
    nothing, everyone = Shelves(((0,),)), Bloom(b"", 0)  # the parts know
    entry = Entry(
        capture_id(source), group, source, bounded(census), layout, nothing, everyone, flows, expires_at, len(parts)
    )
    declare((), entry.keys)
    busiest = max(parts.values(), key=lambda part: part.flows)
    items.put_all(to_items(entry, busiest.talkers))
    items.put_all([_done_item(entry)])


def _declared(
    filing: Filing,
    declare: Callable[[Sequence[int]], None],
    as_item: Callable[[Segment], Mapping[str, object]],
) -> Iterator[Mapping[str, object]]:
    """The segments as items; how many parts each bucket has is declared ahead of the first."""
    declared = False
    for segment in filing.segments():
        if not declared:
            declare([len(parts) for parts in filing.shelves.runs])
            declared = True
        yield as_item(segment)


def part_record(item: Mapping[str, Any]) -> dict[str, Any]:
    """What `part_item` wrote of runs, losses and talkers. Raises StoreError where it is damaged."""
    try:
        record: dict[str, Any] = json.loads(expand(item["record"], _RECORD_LARGEST))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{item.get('pk')} {item.get('sk')}: the record cannot be read: {error!r}") from error
    return record


def _volume(capture: str, part: int, item: Mapping[str, Any] | None) -> Volume | None:
    if item is None:
        return None
    record = part_record(item)
    try:
        shelves, hosts = shelves_of(record["runs"]), Bloom(item["hosts"], item["probes"]).check()
    except (KeyError, TypeError) as error:
        raise StoreError(f"{item.get('pk')} {item.get('sk')}: the record cannot be read: {error!r}") from error
    return Volume(part_name(capture, part), shelves, hosts)


def capture_id(source: CaptureObject) -> str:
    """The id of the flows of an object: another version of it, or another layout of segments, has another one."""
    facts = [segments.LAYOUT, SCHEMA, source.bucket, source.key, source.version]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def is_listed(items: Items, source: CaptureObject) -> bool:
    """Whether the object is wholly in the store: then it need not even be read again."""
    return bool(all_listed(items, [source]))


def all_listed(items: Items, sources: Sequence[CaptureObject]) -> set[CaptureObject]:
    """Which of the objects are wholly in the store."""
    keys = {_done_key(capture_id(source)): source for source in sources}
    return {keys[str(item["pk"]), str(item["sk"])] for item in items.get_all(list(keys))}


def find_capture(items: Items, capture: str) -> Entry | None:
    """The catalogue entry of a capture, by its id; None where it is not listed. Raises StoreError for a damaged one."""
    for done in items.get_all([_done_key(capture)]):
        listing: Any = done["listing"]
        for item in items.get_all([(str(listing[0]), str(listing[1]))]):
            return from_item(item)
    return None


def relist(items: Items, keys: Sequence[tuple[str, str]]) -> bool:
    """Finish the listing of a capture that was begun: whether it was. All else of it is there by then."""
    for item in items.get_all(list(keys)):
        entry, talkers = from_item(item), item["talkers"]
        assert isinstance(talkers, list)
        items.put_all(to_items(entry, tuple(talkers)))
        items.put_all([_done_item(entry)])
        return True
    return False


def put_capture(
    items: Items,
    key: bytes,
    table: FlowTable,
    census: Census,
    source: CaptureObject,
    *,
    group: str,
    layout: Mapping[str, Any],
    expires_at: int,
    declare: Declare | None = None,
) -> Stored:
    """Store the flows of one capture and list it.

    key         the deployment's: hosts are hashed under it
    group       sensors that are asked together
    layout      `capture.layout.Layout.to_json()`: kept for reading single records
    expires_at  when the items may go, seconds since 1970-01-01 UTC
    declare     is told, before anything is written, how many parts each bucket has, and the keys under which the
                capture will be listed: whoever cleans up has to know them

    The table has one sensor and one piece, those of the census. Raises ValueError where it has more.
    """
    capture = capture_id(source)
    if is_listed(items, source):
        return Stored(capture, new=False, cost=Cost(items=0, bytes=0, write_units=0))
    filing = Filing(table, HostHash(key))
    meter = Meter()
    entry_keys = listing_keys(capture, group, census)
    segments_of = _declared(
        filing,
        lambda shelves: declare(shelves, entry_keys) if declare else None,
        _segments_as_items(capture, census.piece, expires_at),
    )
    items.put_all(meter.pass_on(segments_of))
    entry = Entry(capture, group, source, bounded(census), layout, filing.shelves, filing.bloom, len(table), expires_at)
    items.put_all(meter.pass_on(to_items(entry, filing.talkers())))
    items.put_all(meter.pass_on([_done_item(entry)]))
    return Stored(capture, new=True, cost=_with_intent(meter.cost) if declare else meter.cost)


def store_cost(table: FlowTable, *censuses: Census) -> Cost:
    """What `put_capture` would write for these flows, by packing them: one capture for each census.

    A table of several pieces is taken apart by the piece of each flow's first packet. Ingest reads every capture by
    itself and cuts conversations that lie in several, so it writes somewhat more for those.
    """
    total = Cost(items=0, bytes=0, write_units=0)
    for census in censuses:
        part = _of_piece(table, table.pieces.index(census.piece)) if len(table.pieces) > 1 else table
        source = CaptureObject("bucket", census.piece, "0" * 32)
        cost = put_capture(
            MemoryItems(), bytes(16), part, census, source, group="default", layout={}, expires_at=2**31
        ).cost
        cost = _with_intent(cost)
        total["items"] += cost["items"]
        total["bytes"] += cost["bytes"]
        total["write_units"] += cost["write_units"]
    return total


def _with_intent(cost: Cost) -> Cost:
    return Cost(
        items=cost["items"] + INTENT["items"],
        bytes=cost["bytes"] + INTENT["bytes"],
        write_units=cost["write_units"] + INTENT["write_units"],
    )


def segment_key(capture: str, bucket: int, part: int, run: int) -> tuple[str, str]:
    """The key of an item. Bucket and part stand in the partition key, so that a heavy host loads many partitions."""
    return f"flows#{capture}#{bucket}#{part}", f"{run:04d}"


def _segments_as_items(name: str, piece: str, expires_at: int) -> Callable[[Segment], dict[str, object]]:
    return lambda segment: _segment_item(name, piece, expires_at, segment)


def _segment_item(capture: str, piece: str, expires_at: int, segment: Segment) -> dict[str, object]:
    pk, sk = segment_key(capture, segment.bucket, segment.part, segment.run)
    return {
        "pk": pk,
        "sk": sk,
        "data": segment.data,
        "piece": piece,
        "flows": segment.flows,
        "packets": segment.packets,
        "first": rfc3339(segment.start),
        "last": rfc3339(segment.end),
        "talkers": list(segment.talkers),
        EXPIRES: expires_at,
    }


def _done_key(capture: str) -> tuple[str, str]:
    return f"capture#{capture}", "listed"


def _done_item(entry: Entry) -> dict[str, object]:
    pk, sk = _done_key(entry.capture)
    return {
        "pk": pk,
        "sk": sk,
        "piece": entry.census.piece,
        "group": entry.group,
        "listing": list(entry.keys[0]),
        EXPIRES: entry.expires_at,
    }


def _of_piece(table: FlowTable, piece: int) -> FlowTable:
    """The flows that begin in a piece, as if it were a capture of its own: packets in other pieces are forgotten."""
    part = table.select(table.rows["src_places"][:, 0] >> PLACE_BITS == piece)
    offsets = (1 << PLACE_BITS) - 1
    for places in (part.rows["src_places"], part.rows["dst_places"], part.quotes["place"]):
        places[:] = np.where(places >> PLACE_BITS == piece, places & offsets, NOWHERE)
    part.pieces = (table.pieces[piece],)
    return part
