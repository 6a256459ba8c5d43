"""Tunnels: packets that carry packets, and so hide one IP header behind another.

A new tunnel is a function of (frame, start of its header, end on the wire) and a row in a table. A tunnel has to
prove itself by an IP packet inside: a packet that is no tunnel, or carries something else, stays what it is outside.
What has no IP header outside of it, such as VLAN, MPLS and PPPoE, is no tunnel but a layer: see decode.link.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from backscatter.decode.ethertypes import NEXT_PROTOCOL, mpls, nsh
from backscatter.decode.headers import Udp, whole
from backscatter.decode.link import follow
from backscatter.decode.network import (
    IPV4,
    IPV6,
    LINK,
    OTHER,
    PPP,
    TRANSPARENT_ETHERNET,
    Network,
    ethernet,
    is_ip,
    raw_ip,
)
from backscatter.decode.transport import UDP, udp_payload

if TYPE_CHECKING:
    from backscatter.decode.ip import Ip

#: Tunnels in tunnels are followed to this depth.
DEPTH = 16

#: RFC 7348: flags, next protocol of VXLAN-GPE, network number above 8 reserved bits. RFC 8926, without its options:
#: version and words of options, EtherType, network number likewise. RFC 2784 and 2890: flags, EtherType.
VXLAN_HEADER, GENEVE_HEADER, GRE_HEADER = struct.Struct(">B2xBI"), struct.Struct(">BxHI"), struct.Struct(">HH")

#: Source routes of GRE (RFC 1701) that are stepped over; nobody sends any.
MOST_ROUTES = 16

GRE_CHECKSUM, GRE_ROUTING, GRE_KEY, GRE_SEQUENCE, GRE_ACKNOWLEDGED, GRE_VERSION = (
    0x8000,
    0x4000,
    0x2000,
    0x1000,
    0x80,
    7,
)

#: What GRE carries when it carries mirrored frames (draft-foschiano-erspan); the first is of type I or II.
ERSPAN, ERSPAN_3 = 0x88BE, 0x22EB
ERSPAN_2_HEADER, ERSPAN_3_HEADER, ERSPAN_SUBHEADER = 8, 12, 8

#: Frame types of ERSPAN III: Ethernet, and IP without it.
ERSPAN_3_FRAMES = {0: TRANSPARENT_ETHERNET, 2: LINK + 101}

GPE_NEXT_PROTOCOL = 0x04

GTP_DATA, GTP_VERSION_1, GTP_OPTIONAL, GTP_EXTENSIONS = 0xFF, 0x30, 0x07, 0x04
MOST_GTP_EXTENSIONS = 16

TEREDO_ORIGIN, TEREDO_AUTHENTICATION = 0, 1

L2TP_CONTROL, L2TP_LENGTH, L2TP_SEQUENCE, L2TP_OFFSET = 0x8000, 0x4000, 0x0800, 0x0200

#: Bytes between the session of L2TPv3 and its payload, which both ends know and nobody else: a cookie, a sublayer.
L2TP3_UNTOLD = (0, 4, 8, 12)


class Tunnel(NamedTuple):
    """A tunnel found: its name, its network number (-1 for none), and what it carries."""

    name: str
    vni: int
    inside: Network


class Path(NamedTuple):
    """The way to the innermost packet.

    vlans    of the outermost frame, outermost first
    tunnels  names, outermost first
    vxlan    network number of the outermost VXLAN, -1 for none; geneve likewise
    """

    vlans: tuple[int, ...] = ()
    tunnels: tuple[str, ...] = ()
    vxlan: int = -1
    geneve: int = -1

    def into(self, tunnel: Tunnel) -> Path:
        """The path one tunnel further in."""
        path = self._replace(tunnels=(*self.tunnels, tunnel.name))
        if tunnel.name == "vxlan" and self.vxlan < 0:
            return path._replace(vxlan=tunnel.vni)
        if tunnel.name == "geneve" and self.geneve < 0:
            return path._replace(geneve=tunnel.vni)
        return path

    @property
    def scope(self) -> str:
        """The address plan that the innermost addresses belong to.

        The network number of the outermost VXLAN: it is the mirror session. A load balancer puts GENEVE around
        that, so its number counts only where there is no VXLAN.
        """
        if self.vxlan >= 0:
            return f"vni:{self.vxlan}"
        if self.geneve >= 0:
            return f"vni:{self.geneve}"
        return "vlan:" + ".".join(map(str, self.vlans)) if self.vlans else ""


def _read(form: struct.Struct, frame: bytes, start: int, end: int) -> tuple[int, ...] | None:
    """The fields of the header at `start`; None if it is not all there."""
    return form.unpack_from(frame, start) if min(end, len(frame)) - start >= form.size else None


def vxlan(frame: bytes, start: int, end: int) -> Tunnel | None:
    """RFC 7348. Reserved bits say nothing, and not even the I flag is asked for: the frame inside has to convince."""
    header = _read(VXLAN_HEADER, frame, start, end)
    return Tunnel("vxlan", header[2] >> 8, Network(TRANSPARENT_ETHERNET, start + 8, end)) if header else None


def vxlan_gpe(frame: bytes, start: int, end: int) -> Tunnel | None:
    """draft-ietf-nvo3-vxlan-gpe: VXLAN that may name what it carries. Some do so without the bit that says so."""
    header = _read(VXLAN_HEADER, frame, start, end)
    if header is None:
        return None
    flags, following, number = header
    named = flags & GPE_NEXT_PROTOCOL or is_ip(frame, start + 8, end)
    kind = NEXT_PROTOCOL.get(following, OTHER) if named else TRANSPARENT_ETHERNET
    return Tunnel("vxlan", number >> 8, Network(kind, start + 8, end))


def geneve(frame: bytes, start: int, end: int) -> Tunnel | None:
    """RFC 8926. Options are stepped over, critical ones too: we only look on."""
    header = _read(GENEVE_HEADER, frame, start, end)
    if header is None or header[0] >> 6:
        return None
    words, kind, number = header
    return Tunnel("geneve", number >> 8, Network(kind, start + 8 + words * 4, end))


def gre(frame: bytes, start: int, end: int) -> Tunnel | None:
    """RFC 2784, 2890, and 1701 with its routes; version 1 with PPP is PPTP (RFC 2637)."""
    header = _read(GRE_HEADER, frame, start, end)
    if header is None or header[0] & GRE_VERSION > 1:
        return None
    flags, kind = header
    if flags & GRE_VERSION == 1:
        if kind != PPP or not flags & GRE_KEY:
            return None
        body = start + 8 + 4 * sum(bool(flags & bit) for bit in (GRE_SEQUENCE, GRE_ACKNOWLEDGED))
        return Tunnel("gre", -1, Network(PPP, body, end))
    has_checksum = flags & (GRE_CHECKSUM | GRE_ROUTING)
    body = start + 4 + 4 * sum(map(bool, (has_checksum, flags & GRE_KEY, flags & GRE_SEQUENCE)))
    if flags & GRE_ROUTING:
        routed = _behind_routes(frame, body)
        if routed is None:
            return None
        body = routed
    if kind in {ERSPAN, ERSPAN_3}:
        mirrored = _mirrored(frame, kind, body, end, sequenced=bool(flags & GRE_SEQUENCE))
        return mirrored and Tunnel("erspan", -1, mirrored)
    return Tunnel("gre", -1, Network(kind, body, end))


def _behind_routes(frame: bytes, at: int) -> int | None:
    """Behind the source routes at `at`, which end with one of length 0; None if they do not."""
    for _ in range(MOST_ROUTES):
        if len(frame) < at + 4:
            return None
        size = frame[at + 3]
        at += 4 + size
        if not size:
            return at
    return None


def _mirrored(frame: bytes, kind: int, start: int, end: int, *, sequenced: bool) -> Network | None:
    """The frame that ERSPAN mirrors. Type I has no header at all, which the missing sequence number tells."""
    if kind == ERSPAN:
        return Network(TRANSPARENT_ETHERNET, start + (ERSPAN_2_HEADER if sequenced else 0), end)
    if len(frame) < start + ERSPAN_3_HEADER:
        return None
    has_more = frame[start + ERSPAN_3_HEADER - 1] & 1
    frame_type = frame[start + ERSPAN_3_HEADER - 2] >> 2 & 0x1F
    body = start + ERSPAN_3_HEADER + (ERSPAN_SUBHEADER if has_more else 0)
    return Network(ERSPAN_3_FRAMES.get(frame_type, OTHER), body, end)


def ip_in_ip(_frame: bytes, start: int, end: int) -> Tunnel:
    """RFC 2003 and 2473: IPv4 inside IPv4 or IPv6."""
    return Tunnel("ipip", -1, Network(IPV4, start, end))


def ip6_in_ip(_frame: bytes, start: int, end: int) -> Tunnel:
    """RFC 4213 and 2473: IPv6 inside IPv4 or IPv6."""
    return Tunnel("ipip", -1, Network(IPV6, start, end))


def gtp(frame: bytes, start: int, end: int) -> Tunnel | None:
    """GTP-U version 1 (3GPP TS 29.281): user data, behind optional fields and extension headers."""
    if len(frame) < start + 8:
        return None
    flags, kind, length = struct.unpack_from(">BBH", frame, start)
    if flags & 0xF0 != GTP_VERSION_1 or kind != GTP_DATA:
        return None
    at, end = start + 8, min(end, start + 8 + length)
    if flags & GTP_OPTIONAL:
        at += 4
        more = frame[at - 1 : at] if flags & GTP_EXTENSIONS else b"\0"
        for _ in range(MOST_GTP_EXTENSIONS):
            if more in {b"\0", b""}:
                break
            size = frame[at : at + 1]
            if size in {b"\0", b""}:
                return None
            at += size[0] * 4
            more = frame[at - 1 : at]
        if more != b"\0":
            return None
    inside = raw_ip(frame, at, end)
    return inside and Tunnel("gtp", -1, inside)


def teredo(frame: bytes, start: int, end: int) -> Tunnel | None:
    """RFC 4380: IPv6, behind an authentication and an origin indication, both optional and in this order."""
    at = start
    for indication in (TEREDO_AUTHENTICATION, TEREDO_ORIGIN):
        if len(frame) >= at + 4 and frame[at] == 0 and frame[at + 1] == indication:
            # identifier and authentication value with their lengths, nonce, confirmation; or obscured port, address
            at += 13 + frame[at + 2] + frame[at + 3] if indication == TEREDO_AUTHENTICATION else 8
    return Tunnel("teredo", -1, Network(IPV6, at, end)) if is_ip(frame, at, end) else None


def _untold(frame: bytes, start: int, end: int) -> Network | None:
    """A frame or packet behind fields of unknown size, found by being one in each respect."""
    for skip in L2TP3_UNTOLD:
        at = start + skip
        inside = ethernet(frame, at, end)
        # PPP and Ethernet are what L2TPv3 carries: an IP header behind it has to fit
        framed = inside and follow(frame, inside)
        if framed and framed.kind in {IPV4, IPV6} and is_ip(frame, framed.start, end):
            return Network(TRANSPARENT_ETHERNET, at, end)
        if frame[at : at + 2] == b"\xff\x03":
            return Network(PPP, at, end)
    return None


def l2tp(frame: bytes, start: int, end: int) -> Tunnel | None:
    """L2TP over UDP: version 2 (RFC 2661) carries PPP, version 3 (RFC 3931) what both ends agreed on."""
    if len(frame) < start + 6:
        return None
    (flags,) = struct.unpack_from(">H", frame, start)
    version = flags & 0x0F
    if flags & L2TP_CONTROL or version not in {2, 3}:
        return None
    if version == 3:
        inside = _untold(frame, start + 8, end)
        return inside and Tunnel("l2tp", -1, inside)
    at = start + 6
    if flags & L2TP_LENGTH:
        end, at = min(end, start + int.from_bytes(frame[start + 2 : start + 4])), at + 2
    at += 4 if flags & L2TP_SEQUENCE else 0
    if flags & L2TP_OFFSET:
        at += 2 + int.from_bytes(frame[at : at + 2])
    return Tunnel("l2tp", -1, Network(PPP, at, end))


def l2tp3(frame: bytes, start: int, end: int) -> Tunnel | None:
    """L2TPv3 over IP: a session number, of which 0 is for control."""
    if frame[start : start + 4] in {b"\0\0\0\0", b""}:
        return None
    inside = _untold(frame, start + 4, end)
    return inside and Tunnel("l2tp", -1, inside)


def lisp(frame: bytes, start: int, end: int) -> Tunnel | None:
    """LISP data (RFC 9300): eight bytes in which anything may stand, then IP, which has to fit."""
    inside = raw_ip(frame, start + 8, end) if is_ip(frame, start + 8, end) else None
    return inside and Tunnel("lisp", -1, inside)


def ether_ip(frame: bytes, start: int, end: int) -> Tunnel | None:
    """RFC 3378: version 3 and zeros, then an Ethernet frame."""
    if frame[start : start + 2] != b"\x30\0":
        return None
    return Tunnel("etherip", -1, Network(TRANSPARENT_ETHERNET, start + 2, end))


def mpls_in_ip(frame: bytes, start: int, end: int) -> Tunnel | None:
    """RFC 4023 and 7510: MPLS in IP, a tunnel. Any text ends a stack of labels, so what is below has to fit."""
    inside = mpls(frame, start, end)
    if inside is None or (inside.kind in {IPV4, IPV6} and not is_ip(frame, inside.start, end)):
        return None
    return Tunnel("mpls", -1, inside)


def nsh_in_udp(frame: bytes, start: int, end: int) -> Tunnel | None:
    """A network service header at once in UDP."""
    inside = nsh(frame, start, end)
    return inside and Tunnel("nsh", -1, inside)


Opener = Callable[[bytes, int, int], Tunnel | None]

#: UDP port -> tunnel: by the destination port, or else by the source port, which some answer from. 8472 is what Linux
#: used for VXLAN before a port was assigned.
BY_UDP_PORT: dict[int, Opener] = {
    1701: l2tp,
    2152: gtp,
    3544: teredo,
    4341: lisp,
    4754: gre,
    4789: vxlan,
    4790: vxlan_gpe,
    6081: geneve,
    6633: nsh_in_udp,
    6635: mpls_in_ip,
    8472: vxlan,
}

#: IP protocol -> tunnel
BY_PROTO: dict[int, Opener] = {4: ip_in_ip, 41: ip6_in_ip, 47: gre, 97: ether_ip, 115: l2tp3, 137: mpls_in_ip}


def _header_of(frame: bytes, ip: Ip) -> tuple[Opener, int, int] | None:
    """How to open an IP packet if it may be a tunnel, and where the tunnel's header begins and its payload ends."""
    if ip.proto != UDP:
        opener = BY_PROTO.get(ip.proto)
        return (opener, ip.body, ip.end) if opener else None
    header = whole(Udp, frame, ip.body, ip.stop)
    opener = (BY_UDP_PORT.get(header.dport) or BY_UDP_PORT.get(header.sport)) if header else None
    start = ip.body + 8
    return (opener, start, start + udp_payload(ip, header.ulen)) if header and opener else None


def open_tunnel(frame: bytes, ip: Ip) -> Tunnel | None:
    """The tunnel that an IP packet is, None if it is none. What it carries is followed down to IP."""
    header = _header_of(frame, ip)
    if header is None:
        return None
    opener, start, end = header
    # padding is an attacker's room for packets that no host saw
    return _opened(opener, frame[:end], start, end)


def may_be_tunnel(sport: int, dport: int, captured: bytes, length: int) -> bool:
    """Whether a UDP payload of so many bytes, of which some were captured, may carry an IP packet in a tunnel."""
    opener = BY_UDP_PORT.get(dport) or BY_UDP_PORT.get(sport)
    tunnel = opener and _opened(opener, captured, 0, length)
    if not tunnel:
        return False
    version = captured[tunnel.inside.start : tunnel.inside.start + 1]
    return bool(version) and (tunnel.inside.kind, version[0] >> 4) in {(IPV4, 4), (IPV6, 6)}


def _opened(opener: Opener, frame: bytes, start: int, end: int) -> Tunnel | None:
    tunnel = opener(frame, start, end)
    inside = follow(frame, tunnel.inside) if tunnel else None
    return tunnel._replace(inside=inside) if tunnel and inside else None
