"""Packets and captures made from numbers: for the demo and for the tests, which own every byte they read.

Addresses are text; the IP version follows from them. Lengths and checksums are right unless a caller says otherwise.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The order in which the contract prints TCP flags; bit i of the wire's byte is letter i.
FLAG_LETTERS = "FSRPAUEC"

ETHERNET, RAW_IP, LINUX_SLL, LINUX_SLL2 = 1, 101, 113, 276


def flag_bits(letters: str) -> int:
    """TCP flags from letters, such as "SA" for SYN+ACK."""
    return sum(1 << FLAG_LETTERS.index(letter) for letter in letters)


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def ip(
    src: str,
    dst: str,
    proto: int,
    body: bytes,
    *,
    ttl: int = 64,
    ip_id: int = 0,
    fragment: int = 0,
    options: bytes = b"",
) -> bytes:
    """An IP packet. `fragment` is the IPv4 flags-and-offset field (RFC 791); `options` are IPv4 options, padded."""
    source, destination = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    if source.version == 6:
        return struct.pack(">IHBB", 6 << 28, len(body), proto, ttl) + source.packed + destination.packed + body
    words = 5 + len(options) // 4
    head = struct.pack(">BBHHHBBH", 4 << 4 | words, 0, words * 4 + len(body), ip_id, fragment, ttl, proto, 0)
    head += source.packed + destination.packed + options
    return head[:10] + struct.pack(">H", _checksum(head)) + head[12:] + body


def _pseudo(src: str, dst: str, proto: int, length: int) -> bytes:
    source, destination = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    addresses = source.packed + destination.packed
    if source.version == 6:
        return addresses + struct.pack(">II", length, proto)
    return addresses + struct.pack(">HH", proto, length)


def tcp(
    src: str,
    sport: int,
    dst: str,
    dport: int,
    flags: str,
    *,
    seq: int = 0,
    ack: int = 0,
    window: int = 64240,
    payload: bytes = b"",
    ttl: int = 64,
    ip_id: int = 0,
) -> bytes:
    """A TCP segment in an IP packet."""
    body = (
        struct.pack(">HHIIBBHHH", sport, dport, seq % 2**32, ack % 2**32, 5 << 4, flag_bits(flags), window, 0, 0)
        + payload
    )
    body = body[:16] + struct.pack(">H", _checksum(_pseudo(src, dst, 6, len(body)) + body)) + body[18:]
    return ip(src, dst, 6, body, ttl=ttl, ip_id=ip_id)


def udp(src: str, sport: int, dst: str, dport: int, payload: bytes = b"", *, ttl: int = 64) -> bytes:
    """A UDP datagram in an IP packet."""
    body = struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload
    body = body[:6] + struct.pack(">H", _checksum(_pseudo(src, dst, 17, len(body)) + body) or 0xFFFF) + body[8:]
    return ip(src, dst, 17, body, ttl=ttl)


def icmp(
    src: str, dst: str, kind: int, code: int = 0, rest: bytes = b"\0\0\0\0", payload: bytes = b"", *, ttl: int = 64
) -> bytes:
    """An ICMP or ICMPv6 message in an IP packet; `rest` is the second word of its header."""
    six = ipaddress.ip_address(src).version == 6
    body = struct.pack(">BBH", kind, code, 0) + rest + payload
    total = _checksum((_pseudo(src, dst, 58, len(body)) if six else b"") + body)
    return ip(src, dst, 58 if six else 1, body[:2] + struct.pack(">H", total) + body[4:], ttl=ttl)


def icmp_error(src: str, dst: str, kind: int, code: int, quoted: bytes, *, keep: int = 28) -> bytes:
    """An ICMP error that quotes the first `keep` bytes of an IP packet."""
    return icmp(src, dst, kind, code, payload=quoted[:keep])


def ether(packet: bytes, *, vlan: tuple[int, ...] = (), tag: int = 0x8100) -> bytes:
    """An Ethernet frame around an IP packet; `vlan` gives the tags, outermost first."""
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    tags = b"".join(struct.pack(">HH", tag, number) for number in vlan)
    return bytes.fromhex("020000000002020000000001") + tags + struct.pack(">H", kind) + packet


def vxlan(frame: bytes, vni: int, src: str = "10.99.0.1", dst: str = "10.99.0.2", *, reserved: int = 0) -> bytes:
    """An Ethernet frame inside VXLAN (RFC 7348), as an IP packet."""
    return udp(src, 49152, dst, 4789, struct.pack(">II", 0x08000000 | reserved, vni << 8) + frame)


def geneve(
    frame: bytes, vni: int, src: str = "10.98.0.1", dst: str = "10.98.0.2", *, options: bytes = b"", kind: int = 0x6558
) -> bytes:
    """A frame inside GENEVE (RFC 8926), as an IP packet; `kind` is the EtherType of what is inside."""
    head = struct.pack(">BBHI", len(options) // 4, 0, kind, vni << 8) + options
    return udp(src, 49153, dst, 6081, head + frame)


def pcap(
    records: Iterable[tuple[int, bytes]],
    *,
    linktype: int = ETHERNET,
    nano: bool = True,
    big: bool = False,
    snaplen: int = 262144,
) -> bytes:
    """A pcap file (draft-ietf-opsawg-pcap) of (time in ns, frame) records; frames are cut at the snap length."""
    order, tick = ">" if big else "<", 1 if nano else 1000
    out = [struct.pack(order + "IHHiIII", 0xA1B23C4D if nano else 0xA1B2C3D4, 2, 4, 0, 0, snaplen, linktype)]
    for time, frame in records:
        cut = frame[:snaplen]
        out.append(struct.pack(order + "IIII", time // 10**9, time % 10**9 // tick, len(cut), len(frame)) + cut)
    return b"".join(out)
