"""TCP, UDP and ICMP of many packets: decode.transport in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import DNS_ANSWER, HAS_PORTS, ONE_WAY, QUOTE
from backscatter.decode.icmp import COUNTERPARTS, ERRORS, ICMP, ICMP6
from backscatter.decode.transport import TCP, UDP
from backscatter.decode.vector.heads import IP4, SAID, chosen, heads, within
from backscatter.decode.vector.ip import PLAIN
from backscatter.decode.vector.names import named
from backscatter.decode.vector.speech import languages, speech

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.decode.vector.heads import Bytes, Ints, Mask
    from backscatter.decode.vector.ip import Carried

    Which = NDArray[np.intp]
    Columns = dict[str, Any]

#: ICMP by version of IP
PROTO = {4: ICMP, 6: ICMP6}

#: A TCP header of 20 bytes, the least, in the byte whose upper half counts its words.
LEAST_WORDS = 0x50

#: An ICMP error's own header.
ERROR = 8

#: Bytes of a quoted packet that have to be there for it to be read here, by protocol: all that a quote has a field for.
QUOTE_REACH = np.full(256, 2**40, np.int64)
QUOTE_REACH[[TCP, UDP]], QUOTE_REACH[ICMP] = 28, 22

#: IPv4 fragment offset: what is quoted of a later fragment has no ports.
OFFSET = 0x1FFF


def _counterparts(proto: int) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Whether a type has a counterpart, and which, by type."""
    has, which = np.zeros(256, np.bool_), np.zeros(256, np.uint8)
    for kind, other in COUNTERPARTS[proto].items():
        has[kind], which[kind] = True, other
    return has, which


def _errors(proto: int) -> NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    table[list(ERRORS[proto])] = True
    return table


PAIRS = {proto: _counterparts(proto) for proto in PROTO.values()}
IS_ERROR = {proto: _errors(proto) for proto in PROTO.values()}


def udp_payloads(rest: Ints, length: Ints) -> Ints:
    """As decode.transport.udp_payload: `rest` is what the IP packet has for the datagram, `length` its own field."""
    rest = np.maximum(0, rest - 8)
    return np.where(length == 0, rest, np.minimum(rest, np.maximum(0, length - 8)))


def _said_at(carried: Carried, udp: Which) -> Ints:
    """Where the payloads of UDP packets begin in the block's data."""
    return carried.group.at[udp] + (carried.size + 8)


def _talking(carried: Carried) -> Which:
    """The UDP packets between ports where something is spoken."""
    udp = np.flatnonzero(carried.proto == UDP)
    if not len(udp):
        return udp
    body = carried.body
    return udp[languages(body["sport"][udp], body["dport"][udp]) > 0]


def _erring(carried: Carried) -> Which:
    """The ICMP errors."""
    proto = PROTO[carried.version]
    icmp = np.flatnonzero(carried.proto == proto)
    return icmp[IS_ERROR[proto][carried.body["icmp_type"][icmp]]] if len(icmp) else icmp


def _quotable(data: Bytes, carried: Carried, errors: Which) -> Mask:
    """Whether what ICMP errors quote is plain enough to be read here."""
    at = carried.group.at[errors] + (carried.size + ERROR)
    fits = within(data, at, IP4) & (carried.version == 4)
    head = heads(data, np.where(fits, at, 0), IP4) if fits.any() else np.zeros(len(at), IP4)
    reach = carried.reach[errors] - (carried.size + ERROR)
    whole: Mask = (
        fits & (head["first"] == PLAIN) & (head["fragment"] & OFFSET == 0) & (reach >= QUOTE_REACH[head["proto"]])
    )
    return whole


def readable(data: Bytes, carried: Carried) -> Mask:
    """Which packets can be decoded here to their last column."""
    mask: Mask = (carried.proto != TCP) | (carried.body["words"] >= LEAST_WORDS)
    errors = _erring(carried)
    if len(errors):
        mask[errors] = _quotable(data, carried, errors)
    talking = _talking(carried)
    if len(talking):
        mask[talking] = within(data, _said_at(carried, talking), SAID)
    return mask


def quotes(data: Bytes, carried: Carried) -> NDArray[np.void]:
    """What the ICMP errors among `readable` packets quote, as QUOTE; `packet` is the row in the tile."""
    errors = _erring(carried)
    table = np.zeros(len(errors), QUOTE)
    if not len(errors):
        return table
    head = heads(data, carried.group.at[errors] + (carried.size + ERROR), IP4)
    body, proto = head["body"], head["proto"]
    for name in ("src_lo", "dst_lo", "proto"):
        table[name] = head[name]
    table["packet"], table["version"], table["has_ports"] = carried.group.rows[errors], 4, 1
    has, which = PAIRS[ICMP]
    kind, icmp = body["icmp_type"], proto == ICMP
    table["src_port"] = np.where(icmp, kind, body["sport"])
    table["dst_port"] = np.where(icmp, np.where(has[kind], which[kind], body["icmp_code"]), body["dport"])
    table["seq"] = np.where(proto == TCP, body["seq"], 0)
    return table


def transport_columns(data: Bytes, carried: Carried) -> Columns:
    """The columns that the payloads of `readable` packets give."""
    body, proto = carried.body, carried.proto
    rest = carried.length - carried.size
    columns: Columns = {"src_port": body["sport"], "dst_port": body["dport"], "traits": HAS_PORTS}
    is_tcp = proto == TCP
    columns |= {name: body[name] for name in ("seq", "ack", "flags", "window")}
    columns["payload"] = np.maximum(0, rest - (body["words"] >> 2 & 0x3C))
    if is_tcp.all():
        return columns
    others = np.flatnonzero(~is_tcp)
    for name in ("seq", "ack", "flags", "window", "payload"):
        columns[name] = columns[name].copy()
        columns[name][others] = 0
    udp = others[proto[others] == UDP]
    if len(udp):
        payload = udp_payloads(rest[udp], body["udp_length"][udp].astype(np.int64))
        columns["payload"][udp] = payload
        columns["speech"] = _speech_column(data, carried, columns["payload"])
        columns |= _names(data, carried, columns)
    icmp = others[proto[others] != UDP]
    if len(icmp):
        columns |= _icmp_columns(carried, icmp)
    return columns


def _speech_column(data: Bytes, carried: Carried, payload: Ints) -> NDArray[np.uint8]:
    column = np.zeros(len(carried), np.uint8)
    talking = _talking(carried)
    if len(talking):
        length = payload[talking]
        captured = np.minimum(carried.reach[talking] - (carried.size + 8), length)
        said = heads(data, _said_at(carried, talking), SAID)
        body = carried.body
        column[talking] = speech(body["sport"][talking], body["dport"][talking], said, captured, length)
    return column


def _names(data: Bytes, carried: Carried, columns: Columns) -> Columns:
    """The addresses that DNS answers give names, where there are answers."""
    answers = np.flatnonzero(columns["speech"] & DNS_ANSWER)
    if not len(answers):
        return {}
    captured = np.minimum(carried.reach[answers] - (carried.size + 8), columns["payload"][answers])
    marks = np.zeros(len(carried), np.uint64)
    marks[answers] = named(data, _said_at(carried, answers), captured)
    return {"names": marks}


def _icmp_columns(carried: Carried, icmp: Which) -> Columns:
    """The columns in which ICMP differs from the others, for all packets; `icmp` says which they are."""
    body = chosen(carried.head, icmp)["body"]
    kind, code = body["icmp_type"], body["icmp_code"]
    has, which = PAIRS[PROTO[carried.version]]
    values: Columns = {
        "src_port": kind,
        "dst_port": np.where(has[kind], which[kind], code),
        "traits": np.where(has[kind], HAS_PORTS, HAS_PORTS | ONE_WAY),
        "icmp_type": kind,
        "icmp_code": code,
    }
    columns: Columns = {
        "src_port": carried.body["sport"].astype(np.uint16),
        "dst_port": carried.body["dport"].astype(np.uint16),
        "traits": np.full(len(carried), HAS_PORTS, np.uint8),
        "icmp_type": np.zeros(len(carried), np.uint8),
        "icmp_code": np.zeros(len(carried), np.uint8),
    }
    for name, column in columns.items():
        column[icmp] = values[name]
    return columns
