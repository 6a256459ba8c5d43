"""What ICMP errors say about other packets: one row for each quoted tuple of each flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import picked
from backscatter.flow.runs import run_starts
from backscatter.flow.table import FLOW_QUOTE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.decode.columns import Packets
    from backscatter.flow.conversation import Traffic
    from backscatter.flow.runs import Ints

_TUPLE = ("version", "proto", "has_ports", "src_hi", "src_lo", "dst_hi", "dst_lo", "src_port", "dst_port")


def flow_quotes(packets: Packets, traffic: Traffic) -> tuple[NDArray[np.void], Ints]:
    """The quotes of all flows, and for each flow the row that its first packet quotes (-1 for none).

    Rows are array of FLOW_QUOTE, ordered by flow and then by the first packet that quotes the tuple.
    """
    quotes = packets.quotes
    first_row = np.full(traffic.flows, -1, np.int64)
    if not len(quotes):
        return np.zeros(0, FLOW_QUOTE), first_row
    row = packets["quote"][traffic.packet]
    at = np.flatnonzero(row >= 0)
    if not len(at):
        return np.zeros(0, FLOW_QUOTE), first_row
    quotes, pos = picked(quotes, row[at]), traffic.pos[at]
    half = np.searchsorted(np.cumsum(traffic.length), at, side="right")
    flow = half >> 1
    order = np.arange(len(at))
    # They stand by flow, side and time already; only flows that quote several tuples, or from both sides, need a sort.
    several = run_starts(half)
    for name in _TUPLE:
        several |= run_starts(quotes[name])
    several &= ~run_starts(flow)
    if several.any():
        unsorted = np.flatnonzero(np.isin(flow, flow[several]))
        part = picked(quotes, unsorted)
        order[unsorted] = unsorted[np.lexsort((pos[unsorted], *(part[name] for name in _TUPLE), flow[unsorted]))]
    new = run_starts(flow)
    for name in _TUPLE:
        new |= run_starts(quotes[name][order])
    begins = np.flatnonzero(new)
    firsts = order[begins]
    count = np.diff(np.append(begins, len(order)))
    if several.any():
        by_time = np.lexsort((pos[firsts], flow[firsts]))
        firsts, count = firsts[by_time], count[by_time]
    rows = np.zeros(len(firsts), FLOW_QUOTE)
    columns: dict[str, NDArray[Any]] = {name: quotes[name][firsts] for name in (*_TUPLE, "seq")}
    packet = traffic.packet[at[firsts]]
    columns |= {name: packets[name][packet] for name in ("icmp_type", "icmp_code", "time", "place")}
    columns |= {"flow": flow[firsts], "count": count}
    for name, values in columns.items():
        rows[name] = values
    by_head = packet == traffic.head[rows["flow"]]
    first_row[rows["flow"][by_head]] = np.flatnonzero(by_head)
    return rows, first_row
