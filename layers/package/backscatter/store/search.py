"""Looking through the store as a person does: by any filter, over a window, the catalogue first.

What is to be read is known before it is read (`Search`), so that it can be told and bounded. A host, or a network of
few addresses, is looked for in the items that can hold it; anything else means every item of the window's captures.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscatter.flow.address import Address
from backscatter.flow.table import FlowTable
from backscatter.store.captures import segment_key, volumes
from backscatter.store.catalogue import MOST_SCOPES, listed
from backscatter.store.hosts import HostHash
from backscatter.store.scene import batches, once, read_item, told_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from ipaddress import IPv4Network, IPv6Network

    import numpy as np
    from numpy.typing import NDArray

    from backscatter.flow.filter import Filter
    from backscatter.flow.window import Window
    from backscatter.store.catalogue import Entry
    from backscatter.store.items import Items

    Key = tuple[str, str]

#: Addresses of the networks asked for, up to which each is looked for by itself.
MOST_ADDRESSES = 4096

#: What an item holds at most for the estimate of what reading it costs: DynamoDB bills consistent reads by 4 KB.
_ITEM_BYTES = 64 << 10
_READ_UNIT = 4 << 10


@dataclass(frozen=True, slots=True)
class Share:
    """What is to be read of one capture: keys of items, and how many whole parts of it are missing from the store."""

    entry: Entry
    keys: tuple[Key, ...]
    missing: int


@dataclass(frozen=True, slots=True)
class Search:
    """What a filter means in the store.

    entries  the captures that overlap the window and carry one of the scopes asked for, by start
    shares   what is to be read of each of those that can hold what is looked for
    """

    wanted: Filter
    window: Window
    entries: tuple[Entry, ...]
    shares: tuple[Share, ...]

    @property
    def items(self) -> int:
        """Items to be read."""
        return sum(len(share.keys) for share in self.shares)

    @property
    def read_units(self) -> int:
        """DynamoDB read units that this takes at most, about."""
        return self.items * (_ITEM_BYTES // _READ_UNIT)


@dataclass(frozen=True, slots=True)
class Found:
    """The flows of one capture that fit, and how many of its items are missing: a hole, not an absence."""

    entry: Entry
    table: FlowTable
    missing: int


def plan(items: Items, key: bytes, group: str, wanted: Filter, window: Window) -> Search:
    """What has to be read for a filter. Raises RequestError for a window that is too long, StoreError for damage."""
    entries = tuple(
        entry
        for entry in told_apart(listed(items, group, window))
        # An entry that has no room for more scopes may have left out the one that is asked for.
        if not wanted.scopes or {*wanted.scopes} & {*entry.census.scopes} or len(entry.census.scopes) >= MOST_SCOPES
    )
    entries = tuple(sorted(entries, key=lambda entry: (entry.census.start, entry.census.sensor, entry.census.piece)))
    hashes = _hashes(wanted, HostHash(key))
    shares = []
    for entry in entries:
        if entry.flows and (hashes is None or entry.parts or entry.hosts.holds(hashes).any()):
            share = _share(items, entry, hashes)
            if share.keys or share.missing:
                shares.append(share)
    return Search(wanted, window, entries, tuple(shares))


def read(items: Items, search: Search, progress: Callable[[int], None] = lambda _: None) -> Iterator[Found]:
    """The flows that fit, capture by capture; those of one capture each once, whichever copy was read.

    `progress` hears how many items were read so far. Raises StoreError where an item cannot be read.
    """
    done = 0
    for share in search.shares:
        kept, missing = [], share.missing
        for some in batches(list(share.keys)):
            found = items.get_all(some)
            missing += len(some) - len(found)
            for item in found:
                table = read_item(item, share.entry)
                table = table.select(search.wanted.flows(table) & _overlapping(table, search.window))
                if len(table):
                    kept.append(table)
            done += len(some)
            progress(done)
        table = once(FlowTable.joined(kept)) if len(kept) > 1 else kept[0] if kept else FlowTable.empty()
        yield Found(share.entry, table, missing)


def _share(items: Items, entry: Entry, hashes: NDArray[np.uint64] | None) -> Share:
    keys: dict[Key, None] = {}
    found = volumes(items, entry)
    for volume in found:
        if volume is None:
            continue
        at: Iterable[tuple[int, int, int]] = volume.shelves.items()
        if hashes is not None:
            can = hashes[volume.hosts.holds(hashes)]
            at = itertools.chain.from_iterable(sorted(volume.shelves.items_of(int(host))) for host in can)
        keys.update(dict.fromkeys(segment_key(volume.name, *place) for place in at))
    return Share(entry, tuple(keys), sum(volume is None for volume in found))


def _hashes(wanted: Filter, host_hash: HostHash) -> NDArray[np.uint64] | None:
    """The hashes of all addresses asked for; None where these are too many to be looked for one by one, or any."""
    if not wanted.hosts or sum(network.num_addresses for network in wanted.hosts) > MOST_ADDRESSES:
        return None
    addresses = dict.fromkeys(address for network in wanted.hosts for address in _addresses(network))
    return host_hash.addresses(list(addresses))


def _addresses(network: IPv4Network | IPv6Network) -> Iterator[Address]:
    return (Address.parse(str(address)) for address in network)


def _overlapping(table: FlowTable, window: Window) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = (table.rows["start"] <= window.end) & (table.rows["end"] >= window.start)
    return mask
