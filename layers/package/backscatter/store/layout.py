"""How flows and quotes are laid out as columns: their order, and what each probably is. This is segment layout 1.

What a guess looks at stands before it. Rows are in the order of their start, so times and places run along the rows;
all else is written in the order of the rows' kinds (`store.segments`), along which the numbers of their quotes run.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import ACK, NOWHERE
from backscatter.flow.table import FLOW, FLOW_QUOTE, HAS_RST, HAS_SYN, HAS_SYNACK, PLACES, SIDE
from backscatter.store.planes import Column, Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from backscatter.store.planes import Guess, Known


def _side_guesses(side: str, other: str) -> dict[str, Guess]:
    """Guesses for what one side sent. What it cannot have, having sent nothing of the kind, is guessed as absent."""

    def own(name: str) -> Guess:
        return lambda known: known(f"{side}_{name}")

    def where_any(name: str, guess: Guess, absent: int = 0, beyond: int = 0) -> Guess:
        """The guess where the side has more than `beyond` of what is named."""
        return lambda known: np.where(known(f"{side}_{name}") > beyond, guess(known), absent)

    def headers(known: Known) -> NDArray[np.int64]:
        # IP and TCP or UDP headers without options
        proto, six = known("proto"), known("version") == 6
        return np.where(proto == 6, 40, np.where(proto == 17, 28, 20)) + np.where(six, 20, 0)

    def packets(known: Known) -> NDArray[np.int64]:
        kinds = ("syns", "synacks", "rsts", "data", "acks", "fins")
        return sum((known(f"{side}_{kind}") for kind in kinds), np.zeros(1, np.int64))

    def bare_rsts(known: Known) -> NDArray[np.int64]:
        return np.where(known(f"{side}_flags") & ACK, 0, known(f"{side}_rsts"))

    def exact_rsts(known: Known) -> NDArray[np.int64]:
        return np.where(known(f"{other}_synacks") > 0, known(f"{side}_bare_rsts"), 0)

    def reset_syns(known: Known) -> NDArray[np.int64]:
        return np.where(known(f"{side}_rst_seq") == 0, known(f"{side}_rsts") - known(f"{side}_bare_rsts"), 0)

    def ack_first(known: Known) -> NDArray[np.int64]:
        mine = known(f"{side}_has") & HAS_SYNACK != 0
        ack = np.where(mine, known(f"{side}_synack_ack"), known(f"{other}_synack_seq") + 1)
        return np.where(mine | (known(f"{side}_acks") + known(f"{side}_data") + known(f"{side}_fins") > 0), ack, 0)

    def segments(known: Known) -> NDArray[np.int64]:
        heard = sum((known(f"{other}_{kind}") for kind in ("synacks", "acks", "data", "fins")), np.zeros(1, np.int64))
        sent = known(f"{side}_data") + known(f"{side}_syns") + known(f"{side}_synacks")
        return np.where((heard > 0) & (known("proto") == 6), sent, 0)

    def has(known: Known) -> NDArray[np.int64]:
        kinds = (("syns", HAS_SYN), ("synacks", HAS_SYNACK), ("rsts", HAS_RST))
        return sum((np.where(known(f"{side}_{kind}") > 0, bit, 0) for kind, bit in kinds), np.zeros(1, np.int64))

    return {
        "packets": packets,
        "bytes": lambda known: known(f"{side}_payload") + known(f"{side}_packets") * headers(known),
        "ttl_high": own("ttl_low"),
        "first": where_any("packets", lambda known: known("start")),
        "last": own("first"),
        "has": has,
        "synack_ack": where_any("synacks", lambda known: known(f"{other}_syn_seq") + 1),
        "rst_seq": where_any("rsts", lambda known: known(f"{other}_synack_ack")),
        "syn_time": where_any("syns", own("first")),
        "synack_time": where_any("synacks", own("first")),
        "synack_repeats": where_any("synacks", lambda known: known(f"{side}_synacks") - 1),
        "bare_rsts": bare_rsts,
        "exact_rsts": exact_rsts,
        "reset_syns": reset_syns,
        "ack_first": ack_first,
        "ack_beyond": where_any("acks", lambda known: known(f"{other}_payload")),
        "segments": segments,
        "places.0": where_any("packets", lambda known: known("src_places.0"), NOWHERE),
        **{f"places.{i}": where_any("packets", own(f"places.{i - 1}"), NOWHERE, i) for i in range(1, PLACES)},
    }


#: What guesses about a side look at, hence written before the rest of it.
_SIDE_FIRST = (
    *("flags", "payload", "syns", "synacks", "rsts", "data", "acks", "fins"),
    *("syn_seq", "synack_seq", "synack_ack"),
)
_SIDE_FIELDS = [
    f"{side}_{name}"
    for name in (*_SIDE_FIRST, *(name for name, _, _ in SIDE if name not in _SIDE_FIRST))
    for side in ("src", "dst")
]
_ROW_FIELDS = [name for name in FLOW.names or () if name not in (*_SIDE_FIELDS, "end")]
_GUESSES: dict[str, Guess] = {
    "end": lambda known: np.maximum(known("src_last"), known("dst_last")),
    **{f"src_{name}": guess for name, guess in _side_guesses("src", "dst").items()},
    **{f"dst_{name}": guess for name, guess in _side_guesses("dst", "src").items()},
}
#: An error's quote is the alerted side's own packet, so its ends are those of the error's flow, turned round.
_QUOTE_GUESSES: dict[str, Guess] = {
    "version": lambda known: known("row.version"),
    "has_ports": lambda known: known("row.has_ports"),
    "src_hi": lambda known: known("row.dst_hi"),
    "src_lo": lambda known: known("row.dst_lo"),
    "dst_hi": lambda known: known("row.src_hi"),
    "dst_lo": lambda known: known("row.src_lo"),
    "icmp_type": lambda known: known("row.icmp_type"),
    "icmp_code": lambda known: known("row.icmp_code"),
    "time": lambda known: known("row.start"),
    "place": lambda known: known("row.src_places.0"),
}
#: Left out: an item holds flows of one sensor. Coded: what refers to something else of the item.
_LEFT_OUT = ("sensor",)
_RUNNING = ("start", "src_places.0", "quote")
_CODED = {"scope": "u4", "tunnels": "u4", "history": "u2"}


def _columns(dtype: np.dtype[Any], fields: Iterable[str], guesses: dict[str, Guess]) -> Iterator[Column]:
    for name in fields:
        kind = dtype[name]
        for i in range(kind.shape[0] if kind.shape else 1):
            full = f"{name}.{i}" if kind.shape else name
            yield Column(full, kind.base, guesses.get(full))


def _recipe(columns: Iterable[Column], running: Sequence[str], coded: Mapping[str, str]) -> Recipe:
    named = {column.name: column for column in columns}
    return Recipe(
        [named[name] for name in running],
        [Column(name, np.dtype(dtype)) for name, dtype in coded.items()],
        [column for name, column in named.items() if name not in (*running, *coded)],
    )


ROWS = _recipe(
    _columns(FLOW, [name for name in (*_ROW_FIELDS, *_SIDE_FIELDS, "end") if name not in _LEFT_OUT], _GUESSES),
    running=_RUNNING,
    coded=_CODED,
)
QUOTES = _recipe(_columns(FLOW_QUOTE, FLOW_QUOTE.names or (), _QUOTE_GUESSES), running=("flow",), coded={})

#: Columns of time: captures of microseconds are written in microseconds.
ROW_TIMES = tuple(
    column.name
    for column in ROWS.columns
    if column.name in ("start", "end") or column.name.endswith(("_first", "_last", "_time"))
    if column.name not in ("src_ack_first", "dst_ack_first")
)
QUOTE_TIMES = ("time",)

#: How planes and guesses are written: another number for each change of either before there is a release.
_CODING = 2

#: Items say by which columns they were written; another set of columns needs a new layout number and a reader.
SCHEMA = zlib.crc32(
    repr([_CODING, *((c.name, c.dtype.str) for recipe in (ROWS, QUOTES) for c in recipe.columns)]).encode()
)


def field(rows: NDArray[np.void], column: str) -> NDArray[Any]:
    """The numbers of a column in a structured array: `name`, or `name.i` for the i-th number of a field."""
    name, _, index = column.partition(".")
    values: NDArray[Any] = rows[name]
    return values[:, int(index)] if index else values
