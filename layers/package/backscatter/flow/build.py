"""Packet columns -> flow table, without a loop over packets or flows: a sort, then reductions over its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from backscatter.decode.columns import HAS_PORTS
from backscatter.flow.alike import alike
from backscatter.flow.conversation import TCP, conversations
from backscatter.flow.halves import Halves, Shape
from backscatter.flow.history import Unruly, histories, udp_histories
from backscatter.flow.loss import losses
from backscatter.flow.orderly import orderly
from backscatter.flow.quotes import flow_quotes
from backscatter.flow.sequence import sequence_space
from backscatter.flow.sides import ack_beyond, first_acks, first_packets, number_columns, side_columns, tcp_columns
from backscatter.flow.state import conn_states, endpoints
from backscatter.flow.table import FLOW, FlowTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from backscatter.decode.columns import Packets
    from backscatter.flow.conversation import Traffic
    from backscatter.flow.runs import Ints
    from backscatter.flow.sides import Firsts

#: Rows (FLOW) in the order of their start, and their quotes (FLOW_QUOTE).
Built: TypeAlias = "tuple[NDArray[np.void], NDArray[np.void]]"

#: A run of whole flows: the first, the one behind the last, and their packets.
Portion: TypeAlias = "tuple[int, int, Shape]"

UDP = 17

#: Packets and flows that are worked on at a time: what is computed of them stays in the processor's cache.
PORTION_PACKETS, PORTION_FLOWS = 1 << 16, 1 << 13

_ASSEMBLED = 1 << 10

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
    rows, quotes = flow_rows(packets, conversations(packets))
    return FlowTable(rows, quotes, tuple(scopes), tuple(tunnels), (sensor,), tuple(pieces))


def flow_rows(packets: Packets, traffic: Traffic) -> Built:
    """The rows of packets sorted into flows, and their quotes."""
    rows = np.empty(traffic.flows, FLOW)
    quotes, first_quote = flow_quotes(packets, traffic)

    for portion in portions(traffic):
        begin, end, _ = portion
        _fill(rows[begin:end], packets, traffic, portion, first_quote[begin:end])
    return rows, quotes


def _fill(rows: NDArray[np.void], packets: Packets, traffic: Traffic, portion: Portion, first_quote: Ints) -> None:
    begin, end, shape = portion
    columns = _columns(packets, shape, traffic.head[begin:end])
    _assemble(rows, columns | {"quote": first_quote})


def _assemble(rows: NDArray[np.void], columns: Mapping[str, NDArray[Any]]) -> None:
    """Fill rows from columns, so many at a time that they stay in cache: fields lie far apart. Others are zero."""
    for begin in range(0, len(rows), _ASSEMBLED):
        some = slice(begin, begin + _ASSEMBLED)
        part = rows[some]
        part.view(np.uint8).fill(0)
        for name, column in columns.items():
            part[name] = column[some]


def portions(traffic: Traffic) -> Iterator[Portion]:
    """All flows in runs, in order."""
    behind = np.cumsum(traffic.length[0::2] + traffic.length[1::2])
    begin = packets_before = 0
    while begin < traffic.flows:
        fits = int(np.searchsorted(behind, packets_before + PORTION_PACKETS, side="right"))
        end = min(max(fits, begin + 1), begin + PORTION_FLOWS)
        some = slice(packets_before, int(behind[end - 1]))
        yield begin, end, Shape(traffic.packet[some], traffic.pos[some], traffic.length[2 * begin : 2 * end])
        begin, packets_before = end, some.stop


def _columns(packets: Packets, shape: Shape, head: Ints) -> dict[str, NDArray[Any]]:
    """A column for every field of FLOW except `sensor` and `quote` that is not zero throughout, one entry a flow."""
    columns = {name: packets[name][head] for name in _OF_FIRST if packets[name].strides != (0,) or packets[name][0]}
    columns["has_ports"] = (packets["traits"][head] & HAS_PORTS) != 0
    halves = side_columns(packets, shape)
    first, last = halves["first"], halves["last"]
    columns["start"], columns["end"] = first[0::2], np.maximum(last[0::2], last[1::2])
    proto = packets["proto"][head]
    is_tcp = proto == TCP
    if is_tcp.all():
        columns["history"], columns["conn_state"], of_tcp = _of_tcp(Halves(packets, shape))
        return columns | _sided(halves | of_tcp)
    columns["history"] = np.where(proto == UDP, udp_histories(shape.length), b"").astype(FLOW["history"])
    columns["conn_state"] = np.zeros(len(head), np.uint8)
    histories, states, of_tcp = _of_tcp(Halves(packets, shape.only(is_tcp)))
    columns["history"][is_tcp], columns["conn_state"][is_tcp] = histories, states
    where = np.flatnonzero(np.repeat(is_tcp, 2))
    for name, column in of_tcp.items():
        halves[name] = np.zeros(len(shape.length), column.dtype)
        halves[name][where] = column
    return columns | _sided(halves)


def _sided(halves: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Columns of halves as columns of either side, those that are not zero throughout."""
    return _telling(
        {f"{side}_{name}": column[at::2] for at, side in enumerate(("src", "dst")) for name, column in halves.items()}
    )


def _telling(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The columns that are not zero throughout."""
    return {
        name: column
        for name, column in columns.items()
        # one look is mostly enough
        if len(column) and (column[0].any() or column.max() or (column.dtype.kind == "i" and column.min()))
    }


class OfTcp(NamedTuple):
    """What only TCP has: histories and conn_states of flows, and columns of halves that are not zero throughout."""

    histories: NDArray[np.bytes_]
    states: NDArray[np.uint8]
    columns: dict[str, NDArray[Any]]


def _of_tcp(halves: Halves) -> OfTcp:
    """All of it; of conversations that are alike it is worked out once."""
    found = alike(halves)
    if found is None:
        of_all, firsts = _worked_out(halves)
    else:
        some = halves.only(found.few)
        of_some, firsts = _worked_out(some)
        like = np.stack((2 * found.like, 2 * found.like + 1), axis=1).reshape(-1)
        firsts = firsts.moved(halves, some, like)
        of_all = OfTcp(
            of_some.histories[found.like],
            of_some.states[found.like],
            {name: column.take(like) for name, column in of_some.columns.items()},
        )
    of_all.columns.update(number_columns(halves, firsts))
    return of_all


def _worked_out(halves: Halves) -> tuple[OfTcp, Firsts]:
    """What does not depend on where sequence numbers begin, and where the numbers of single packets are found."""
    columns = tcp_columns(halves)
    told, first = first_acks(halves)
    order = orderly(halves, told, first)
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
    ends = endpoints(halves)
    written = histories(halves, ends, unruly)
    states = conn_states(ends, written, columns["data"])
    return OfTcp(written, states, _telling(columns)), first_packets(halves, first)
