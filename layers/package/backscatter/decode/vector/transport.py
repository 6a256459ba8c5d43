"""TCP, UDP and ICMP of many packets: decode.transport in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backscatter.decode.columns import DNS_ANSWER, HAS_PORTS, ONE_WAY, QUOTE, picked
from backscatter.decode.icmp import COUNTERPARTS, ERRORS, ICMP
from backscatter.decode.transport import TCP, UDP
from backscatter.decode.vector.heads import BEFORE, IP4, SAID, heads, within
from backscatter.decode.vector.ip import ICMP_OF, PLAIN
from backscatter.decode.vector.names import named
from backscatter.decode.vector.speech import speech

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.decode.vector.heads import Bytes, Ints, Mask
    from backscatter.decode.vector.ip import Carried
    from backscatter.decode.vector.protocols import Protocols

    Which = NDArray[np.intp]
    Columns = dict[str, Any]

#: A TCP header of 20 bytes, the least, in the byte whose upper half counts its words.
LEAST_WORDS = 0x50

#: Columns that only TCP has.
TCP_ONLY = ("seq", "ack", "flags", "window")

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


PAIRS = {version: _counterparts(proto) for version, proto in ICMP_OF.items()}
IS_ERROR = {version: _errors(proto) for version, proto in ICMP_OF.items()}


def udp_payloads(rest: NDArray[Any], length: NDArray[Any]) -> NDArray[Any]:
    """As decode.transport.udp_payload: `rest` is what the IP packet has for the datagram, `length` its own field."""
    rest = np.maximum(0, rest - 8)
    # longer than any, where it is 0
    told = np.where(length, length, rest + 8)
    payloads: NDArray[Any] = np.minimum(rest, np.maximum(0, told - 8))
    return payloads


class Talk(NamedTuple):
    """UDP payloads that may say something.

    rows          of their packets in the block
    said          SAID, what they begin with
    at            indices into the data of the payloads
    captured      bytes of them captured
    length        bytes of them
    sport, dport  ports
    """

    rows: Which
    said: NDArray[np.void]
    at: Ints
    captured: Ints
    length: Ints
    sport: NDArray[np.uint16]
    dport: NDArray[np.uint16]


class Errors(NamedTuple):
    """ICMP errors: their rows in the block, where in the data the quoted packet begins, and how much of it is there."""

    rows: Which
    at: Ints
    reach: Ints


def readable(carried: Carried) -> Carried:
    """Those whose own header can be read here; quotes and payloads are another question."""
    tcp = carried.proto == TCP
    if not tcp.any():
        return carried
    malformed = (carried.body["words"].copy() < LEAST_WORDS) & tcp
    return carried.only(~malformed) if malformed.any() else carried


def transport_columns(carried: Carried, where: Protocols) -> tuple[Columns, list[tuple[Which, Columns]]]:
    """The columns that the payloads of `readable` packets give, and at which positions some of them are others."""
    body, count = carried.body, len(carried)
    columns: Columns = {"src_port": body["sport"], "dst_port": body["dport"], "traits": HAS_PORTS}
    if len(where.others) < count:
        columns |= {name: body[name] for name in TCP_ONLY}
        header = (body["words"].copy() >> 2 & 0x3C) + np.uint8(carried.size)
        columns["payload"] = np.maximum(0, carried.length - header)
    differing: list[tuple[Which, Columns]] = []
    if 0 < len(where.others) < count:
        differing.append((where.others, dict.fromkeys((*TCP_ONLY, "payload"), 0)))
    udp, icmp = where.udp, where.icmp
    if len(udp):
        rest = carried.length[udp] - carried.size
        differing.append((udp, {"payload": udp_payloads(rest, body["udp_length"][udp].astype(rest.dtype))}))
    if len(icmp):
        differing.append((icmp, _icmp_columns(carried, icmp)))
    return columns, differing


def _icmp_columns(carried: Carried, icmp: Which) -> Columns:
    """The columns in which the ICMP packets at the positions `icmp` differ from others."""
    kind, code = carried.body["icmp_type"][icmp], carried.body["icmp_code"][icmp]
    has, which = PAIRS[carried.version]
    paired = has[kind]
    return {
        "src_port": kind,
        "dst_port": np.where(paired, which[kind], code),
        "traits": np.where(paired, np.uint8(HAS_PORTS), np.uint8(HAS_PORTS | ONE_WAY)),
        "icmp_type": kind,
        "icmp_code": code,
    }


def talk(carried: Carried, udp: Which) -> Talk:
    """The UDP packets at the positions `udp`, which may say something."""
    body = picked(carried.head, udp)["body"]
    at, captured = carried.inside(udp, carried.size + 8)
    length = udp_payloads(carried.length[udp].astype(np.int64) - carried.size, body["udp_length"].astype(np.int64))
    sport, dport = body["sport"].astype(np.uint16), body["dport"].astype(np.uint16)
    said = np.ascontiguousarray(body["said"]).view(SAID)
    return Talk(carried.group.rows_of(udp), said, at, np.minimum(captured, length), length, sport, dport)


def errors(carried: Carried, icmp: Which) -> Errors:
    """The errors among the ICMP packets at the positions `icmp`."""
    icmp = icmp[IS_ERROR[carried.version][carried.body["icmp_type"][icmp]]]
    return Errors(carried.group.rows_of(icmp), *carried.inside(icmp, carried.size + ERROR))


def quotes(data: Bytes, found: Errors) -> tuple[NDArray[np.void], Mask]:
    """What ICMP errors quote, as QUOTE, where that is plain enough to be read here; and where it is."""
    fits = within(data, found.at, IP4, -BEFORE)
    head = heads(data, np.where(fits, found.at, BEFORE), IP4, -BEFORE) if fits.any() else np.zeros(len(fits), IP4)
    fits &= (head["first"] == PLAIN) & (head["fragment"] & OFFSET == 0) & (found.reach >= QUOTE_REACH[head["proto"]])
    rows = found.rows
    if not fits.all():
        plain = np.flatnonzero(fits)
        head, rows = picked(head, plain), rows[plain]
    body, proto = head["body"], head["proto"]
    table = np.zeros(len(head), QUOTE)
    for name in ("src_lo", "dst_lo", "proto"):
        table[name] = head[name]
    table["packet"], table["version"], table["has_ports"] = rows, 4, 1
    has, which = PAIRS[4]
    kind, icmp = body["icmp_type"], proto == ICMP
    table["src_port"] = np.where(icmp, kind, body["sport"])
    table["dst_port"] = np.where(icmp, np.where(has[kind], which[kind], body["icmp_code"]), body["dport"])
    table["seq"] = np.where(proto == TCP, body["seq"], 0)
    return table, fits


def said(data: Bytes, found: Talk) -> Columns:
    """The columns that UDP payloads give by what they say."""
    spoken = speech(found.sport, found.dport, found.said, found.captured, found.length)
    answers = np.flatnonzero(spoken & DNS_ANSWER)
    if not len(answers):
        return {"speech": spoken}
    marks = np.zeros(len(spoken), np.uint64)
    marks[answers] = named(data, found.at[answers], found.captured[answers])
    return {"speech": spoken, "names": marks}
