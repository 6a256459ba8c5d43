"""Tunnels: packets that carry packets.

A new tunnel is a function of (frame, outer IP packet, UDP payload or IP payload) and a row in a table. Tunnels in
UDP are tried by port and have to prove themselves by what is inside: a packet that is no tunnel stays what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backscatter.decode.headers import Geneve, Gre, Udp, Vxlan, whole
from backscatter.decode.link import ARP, IPV4, IPV6, LLDP, TRANSPARENT_ETHERNET, Network, ethernet
from backscatter.decode.transport import UDP, udp_payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from backscatter.decode.ip import Ip

#: Tunnels in tunnels are followed to this depth.
DEPTH = 16

#: What an inner Ethernet frame may carry to be believed. All but IP make the packet NON_IP.
PLAUSIBLE = frozenset({IPV4, IPV6, ARP, LLDP})

GRE_VERSION_OR_ROUTING, GRE_CHECKSUM, GRE_KEY, GRE_SEQUENCE = 0x4007, 0x8000, 0x2000, 0x1000


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


def vxlan(frame: bytes, start: int, end: int) -> Tunnel | None:
    """RFC 7348. Reserved bits say nothing, and not even the I flag is asked for: the frame inside has to convince."""
    header = whole(Vxlan, frame, start, end)
    inside = ethernet(frame, start + 8, end) if header else None
    if header is None or inside is None or inside.kind not in PLAUSIBLE:
        return None
    return Tunnel("vxlan", header.vni_reserved >> 8, inside)


def geneve(frame: bytes, start: int, end: int) -> Tunnel | None:
    """RFC 8926. Options are stepped over, critical ones too: we only look on."""
    header = whole(Geneve, frame, start, end)
    if header is None or header.version_words >> 6:
        return None
    body = start + 8 + (header.version_words & 0x3F) * 4
    if body > end:
        return None
    if header.kind in {IPV4, IPV6}:
        return Tunnel("geneve", header.vni_reserved >> 8, Network(header.kind, body, end))
    inside = ethernet(frame, body, end) if header.kind == TRANSPARENT_ETHERNET else None
    if inside is None or inside.kind not in PLAUSIBLE:
        return None
    return Tunnel("geneve", header.vni_reserved >> 8, inside)


def gre(frame: bytes, start: int, end: int) -> Tunnel | None:
    """RFC 2784 and 2890, version 0: IP or Ethernet inside."""
    header = whole(Gre, frame, start, end)
    if header is None or header.flags & GRE_VERSION_OR_ROUTING:
        return None
    body = start + 4 + 4 * sum(bool(header.flags & bit) for bit in (GRE_CHECKSUM, GRE_KEY, GRE_SEQUENCE))
    if header.kind in {IPV4, IPV6}:
        return Tunnel("gre", -1, Network(header.kind, body, end))
    inside = ethernet(frame, body, end) if header.kind == TRANSPARENT_ETHERNET else None
    return Tunnel("gre", -1, inside) if inside and inside.kind in PLAUSIBLE else None


def ip_in_ip(_frame: bytes, start: int, end: int) -> Tunnel:
    """RFC 2003 and 2473: IPv4 inside IPv4 or IPv6."""
    return Tunnel("ipip", -1, Network(IPV4, start, end))


def ip6_in_ip(_frame: bytes, start: int, end: int) -> Tunnel:
    """RFC 4213 and 2473: IPv6 inside IPv4 or IPv6."""
    return Tunnel("ipip", -1, Network(IPV6, start, end))


#: UDP destination port -> tunnel. 8472 is what Linux used before the port was assigned.
BY_UDP_PORT: dict[int, Callable[[bytes, int, int], Tunnel | None]] = {4789: vxlan, 8472: vxlan, 6081: geneve}

#: IP protocol -> tunnel
BY_PROTO: dict[int, Callable[[bytes, int, int], Tunnel | None]] = {4: ip_in_ip, 41: ip6_in_ip, 47: gre}


def open_tunnel(frame: bytes, ip: Ip) -> Tunnel | None:
    """The tunnel that an IP packet is, None if it is none."""
    if ip.proto == UDP:
        header = whole(Udp, frame, ip.body, ip.stop)
        opener = BY_UDP_PORT.get(header.dport) if header else None
        if header is None or opener is None:
            return None
        start = ip.body + 8
        return opener(frame, start, start + udp_payload(ip, header.ulen))
    opener = BY_PROTO.get(ip.proto)
    return opener(frame, ip.body, ip.end) if opener else None
