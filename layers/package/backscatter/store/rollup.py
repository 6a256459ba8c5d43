"""Roll-ups: the catalogue entries of an hour together, so that a window of a thousand captures is read as a few items.

    pk  catalogue#GROUP#2007-03-20
    sk  R#HOUR#HASH, HOUR in ns with 20 digits: when the captures begin

The entries stay where they are, and their keys say what is listed: an entry that came later is *loose*, one that is
gone does not count, whatever a roll-up says. So nothing depends on an hour being over, and whoever reads many loose
entries may roll them up, also two at once. A roll-up is never changed: more of it is another item.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from backscatter.errors import StoreError
from backscatter.store.frame import expand, squeeze
from backscatter.store.items import EXPIRES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: Layout of the `record` attribute.
ROLLED = 1
#: So many loose entries of one hour are worth a roll-up.
ENOUGH = 32
#: Bytes of entries in an item: far below the 400 KB that a table takes.
_LARGEST = 256 << 10
_EXPANDED_LARGEST = 64 << 20

#: What an entry's item holds that is read; all else is for people, and stays with the item itself.
_READ = ("layout", "capture", "group", "flows", "probes", EXPIRES)


def roll_up(pk: str, hour: str, loose: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, object]]:
    """Items that hold these entries of one partition, which begin in the hour of this stamp."""
    records: list[dict[str, Any]] = []
    filters: list[bytes] = []
    size = 0
    for item in sorted(loose, key=lambda item: str(item["sk"])):
        if size > _LARGEST:
            yield _item(pk, hour, records, filters)
            records, filters, size = [], [], 0
        records.append(
            {"sk": item["sk"], **{name: item[name] for name in _READ}, "record": json.loads(expand_record(item))}
        )
        filters.append(bytes(item["hosts"]))
        size += len(item["record"]) + len(item["hosts"])
    if records:
        yield _item(pk, hour, records, filters)


def entries_in(item: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries that a roll-up holds, by sort key, as their items are, but `record` is read already.

    Raises StoreError where it is damaged or of another layout; the entries themselves are there all the same.
    """
    if item.get("layout") != ROLLED:
        raise StoreError(f"{item.get('pk')} {item.get('sk')}: roll-up layout {item.get('layout')}")
    try:
        found, at = {}, 0
        for record in json.loads(expand(item["record"], _EXPANDED_LARGEST)):
            size = int(record.pop("size"))
            hosts = bytes(item["hosts"][at : at + size])
            at += size
            found[str(record["sk"])] = record | {"hosts": hosts, "pk": item["pk"]}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise StoreError(f"{item.get('pk')} {item.get('sk')}: the roll-up cannot be read: {error!r}") from error
    if at != len(item["hosts"]):
        raise StoreError(f"{item['pk']} {item['sk']}: the roll-up has {len(item['hosts'])} bytes of filters for {at}")
    return found


def expand_record(item: Mapping[str, Any]) -> bytes:
    """The record of an entry's item, expanded. Raises StoreError."""
    return expand(item["record"], RECORD_LARGEST)


#: Bytes of an entry's record, expanded.
RECORD_LARGEST = 16 << 20


def _item(pk: str, hour: str, records: list[dict[str, Any]], filters: list[bytes]) -> dict[str, object]:
    sized = [record | {"size": len(bits)} for record, bits in zip(records, filters, strict=True)]
    body = json.dumps(sized, separators=(",", ":")).encode()
    name = hashlib.blake2b(body, digest_size=8).hexdigest()
    return {
        "pk": pk,
        "sk": f"R#{hour}#{name}",
        "layout": ROLLED,
        "record": squeeze(body),
        "hosts": b"".join(filters),
        "captures": len(records),
        EXPIRES: max(int(record[EXPIRES]) for record in records),
    }
