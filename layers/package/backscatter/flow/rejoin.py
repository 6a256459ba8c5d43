"""Flows that were cut where one capture ended and the next began, put together again from their rows.

What packets would say is known of rows too, but for three things: whether letters of the history that stand once in
both rows would have stood twice, what Zeek's state machine did in between, and which packets of a row came before its
first SYN. The history is taken as its letters in order, each once a side; the state as what these letters say. A tuple
that was used again stays two flows, parted where rows are: late packets of the first may be counted with the second, if
they lie in one capture with the second's SYN.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import NOWHERE, PLACE_BITS
from backscatter.decode.icmp import COUNTERPARTS
from backscatter.flow.conversation import OTHER_IDLE, TCP, TCP_IDLE
from backscatter.flow.runs import run_starts
from backscatter.flow.state import CLOSED, ESTABLISHED, INACTIVE, PARTIAL, RESET, SYN_ACK_SENT, SYN_SENT, state_code
from backscatter.flow.table import CONN_STATES, FLOW, HAS_RST, HAS_SYN, HAS_SYNACK, PLACES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.flow.runs import Bools, Ints
    from backscatter.flow.table import FlowTable

#: How what a side sent in two rows is put together.
SUMMED = (
    *("packets", "bytes", "payload", "syns", "synacks", "rsts", "bare_rsts", "exact_rsts", "reset_syns", "fins"),
    *("data", "acks", "segments", "lost", "opaque"),
)
ORED = ("flags", "has", "speech", "names")
#: Numbers of a side's first such packet, and the bit that says that there is one.
FIRSTS = {
    **dict.fromkeys(("syn_seq", "syn_time"), HAS_SYN),
    **dict.fromkeys(("synack_seq", "synack_ack", "synack_time"), HAS_SYNACK),
    **dict.fromkeys(("rst_seq", "rst_ack"), HAS_RST),
}
#: The others, each in a way of its own.
OWN_WAY = ("ttl_low", "ttl_high", "first", "last", "synack_repeats", "ack_first", "ack_beyond", "places")

_LETTERS = FLOW["history"].itemsize
_ENDS = ("hi", "lo")


def rejoined(table: FlowTable) -> FlowTable:
    """The table with rows of one conversation in several pieces of one sensor as one row, in the order of their start.

    Rows of different sensors or scopes are different views, and stay.
    """
    if len(table) < 2 or len(table.pieces) < 2:
        return table
    order, follows = _chains(table)
    if not follows.any():
        return table
    begin = np.flatnonzero(~follows)
    length = np.diff(np.append(begin, len(order)))
    whole = table.rows[order[begin]]
    for number in range(1, int(length.max())):
        longer = np.flatnonzero(length > number)
        whole[longer] = _merged(whole[longer], table.rows[order[begin[longer] + number]])
    quotes = table.quotes.copy()
    owner = np.empty(len(table), np.int64)
    owner[order] = np.cumsum(~follows) - 1
    quotes["flow"] = owner[quotes["flow"]]
    by_start = np.lexsort((whole["src_places"][:, 0], whole["start"]))
    return replace(table, rows=whole, quotes=quotes).select(by_start)


def _chains(table: FlowTable) -> tuple[Ints, Bools]:
    """Rows by tuple and start, and for each whether it goes on with the conversation of the row before it."""
    rows = table.rows
    turned = _turned(rows)
    src = [np.where(turned, rows[f"dst_{end}"], rows[f"src_{end}"]) for end in (*_ENDS, "port")]
    dst = [np.where(turned, rows[f"src_{end}"], rows[f"dst_{end}"]) for end in (*_ENDS, "port")]
    key = [*src, *dst, *(rows[name] for name in ("version", "proto", "has_ports", "scope", "sensor"))]
    order = np.lexsort((rows["src_places"][:, 0], rows["start"], *key))
    rows = rows[order]
    new_tuple = np.zeros(len(order), np.bool_)
    for column in key:
        new_tuple |= run_starts(column[order])
    idle = np.where(rows["proto"] == TCP, TCP_IDLE, OTHER_IDLE)
    silence = np.append(False, rows["start"][1:] - rows["end"][:-1] > idle[1:])
    # Rows of one piece were told apart by whoever saw their packets.
    apart = ~run_starts(rows["src_places"][:, 0] >> PLACE_BITS)
    chain = new_tuple | silence
    return order, ~(chain | apart | _reuses(rows, turned[order], chain, apart))


def _turned(rows: NDArray[np.void]) -> Bools:
    """Rows whose ends are to be compared the other way round: both directions of a conversation are one tuple."""
    greater: Bools = np.zeros(len(rows), np.bool_)
    equal = np.ones(len(rows), np.bool_)
    for end in (*_ENDS, "port"):
        src, dst = rows[f"src_{end}"], rows[f"dst_{end}"]
        greater |= equal & (src > dst)
        equal &= src == dst
    # ICMP that has no counterpart goes one way, whoever answers.
    for proto, types in COUNTERPARTS.items():
        greater &= (rows["proto"] != proto) | np.isin(rows["icmp_type"], list(types))
    return greater


def _reuses(rows: NDArray[np.void], turned: Bools, chain: Bools, apart: Bools) -> Bools:
    """Where a conversation is over and its tuple is used for another: the rule of `flow.conversation`, on rows.

    Of each row the number of a side's first SYN is known, and how often was sent what ends a conversation.
    """
    number = np.arange(len(rows))
    begin = np.maximum.accumulate(np.where(chain, number, 0))
    fresh = np.zeros(len(rows), np.bool_)
    fins = []
    for mine, other in (("src", "dst"), ("dst", "src")):
        says = np.where(turned, rows[f"{other}_has"], rows[f"{mine}_has"]) & HAS_SYN != 0
        seq = np.where(turned, rows[f"{other}_syn_seq"], rows[f"{mine}_syn_seq"])
        fins.append(np.where(turned, rows[f"{other}_fins"], rows[f"{mine}_fins"]))
        before = np.append(-1, np.maximum.accumulate(np.where(says, number, -1))[:-1])
        fresh |= says & ((before < begin) | (seq != seq[before]))
    restart = np.flatnonzero(chain | apart | fresh)
    resets, lower, upper = (np.add.reduceat(sent, restart) for sent in (rows["src_rsts"] + rows["dst_rsts"], *fins))
    reuse = np.zeros(len(rows), np.bool_)
    reuse[restart[1:]] = ((resets > 0) | ((lower > 0) & (upper > 0)))[:-1]
    return reuse & fresh


def _flipped(before: NDArray[np.void], after: NDArray[np.void]) -> Bools:
    """Where the later row has the other side's packet first."""
    same = np.ones(len(after), np.bool_)
    for end in (*_ENDS, "port"):
        same &= (before[f"src_{end}"] == after[f"src_{end}"]) & (before[f"dst_{end}"] == after[f"dst_{end}"])
    return ~same


def _merged(one: NDArray[np.void], two: NDArray[np.void]) -> NDArray[np.void]:
    """Rows, each put together with one that follows it."""
    whole = one.copy()
    flipped = _flipped(one, two)
    whole["end"] = np.maximum(one["end"], two["end"])
    for side, other in (("src", "dst"), ("dst", "src")):

        def of(name: str, side: str = side, other: str = other) -> NDArray[Any]:
            mine, theirs = two[f"{side}_{name}"], two[f"{other}_{name}"]
            return np.where(flipped.reshape(-1, *(1,) * (mine.ndim - 1)), theirs, mine)

        _merge_side(one, whole, side, of)
    whole["history"] = [
        _history(bytes(first), bytes(second), turned=bool(turned))
        for first, second, turned in zip(one["history"], two["history"], flipped, strict=True)
    ]
    tcp = np.flatnonzero(whole["proto"] == TCP)
    silent = whole["src_data"][tcp] + whole["dst_data"][tcp] == 0
    whole["conn_state"][tcp] = [
        CONN_STATES.index(state_of(bytes(history), silent=bool(quiet)))
        for history, quiet in zip(whole["history"][tcp], silent, strict=True)
    ]
    return whole


def _merge_side(one: NDArray[np.void], whole: NDArray[np.void], side: str, of: Any) -> None:
    def mine(name: str) -> NDArray[Any]:
        values: NDArray[Any] = one[f"{side}_{name}"]
        return values

    def put(name: str, values: NDArray[Any]) -> None:
        whole[f"{side}_{name}"] = values

    for name in SUMMED:
        put(name, mine(name) + of(name))
    for name in ORED:
        put(name, mine(name) | of(name))
    for name, bit in FIRSTS.items():
        put(name, np.where(mine("has") & bit != 0, mine(name), of(name)))
    sent, sent_later = mine("packets") > 0, of("packets") > 0
    for name, least in (("ttl_low", np.minimum), ("ttl_high", np.maximum), ("first", np.minimum), ("last", np.maximum)):
        both = least(mine(name), of(name))
        put(name, np.where(sent & sent_later, both, np.where(sent, mine(name), of(name))))
    repeated = (mine("has") & of("has") & HAS_SYNACK != 0) & (mine("synack_seq") == of("synack_seq"))
    repeated &= mine("synack_ack") == of("synack_ack")
    put("synack_repeats", mine("synack_repeats") + of("synack_repeats") + repeated)
    acked = (mine("acks") + mine("data") + mine("fins") + mine("synacks")) > 0
    acked_later = (of("acks") + of("data") + of("fins") + of("synacks")) > 0
    put("ack_first", np.where(acked, mine("ack_first"), of("ack_first")))
    ahead = (of("ack_first").astype(np.uint32) - mine("ack_first").astype(np.uint32)).astype(np.int32).astype(np.int64)
    reached = np.where(acked_later, np.maximum(mine("ack_beyond"), ahead + of("ack_beyond")), mine("ack_beyond"))
    put("ack_beyond", np.where(acked, reached, of("ack_beyond")))
    places = np.concatenate((mine("places"), of("places")), axis=1)
    there = np.argsort(places == NOWHERE, axis=1, kind="stable")
    put("places", np.take_along_axis(places, there, axis=1)[:, :PLACES])


@lru_cache(maxsize=65536)
def _history(one: bytes, two: bytes, *, turned: bool) -> bytes:
    """The letters of the first, and those of the second that the first has not."""
    letters = two.swapcase() if turned else two
    return (one + bytes(letter for letter in letters if letter not in one))[:_LETTERS]


@lru_cache(maxsize=65536)
def state_of(history: bytes, *, silent: bool) -> str:
    """Zeek's conn_state as far as the letters of a TCP history tell; `silent` where nobody sent payload."""
    state = {True: INACTIVE, False: INACTIVE}  # by whether it is src
    by_fin = {True: False, False: False}
    for number, letter in enumerate(history.decode("ascii")):
        src, what = letter.isupper(), letter.upper()
        mine, other = state[src], state[not src]
        if what in "FQ" and mine not in (CLOSED, RESET):
            state[src], by_fin[src] = CLOSED, True
            if other == RESET and by_fin[not src] and mine in (PARTIAL, ESTABLISHED):
                state[not src] = CLOSED
        elif what in "RI":
            if mine != CLOSED or other != CLOSED:
                state[src] = RESET
        elif mine == INACTIVE:
            if src:
                state[src] = {"S": SYN_SENT, "H": SYN_ACK_SENT}.get(what, PARTIAL) if number == 0 else PARTIAL
            elif what in "SH":
                state[src] = ESTABLISHED
                if other == SYN_SENT:
                    state[True] = ESTABLISHED
            else:
                state[src] = PARTIAL
    return state_code(state[True], state[False], silent=silent, history=history)
