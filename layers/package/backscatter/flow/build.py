"""Packet columns -> flow table, without a loop over packets or flows: a sort, then reductions over its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import HAS_PORTS
from backscatter.flow.conversation import TCP, conversations
from backscatter.flow.halves import Halves, Shape
from backscatter.flow.history import Unruly, histories, udp_histories
from backscatter.flow.loss import losses
from backscatter.flow.orderly import orderly
from backscatter.flow.quotes import flow_quotes
from backscatter.flow.sequence import sequence_space
from backscatter.flow.sides import ack_beyond, first_acks, side_columns, tcp_columns
from backscatter.flow.state import conn_states, endpoints
from backscatter.flow.table import FLOW, FlowTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from backscatter.decode.columns import Packets
    from backscatter.flow.conversation import Traffic
    from backscatter.flow.runs import Ints

UDP = 17

#: Packets and flows that are worked on at a time: what is computed of them stays in the processor's cache.
PORTION_PACKETS, PORTION_FLOWS = 1 << 16, 1 << 13

#: Columns that a flow takes over from its first packet.
_OF_FIRST = (
    "scope",
    "tunnels",
    "version",
    "proto",
    "src_hi",
    "src_lo",
    "dst_hi",
    "dst_lo",
    "src_port",
    "dst_port",
    "icmp_type",
    "icmp_code",
)


def build_flows(
    packets: Packets,
    scopes: Sequence[str],
    tunnels: Sequence[tuple[str, ...]],
    *,
    sensor: str = "",
    pieces: Sequence[str] = ("",),
) -> FlowTable:
    """The flows of a packet table.

    Args:
        packets: of one sensor, in any order; only those with status OK make flows. Nothing of it is changed.
        scopes: names that the column `scope` refers to.
        tunnels: stacks that the column `tunnels` refers to.
        sensor: whose view this is.
        pieces: names of the capture objects that places refer to.

    Returns:
        Rows ordered by start, then by the place of the first packet. The same packets in any other order give the same
        table. `backscatter.flow.conversation` says what one flow is, `backscatter.flow.table` what its fields mean.
    """
    traffic = conversations(packets)
    rows = np.zeros(traffic.flows, FLOW)
    quotes, first_quote = flow_quotes(packets, traffic)
    for begin, end, shape in _portions(traffic):
        _fill(rows[begin:end], packets, shape, traffic.head[begin:end])
    rows["quote"] = first_quote
    return FlowTable(rows, quotes, tuple(scopes), tuple(tunnels), (sensor,), tuple(pieces))


def _portions(traffic: Traffic) -> Iterator[tuple[int, int, Shape]]:
    """Runs of whole flows: the first, the one behind the last, and their packets."""
    behind = np.cumsum(traffic.length[0::2] + traffic.length[1::2])
    begin = packets_before = 0
    while begin < traffic.flows:
        fits = int(np.searchsorted(behind, packets_before + PORTION_PACKETS, side="right"))
        end = min(max(fits, begin + 1), begin + PORTION_FLOWS)
        some = slice(packets_before, int(behind[end - 1]))
        yield begin, end, Shape(traffic.packet[some], traffic.pos[some], traffic.length[2 * begin : 2 * end])
        begin, packets_before = end, some.stop


def _fill(rows: NDArray[np.void], packets: Packets, shape: Shape, head: Ints) -> None:
    """Fill the rows of some flows."""
    for name in _OF_FIRST:
        rows[name] = packets[name][head]
    rows["has_ports"] = (packets["traits"][head] & HAS_PORTS) != 0
    _put(rows, slice(None), side_columns(packets, shape))
    rows["start"] = rows["src_first"]
    rows["end"] = np.maximum(rows["src_last"], rows["dst_last"])
    is_tcp = packets["proto"][head] == TCP
    if is_tcp.all():
        _fill_tcp(rows, slice(None), Halves(packets, shape))
        return
    if is_tcp.any():
        _fill_tcp(rows, np.flatnonzero(is_tcp), Halves(packets, shape.only(is_tcp)))
    is_udp = packets["proto"][head] == UDP
    rows["history"][is_udp] = udp_histories(shape.length)[is_udp]


def _put(rows: NDArray[np.void], which: slice | Ints, columns: Mapping[str, NDArray[Any]]) -> None:
    """Columns of halves into the fields of either side."""
    for name, column in columns.items():
        rows[f"src_{name}"][which] = column[0::2]
        rows[f"dst_{name}"][which] = column[1::2]


def _fill_tcp(rows: NDArray[np.void], which: slice | Ints, halves: Halves) -> None:
    """Fill what only TCP has; `which` rows the halves belong to."""
    columns = tcp_columns(halves)
    told, first = first_acks(halves)
    order = orderly(halves, told, first)
    columns["ack_first"] = halves.at(first, halves.ack[first])
    columns["ack_beyond"], columns["segments"] = order.ack_beyond, order.segments
    columns["lost"] = np.zeros(halves.count, np.int64)
    unruly = None
    if not order.flows.all():
        few = ~order.flows
        some = halves.only(few)
        unruly = Unruly(few, some, sequence_space(some))
        half = np.repeat(few, 2)
        columns["segments"][half], columns["lost"][half] = losses(some, unruly.sequence)
        columns["ack_beyond"][half] = ack_beyond(some)
    _put(rows, which, columns)
    ends = endpoints(halves)
    written = histories(halves, ends, unruly)
    rows["history"][which] = written
    rows["conn_state"][which] = conn_states(ends, written, columns["data"])
