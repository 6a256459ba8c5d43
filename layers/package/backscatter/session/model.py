"""A session record: what somebody else counted of a conversation. No sequence numbers, and flags only in sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from backscatter.flow.address import Address


class Sent(NamedTuple):
    """What one end sent, as far as the record tells.

    flags   OR of the TCP flags as on the wire; None where the record does not tell
    hidden  ACK and PSH are not among the flags that the record can tell, except ACK beside SYN (VPC Flow Logs)
    """

    packets: int
    bytes: int
    flags: int | None = None
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """One record. Times in ns.

    src, dst      its ends, as the record names them; ports None where there are none
    others        the ends by their other names, where an address was translated on the way (pkt-srcaddr, pkt-dstaddr)
    forth, back   what src sent and what dst sent; `back` None where the record is about one direction only
    action        "ACCEPT" or "REJECT" where something let it through or not; "" where nobody says
    began         whether the source says that src began it; False where it only says who sent what
    source        "vpc flow log", "suricata" or "network firewall"
    place         file and line
    """

    proto: int
    src: Address
    dst: Address
    sport: int | None
    dport: int | None
    start: int
    end: int
    forth: Sent
    back: Sent | None
    action: str
    began: bool
    source: str
    place: str
    others: tuple[Address, Address] | None = None


class Gap(NamedTuple):
    """A stretch of time (ns) in which a log says that it skipped records."""

    start: int
    end: int
    place: str
