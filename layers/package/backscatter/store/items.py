"""The port to the table: items under (pk, sk), with the few operations that the store needs.

Two implementations: DynamoDB through the low-level client (`backscatter.cloud.dynamo`), and a dictionary
(`backscatter.store.memory`) for the laptop and for tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

#: The attribute of every item that says when it may go (DynamoDB's time to live), in seconds since 1970-01-01 UTC.
EXPIRES = "expires_at"

#: str, int, bytes, lists of them and maps of them; floats are not used, DynamoDB has none.
Value = "str | int | bytes | bool | None | list[Value] | dict[str, Value]"


class Items(Protocol):
    """A table of items, each a mapping with string keys `pk` and `sk`. Reads are strongly consistent."""

    def put_all(self, items: Iterable[Mapping[str, object]]) -> None:
        """Write every item, in any order, replacing what is there. Returns when all are stored."""
        ...

    def get_all(self, keys: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
        """The items of the keys that exist, in any order."""
        ...

    def query(self, pk: str, first: str = "", last: str = "\U0010ffff") -> Iterator[dict[str, object]]:
        """The items of a partition with first <= sk <= last, ordered by sk."""
        ...

    def keys(self, pk: str, first: str = "", last: str = "\U0010ffff") -> Iterator[str]:
        """The sort keys of a partition's items with first <= sk <= last, in order: billed as the items, read sooner."""
        ...

    def put_if_absent(self, item: Mapping[str, object]) -> bool:
        """Write the item unless its key exists; tells whether it was written."""
        ...

    def replace_if(self, item: Mapping[str, object], attribute: str, expected: int) -> bool:
        """Write the item if the stored one's integer attribute is `expected`; tells whether it was written."""
        ...

    def delete(self, pk: str, sk: str) -> None:
        """Remove the item; nothing happens where there is none."""
        ...
