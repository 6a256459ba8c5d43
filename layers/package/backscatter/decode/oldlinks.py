"""Links of the past that captures still hold: Token Ring, FDDI, ARCnet, Frame Relay, ATM."""

from __future__ import annotations

import struct

from backscatter.decode.ethertypes import NLPID
from backscatter.decode.network import FIRST_ETHERTYPE, IPV4, IPV6, LLC, OTHER, TRANSPARENT_ETHERNET, Network

#: Bit of the source address that tells of source routing, and the bits of its length.
ROUTED, ROUTING_LENGTH = 0x80, 0x1F

#: ARCnet system codes (RFC 1051, RFC 1201, Linux). The first has a header of its own, without fragment fields.
ARCNET_IP_OLD, ARCNET_CODES = 240, {212: IPV4, 196: IPV6}
ARCNET_ARP_OLD, ARCNET_EXCEPTION = 241, 0xFF

#: First byte of unnumbered information, and the NLPID of SNAP (RFC 2427).
UNNUMBERED, NLPID_SNAP = 3, 0x80

SNAP = b"\xaa\xaa\x03\0\0\0"


def token_ring(frame: bytes, start: int, end: int) -> Network | None:
    """IEEE 802.5: access and frame control, two addresses, perhaps a route, LLC."""
    if len(frame) < start + 16:
        return None
    if frame[start + 1] >> 6 != 1:  # no LLC frame
        return Network(OTHER, start + 14, end)
    route = frame[start + 14] & ROUTING_LENGTH if frame[start + 8] & ROUTED else 0
    return Network(LLC, start + 14 + route, end)


def fddi(frame: bytes, start: int, end: int) -> Network | None:
    """FDDI: frame control, two addresses (in whichever order of bits), LLC."""
    if len(frame) < start + 13:
        return None
    return Network(LLC if frame[start] >> 4 & 7 == 5 else OTHER, start + 13, end)


def arcnet(frame: bytes, start: int, end: int) -> Network | None:
    """ARCnet as BSD captures it: addresses, system code, and for most codes a flag and a sequence number."""
    if len(frame) < start + 6:
        return None
    code, flag = frame[start + 2], frame[start + 3]
    if code in {ARCNET_IP_OLD, ARCNET_ARP_OLD}:
        return Network(IPV4 if code == ARCNET_IP_OLD else OTHER, start + 3, end)
    # a packet's later fragments begin anywhere; an exception packet has four bytes more
    later = flag not in {0, ARCNET_EXCEPTION} and not flag & 1
    size = 10 if flag == ARCNET_EXCEPTION else 6
    return Network(OTHER if later else ARCNET_CODES.get(code, OTHER), start + size, end)


def arcnet_linux(frame: bytes, start: int, end: int) -> Network | None:
    """ARCnet as Linux captures it, reassembled: two bytes of offset stand behind the addresses."""
    if len(frame) < start + 5:
        return None
    code = frame[start + 4]
    if code in {ARCNET_IP_OLD, ARCNET_ARP_OLD}:
        return Network(IPV4 if code == ARCNET_IP_OLD else OTHER, start + 5, end)
    return Network(ARCNET_CODES.get(code, OTHER), start + 8, end)


def frame_relay(frame: bytes, start: int, end: int) -> Network | None:
    """Q.922 addresses of two to four bytes; then RFC 2427, or an EtherType as Cisco has it."""
    at = start
    while at < start + 4 and at < len(frame) and not frame[at] & 1:
        at += 1
    at += 1
    if at - start < 2 or len(frame) < at + 2:
        return None
    if frame[at] != UNNUMBERED:
        kind = int.from_bytes(frame[at : at + 2])
        return Network(kind if kind >= FIRST_ETHERTYPE else OTHER, at + 2, end)
    at += 2 if frame[at + 1] == 0 else 1  # one byte of padding
    if len(frame) <= at:
        return None
    if frame[at] != NLPID_SNAP:
        return Network(NLPID.get(frame[at], OTHER), at + 1, end)
    if len(frame) < at + 6:
        return None
    organisation, (kind,) = frame[at + 1 : at + 4], struct.unpack_from(">H", frame, at + 4)
    if organisation == b"\0\x80\xc2" and kind in {1, 7}:
        return Network(TRANSPARENT_ETHERNET, at + 6, end)
    return Network(kind if organisation == b"\0\0\0" and kind >= FIRST_ETHERTYPE else OTHER, at + 6, end)


def atm_clip(frame: bytes, start: int, end: int) -> Network | None:
    """Classical IP over ATM: LLC and SNAP, or IPv4 at once."""
    return Network(LLC if frame[start : start + 6] == SNAP else IPV4, start, end)


def sunatm(frame: bytes, start: int, end: int) -> Network | None:
    """SunATM: traffic type and circuit in four bytes; LAN emulation has two more before its Ethernet."""
    if len(frame) < start + 4:
        return None
    traffic = frame[start] & 0x0F
    if traffic == 1:
        return Network(TRANSPARENT_ETHERNET, start + 6, end)
    return Network(LLC if traffic == 2 else OTHER, start + 4, end)
