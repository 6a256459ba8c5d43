"""Point-to-point links: PPP in its framings, PPPoE, Cisco HDLC."""

from __future__ import annotations

import struct

from backscatter.decode.network import IPV4, IPV6, MPLS, MPLS_UPSTREAM, OTHER, TRANSPARENT_ETHERNET, Network, names_at

#: https://www.iana.org/assignments/ppp-numbers
PPP_PROTOCOLS = {0x21: IPV4, 0x57: IPV6, 0x281: MPLS, 0x283: MPLS_UPSTREAM}

#: Bridging Control Protocol (RFC 3518), and the kind of MAC in it that is Ethernet.
BRIDGING, BRIDGED_ETHERNET = 0x31, 1

#: Control field of unnumbered information; the address in front of it is "all stations" or a direction.
UNNUMBERED = 3

#: Addresses of Cisco HDLC: unicast and multicast.
CISCO_ADDRESSES = frozenset({0x0F, 0x8F})

#: What Cisco HDLC has behind its address and control: an EtherType.
cisco_hdlc = names_at(2, 4)


def ppp(frame: bytes, start: int, end: int) -> Network | None:
    """RFC 1661 and 1662, with or without address and control, with the protocol in one byte or two."""
    # no protocol has an even first byte and 3 behind it, and none begins with the address 0xff
    if frame[start + 1 : start + 2] == bytes([UNNUMBERED]) and frame[start] in {0xFF, 0, 1}:
        start += 2
    if len(frame) <= start:
        return None
    if frame[start] & 1:
        kind, start = frame[start], start + 1
    elif len(frame) < start + 2:
        return None
    else:
        kind, start = int.from_bytes(frame[start : start + 2]), start + 2
    if kind == BRIDGING:
        if len(frame) < start + 2:
            return None
        is_ethernet = frame[start + 1] == BRIDGED_ETHERNET
        return Network(TRANSPARENT_ETHERNET if is_ethernet else OTHER, start + 2, end)
    return Network(PPP_PROTOCOLS.get(kind, OTHER), start, end)


def ppp_hdlc(frame: bytes, start: int, end: int) -> Network | None:
    """PPP in HDLC-like framing, or Cisco HDLC, told by the address."""
    if len(frame) <= start:
        return None
    return (cisco_hdlc if frame[start] in CISCO_ADDRESSES else ppp)(frame, start, end)


def pppoe(frame: bytes, start: int, end: int) -> Network | None:
    """A session packet of PPPoE (RFC 2516), which says how long it is: what is behind is padding."""
    if len(frame) < start + 6:
        return None
    version, code, _session, length = struct.unpack_from(">BBHH", frame, start)
    if version != 0x11 or code:
        return Network(OTHER, start + 6, end)
    start += 6
    # a session has no address and control field
    inside = ppp(frame, start, end)
    return inside and inside._replace(end=min(end, start + length))
