"""Which protocols packets carry, and what UDP may carry by its ports: tunnels, payloads that say something."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backscatter.decode import tunnels
from backscatter.decode.transport import TCP, UDP
from backscatter.decode.vector.ip import ICMP_OF
from backscatter.decode.vector.speech import LANGUAGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.decode.vector.heads import Mask
    from backscatter.decode.vector.ip import Carried

    Which = NDArray[np.intp]
    Sorts = NDArray[np.uint8]

#: Tunnels as small numbers.
NO_TUNNEL, VXLAN, GENEVE, OTHER_TUNNEL = range(4)

#: UDP port -> tunnel in the lowest bits, language above them.
TUNNEL_BITS, TUNNEL = np.uint8(2), np.uint8(3)
MEANING = LANGUAGE << TUNNEL_BITS
for _port, _opener in tunnels.BY_UDP_PORT.items():
    MEANING[_port] |= VXLAN if _opener is tunnels.vxlan else GENEVE if _opener is tunnels.geneve else OTHER_TUNNEL


class Protocols(NamedTuple):
    """Where among packets of one version of IP those are that are not TCP.

    others     positions of all of them
    udp, icmp  positions of sound ones of these protocols
    tunnel     for each of `udp`, which tunnel it may be
    speaks     for each of `udp`, whether its payload may say something, if it is no tunnel
    """

    others: Which
    udp: Which
    icmp: Which
    tunnel: Sorts
    speaks: Mask

    def tunnels(self, count: int) -> Sorts:
        """Which tunnel each of all `count` packets may be."""
        if len(self.udp) == count:
            return self.tunnel
        sorts = np.zeros(count, np.uint8)
        sorts[self.udp] = self.tunnel
        return sorts


def protocols(carried: Carried, *, opened: bool = False) -> Protocols:
    """Where packets are that are not TCP; `opened` if there are no tunnels among them, whatever their ports."""
    sound, body = carried.group.sound, carried.body
    others = np.flatnonzero(carried.proto != TCP)
    if len(others) == len(carried) and ((carried.proto == UDP) & sound).all():
        udp, icmp = others, others[:0]
    else:
        proto, sound = carried.proto[others], sound[others]
        udp, icmp = others[(proto == UDP) & sound], others[(proto == ICMP_OF[carried.version]) & sound]
    every = len(udp) == len(carried)
    destination = MEANING.take(body["dport"] if every else body["dport"][udp])
    tunnel = destination & TUNNEL
    if tunnel.all() and not opened:
        return Protocols(others, udp, icmp, tunnel, np.zeros(len(udp), np.bool_))
    source = MEANING.take(body["sport"] if every else body["sport"][udp])
    # a tunnel by the destination, or else by the source
    tunnel = np.where(tunnel, tunnel, source & TUNNEL)
    return Protocols(others, udp, icmp, tunnel, (source | destination) > TUNNEL)
