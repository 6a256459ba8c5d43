"""What UDP packets may carry by their ports: tunnels, and payloads that say something."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backscatter.decode import tunnels
from backscatter.decode.transport import UDP
from backscatter.decode.vector.speech import LANGUAGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.decode.vector.heads import Mask
    from backscatter.decode.vector.ip import Carried

#: Tunnels as small numbers.
NO_TUNNEL, VXLAN, GENEVE, OTHER_TUNNEL = range(4)

#: UDP port -> tunnel in the lowest bits, language above them.
TUNNEL_BITS, TUNNEL = 2, 3
MEANING = LANGUAGE << TUNNEL_BITS
for _port, _opener in tunnels.BY_UDP_PORT.items():
    MEANING[_port] |= VXLAN if _opener is tunnels.vxlan else GENEVE if _opener is tunnels.geneve else OTHER_TUNNEL


class Meaning(NamedTuple):
    """Of the UDP packets among others: at which positions they are, their tunnels, and whether they say something."""

    udp: NDArray[np.intp]
    tunnel: NDArray[np.uint8]
    speaks: Mask

    def tunnels(self, count: int) -> NDArray[np.uint8]:
        """Which sort of tunnel each of all `count` packets may be."""
        if len(self.udp) == count:
            return self.tunnel
        sorts = np.zeros(count, np.uint8)
        sorts[self.udp] = self.tunnel
        return sorts


def meaning(carried: Carried) -> Meaning:
    """What the ports of sound packets mean."""
    mask = (carried.proto == UDP) & carried.group.sound
    udp = np.flatnonzero(mask)
    body = carried.body
    if len(udp) == len(mask):
        source, destination = MEANING.take(body["sport"]), MEANING.take(body["dport"])
    else:
        source, destination = MEANING.take(body["sport"][udp]), MEANING.take(body["dport"][udp])
    # a tunnel by the destination, or else by the source
    tunnel = np.where(destination & TUNNEL, destination, source) & np.uint8(TUNNEL)
    return Meaning(udp, tunnel, (source | destination) > TUNNEL)
