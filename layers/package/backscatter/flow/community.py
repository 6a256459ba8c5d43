"""Community id version 1, seed 0: a conversation named by its tuple (https://github.com/corelight/community-id-spec)."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import TYPE_CHECKING

from backscatter.decode.icmp import COUNTERPARTS, port_pair
from backscatter.flow.address import Address

if TYPE_CHECKING:
    from backscatter.flow.table import FlowTable

_SEED = struct.pack(">H", 0)

#: Protocols that have no community id without ports (ICMP: types and codes): ICMP, TCP, UDP, ICMPv6, SCTP.
_NEED_PORTS = frozenset({1, 6, 17, 58, 132})


def community_id(proto: int, src: Address, dst: Address, sport: int | None, dport: int | None) -> str | None:
    """The community id of a tuple, the same for both directions; None where it has none.

    For ICMP the ports are the type and its counterpart's type (or the code, where no type answers it, and then the
    two directions differ). A protocol that has ports has no id without them, as in later fragments.
    """
    ports = b""
    if proto in _NEED_PORTS:
        if sport is None or dport is None:
            return None
        one_way = False
        if proto in COUNTERPARTS:
            sport, dport, one_way = port_pair(proto, sport, dport)
        if not one_way and (dst.packed, dport) < (src.packed, sport):
            src, dst, sport, dport = dst, src, dport, sport
        ports = struct.pack(">HH", sport, dport)
    elif dst.packed < src.packed:
        src, dst = dst, src
    told = _SEED + src.packed + dst.packed + struct.pack(">BB", proto, 0) + ports
    return "1:" + base64.b64encode(hashlib.sha1(told, usedforsecurity=False).digest()).decode("ascii")


def community_ids(table: FlowTable) -> list[str | None]:
    """The community id of every flow, None where it has none."""
    rows = table.rows
    columns = ("version", "proto", "has_ports", "src_hi", "src_lo", "dst_hi", "dst_lo", "src_port", "dst_port")
    return [
        community_id(
            proto,
            Address(version, src_hi, src_lo),
            Address(version, dst_hi, dst_lo),
            src_port if has_ports else None,
            dst_port if has_ports else None,
        )
        for version, proto, has_ports, src_hi, src_lo, dst_hi, dst_lo, src_port, dst_port in zip(
            *(rows[name].tolist() for name in columns), strict=True
        )
    ]
