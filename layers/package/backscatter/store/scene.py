"""What a judge sees of the store: the flows and witnesses around a finding, read from as few items as will do.

A missing item is a *hole*: from then on its capture is a witness of nothing, and whoever asked for censuses before that
came to light is told by `Hole` to look again. `look` does so.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from backscatter.errors import Hole, RequestError, StoreError
from backscatter.flow.read import group_sensors
from backscatter.flow.table import FLOW, FLOW_QUOTE, FlowTable
from backscatter.flow.window import Window
from backscatter.store import segments
from backscatter.store.captures import segment_key, volumes
from backscatter.store.catalogue import DAY, HOUR, listed
from backscatter.store.hosts import HostHash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from backscatter.flow.address import Address
    from backscatter.flow.census import Census
    from backscatter.store.captures import Volume
    from backscatter.store.catalogue import Entry
    from backscatter.store.items import Items

T = TypeVar("T")

#: Flows that one scene reads at most. A judge holds each in some 2 KB: a busy server has millions in a day.
MOST_FLOWS = 500_000
#: Items that are read before they are counted.
_TOGETHER = 25

#: How far (ns) captures of one sensor may overlap: its packets cross at a rotation, by less than what is a hole.
CROSSING = 2 * 10**9

#: Where an item lies: volume, bucket, part, run.
Place = tuple[str, int, int, int]


class StoredScene:
    """`verdict.scene.Scene` over the store, for the sensors of one group.

    It remembers what it read: make one for a finding *after* the finding was remembered, so that a capture is either
    in the scene or finds the finding waiting. Raises StoreError where what is stored cannot be read, RequestError where
    there is more of it than `most_flows`. With `may_write` it rolls up hours of many captures that it reads.
    """

    def __init__(
        self, items: Items, key: bytes, group: str, most_flows: int = MOST_FLOWS, *, may_write: bool = False
    ) -> None:
        self._may_write = may_write
        self._items = items
        self._most_flows = most_flows
        self._held = 0
        self._hash = HostHash(key)
        self._group = group
        self._listed: list[tuple[Window, list[Entry]]] = []
        self._segments: dict[Place, FlowTable] = {}
        self._volumes: dict[str, list[Volume]] = {}
        self._holes: dict[str, int] = {}
        self._incomplete: list[Entry] = []  # captures of which a whole volume is missing, since the last reading
        self._vouched: set[str] = set()

    def flows_of(self, hosts: Iterable[Address], window: Window) -> FlowTable:
        """Every flow in the window that has one of the hosts at either end, or that quotes a packet sent by one.

        A flow that is found by what it quotes alone has these quotes; all others have all of theirs.
        """
        wanted = list(dict.fromkeys(hosts))
        hashes = self._hash.addresses(wanted)
        places = []
        for entry in self._entries(window):
            wanted_here: set[Place] = set()
            for volume in self._volumes_of(entry):
                can = hashes[volume.hosts.holds(hashes)]
                wanted_here |= {(volume.name, *at) for host in can for at in volume.shelves.items_of(int(host))}
            places.append((entry, wanted_here))
        return self._flows(places, window, lambda table: _touches(table, wanted))

    def flows_between(self, ones: Iterable[Address], others: Iterable[Address], window: Window) -> FlowTable:
        """Every flow in the window between one of `ones` and one of `others`, and errors that quote such a packet."""
        left, right = list(dict.fromkeys(ones)), list(dict.fromkeys(others))
        left_hashes, right_hashes = self._hash.addresses(left), self._hash.addresses(right)
        places = []
        for entry in self._entries(window):
            wanted_here: set[Place] = set()
            for volume in self._volumes_of(entry):
                here, there = (some[volume.hosts.holds(some)] for some in (left_hashes, right_hashes))
                pairs = [(int(one), int(other)) for one in here for other in there]
                wanted_here |= {(volume.name, *at) for pair in pairs for at in volume.shelves.items_between(*pair)}
            places.append((entry, wanted_here))
        return self._flows(places, window, lambda table: _joins(table, left, right))

    def censuses(self, window: Window) -> list[Census]:
        """The captures that overlap the window or the 24 hours before its end, of every sensor of the group.

        Also of sensors that fell silent before the window: a collector that carried the scope yesterday and has nothing
        now is what a judge must know of.
        """
        entries = self._entries(Window(min(window.start, window.end - DAY), window.end))
        self._vouched.update(entry.capture for entry in entries)
        return [self._census(entry) for entry in entries]

    def entry(self, piece: str) -> Entry | None:
        """The catalogue entry of a capture that this scene has read of, by the name that its flows give it."""
        return next((e for _, entries in self._listed for e in entries if e.census.piece == piece), None)

    def _entries(self, window: Window) -> list[Entry]:
        for read, entries in self._listed:
            if read.start <= window.start and window.end <= read.end:
                return [e for e in entries if e.census.start <= window.end and e.census.end >= window.start]
        # A judge asks for the day before and the hour around sooner or later: one reading serves all that it asks.
        wide = Window(window.start - DAY - HOUR, window.end + HOUR)
        self._listed.append((wide, told_apart(listed(self._items, self._group, wide, may_write=self._may_write))))
        return self._entries(window)

    def _volumes_of(self, entry: Entry) -> list[Volume]:
        """The volumes of a capture that are there; each that is missing is a hole."""
        if entry.capture not in self._volumes:
            found = volumes(self._items, entry)
            there = self._volumes[entry.capture] = [volume for volume in found if volume]
            if missing := len(found) - len(there):
                self._holes[entry.capture] = self._holes.get(entry.capture, 0) + missing
                self._incomplete.append(entry)
        return self._volumes[entry.capture]

    def _census(self, entry: Entry) -> Census:
        census, missing = entry.census, self._holes.get(entry.capture, 0)
        if not missing:
            return census
        note = f"{missing} items of this capture are missing from the store"
        # A hole and not a forgotten witness: that this sensor carried the scope must go on counting.
        holes = (*census.holes, (census.start, census.end))
        return dataclasses.replace(census, holes=holes, notes=(*census.notes, note))

    def _flows(
        self,
        places: Sequence[tuple[Entry, set[Place]]],
        window: Window,
        which: Callable[[FlowTable], NDArray[np.bool_]],
    ) -> FlowTable:
        self._fetch(places)
        found = []
        for _, wanted in places:
            tables = [self._segments[place] for place in sorted(wanted)]
            kept = [table.select(_overlaps(table, window) & which(table)) for table in tables]
            kept = [table for table in kept if len(table)]
            if kept:
                found.append(once(FlowTable.joined(kept)) if len(kept) > 1 else kept[0])
        return FlowTable.joined(found)

    def _fetch(self, places: Sequence[tuple[Entry, set[Place]]]) -> None:
        """Read what is not read yet. Raises Hole where an item is missing whose capture was vouched for."""
        wanted = {
            segment_key(*place): (entry, place)
            for entry, some in places
            for place in sorted(some)
            if place not in self._segments
        }
        gone = self._incomplete
        self._incomplete = []
        for some in batches(list(wanted)):
            items = {(item["pk"], item["sk"]): item for item in self._items.get_all(some)}
            for at in some:
                entry, place = wanted[at]
                item = items.get(at)
                if item is None:
                    table = FlowTable.empty()
                    self._holes[entry.capture] = self._holes.get(entry.capture, 0) + 1
                    gone.append(entry)
                else:
                    table = read_item(item, entry)
                self._segments[place] = table
                self._held += len(table)
            if self._held > self._most_flows:
                raise RequestError(f"there are more than {self._most_flows} flows to look at around these hosts")
        vouched = [entry for entry in gone if entry.capture in self._vouched]
        if vouched:
            names = sorted({entry.census.piece for entry in vouched})
            raise Hole(f"{len(vouched)} items are missing of {', '.join(names[:3])}: look again with the same scene")


def look(scene: StoredScene, judge: Callable[[StoredScene], T]) -> T:
    """What `judge` makes of the scene, once more for every time that a hole comes to light behind its back.

    That ends: a hole is raised once and known from then on.
    """
    while True:
        try:
            return judge(scene)
        except Hole:
            continue


def told_apart(entries: list[Entry]) -> list[Entry]:
    """The entries, where captures of one folder that overlap in time are of sensors of their own, as on the laptop.

    A folder names its sensor, but people do put captures of several into one. If these went for one sensor, what one
    of them missed would count as covered by another.
    """
    folders: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.census.clock_ok:
            folders.setdefault(entry.census.sensor, []).append(entry)
    renamed: dict[str, Entry] = {}
    for sensor, pieces in folders.items():
        spans = [(entry.census.start, entry.census.end) for entry in pieces]
        for number, group in enumerate(group_sensors(spans, CROSSING)):
            if number:
                for entry in (pieces[index] for index in group):
                    census = dataclasses.replace(entry.census, sensor=f"{sensor} ({number + 1})")
                    renamed[entry.capture] = dataclasses.replace(entry, census=census)
    return [renamed.get(entry.capture, entry) for entry in entries]


def batches(keys: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """The keys, as many at a time as are read before they are counted."""
    return (keys[at : at + _TOGETHER] for at in range(0, len(keys), _TOGETHER))


def read_item(item: dict[str, Any], entry: Entry) -> FlowTable:
    """The flows of an item. Raises StoreError, with the item and its capture named."""
    try:
        return segments.read(bytes(item["data"]), entry.census.sensor, entry.census.piece)
    except (StoreError, KeyError, TypeError) as error:
        raise StoreError(f"{item['pk']} {item['sk']} of {entry.census.piece}: {error}") from error


def _overlaps(table: FlowTable, window: Window) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = (table.rows["start"] <= window.end) & (table.rows["end"] >= window.start)
    return mask


def _is_one_of(rows: NDArray[np.void], side: str, hosts: Sequence[Address]) -> NDArray[np.bool_]:
    mask = np.zeros(len(rows), np.bool_)
    for version, hi, lo in hosts:
        mask |= (rows[f"{side}_lo"] == lo) & (rows[f"{side}_hi"] == hi) & (rows["version"] == version)
    return mask


def _touches(table: FlowTable, hosts: Sequence[Address]) -> NDArray[np.bool_]:
    mask = _is_one_of(table.rows, "src", hosts) | _is_one_of(table.rows, "dst", hosts)
    mask[table.quotes["flow"][_is_one_of(table.quotes, "src", hosts)]] = True
    return mask


def _joins(table: FlowTable, ones: Sequence[Address], others: Sequence[Address]) -> NDArray[np.bool_]:
    def between(rows: NDArray[np.void]) -> NDArray[np.bool_]:
        there = _is_one_of(rows, "src", ones) & _is_one_of(rows, "dst", others)
        return there | (_is_one_of(rows, "src", others) & _is_one_of(rows, "dst", ones))

    mask = between(table.rows)
    mask[table.quotes["flow"][between(table.quotes)]] = True
    return mask


def once(table: FlowTable) -> FlowTable:
    """The flows of one capture, each once, with all quotes of its copies.

    A record holds one innermost packet, hence the place of the first packet names a flow of a capture.
    """
    _, first, copy = np.unique(table.rows["src_places"][:, 0], return_index=True, return_inverse=True)
    if len(first) == len(table):
        return table
    quotes = table.quotes.copy()
    quotes["flow"] = copy[quotes["flow"]]
    distinct, new = np.unique(quotes, return_inverse=True)
    rows = table.rows[first]
    rows["quote"] = -1
    leading = table.rows["quote"]
    led = np.flatnonzero(leading >= 0)
    rows["quote"][copy[led]] = new[leading[led]]
    assert rows.dtype == FLOW
    assert distinct.dtype == FLOW_QUOTE
    return dataclasses.replace(table, rows=rows, quotes=distinct).select(np.argsort(rows["start"], kind="stable"))
