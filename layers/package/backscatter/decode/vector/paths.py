"""Numbers for the ways that packets took through VLANs and tunnels, so that a column can hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backscatter.decode.columns import Names
from backscatter.decode.tunnels import Path

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from backscatter.decode.vector.heads import Ints

#: Values of a step (VLAN and network numbers) are smaller than this.
VALUE_BITS = 24

#: Keys that lie as near to each other as this are told apart by marking, without sorting them.
NEAR = 2**16


def numbered(keys: Ints, number: Callable[[int], int]) -> Ints | int:
    """What `number` gives for each key, asked once for each different one, ascending; just that if there is one."""
    low, high = int(keys.min()), int(keys.max())
    if low == high:
        return number(low)
    if high - low >= NEAR:
        values, positions = np.unique(keys, return_inverse=True)
        return np.array([number(key) for key in values.tolist()], np.int64)[positions]
    keys = keys - low
    marks = np.zeros(high - low + 1, np.bool_)
    marks[keys] = True
    values = np.flatnonzero(marks)
    table = np.zeros(len(marks), np.int64)
    table[values] = [number(key) for key in (values + low).tolist()]
    return table[keys]


class Paths:
    """The ways taken by the packets of a tile. Number 0 is the way that has no steps."""

    def __init__(self) -> None:
        self._names = Names(Path())
        self._steps: dict[tuple[Callable[[Path, int], Path], int], int] = {}

    def step(self, path: Ints | int, value: Ints, go: Callable[[Path, int], Path]) -> Ints | int:
        """The numbers of the ways `path` after a step each, which `go` makes of a way and a value."""
        if not len(value):
            return 0
        keys = path << VALUE_BITS | value if isinstance(path, np.ndarray) or path else value
        return numbered(keys, lambda key: self._after(go, key))

    def named(self, path: NDArray[np.int32], *numbers: Callable[[Path], int]) -> list[NDArray[np.uint32] | int]:
        """What each of `numbers` gives for the ways `path`; just that where it is one for all."""
        taken = path[:1] if path.strides == (0,) else np.flatnonzero(np.bincount(path))
        ways = [self._names.values[way] for way in taken.tolist()]
        found: list[NDArray[np.uint32] | int] = []
        for number in numbers:
            given = [number(way) for way in ways]
            if len(set(given)) == 1:
                found.append(given[0])
                continue
            table = np.zeros(len(self._names.values), np.uint32)
            table[taken] = given
            found.append(table.take(path))
        return found

    def _after(self, go: Callable[[Path, int], Path], key: int) -> int:
        """The number of the way after a step that was perhaps taken before."""
        number = self._steps.get((go, key))
        if number is None:
            way = go(self._names.values[key >> VALUE_BITS], key & (1 << VALUE_BITS) - 1)
            number = self._steps[go, key] = self._names.number(way)
        return number
