"""Flows column by column, as they are worked out; rows (FLOW) are made of those that somebody wants to have as rows.

A row is long, most of its fields are zero, and whoever sums up a capture asks every flow for few of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from backscatter.flow.table import FLOW, TOGETHER, FlowTable, quotes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from backscatter.flow.runs import Ints

#: Rows (FLOW) in the order of their start, and their quotes (FLOW_QUOTE).
Built: TypeAlias = "tuple[NDArray[np.void], NDArray[np.void]]"


class Some(NamedTuple):
    """Columns of some flows of a run. What no column tells of a flow is zero.

    which    int64, ascending: the flows in the run; None for all of them
    like     int64: which entry of the columns holds for each of them; None where each has its own, in order
    columns  by the names of FLOW's fields
    """

    which: Ints | None
    like: Ints | None
    columns: Mapping[str, NDArray[Any]]

    def entries(self, wanted: slice | Ints) -> tuple[slice | Ints, slice | Ints]:
        """Which of the wanted flows the columns tell of, and which of their entries hold for these."""
        there: slice | Ints
        entries: slice | Ints
        if self.which is None:
            there, entries = slice(None), wanted
        elif isinstance(wanted, slice):
            begin, end = np.searchsorted(self.which, (wanted.start, wanted.stop)).tolist()
            there, entries = self.which[begin:end] - wanted.start, slice(begin, end)
        else:
            at = np.minimum(np.searchsorted(self.which, wanted), len(self.which) - 1)
            there = np.flatnonzero(self.which[at] == wanted)
            entries = at[there]
        return there, entries if self.like is None else self.like[entries]


class Run(NamedTuple):
    """So many flows, and what is known of them: no two of `parts` tell the same field of the same flow."""

    flows: int
    parts: Sequence[Some]


@dataclass(frozen=True, slots=True)
class FlowColumns:
    """Flows in runs, in the order of their start and then of the place of the first packet.

    runs     all flows
    quotes   array of FLOW_QUOTE, as in FlowTable; the names are as there too
    """

    runs: Sequence[Run]
    quotes: NDArray[np.void]
    scopes: tuple[str, ...] = ("",)
    tunnels: tuple[tuple[str, ...], ...] = ((),)
    sensors: tuple[str, ...] = ("",)
    pieces: tuple[str, ...] = ("",)

    def __len__(self) -> int:
        return sum(run.flows for run in self.runs)

    def columns(self, names: Iterable[str], which: Ints | None = None) -> dict[str, NDArray[Any]]:
        """Some columns, of all flows or of those that an ascending index picks."""
        columns = {name: np.zeros(len(self) if which is None else len(which), FLOW[name]) for name in names}
        for run, at, wanted in self._wanted(which):
            _fill({name: column[at] for name, column in columns.items()}, run, wanted, tuple(columns))
        return columns

    def rows(self, which: Ints | None = None) -> NDArray[np.void]:
        """Array of FLOW: of all flows, or of those that an ascending index picks. `quote` is a row of `quotes`."""
        rows = np.empty(len(self) if which is None else len(which), FLOW)
        for run, at, wanted in self._wanted(which):
            for begin in range(0, at.stop - at.start, TOGETHER):
                some = rows[at][begin : begin + TOGETHER]
                some.view(np.uint8).fill(0)
                here = slice(begin, begin + len(some))
                _fill(some, run, here if isinstance(wanted, slice) else wanted[here])
        return rows

    def built(self) -> Built:
        """All flows as rows, and their quotes."""
        return self.rows(), self.quotes

    def table(self) -> FlowTable:
        """All flows as rows, with their names."""
        return FlowTable(*self.built(), self.scopes, self.tunnels, self.sensors, self.pieces)

    def select(self, which: Ints) -> FlowTable:
        """The flows that an ascending index picks as rows, with their quotes."""
        rows = self.rows(which)
        quotes = quotes_of(rows, which, self.quotes)
        return FlowTable(rows, quotes, self.scopes, self.tunnels, self.sensors, self.pieces)

    def _wanted(self, which: Ints | None) -> Iterator[tuple[Run, slice, slice | Ints]]:
        """The runs that have wanted flows, where these come among all wanted, and which of the run they are."""
        assert which is None or (which[1:] > which[:-1]).all(), "flows have to be asked for in their order"
        before = 0
        for run in self.runs:
            behind = before + run.flows
            if which is None:
                yield run, slice(before, behind), slice(0, run.flows)
            else:
                begin, end = np.searchsorted(which, (before, behind)).tolist()
                if begin < end:
                    yield run, slice(begin, end), which[begin:end] - before
            before = behind


def _fill(
    into: Mapping[str, NDArray[Any]] | NDArray[np.void],
    run: Run,
    wanted: slice | Ints,
    names: Sequence[str] | None = None,
) -> None:
    """Put what is known of wanted flows of a run into their columns of these names, or all of it into their rows."""
    for some in run.parts:
        told = some.columns if names is None else [name for name in names if name in some.columns]
        if told:
            there, entries = some.entries(wanted)
            for name in told:
                into[name][there] = some.columns[name][entries]
