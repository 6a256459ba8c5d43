"""Tunnels: packets that carry packets.

A new tunnel is a function of (frame, start of its header, end on the wire) and a row in a table. A tunnel has to
prove itself by an IP packet inside: a packet that is no tunnel, or carries something else, stays what it is outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backscatter.decode.headers import Geneve, Gre, Udp, Vxlan, whole
from backscatter.decode.link import IPV4, IPV6, TRANSPARENT_ETHERNET, Network, ethernet
from backscatter.decode.transport import UDP, udp_payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from backscatter.decode.ip import Ip

#: Tunnels in tunnels are followed to this depth.
DEPTH = 16

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


def by_kind(frame: bytes, kind: int, start: int, end: int) -> Network | None:
    """What a tunnel carries that names it by EtherType: IP, or an Ethernet frame."""
    if kind in {IPV4, IPV6}:
        return Network(kind, start, end)
    return ethernet(frame, start, end) if kind == TRANSPARENT_ETHERNET else None


def vxlan(frame: bytes, start: int, end: int) -> Tunnel | None:
    """RFC 7348. Reserved bits say nothing, and not even the I flag is asked for: the frame inside has to convince."""
    header = whole(Vxlan, frame, start, end)
    inside = ethernet(frame, start + 8, end) if header else None
    if header is None or inside is None:
        return None
    return Tunnel("vxlan", header.vni_reserved >> 8, inside)


def geneve(frame: bytes, start: int, end: int) -> Tunnel | None:
    """RFC 8926. Options are stepped over, critical ones too: we only look on."""
    header = whole(Geneve, frame, start, end)
    if header is None or header.version_words >> 6:
        return None
    inside = by_kind(frame, header.kind, start + 8 + (header.version_words & 0x3F) * 4, end)
    return Tunnel("geneve", header.vni_reserved >> 8, inside) if inside else None


def gre(frame: bytes, start: int, end: int) -> Tunnel | None:
    """RFC 2784 and 2890, version 0: IP or Ethernet inside."""
    header = whole(Gre, frame, start, end)
    if header is None or header.flags & GRE_VERSION_OR_ROUTING:
        return None
    body = start + 4 + 4 * sum(bool(header.flags & bit) for bit in (GRE_CHECKSUM, GRE_KEY, GRE_SEQUENCE))
    inside = by_kind(frame, header.kind, body, end)
    return Tunnel("gre", -1, inside) if inside else None


def ip_in_ip(_frame: bytes, start: int, end: int) -> Tunnel:
    """RFC 2003 and 2473: IPv4 inside IPv4 or IPv6."""
    return Tunnel("ipip", -1, Network(IPV4, start, end))


def ip6_in_ip(_frame: bytes, start: int, end: int) -> Tunnel:
    """RFC 4213 and 2473: IPv6 inside IPv4 or IPv6."""
    return Tunnel("ipip", -1, Network(IPV6, start, end))


#: UDP port -> tunnel: by the destination port, or else by the source port, which some answer from. 8472 is what Linux
#: used before the port was assigned.
BY_UDP_PORT: dict[int, Callable[[bytes, int, int], Tunnel | None]] = {4789: vxlan, 8472: vxlan, 6081: geneve}

#: IP protocol -> tunnel
BY_PROTO: dict[int, Callable[[bytes, int, int], Tunnel | None]] = {4: ip_in_ip, 41: ip6_in_ip, 47: gre}


def open_tunnel(frame: bytes, ip: Ip) -> Tunnel | None:
    """The tunnel that an IP packet is, None if it is none."""
    if ip.proto == UDP:
        header = whole(Udp, frame, ip.body, ip.stop)
        opener = (BY_UDP_PORT.get(header.dport) or BY_UDP_PORT.get(header.sport)) if header else None
        if header is None or opener is None:
            return None
        start = ip.body + 8
        return opener(frame, start, start + udp_payload(ip, header.ulen))
    opener = BY_PROTO.get(ip.proto)
    return opener(frame, ip.body, ip.end) if opener else None
