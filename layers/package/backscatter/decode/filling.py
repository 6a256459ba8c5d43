"""Packet columns while they fill: a column that holds one value in a whole block takes the room of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Rows = slice | NDArray[np.intp]


class Filling:
    """Columns of `count` rows, by name and dtype. Who writes a row first has to give it all of its columns."""

    def __init__(self, count: int, forms: Mapping[str, str]) -> None:
        self._count, self._forms = count, {name: np.dtype(form) for name, form in forms.items()}
        # what was written so far: columns of different values, and those in which all values are one
        self._different: dict[str, NDArray[Any]] = {}
        self._one: dict[str, int] = {}

    def write(self, rows: Rows, values: Mapping[str, Any]) -> None:
        """Write all columns of some rows: an array or one number each, 0 for those that are not named."""
        for name in self._forms:
            self._put(name, rows, values.get(name, 0))

    def put(self, rows: Rows, values: Mapping[str, Any]) -> None:
        """Write some columns again."""
        for name, value in values.items():
            self._put(name, rows, value)

    def hold(self, values: Mapping[str, Any]) -> None:
        """Write some columns of all rows: an array, which is kept, or one number each."""
        for name, value in values.items():
            self._one.pop(name, None)
            self._different.pop(name, None)
            if isinstance(value, np.ndarray):
                self._different[name] = value
            else:
                self._one[name] = value

    def column(self, name: str) -> NDArray[Any]:
        """A column, which must not be written to: one that holds one value has a stride of 0."""
        if name in self._different:
            return self._different[name]
        form = self._forms[name]
        # as np.broadcast_to, which takes longer than some columns do
        column: NDArray[Any] = np.ndarray(self._count, form, np.array(self._one.get(name, 0), form), strides=(0,))
        column.flags.writeable = False
        return column

    def _put(self, name: str, rows: Rows, value: Any) -> None:
        one = self._one.get(name)
        if one is not None and (value == one if isinstance(value, int) else (value == one).all()):
            return
        column = self._different.get(name)
        if column is None:
            if one is None and isinstance(value, int):
                self._one[name] = value
                return
            form = self._forms[name]
            column = np.empty(self._count, form) if one is None else np.full(self._count, self._one.pop(name), form)
            self._different[name] = column
        column[rows] = value
