"""The packet table: one entry a packet in every column, declared once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

T = TypeVar("T")

#: name -> (dtype, meaning)
PACKET: dict[str, tuple[str, str]] = {
    "time": ("i8", "nanoseconds since 1970-01-01 UTC"),
    "place": ("i8", "where the record is: piece << PLACE_BITS | byte offset in the expanded stream"),
    "status": ("u1", "OK, NON_IP or UNDECODABLE"),
    "scope": ("u4", "index into the names of the scopes"),
    "tunnels": ("u4", "index into the names of the tunnel stacks"),
    "version": ("u1", "4 or 6: of the innermost IP header; 0 unless OK"),
    "proto": ("u1", "IP protocol number of the innermost payload, after extension headers"),
    "src_hi": ("u8", "source address, high 64 bits; 0 for IPv4"),
    "src_lo": ("u8", "source address, low 64 bits; IPv4 in the lowest 32"),
    "dst_hi": ("u8", "destination address, high 64 bits"),
    "dst_lo": ("u8", "destination address, low 64 bits"),
    "src_port": ("u2", "TCP, UDP, SCTP port; for ICMP the type; 0 where HAS_PORTS is not set"),
    "dst_port": ("u2", "TCP, UDP, SCTP port; for ICMP the counterpart's type, or the code where it has none"),
    "ip_bytes": ("i8", "length of the innermost IP packet by its own field (the frame's where that is 0)"),
    "payload": ("i8", "TCP or UDP payload bytes by the same length fields; 0 otherwise"),
    "ttl": ("u1", "time to live or hop limit of the innermost IP header"),
    "traits": ("u1", "bits HAS_PORTS, FRAGMENT, ONE_WAY, NO_FLAGS"),
    "flags": ("u1", "TCP flags as on the wire: FIN 1 SYN 2 RST 4 PSH 8 ACK 16 URG 32 ECE 64 CWR 128"),
    "seq": ("u4", "TCP sequence number"),
    "ack": ("u4", "TCP acknowledgement number"),
    "window": ("u2", "TCP window, unscaled"),
    "icmp_type": ("u1", "ICMP type"),
    "icmp_code": ("u1", "ICMP code"),
    "speech": ("u1", "what a UDP payload says: bits of Speech"),
    "names": ("u8", "marks of the addresses that it gives a name, if it is a DNS answer (decode.names)"),
    "quote": ("i4", "row of the quoted packet in the quotes, -1 for none"),
}

# status
OK, NON_IP, UNDECODABLE = 0, 1, 2

# traits
HAS_PORTS = 1  # TCP, UDP or SCTP ports were read, or it is ICMP
FRAGMENT = 2  # not the first fragment: ports come from the first one, if that was seen
ONE_WAY = 4  # ICMP without a counterpart type (errors): the reverse tuple is another conversation
NO_FLAGS = 8  # TCP header cut before its flags, malformed, or in an earlier fragment: `flags` 0 means unknown

# TCP flags
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128

# speech: what a UDP payload says, by port and content
DNS_QUERY, DNS_ANSWER, NTP_ASK, NTP_ANSWER, QUIC_INITIAL, QUIC_LONG, QUIC_SHORT = 1, 2, 4, 8, 16, 32, 64

#: A place is `piece << PLACE_BITS | offset`; NOWHERE is no place. An offset is below 16 TB, and a week of captures that
#: rotate each two seconds has fewer than MOST_PIECES.
PLACE_BITS = 44
MOST_PIECES = 1 << 63 - PLACE_BITS
NOWHERE = -1

#: What an ICMP error quotes. `packet` is the index of the quoting packet in the packet table.
QUOTE = np.dtype(
    [
        ("packet", "i8"),
        ("version", "u1"),
        ("proto", "u1"),
        ("has_ports", "u1"),
        ("src_hi", "u8"),
        ("src_lo", "u8"),
        ("dst_hi", "u8"),
        ("dst_lo", "u8"),
        ("src_port", "u2"),  # for quoted ICMP: as in the packet table
        ("dst_port", "u2"),
        ("seq", "u4"),  # TCP only; 0 where the quote is too short
    ]
)


def picked(table: NDArray[np.void], index: NDArray[Any]) -> NDArray[np.void]:
    """Rows of a structured array by index or mask, each copied as a whole: NumPy itself goes field by field."""
    rows: NDArray[np.void] = table.view(f"V{table.dtype.itemsize}")[index].view(table.dtype)
    return rows


class Names(Generic[T]):
    """Numbers for things that few packets differ in, in the order of their first appearance."""

    def __init__(self, first: T) -> None:
        self.values: list[T] = [first]
        self._number: dict[T, int] = {first: 0}

    def number(self, value: T) -> int:
        """The number of `value`, a new one if it was never seen."""
        number = self._number.get(value)
        if number is None:
            number = self._number[value] = len(self.values)
            self.values.append(value)
        return number


@dataclass(slots=True)
class Packets:
    """A packet table: the columns of PACKET as arrays of one length, with the quotes of its ICMP errors.

    A column that holds one value may be one with a stride of 0, which cannot be written to.
    """

    columns: dict[str, NDArray[Any]]
    quotes: NDArray[np.void]

    def __len__(self) -> int:
        return len(self.columns["time"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    @classmethod
    def empty(cls, count: int) -> Packets:
        """A table of `count` packets, every column zero."""
        return cls({name: np.zeros(count, dtype) for name, (dtype, _) in PACKET.items()}, np.zeros(0, QUOTE))

    def only(self, index: NDArray[np.int64]) -> Packets:
        """Some of the packets, in that order, with their quotes."""
        columns = {name: column[index] for name, column in self.columns.items()}
        row = columns["quote"]
        quoting = np.flatnonzero(row >= 0)
        quotes = picked(self.quotes, row[quoting])
        quotes["packet"] = quoting
        row[quoting] = np.arange(len(quoting))
        return Packets(columns, quotes)

    @classmethod
    def joined(cls, tables: Sequence[Packets]) -> Packets:
        """The tables one behind the other; quotes keep pointing at their packets and packets at their quotes."""
        if not tables:
            return cls.empty(0)
        columns = {name: np.concatenate([table[name] for table in tables]) for name in PACKET}
        quotes = np.concatenate([table.quotes for table in tables])
        packets_before = quotes_before = 0
        for table in tables:
            here = slice(packets_before, packets_before + len(table))
            columns["quote"][here] += np.where(columns["quote"][here] >= 0, quotes_before, 0).astype("i4")
            quotes["packet"][quotes_before : quotes_before + len(table.quotes)] += packets_before
            packets_before += len(table)
            quotes_before += len(table.quotes)
        return cls(columns, quotes)
