"""Pseudo-headers: what capturing systems put in front of a packet, which no wire ever carried."""

from __future__ import annotations

import struct

from backscatter.decode.network import (
    FIRST_ETHERTYPE,
    IPV4,
    IPV6,
    LINK,
    OTHER,
    TRANSPARENT_ETHERNET,
    Layer,
    Network,
)

#: Address families. BSDs never agreed on the number of IPv6; 26 is Solaris.
FAMILIES = {2: IPV4, 10: IPV6, 24: IPV6, 26: IPV6, 28: IPV6, 30: IPV6}

#: Types of Linux devices (ARPHRD_) whose frames have a link layer of their own in front of the protocol.
DEVICES = {770: LINK + 107, 801: LINK + 105, 802: LINK + 119, 803: LINK + 127}

NFLOG_PAYLOAD = 9

#: The least size of a PKTAP header, and its kind of record that holds a packet.
PKTAP_HEADER, PKTAP_PACKET = 108, 1

JUNIPER_MAGIC = b"MGC"
JUNIPER_NO_LINK, JUNIPER_EXTENDED = 0x02, 0x80

#: ERF types (low seven bits): HDLC, Ethernet; the highest bit tells of extension headers.
ERF_TYPES = {1: (LINK + 50, 16), 2: (TRANSPARENT_ETHERNET, 18)}
ERF_EXTENDED = 0x80


def _family(frame: bytes, at: int) -> int:
    """The kind that a 32-bit address family tells, in the byte order of the capturing machine, whichever that was."""
    little, big = struct.unpack_from("<I", frame, at)[0], struct.unpack_from(">I", frame, at)[0]
    return FAMILIES.get(little, FAMILIES.get(big, OTHER))


def null(frame: bytes, start: int, end: int) -> Network | None:
    """BSD loopback: an address family."""
    return Network(_family(frame, start), start + 4, end) if len(frame) >= start + 4 else None


def encapsulating(frame: bytes, start: int, end: int) -> Network | None:
    """OpenBSD's enc: an address family, a security parameter index, flags."""
    return Network(_family(frame, start), start + 12, end) if len(frame) >= start + 12 else None


def pflog(frame: bytes, start: int, end: int) -> Network | None:
    """OpenBSD's packet filter log: its length without padding, an address family, and much else."""
    if len(frame) < start + 2 or frame[start] < 4:
        return None
    return Network(FAMILIES.get(frame[start + 1], OTHER), start + frame[start] + -frame[start] % 4, end)


def _cooked(frame: bytes, kind: int, device: int, start: int, end: int) -> Network | None:
    # a protocol that is no EtherType leaves it to the kind of device
    if kind < FIRST_ETHERTYPE and device in DEVICES:
        return Network(DEVICES[device], start, end)
    return Network(kind, start, end) if len(frame) >= start else None


def linux_sll(frame: bytes, start: int, end: int) -> Network | None:
    """Linux cooked capture: the protocol is the last of 16 bytes' fields."""
    if len(frame) < start + 16:
        return None
    _direction, device, _length, _address, kind = struct.unpack_from(">HHHQH", frame, start)
    return _cooked(frame, kind, device, start + 16, end)


def linux_sll2(frame: bytes, start: int, end: int) -> Network | None:
    """Linux cooked capture, version 2: the protocol is the first of 20 bytes' fields."""
    if len(frame) < start + 20:
        return None
    kind, _zero, _interface, device = struct.unpack_from(">HHIH", frame, start)
    return _cooked(frame, kind, device, start + 20, end)


def ppi(frame: bytes, start: int, end: int) -> Network | None:
    """Per-packet information: a length and the link type of what follows, little-endian."""
    if len(frame) < start + 8:
        return None
    _version, _flags, length, linktype = struct.unpack_from("<BBHI", frame, start)
    return Network(LINK + linktype, start + length, end) if length >= 8 else None


def pktap(frame: bytes, start: int, end: int) -> Network | None:
    """Apple's PKTAP: a length, the kind of record, the link type of what follows, little-endian."""
    if len(frame) < start + 12:
        return None
    length, record, linktype = struct.unpack_from("<III", frame, start)
    if length < PKTAP_HEADER or start + length > len(frame):
        return None
    return Network(LINK + linktype if record == PKTAP_PACKET else OTHER, start + length, end)


def nflog(frame: bytes, start: int, end: int) -> Network | None:
    """Linux's netfilter log: family, version, then attributes in the byte order of the machine, the payload one."""
    if len(frame) < start + 4:
        return None
    kind = FAMILIES.get(frame[start], OTHER)
    at = start + 4
    # the first attribute is a short one: the order that makes it longer is the wrong one
    order = "<" if frame[at + 1 : at + 2] <= frame[at : at + 1] else ">"
    while at + 4 <= len(frame):
        length, attribute = struct.unpack_from(order + "HH", frame, at)
        if length < 4:
            return None
        if attribute & 0x7FFF == NFLOG_PAYLOAD:
            return Network(kind, at + 4, min(end, at + length))
        at += length + -length % 4
    return None


def ipnet(frame: bytes, start: int, end: int) -> Network | None:
    """Solaris' ipnet: version, address family, and 22 bytes of zones and interfaces."""
    if len(frame) < start + 24:
        return None
    return Network(FAMILIES.get(frame[start + 1], OTHER), start + 24, end)


def erf(frame: bytes, start: int, end: int) -> Network | None:
    """Endace's extensible record format, a whole record of it: 16 bytes, extension headers, the frame."""
    if len(frame) < start + 16:
        return None
    record, extensions = frame[start + 8], 0
    more = record & ERF_EXTENDED
    while more:
        at = start + 16 + extensions * 8
        if len(frame) < at + 8:
            return None
        more, extensions = frame[at] & ERF_EXTENDED, extensions + 1
    kind, header = ERF_TYPES.get(record & 0x7F, (OTHER, 16))
    return Network(kind, start + header + extensions * 8, end)


def juniper(kind: int) -> Layer:
    """Juniper's pseudo-header in front of `kind`: magic, flags, perhaps extensions."""

    def layer(frame: bytes, start: int, end: int) -> Network | None:
        if len(frame) < start + 6 or frame[start : start + 3] != JUNIPER_MAGIC:
            return None
        flags, size = frame[start + 3], 4
        if flags & JUNIPER_EXTENDED:
            size += 2 + int.from_bytes(frame[start + 4 : start + 6])
        if flags & JUNIPER_NO_LINK:
            return Network(LINK + 101, start + size + 4, end)  # a four-byte route, then IP
        return Network(kind, start + size, end)

    return layer
