"""Numbers for things that are the same: addresses, pairs of them, 5-tuples. Exact, and without a loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.flow.runs import run_starts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from backscatter.flow.runs import Bools, Ints

    Columns = Mapping[str, NDArray[Any]]

#: The columns that a 5-tuple is made of.
TUPLE = ("version", "proto", "src_hi", "src_lo", "dst_hi", "dst_lo", "src_port", "dst_port")


def numbered(*columns: NDArray[Any]) -> Ints:
    """A small number for each entry: the same for entries that agree in every column, from 0 without a gap."""
    count = len(columns[0])
    ids = np.zeros(count, np.int64)
    known = 1
    for column in columns:
        if not count or (column == column[0]).all():
            continue
        values, index = np.unique(column, return_inverse=True)
        if known == 1:
            ids, known = index.astype(np.int64), len(values)
        else:
            kinds, index = np.unique(ids * len(values) + index, return_inverse=True)
            ids, known = index.astype(np.int64), len(kinds)
    return ids


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """The values, each once, ascending. Sorting is several times faster than NumPy's hash table."""
    ordered = np.sort(values)
    return ordered[run_starts(ordered)]


def among(values: NDArray[Any], some: NDArray[Any]) -> Bools:
    """Whether each value is one of some others, which `distinct` has sorted."""
    if not len(some):
        return np.zeros(len(values), bool)
    mask: Bools = some[np.minimum(np.searchsorted(some, values), len(some) - 1)] == values
    return mask


@dataclass(frozen=True, slots=True)
class Tuples:
    """Which conversation and which pair of hosts each of some rows belongs to, whoever spoke first in it.

    src_low    whether src is the end that comes first in the pair
    pair, key  a number of the pair of hosts, and of the 5-tuple; scopes and views play no role
    """

    src_low: Bools
    pair: Ints
    key: Ints

    @property
    def src_end(self) -> Ints:
        """A number of the pair as seen from src; `dst_end` is the other one's."""
        return self.pair * 2 + self.src_low

    @property
    def dst_end(self) -> Ints:
        """A number of the pair as seen from dst."""
        return self.pair * 2 + ~self.src_low


def tuples(tables: Sequence[Columns]) -> list[Tuples]:
    """The tuples of tables with the columns of TUPLE; a number means the same in all of them."""

    def column(name: str) -> NDArray[Any]:
        return np.concatenate([table[name] for table in tables])

    version = column("version")
    both = np.concatenate((version, version))
    ends = numbered(
        both, np.concatenate((column("src_hi"), column("dst_hi"))), np.concatenate((column("src_lo"), column("dst_lo")))
    )
    src, dst = ends[: len(version)], ends[len(version) :]
    sport, dport = column("src_port").astype(np.int64), column("dst_port").astype(np.int64)
    src_low = (src < dst) | ((src == dst) & (sport <= dport))
    pair = numbered(np.minimum(src, dst), np.maximum(src, dst))
    key = numbered(pair, np.where(src_low, sport << 16 | dport, dport << 16 | sport), column("proto"))
    found, at = [], 0
    for table in tables:
        here = slice(at, at + len(table["version"]))
        found.append(Tuples(src_low[here], pair[here], key[here]))
        at = here.stop
    return found
