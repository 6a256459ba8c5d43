"""What a UDP payload says of its own role: asking or answering, by port and content.

An answer that nobody asked for can be backscatter; so what is called an answer has to look like one all through.
"""

from __future__ import annotations

import struct

from backscatter.decode.columns import (
    DNS_ANSWER,
    DNS_QUERY,
    NTP_ANSWER,
    NTP_ASK,
    QUIC_INITIAL,
    QUIC_LONG,
    QUIC_SHORT,
)

DNS_PORTS = frozenset({53, 5353})
NTP_PORT, QUIC_PORT = 123, 443

#: query, status, notify, update; 1 (inverse query) is obsolete but seen (RFC 1035, 1996, 2136)
DNS_OPCODES = frozenset({0, 1, 2, 4, 5})

#: The least bytes of a question (root name, type, class) and of a resource record.
QUESTION, RESOURCE = 5, 11

#: QUIC version -> the bits of the packet type that mean Initial (RFC 9000, 9369); drafts are as version 1.
QUIC_INITIAL_TYPE = {0x00000001: 0, 0x6B3343CF: 1}
QUIC_DRAFTS, QUIC_NEGOTIATION = 0xFF000000, 0
QUIC_MOST_ID = 20


def dns(source: int, destination: int, payload: bytes, length: int) -> int:
    """A DNS header (RFC 1035) whose counts fit into `length` bytes, and whether it asks or answers."""
    if length < 12 or len(payload) < 12:
        return 0
    _, flags, questions, *resources = struct.unpack_from(">HHHHHH", payload)
    if flags >> 11 & 0xF not in DNS_OPCODES or 12 + questions * QUESTION + sum(resources) * RESOURCE > length:
        return 0
    if flags & 0x8000:
        return DNS_ANSWER if source in DNS_PORTS else 0
    return DNS_QUERY if destination in DNS_PORTS else 0


def ntp(source: int, destination: int, payload: bytes, length: int) -> int:
    """NTP (RFC 5905) of client (mode 3) or server (mode 4)."""
    if length < 48 or not payload or not 1 <= payload[0] >> 3 & 7 <= 4:
        return 0
    mode = payload[0] & 7
    if mode == 3:
        return NTP_ASK if destination == NTP_PORT else 0
    return NTP_ANSWER if mode == 4 and source == NTP_PORT else 0


def quic(payload: bytes) -> int:
    """A QUIC header (RFC 8999, 9000): Initial, another with a long header, or one with a short header."""
    if len(payload) < 7:
        return 0
    first, (version,) = payload[0], struct.unpack_from(">I", payload, 1)
    fixed = first & 0x40
    if not first & 0x80:
        return QUIC_SHORT if fixed else 0
    if payload[5] > QUIC_MOST_ID:
        return 0
    if version == QUIC_NEGOTIATION:
        return QUIC_LONG  # its other bits are arbitrary
    if not fixed or (version not in QUIC_INITIAL_TYPE and version & 0xFFFFFF00 != QUIC_DRAFTS):
        return 0
    return QUIC_INITIAL if first >> 4 & 3 == QUIC_INITIAL_TYPE.get(version, 0) else QUIC_LONG


def speech(source: int, destination: int, payload: bytes, length: int) -> int:
    """Bits of Speech for a UDP payload: `payload` is what was captured of its `length` bytes."""
    either = (source, destination)
    if DNS_PORTS.intersection(either):
        return dns(source, destination, payload, length)
    if NTP_PORT in either:
        return ntp(source, destination, payload, length)
    return quic(payload) if QUIC_PORT in either else 0
