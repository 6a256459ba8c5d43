"""Headers as dpkt declares them, read without what follows them.

dpkt's own `unpack` goes on into the payload, where it raises on what a snap length cut and on odd options. These
read the fixed header alone; where the payload lies is worked out by decode.ip and decode.transport.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any


class Header:
    """A kind of header: `size` bytes, declared by dpkt as module and class.

    dpkt is loaded when the first header is read: that takes as long as to decode a million common packets, which are
    read without it.
    """

    def __init__(self, size: int, declared: str) -> None:
        self.size, self._declared = size, declared

    @cached_property
    def _form(self) -> Any:
        import dpkt  # noqa: PLC0415

        module, name = self._declared.split(".")
        declared = getattr(getattr(dpkt, module), name)

        class Form(dpkt.Packet):  # type: ignore[misc]  # dpkt has no types
            __hdr__ = declared.__hdr__
            __bit_fields__ = getattr(declared, "__bit_fields__", {})

            def unpack(self, buf: bytes) -> None:
                """Reads the fixed fields, nothing behind them."""
                dpkt.Packet.unpack(self, buf)

        return Form

    def read(self, octets: bytes) -> Any:
        """The fields of a header of which `octets` is all, as attributes."""
        return self._form(octets)


#: RFC 791, RFC 8200
Ip4, Ip6 = Header(20, "ip.IP"), Header(40, "ip6.IP6")

#: RFC 9293, RFC 768
Tcp, Udp = Header(20, "tcp.TCP"), Header(8, "udp.UDP")

#: RFC 792, and RFC 4443 for version 6: the same first word.
Icmp = Header(4, "icmp.ICMP")


def whole(header: Header, frame: bytes, start: int, stop: int) -> Any | None:
    """The header at `start`; None if frame[start:stop] does not hold all of it."""
    size = header.size
    if stop - start < size or len(frame) - start < size:
        return None
    return header.read(frame[start : start + size])


def cut(header: Header, frame: bytes, start: int, stop: int) -> Any:
    """The header at `start` with zeros where frame[start:stop] ends before it does."""
    size = header.size
    return header.read(frame[start : min(stop, start + size)].ljust(size, b"\0"))
