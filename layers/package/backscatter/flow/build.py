"""Packet columns -> flow table, without a loop over packets or flows: a sort, then reductions over its runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from backscatter.decode.columns import HAS_PORTS
from backscatter.flow.alike import alike
from backscatter.flow.columns import FlowColumns, Run, Some
from backscatter.flow.conversation import TCP, conversations
from backscatter.flow.halves import Halves, Shape
from backscatter.flow.history import Unruly, histories, udp_histories
from backscatter.flow.loss import losses
from backscatter.flow.orderly import orderly
from backscatter.flow.quotes import flow_quotes
from backscatter.flow.sequence import sequence_space
from backscatter.flow.sides import ack_beyond, first_acks, first_packets, number_columns, side_columns, tcp_columns
from backscatter.flow.state import conn_states, endpoints

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from backscatter.decode.columns import Packets
    from backscatter.flow.conversation import Traffic
    from backscatter.flow.runs import Ints
    from backscatter.flow.sides import Firsts
    from backscatter.flow.table import FlowTable

#: Flows that are worked on together: the first, the one behind the last, and their packets.
Portion: TypeAlias = "tuple[int, int, Shape]"

UDP = 17

#: Packets that are worked on at a time: what is computed of them stays near the processor.
PORTION_PACKETS = 1 << 16

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
    flows = flow_columns(packets, conversations(packets))
    return replace(flows, scopes=tuple(scopes), tunnels=tuple(tunnels), sensors=(sensor,), pieces=tuple(pieces)).table()


def flow_columns(packets: Packets, traffic: Traffic) -> FlowColumns:
    """The flows of packets that are sorted into flows."""
    quotes, first_quote = flow_quotes(packets, traffic)
    return FlowColumns([_run(packets, traffic, portion, first_quote) for portion in portions(traffic)], quotes)


def portions(traffic: Traffic) -> Iterator[Portion]:
    """All flows in runs, in order."""
    behind = np.cumsum(traffic.length[0::2] + traffic.length[1::2])
    begin = packets_before = 0
    while begin < traffic.flows:
        fits = int(np.searchsorted(behind, packets_before + PORTION_PACKETS, side="right"))
        end = max(fits, begin + 1)
        some = slice(packets_before, int(behind[end - 1]))
        yield begin, end, Shape(traffic.packet[some], traffic.pos[some], traffic.length[2 * begin : 2 * end])
        begin, packets_before = end, some.stop


def _run(packets: Packets, traffic: Traffic, portion: Portion, first_quote: Ints) -> Run:
    """All fields of FLOW except `sensor`."""
    begin, end, shape = portion
    head = traffic.head[begin:end]
    columns = {name: packets[name][head] for name in _OF_FIRST}
    columns["has_ports"] = (packets["traits"][head] & HAS_PORTS) != 0
    columns["quote"] = first_quote[begin:end]
    sides = side_columns(packets, shape)
    columns["start"], columns["end"] = sides["first"][0::2], np.maximum(sides["last"][0::2], sides["last"][1::2])
    parts = [Some(None, None, columns | _sided(sides))]
    proto = columns["proto"]
    is_udp, is_tcp = proto == UDP, proto == TCP
    if is_udp.any():
        parts.append(Some(np.flatnonzero(is_udp), None, {"history": udp_histories(shape.length)[is_udp]}))
    if is_tcp.all():
        parts += _of_tcp(Halves(packets, shape, sides["payload"]), None)
    elif is_tcp.any():
        sent = sides["payload"][np.repeat(is_tcp, 2)]
        parts += _of_tcp(Halves(packets, shape.only(is_tcp), sent), np.flatnonzero(is_tcp))
    return Run(end - begin, parts)


def _sided(halves: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Columns of halves as columns of either side."""
    return {
        f"{side}_{name}": column[at::2] for at, side in enumerate(("src", "dst")) for name, column in halves.items()
    }


def _of_tcp(halves: Halves, which: Ints | None) -> tuple[Some, Some]:
    """What only TCP has, of the flows of a run that it is of; of conversations that are alike it is worked out once."""
    found = alike(halves)
    if found is None:
        told, firsts = _worked_out(halves)
        like = None
    else:
        some, like = halves.only(found.few), found.like
        told, firsts = _worked_out(some)
        firsts = firsts.moved(halves, some, np.stack((2 * like, 2 * like + 1), axis=1).reshape(-1))
    return Some(which, like, told), Some(which, None, _sided(number_columns(halves, firsts)))


def _worked_out(halves: Halves) -> tuple[dict[str, NDArray[Any]], Firsts]:
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
    return {"history": written, "conn_state": states, **_sided(columns)}, first_packets(halves, first)
