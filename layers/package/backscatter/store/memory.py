"""Items in a dictionary: for the laptop and for tests."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


class MemoryItems:
    """A table in memory. Items are copied on their way in and out, so that nobody shares them by accident.

    `reads` and `writes` count items, as a bill would.
    """

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], dict[str, object]] = {}
        self.reads = 0
        self.writes = 0

    def put_all(self, items: Iterable[Mapping[str, object]]) -> None:
        """Write every item, replacing what is there."""
        for item in items:
            self._put(item)

    def get_all(self, keys: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
        """The items of the keys that exist."""
        found = [copy.deepcopy(self.items[key]) for key in dict.fromkeys(keys) if key in self.items]
        self.reads += len(found)
        return found

    def query(self, pk: str, first: str = "", last: str = "\U0010ffff") -> Iterator[dict[str, object]]:
        """The items of a partition with first <= sk <= last, ordered by sk as DynamoDB orders: by UTF-8 bytes."""
        for sk in self._keys(pk, first, last):
            self.reads += 1
            yield copy.deepcopy(self.items[pk, sk])

    def keys(self, pk: str, first: str = "", last: str = "\U0010ffff") -> Iterator[str]:
        """The sort keys of a partition's items with first <= sk <= last, in that order."""
        for sk in self._keys(pk, first, last):
            self.reads += 1
            yield sk

    def _keys(self, pk: str, first: str, last: str) -> list[str]:
        low, high = first.encode(), last.encode()
        keys = [sk for at, sk in self.items if at == pk and low <= sk.encode() <= high]
        return sorted(keys, key=str.encode)

    def put_if_absent(self, item: Mapping[str, object]) -> bool:
        """Write the item unless its key exists."""
        if self._key(item) in self.items:
            return False
        self._put(item)
        return True

    def replace_if(self, item: Mapping[str, object], attribute: str, expected: int) -> bool:
        """Write the item if the stored one's integer attribute is `expected`."""
        stored = self.items.get(self._key(item))
        if stored is None or stored.get(attribute) != expected:
            return False
        self._put(item)
        return True

    def delete(self, pk: str, sk: str) -> None:
        """Remove the item; nothing happens where there is none."""
        if self.items.pop((pk, sk), None) is not None:
            self.writes += 1

    def _put(self, item: Mapping[str, object]) -> None:
        self.items[self._key(item)] = copy.deepcopy(dict(item))
        self.writes += 1

    @staticmethod
    def _key(item: Mapping[str, object]) -> tuple[str, str]:
        return str(item["pk"]), str(item["sk"])
