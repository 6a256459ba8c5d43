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


def distinct(keys: Ints) -> tuple[Ints, NDArray[np.intp]]:
    """The distinct ones of `keys`, ascending, and for each key its position among them."""
    low, high = int(keys.min()), int(keys.max())
    if low == high:
        return keys[:1], np.zeros(len(keys), np.intp)
    if high - low < NEAR:
        marks = np.zeros(high - low + 1, np.bool_)
        marks[keys - low] = True
        return np.flatnonzero(marks) + low, (np.cumsum(marks) - 1)[keys - low]
    values, positions = np.unique(keys, return_inverse=True)
    return values, positions


class Paths:
    """The ways taken by the packets of a tile. Number 0 is the way that has no steps."""

    def __init__(self) -> None:
        self._names = Names(Path())

    def step(self, path: Ints, value: Ints, go: Callable[[Path, int], Path]) -> Ints:
        """The numbers of the ways `path` after a step each, which `go` makes of a way and a value."""
        if not len(path):
            return path
        keys, positions = distinct(path << VALUE_BITS | value)
        values = self._names.values
        ways = (go(values[key >> VALUE_BITS], key & (1 << VALUE_BITS) - 1) for key in keys.tolist())
        return np.array([self._names.number(way) for way in ways], np.int64)[positions]

    def taken(self, path: Ints) -> tuple[list[Path], NDArray[np.intp]]:
        """The different ways among `path`, and for each packet the position of its own in them."""
        numbers, positions = distinct(path)
        return [self._names.values[number] for number in numbers.tolist()], positions
