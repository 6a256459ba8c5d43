"""Layers that an EtherType names: VLAN tags, LLC, MPLS, service headers."""

from __future__ import annotations

import struct

from backscatter.decode.network import (
    BY_NIBBLE,
    FIRST_ETHERTYPE,
    IPV4,
    IPV6,
    MPLS,
    MPLS_UPSTREAM,
    NSH,
    OTHER,
    PPP,
    PPPOE_SESSION,
    TRANSPARENT_ETHERNET,
    VLAN_TAGS,
    Layer,
    Network,
    carries,
    ethernet,
    has_checksum,
    is_ip,
    names_at,
)
from backscatter.decode.ppp import ppp, pppoe

#: SNAP with the OUI of EtherTypes (RFC 1042), that of bridges (802.1H), and that of bridged frames (RFC 2684).
SNAP = (b"\xaa\xaa\x03\0\0\0", b"\xaa\xaa\x03\0\0\xf8")
BRIDGED = b"\xaa\xaa\x03\0\x80\xc2"

#: LLC of ISO protocols, whose next byte is their number (NLPID), and of IP alone.
ISO, IP_ALONE = b"\xfe\xfe\x03", b"\x06\x06\x03"
NLPID = {0xCC: IPV4, 0x8E: IPV6}

#: Next protocols of NSH (RFC 8300) and of VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe).
NEXT_PROTOCOL = {1: IPV4, 2: IPV6, 3: TRANSPARENT_ETHERNET, 4: NSH, 5: MPLS}

ARP = 0x0806

#: MPLS labels that name what is below them (RFC 3032).
EXPLICIT_NULL = {0: IPV4, 2: IPV6}


def vlan(frame: bytes, start: int, end: int) -> Network | None:
    """An 802.1Q tag: priority and number, then the EtherType of what follows."""
    if len(frame) < start + 4:
        return None
    tag, kind = struct.unpack_from(">HH", frame, start)
    # number 0 is no VLAN but a priority (802.1Q): taking it for one would part the two directions
    number = tag & 0xFFF
    return Network(kind, start + 4, end, (number,) if number else ())


def llc(frame: bytes, start: int, end: int) -> Network | None:
    """802.2: SNAP with an EtherType, bridged frames, ISO's numbers of IP, or IP's own service access point."""
    head = frame[start : start + 8]
    if len(head) == 8 and head[:6] in SNAP:
        kind = int.from_bytes(head[6:])
        # a length in there would make us follow LLC in LLC
        return Network(kind if kind >= FIRST_ETHERTYPE else OTHER, start + 8, end)
    if len(head) == 8 and head[:6] == BRIDGED and head[6:] in {b"\0\1", b"\0\7"}:
        return Network(TRANSPARENT_ETHERNET, start + 10, end)  # two bytes of padding
    if head[:3] == ISO and len(head) > 3:
        return Network(NLPID.get(head[3], OTHER), start + 4, end)
    return Network(IPV4 if head[:3] == IP_ALONE else OTHER, start + 3, end)


def _is_ethernet(frame: bytes, start: int, end: int) -> bool:
    """Whether an Ethernet frame at `start` would carry something that we know."""
    inside = ethernet(frame, start, end)
    if inside is None:
        return False
    if inside.kind < FIRST_ETHERTYPE:
        return inside.kind <= end - inside.start
    return inside.kind in {IPV4, IPV6, ARP} or inside.kind in ETHERTYPES


def _carries_ip(frame: bytes, start: int, end: int) -> bool:
    """Whether an Ethernet frame at `start` would carry an IP packet that fits."""
    inside = ethernet(frame, start, end)
    return inside is not None and inside.kind in {IPV4, IPV6} and is_ip(frame, inside.start, end)


def below_labels(frame: bytes, start: int, end: int) -> Network | None:
    """What is below the last MPLS label, which does not say: IP by its nibble (RFC 4928), else a pseudo-wire.

    A pseudo-wire's Ethernet may have a control word of nibble 0 in front (RFC 4448). Without one its first address
    byte may look like anything, also like IP: the reading that has more to show for itself wins.
    """
    if len(frame) <= start:
        return None
    nibble = frame[start] >> 4
    if nibble in BY_NIBBLE and (has_checksum(frame, start) or not _carries_ip(frame, start, end)):
        return Network(BY_NIBBLE[nibble], start, end)
    if nibble == 0 and (_is_ethernet(frame, start + 4, end) or not _is_ethernet(frame, start, end)):
        return Network(TRANSPARENT_ETHERNET, start + 4, end)
    return Network(TRANSPARENT_ETHERNET if _is_ethernet(frame, start, end) else OTHER, start, end)


def mpls(frame: bytes, start: int, end: int) -> Network | None:
    """A stack of labels (RFC 3032) to its bottom. Labels differ by direction, so they are no scope."""
    while len(frame) >= start + 4:
        (entry,) = struct.unpack_from(">I", frame, start)
        start += 4
        if entry & 0x100:  # bottom of the stack
            kind = EXPLICIT_NULL.get(entry >> 12)
            return below_labels(frame, start, end) if kind is None else Network(kind, start, end)
    return None


def nsh(frame: bytes, start: int, end: int) -> Network | None:
    """A network service header (RFC 8300), whose length is in words of four bytes."""
    if len(frame) < start + 8:
        return None
    words, following = frame[start + 1] & 0x3F, frame[start + 3]
    if words < 2:
        return None
    return Network(NEXT_PROTOCOL.get(following, OTHER), start + words * 4, end)


def cisco_metadata(frame: bytes, start: int, end: int) -> Network | None:
    """Cisco's security group tag: version, words, the options, then an EtherType."""
    if len(frame) < start + 2:
        return None
    at = start + 2 + frame[start + 1] * 4
    return names_at(0, 2)(frame, at, end)


def trill(frame: bytes, start: int, end: int) -> Network | None:
    """TRILL (RFC 6325): six bytes and options, then an Ethernet frame."""
    if len(frame) < start + 6:
        return None
    options = int.from_bytes(frame[start : start + 2]) >> 6 & 0x1F
    return Network(TRANSPARENT_ETHERNET, start + 6 + options * 4, end)


#: EtherType -> its layer, of those that are not IP themselves
ETHERTYPES: dict[int, Layer] = {
    **dict.fromkeys(VLAN_TAGS, vlan),
    TRANSPARENT_ETHERNET: ethernet,
    MPLS: mpls,
    MPLS_UPSTREAM: mpls,
    PPPOE_SESSION: pppoe,
    PPP: ppp,
    NSH: nsh,
    0x22F3: trill,
    0x88E7: carries(TRANSPARENT_ETHERNET, 4),  # provider backbone bridges (802.1ah): a tag, then the customer's frame
    0x8909: cisco_metadata,
    0x8926: names_at(4, 6),  # VN-Tag
    0x892F: names_at(4, 6),  # HSR (IEC 62439-3)
}
