"""The packets of some flows by half (2 * flow + side), with the reductions that turn them into columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backscatter.decode.columns import ACK, FIN, NO_FLAGS, RST, SYN
from backscatter.flow.runs import run_starts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.decode.columns import Packets
    from backscatter.flow.runs import Bools, Ints


class Shape(NamedTuple):
    """How packets lie in halves, in the order of halves and in each in the order of time.

    packet   int64, index into the packet table
    pos      int64, which came first: rises with time
    length   int64, packets of each half; an even number of halves, flow by flow
    """

    packet: Ints
    pos: Ints
    length: Ints

    def only(self, flows: Bools) -> Shape:
        """Of the flows that a mask picks, which keep their order."""
        halves = np.repeat(flows, 2)
        packets = np.flatnonzero(np.repeat(halves, self.length))
        return Shape(self.packet.take(packets), self.pos.take(packets), self.length[halves])


class Halves:
    """TCP packets by half: their columns, and what is often asked of them.

    count    how many halves there are
    half     the half of each packet
    begin    where each half's packets begin; `present` are the halves that have any, `start` where these begin
    control  index of the packets with SYN, FIN or RST
    data     whether a packet has payload
    bare     whether it is a pure ACK: SYN, FIN, RST off, no payload
    sent     payload of each half
    opaque   whether a packet's flags are unknown
    """

    def __init__(self, packets: Packets, shape: Shape, sent: Ints | None = None) -> None:
        index = shape.packet
        self.packets = packets
        self.shape = shape
        self.pos = shape.pos
        self.count = len(shape.length)
        self.half: Ints = np.repeat(np.arange(self.count), shape.length)
        self.end: Ints = np.cumsum(shape.length)
        self.begin: Ints = self.end - shape.length
        self.present: Ints = np.flatnonzero(shape.length)
        self.start: Ints = self.begin[self.present]
        self.flags: NDArray[np.uint8] = packets["flags"].take(index)
        self.seq: NDArray[np.uint32] = packets["seq"].take(index)
        self.ack: NDArray[np.uint32] = packets["ack"].take(index)
        self.window: NDArray[np.uint16] = packets["window"].take(index)
        self.payload: Ints = packets["payload"].take(index).astype(np.int64, copy=False)
        self.opaque: Bools = (packets["traits"].take(index) & NO_FLAGS) != 0
        self.control: Ints = np.flatnonzero(self.flags & (SYN | FIN | RST))
        self.data: Bools = self.payload > 0
        self.bare: Bools = (self.flags & (SYN | FIN | RST | ACK)) == ACK
        self.bare &= ~self.data
        self.sent: Ints = self.reduced(np.add, self.payload) if sent is None else sent

    def only(self, flows: Bools) -> Halves:
        """The halves of the flows that a mask picks, numbered anew."""
        return Halves(self.packets, self.shape.only(flows), self.sent[np.repeat(flows, 2)])

    def time(self, index: Ints) -> Ints:
        """Times of some packets; they are seldom asked for."""
        times: Ints = self.packets["time"][self.shape.packet[index]]
        return times

    def dense(self, values: NDArray[Any], default: int = 0) -> NDArray[Any]:
        """Values of the halves that sent something, as an array over all halves."""
        whole = np.full(self.count, default, values.dtype)
        whole[self.present] = values
        return whole

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """A value of each half, for every packet of it: quicker than `np.repeat`."""
        return values.take(self.half)

    def reduced(self, by: np.ufunc, column: NDArray[Any]) -> NDArray[Any]:
        """A column reduced over each half, 0 where it sent nothing."""
        if not len(self.start):
            return np.zeros(self.count, column.dtype)
        return self.dense(by.reduceat(column, self.start))

    def counted(self, index: Ints) -> Ints:
        """How many of some packets each half sent."""
        return np.bincount(self.half[index], minlength=self.count)

    def first(self, index: Ints) -> Ints:
        """Of some packets in order, each half's first, for the halves that have one, in the order of halves."""
        return index[np.flatnonzero(run_starts(self.half[index]))]

    def at(self, index: Ints, values: NDArray[Any], default: int = 0) -> NDArray[Any]:
        """The values of one packet a half, as an array over all halves."""
        whole = np.full(self.count, default, values.dtype)
        whole[self.half[index]] = values
        return whole


def opposite(values: NDArray[Any]) -> NDArray[Any]:
    """For each half the value of the other one of its flow."""
    return values.reshape(-1, 2)[:, ::-1].reshape(-1)
