"""From the link type of a record to the IP packet in it: one table of link types, one of the layers below IP.

Link types are those of https://www.tcpdump.org/linktypes.html. A new one is a row of LINKS, and a function of a
screen where its header is like no other. VLANs, MPLS with or without a pseudo-wire, PPPoE and the like are no
tunnels: they lie below the IP header that they carry, and hide no other one. Tunnels, which do, are in
decode.tunnels, and go on from here.
"""

from __future__ import annotations

from backscatter.decode.ethertypes import ETHERTYPES, llc
from backscatter.decode.network import (
    FIRST_ETHERTYPE,
    IPV4,
    IPV6,
    LINK,
    LLC,
    MPLS,
    OTHER,
    TRANSPARENT_ETHERNET,
    VLAN_TAGS,
    Layer,
    Network,
    carries,
    ethernet,
    names_at,
    raw_ip,
)
from backscatter.decode.oldlinks import arcnet, arcnet_linux, atm_clip, fddi, frame_relay, sunatm, token_ring
from backscatter.decode.ppp import cisco_hdlc, ppp, ppp_hdlc, pppoe
from backscatter.decode.pseudo import (
    encapsulating,
    erf,
    ipnet,
    juniper,
    linux_sll,
    linux_sll2,
    nflog,
    null,
    pflog,
    pktap,
    ppi,
)
from backscatter.decode.wireless import avs, prism, radiotap, wireless

__all__ = ["IPV4", "IPV6", "LINKS", "TRANSPARENT_ETHERNET", "VLAN_TAGS", "Network", "follow", "open_link"]

#: Layers that are followed between a link and IP; what is behind them is no IP to us. Nobody stacks as many.
MOST_LAYERS = 16

#: LINKTYPE_ number -> its layer
LINKS: dict[int, Layer] = {
    0: null,
    1: ethernet,
    6: token_ring,
    7: arcnet,
    8: carries(LINK + 101, 16),  # SLIP: direction and what was compressed
    9: ppp,
    10: fddi,
    12: raw_ip,
    14: raw_ip,
    50: ppp_hdlc,
    51: pppoe,
    100: llc,  # ATM, RFC 1483
    101: raw_ip,
    104: cisco_hdlc,
    105: wireless,
    106: atm_clip,
    107: frame_relay,
    108: null,
    109: encapsulating,
    113: linux_sll,
    117: pflog,
    119: prism,
    122: carries(LLC, 16),  # IP over Fibre Channel, RFC 2625: network header
    123: sunatm,
    127: radiotap,
    129: arcnet_linux,
    138: names_at(16, 18),  # IP over FireWire as Apple has it: two EUI-64 and an EtherType
    149: pktap,  # a user's own type, which Apple used for PKTAP before it had a number
    163: avs,
    166: ppp,  # pppd: the direction in the place of the address
    178: juniper(TRANSPARENT_ETHERNET),
    179: juniper(LINK + 9),
    180: juniper(LINK + 107),
    181: juniper(LINK + 104),
    192: ppi,
    197: erf,
    204: carries(LINK + 9, 1),  # PPP, Cisco HDLC and Frame Relay with the direction in front
    205: carries(LINK + 104, 1),
    206: carries(LINK + 107, 1),
    219: carries(MPLS, 0),
    226: ipnet,
    228: carries(IPV4, 0),
    229: carries(IPV6, 0),
    239: nflog,
    240: carries(TRANSPARENT_ETHERNET, 4),  # netANALYZER
    241: carries(TRANSPARENT_ETHERNET, 12),  # the same with preamble
    242: names_at(40, 44),  # IP over InfiniBand: global routing header, then RFC 4391
    258: pktap,
    274: carries(TRANSPARENT_ETHERNET, 8),  # Ethernet with preamble
    276: linux_sll2,
}


def _layer(kind: int) -> Layer | None:
    if kind >= LINK:
        return LINKS.get(kind - LINK)
    return llc if 0 <= kind < FIRST_ETHERTYPE else ETHERTYPES.get(kind)


def follow(frame: bytes, network: Network) -> Network | None:
    """Goes from layer to layer until IP or something that we do not open. None where a header cannot be read.

    VLAN numbers gather on the way.
    """
    kind, start, end, vlans = network
    for _ in range(1 + MOST_LAYERS):
        layer = _layer(kind)
        if layer is None:
            return Network(kind, start, end, vlans)
        step = layer(frame, start, end)
        if step is None:
            return None
        kind, start, end = step.kind, step.start, step.end
        vlans += step.vlans
    return Network(kind if kind in {IPV4, IPV6} else OTHER, start, end, vlans)


def open_link(linktype: int, frame: bytes, wirelen: int) -> Network | None:
    """What a record of `wirelen` bytes, of which `frame` was captured, carries below all its link layers."""
    return follow(frame, Network(LINK + linktype, 0, wirelen))
