"""Packet columns -> flow table, without a loop over packets or flows: a sort, then reductions over its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backscatter.decode.columns import HAS_PORTS
from backscatter.flow.conversation import conversations
from backscatter.flow.history import UDP, histories
from backscatter.flow.loss import losses
from backscatter.flow.quotes import flow_quotes
from backscatter.flow.sequence import sequence_space
from backscatter.flow.sides import Halves, side_columns
from backscatter.flow.state import conn_states, endpoints
from backscatter.flow.table import FLOW, FlowTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backscatter.decode.columns import Packets

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
    quotes, rows["quote"] = flow_quotes(packets, traffic)
    for name in _OF_FIRST:
        rows[name] = packets[name][traffic.head]
    rows["has_ports"] = (packets["traits"][traffic.head] & HAS_PORTS) != 0
    halves = Halves(packets, traffic)
    for name, column in side_columns(halves).items():
        rows[f"src_{name}"] = column[0::2]
        rows[f"dst_{name}"] = column[1::2]
    sequence = sequence_space(halves)
    for name, column in zip(("segments", "lost"), losses(halves, sequence), strict=True):
        rows[f"src_{name}"] = column[0::2]
        rows[f"dst_{name}"] = column[1::2]
    ends = endpoints(halves)
    written = histories(halves, ends, sequence, packets["proto"][traffic.packet] == UDP)
    rows["history"] = written
    rows["conn_state"] = conn_states(halves, ends, written)
    rows["start"] = rows["src_first"]
    rows["end"] = np.maximum(rows["src_last"], rows["dst_last"])
    return FlowTable(rows, quotes, tuple(scopes), tuple(tunnels), (sensor,), tuple(pieces))
