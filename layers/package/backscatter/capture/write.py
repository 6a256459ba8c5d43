"""Writing captures: classic pcap with nanoseconds, which everything that reads pcap reads."""

from __future__ import annotations

import struct
from typing import BinaryIO

from backscatter.capture.layout import NANO

SNAPLEN = 262144


class PcapWriter:
    """Writes one link type's packets to `stream`, the file header at once."""

    def __init__(self, stream: BinaryIO, linktype: int) -> None:
        self._stream = stream
        self.linktype = linktype
        stream.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, SNAPLEN, linktype))

    def write(self, time_ns: int, data: bytes, wirelen: int) -> None:
        """Writes a packet: time in ns since 1970, captured bytes, bytes it had on the wire.

        Raises ValueError where pcap has no room for the time, which is a 32-bit number of seconds.
        """
        seconds, fraction = divmod(time_ns, NANO)
        if not 0 <= seconds < 2**32:
            raise ValueError(f"pcap has no room for the time {time_ns} ns")
        self._stream.write(struct.pack("<IIII", seconds, fraction, len(data), wirelen) + data)
