"""IP headers: addresses, lengths by their own fields, extension headers, fragments."""

from __future__ import annotations

import struct
from typing import NamedTuple

from backscatter.decode.headers import Ip4, Ip6, whole
from backscatter.decode.network import IPV4, IPV6

HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60
MOBILITY, HOST_IDENTITY, SHIM6 = 135, 139, 140

#: Headers that are walked through to the payload, by version. ESP (50) hides what is behind it.
EXTENSIONS = {
    4: frozenset({AUTHENTICATION}),
    6: frozenset({HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, AUTHENTICATION, DESTINATION, MOBILITY, HOST_IDENTITY, SHIM6}),
}

#: More extension headers than anybody sends; what is behind them is not looked at.
MOST_EXTENSIONS = 32


class Ip(NamedTuple):
    """An IP header, read.

    src, dst  addresses as integers
    length    of the whole packet by its own field; what the frame has where that is 0 (offloaded segmentation)
    proto     of the payload behind all extension headers
    body, end indices of the payload as it was on the wire
    stop      index behind the payload's last captured byte, at most `end`: padding and trailers are no payload
    ident     identification of its fragments
    offset    fragment offset in 8 bytes; more whether other fragments follow
    """

    version: int
    src: int
    dst: int
    ttl: int
    length: int
    proto: int
    body: int
    end: int
    stop: int
    ident: int = 0
    offset: int = 0
    more: bool = False


def read_ip(frame: bytes, kind: int, start: int, end: int, *, lengths: bool = True) -> Ip | None:
    """The IP packet of EtherType `kind` at `start`, `end` as the frame had it on the wire. None if unreadable.

    A length that goes beyond the frame is believed: truncated mirror packets look like that. Without `lengths` the
    packet goes to `end` whatever its header says, as quoted packets do.
    """
    if kind == IPV4:
        return _ip4(frame, start, end, lengths=lengths)
    return _ip6(frame, start, end, lengths=lengths) if kind == IPV6 else None


def _ip4(frame: bytes, start: int, end: int, *, lengths: bool) -> Ip | None:
    header = whole(Ip4, frame, start, end)
    if header is None or header.v != 4 or header.hl < 5:
        return None
    # offloaded segmentation has 0: the frame knows
    length = header.len if header.len and lengths else end - start
    if length < header.hl * 4:
        return None
    body, end = start + header.hl * 4, start + length
    ip = Ip(
        4,
        int.from_bytes(header.src),
        int.from_bytes(header.dst),
        header.ttl,
        length,
        header.p,
        body,
        end,
        min(end, len(frame)),
        header.id,
        header.offset,
        bool(header.mf),
    )
    return ip if ip.offset else _behind_extensions(frame, ip)


def _ip6(frame: bytes, start: int, end: int, *, lengths: bool) -> Ip | None:
    header = whole(Ip6, frame, start, end)
    if header is None or header.v != 6:
        return None
    # jumbograms and offloaded segmentation have 0: the frame knows
    length = 40 + header.plen if header.plen and lengths else end - start
    body, end = start + 40, start + length
    ip = Ip(
        6,
        int.from_bytes(header.src),
        int.from_bytes(header.dst),
        header.hlim,
        length,
        header.nxt,
        body,
        end,
        min(end, len(frame)),
    )
    return _behind_extensions(frame, ip)


def _behind_extensions(frame: bytes, ip: Ip) -> Ip:
    """The packet with `proto` and `body` moved behind its extension headers, as far as they were captured."""
    proto, body = ip.proto, ip.body
    ident, offset, more = ip.ident, ip.offset, ip.more
    walked = EXTENSIONS[ip.version]
    for _ in range(MOST_EXTENSIONS):
        # 8 bytes are the least that any of them has; a header cut by the snap length stays the protocol
        if proto not in walked or offset or ip.stop - body < 8:
            break
        following, words = frame[body], frame[body + 1]
        if proto == FRAGMENT_HEADER:
            bits, ident = struct.unpack_from(">HI", frame, body + 2)
            offset, more, size = bits >> 3, bool(bits & 1), 8
        else:
            size = (words + 2) * 4 if proto == AUTHENTICATION else (words + 1) * 8
        if body + size > ip.end:
            break
        proto, body = following, body + size
    return ip._replace(proto=proto, body=body, ident=ident, offset=offset, more=more)
