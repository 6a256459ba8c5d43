"""The catalogue: which captures there are, what they vouch for, and where their segments lie.

A capture is listed under every UTC day that it touches, so that a window is answered by the partitions of its days.
In a day, captures of at most an hour stand by their start behind `S`, longer ones behind `L`: a window reads the short
ones that start within an hour before it, and the few long ones.

    pk  catalogue#GROUP#2007-03-20
    sk  S#START#CAPTURE or L#START#CAPTURE, START in ns with 20 digits

Hours of many captures are rolled up besides (`store.rollup`).

A capture whose clock is implausible is listed under the day of its first packet only: it proves no coverage anywhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.errors import RequestError, StoreError
from backscatter.flow.census import Census, ScopeCensus
from backscatter.flow.record import rfc3339
from backscatter.store.filing import MOST_BUCKETS, MOST_PARTS, Shelves
from backscatter.store.frame import squeeze
from backscatter.store.hosts import Bloom
from backscatter.store.items import EXPIRES
from backscatter.store.rollup import ENOUGH, entries_in, expand_record, roll_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from backscatter.flow.window import Window
    from backscatter.store.items import Items

SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR

#: Layout of the `record` attribute.
RECORD = 1
#: Scopes and holes of a census that an entry has room for.
MOST_SCOPES = 5000
MOST_HOLES = 1000
#: Parts that the flows of one capture are stored in.
MOST_PARTED = 4096
#: Days that one query may ask for.
MOST_DAYS = 400
#: Scopes that an entry names for people.
_SCOPES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class CaptureObject:
    """An object of the capture bucket.

    version   its version id, or its etag where the bucket keeps no versions
    modified  when it was last modified, ns; of several versions of a key the latest counts
    """

    bucket: str
    key: str
    version: str
    modified: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed capture.

    capture     id: names its segments
    group       sensors that are asked together
    source      the object that it was read from
    census      what it says of itself
    layout      what is needed to read a record by its offset (`capture.layout.Layout.to_json`)
    shelves     where its segments lie
    hosts       filter of the hosts that its flows and quotes name
    flows       how many
    expires_at  seconds since 1970-01-01 UTC
    parts       in how many parts the flows of a shared-out capture are stored; 0 where they are stored together. Every
                part has shelves and a filter of its own (`store.captures.volumes`), those of the entry say nothing
    """

    capture: str
    group: str
    source: CaptureObject
    census: Census
    layout: Mapping[str, Any]
    shelves: Shelves
    hosts: Bloom
    flows: int
    expires_at: int
    parts: int = 0

    @property
    def keys(self) -> list[tuple[str, str]]:
        """The keys under which it is listed."""
        return listing_keys(self.capture, self.group, self.census)


def listing_keys(capture: str, group: str, census: Census) -> list[tuple[str, str]]:
    """The keys under which a capture is listed."""
    span = census.end - census.start
    kind = "S" if span <= HOUR and census.clock_ok else "L"
    last = census.end if census.clock_ok else census.start
    days = range(census.start // DAY, last // DAY + 1)
    return [(_partition(group, day), f"{kind}#{_stamp(census.start)}#{capture}") for day in days]


def bounded(census: Census) -> Census:
    """The census, made to fit an entry on the safe side: what is cut off covers less than before, never more."""
    notes = list(census.notes)
    if len(census.holes) > MOST_HOLES:
        hull = (min(after for after, _ in census.holes), max(before for _, before in census.holes))
        notes.append(f"{len(census.holes)} stretches of damage are kept as one")
        census = dataclasses.replace(census, holes=(hull,))
    if len(census.scopes) > MOST_SCOPES:
        notes.append(f"only {MOST_SCOPES} of {len(census.scopes)} scopes are kept: this capture proves no coverage")
        kept = sorted(census.scopes.items(), key=lambda scope: -scope[1].packets)[:MOST_SCOPES]
        census = dataclasses.replace(census, scopes=dict(kept), holes=((census.start, census.end),))
    return dataclasses.replace(census, notes=tuple(notes)) if len(notes) > len(census.notes) else census


def to_items(entry: Entry, talkers: tuple[str, ...] = ()) -> list[dict[str, object]]:
    """The items that list a capture, one a day. What people look at stands beside the record that is read."""
    census = entry.census
    record: dict[str, Any] = {
        "source": dataclasses.asdict(entry.source),
        "census": _census_record(census),
        "layout": entry.layout,
        "runs": entry.shelves.runs,
    }
    if entry.parts:
        record["parts"] = entry.parts
    common: dict[str, object] = {
        "layout": RECORD,
        "record": squeeze(json.dumps(record, separators=(",", ":")).encode()),
        "hosts": entry.hosts.bits,
        "probes": entry.hosts.probes,
        "capture": entry.capture,
        "group": entry.group,
        "flows": entry.flows,
        "piece": census.piece,
        "sensor": census.sensor,
        "first": rfc3339(census.start),
        "last": rfc3339(census.end),
        "packets": census.packets,
        "scopes": list(census.scopes)[:_SCOPES_SHOWN],
        "talkers": list(talkers),
        EXPIRES: entry.expires_at,
    }
    return [{"pk": pk, "sk": sk, **common} for pk, sk in entry.keys]


def from_item(item: Mapping[str, Any]) -> Entry:
    """The capture that an item lists, or a roll-up of it. Raises StoreError where it is damaged."""
    where = f"{item.get('pk')} {item.get('sk')}"
    if item.get("layout") != RECORD:
        raise StoreError(f"{where}: catalogue layout {item.get('layout')}, this version reads {RECORD}")
    try:
        record = item["record"] if isinstance(item["record"], dict) else json.loads(expand_record(item))
        return Entry(
            capture=item["capture"],
            group=item["group"],
            source=CaptureObject(**record["source"]),
            census=_census(record["census"]),
            layout=record["layout"],
            shelves=shelves_of(record["runs"]),
            hosts=Bloom(item["hosts"], item["probes"]).check(),
            flows=item["flows"],
            expires_at=item[EXPIRES],
            parts=_bounded_parts(record.get("parts", 0)),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{where}: the catalogue entry cannot be read: {error!r}") from error


def listed(items: Items, group: str, window: Window, *, may_write: bool = False) -> list[Entry]:
    """The captures of a group that overlap the window, by start.

    Of several versions of one object only the latest is given. With `may_write`, hours of many entries are rolled up,
    for whoever reads them next. Raises RequestError for a window of more than MOST_DAYS.
    """
    days = range(window.start // DAY, window.end // DAY + 1)
    if len(days) > MOST_DAYS:
        raise RequestError(
            f"the window {rfc3339(window.start)} to {rfc3339(window.end)} is longer than {MOST_DAYS} days"
        )
    found: dict[str, Entry] = {}
    for day in days:
        for item in _of_day(items, _partition(group, day), window, may_write=may_write):
            if str(item.get("capture")) not in found:
                entry = from_item(item)
                found[entry.capture] = entry
    latest: dict[tuple[str, str], Entry] = {}
    for entry in sorted(found.values(), key=lambda entry: (entry.source.modified, entry.source.version)):
        latest[entry.source.bucket, entry.source.key] = entry
    overlapping = (e for e in latest.values() if e.census.start <= window.end and e.census.end >= window.start)
    return sorted(overlapping, key=lambda entry: (entry.census.start, entry.capture))


def _of_day(items: Items, pk: str, window: Window, *, may_write: bool) -> Iterator[Mapping[str, Any]]:
    yield from items.query(pk, "L#", f"L#{_stamp(window.end)}#~")
    first, last = window.start - HOUR, window.end
    short = f"S#{_stamp(first)}", f"S#{_stamp(last)}#~"
    rolled: dict[str, dict[str, Any]] = {}
    for item in items.query(pk, f"R#{_hour(first)}", f"R#{_stamp(last)}#~"):
        # One that cannot be read says nothing, and nothing is lost: its entries are loose.
        with contextlib.suppress(StoreError):
            rolled |= entries_in(item)
    loose: list[dict[str, Any]] = []
    if rolled:
        keys = list(items.keys(pk, *short))
        loose = items.get_all([(pk, sk) for sk in keys if sk not in rolled])
        yield from (rolled[sk] for sk in keys if sk in rolled)
    else:
        loose = list(items.query(pk, *short))
    yield from loose
    if may_write:
        items.put_all(_rolled_up(pk, loose))


def _rolled_up(pk: str, loose: Iterable[dict[str, Any]]) -> Iterator[dict[str, object]]:
    hours: dict[str, list[dict[str, Any]]] = {}
    for item in loose:
        hours.setdefault(_hour(int(str(item["sk"]).split("#")[1])), []).append(item)
    for hour, some in hours.items():
        if len(some) >= ENOUGH:
            yield from roll_up(pk, hour, some)


def _hour(time: int) -> str:
    return _stamp(time // HOUR * HOUR)


def _partition(group: str, day: int) -> str:
    return f"catalogue#{group}#{np.datetime64(day, 'D')}"


def _stamp(time: int) -> str:
    return f"{max(0, time):020d}"


def _census_record(census: Census) -> dict[str, Any]:
    record = {field.name: getattr(census, field.name) for field in dataclasses.fields(census)}
    return record | {"scopes": {name: dataclasses.astuple(scope) for name, scope in census.scopes.items()}}


def _census(record: dict[str, Any]) -> Census:
    return Census(
        **record
        | {
            "scopes": {str(name): _scope(scope) for name, scope in record["scopes"].items()},
            "holes": tuple((int(after), int(before)) for after, before in record["holes"]),
            "notes": tuple(record["notes"]),
        }
    )


def shelves_of(runs: list[list[int]]) -> Shelves:
    """Shelves as they were written. Raises StoreError where there are more buckets or parts than there can be."""
    if not 1 <= len(runs) <= MOST_BUCKETS or not all(1 <= len(parts) <= MOST_PARTS for parts in runs):
        raise StoreError(f"a catalogue entry lists {len(runs)} buckets")
    return Shelves(tuple(tuple(int(count) for count in parts) for parts in runs))


def _bounded_parts(parts: int) -> int:
    if not 0 <= parts <= MOST_PARTED:
        raise StoreError(f"a catalogue entry lists {parts} parts")
    return parts


def _scope(record: list[Any]) -> ScopeCensus:
    """The census of a scope; entries that were made before there were slices have none."""
    packets, first, last, segments, lost, *more = record
    slices = tuple((begin, seen, missed) for begin, seen, missed in more[0]) if more else ()
    return ScopeCensus(packets, first, last, segments, lost, slices)
