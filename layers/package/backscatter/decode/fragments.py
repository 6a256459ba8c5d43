"""Fragments: ports stand in the first one only, so it is remembered for those that follow."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from backscatter.decode.columns import FRAGMENT, HAS_PORTS, ONE_WAY

if TYPE_CHECKING:
    from backscatter.decode.ip import Ip
    from backscatter.decode.transport import Row

#: First fragments remembered, and for how long (ns): hosts wait no longer either (RFC 8200).
MOST_FIRSTS = 16384
LIFETIME = 60 * 10**9

#: Columns that later fragments have from the first, beside traits and protocol.
TOLD: tuple[str, ...] = ("src_port", "dst_port", "icmp_type", "icmp_code")

Key = tuple[str, int, int, int, int]


class Fragments:
    """First fragments seen lately, by scope, addresses, identification and (IPv4) protocol."""

    def __init__(self) -> None:
        self._firsts: OrderedDict[Key, tuple[int, Row]] = OrderedDict()

    @staticmethod
    def _key(scope: str, ip: Ip) -> Key:
        # in IPv6 the fragment header names what follows it, which is the payload's protocol only by chance
        return scope, ip.src, ip.dst, ip.ident, ip.proto if ip.version == 4 else -1

    def first(self, scope: str, ip: Ip, row: Row, time: int) -> None:
        """Remembers what the first fragment told."""
        told: Row = {name: row[name] for name in TOLD if name in row}
        told["traits"] = row.get("traits", 0) & (HAS_PORTS | ONE_WAY)
        told["proto"] = ip.proto
        key = self._key(scope, ip)
        self._firsts[key] = (time, told)
        self._firsts.move_to_end(key)
        if len(self._firsts) > MOST_FIRSTS:
            self._firsts.popitem(last=False)

    def later(self, scope: str, ip: Ip, time: int) -> Row:
        """Protocol, traits and ports for a later fragment as the first told them; no ports if it did not."""
        seen, told = self._firsts.get(self._key(scope, ip), (0, None))
        if told is None or abs(time - seen) > LIFETIME:
            return {"traits": FRAGMENT, "proto": ip.proto}
        return told | {"traits": told["traits"] | FRAGMENT}
