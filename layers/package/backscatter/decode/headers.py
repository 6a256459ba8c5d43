"""Headers as dpkt declares them, read without what follows them.

dpkt's own `unpack` goes on into the payload, where it raises on what a snap length cut and on odd options. These
read the fixed header alone; where the payload lies is worked out by decode.ip and decode.transport.
"""

from __future__ import annotations

from typing import TypeVar

import dpkt

H = TypeVar("H", bound="_Header")


class _Header(dpkt.Packet):  # type: ignore[misc]  # dpkt has no types
    """A header that is read alone."""

    def unpack(self, buf: bytes) -> None:
        """Reads the fixed fields, nothing behind them."""
        dpkt.Packet.unpack(self, buf)


class Ip4(_Header):
    """RFC 791."""

    __hdr__ = dpkt.ip.IP.__hdr__
    __bit_fields__ = dpkt.ip.IP.__bit_fields__


class Ip6(_Header):
    """RFC 8200."""

    __hdr__ = dpkt.ip6.IP6.__hdr__
    __bit_fields__ = dpkt.ip6.IP6.__bit_fields__


class Tcp(_Header):
    """RFC 9293."""

    __hdr__ = dpkt.tcp.TCP.__hdr__
    __bit_fields__ = dpkt.tcp.TCP.__bit_fields__


class Udp(_Header):
    """RFC 768."""

    __hdr__ = dpkt.udp.UDP.__hdr__


class Icmp(_Header):
    """RFC 792, and RFC 4443 for version 6: the same first word."""

    __hdr__ = dpkt.icmp.ICMP.__hdr__


class Vxlan(_Header):
    """RFC 7348. Reserved bits are ignored on receipt, as it asks."""

    __hdr__ = (("flags", "B", 0x08), ("reserved", "3s", b"\0\0\0"), ("vni_reserved", "I", 0))


class Geneve(_Header):
    """RFC 8926, without its options."""

    __hdr__ = (("version_words", "B", 0), ("flags", "B", 0), ("kind", "H", 0x6558), ("vni_reserved", "I", 0))


class Gre(_Header):
    """RFC 2784 and 2890: the first word; what follows depends on its flags."""

    __hdr__ = (("flags", "H", 0), ("kind", "H", 0x0800))


def whole(header: type[H], frame: bytes, start: int, stop: int) -> H | None:
    """The header at `start`; None if frame[start:stop] does not hold all of it."""
    size: int = header.__hdr_len__
    if stop - start < size or len(frame) - start < size:
        return None
    return header(frame[start : start + size])


def cut(header: type[H], frame: bytes, start: int, stop: int) -> H:
    """The header at `start` with zeros where frame[start:stop] ends before it does."""
    size: int = header.__hdr_len__
    return header(frame[start : min(stop, start + size)].ljust(size, b"\0"))
