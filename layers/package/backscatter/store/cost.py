"""What items cost: DynamoDB bills a write unit for every started KB of every item written."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Cost(TypedDict):
    """What a write costs."""

    items: int
    bytes: int
    write_units: int


class Meter:
    """Counts the items that pass through it on their way to the table."""

    def __init__(self) -> None:
        self.cost = Cost(items=0, bytes=0, write_units=0)

    def pass_on(self, items: Iterable[Mapping[str, object]]) -> Iterator[Mapping[str, object]]:
        """The same items."""
        for item in items:
            size = item_size(item)
            self.cost["items"] += 1
            self.cost["bytes"] += size
            self.cost["write_units"] += -(-size // 1024)
            yield item


def item_size(item: Mapping[str, object]) -> int:
    """Bytes of an item as DynamoDB counts them.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    return sum(len(name.encode()) + _size(value) for name, value in item.items())


def _size(value: object) -> int:
    match value:
        case None | bool():
            return 1
        case str():
            return len(value.encode())
        case bytes():
            return len(value)
        case int():
            # two digits a byte, one byte for the exponent, one for a sign
            return (len(str(abs(value))) + 1) // 2 + 1 + (value < 0)
        case list() | tuple():
            return 3 + sum(1 + _size(entry) for entry in value)
        case dict():
            return 3 + sum(1 + len(str(name).encode()) + _size(entry) for name, entry in value.items())
        case _:
            raise TypeError(f"a table holds no {type(value).__name__}")
