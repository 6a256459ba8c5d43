"""Packet tables written by hand: one dictionary a packet, everything unsaid at its default."""

from __future__ import annotations

import numpy as np

from backscatter.decode.columns import ACK, FIN, HAS_PORTS, PSH, QUOTE, RST, SYN, Packets
from backscatter.flow.address import Address

LETTERS = {"F": FIN, "S": SYN, "R": RST, "P": PSH, "A": ACK}
SECOND = 10**9


def flag_bits(letters: str) -> int:
    return sum(LETTERS[letter] for letter in letters)


def packets(rows: list[dict]) -> Packets:
    """A table of TCP packets between 10.0.0.1:1000 and 10.0.0.2:80, `way` 0 or 1; any column may be set."""
    table = Packets.empty(len(rows))
    quotes = []
    for i, row in enumerate(rows):
        ends = [
            (Address.parse(row.get("a", "10.0.0.1")), row.get("aport", 1000)),
            (Address.parse(row.get("b", "10.0.0.2")), row.get("bport", 80)),
        ]
        src, dst = ends[row.get("way", 0)], ends[1 - row.get("way", 0)]
        values = {
            "time": int(row.get("t", i) * SECOND),
            "place": row.get("place", 24 + 100 * i),
            "version": src[0].version,
            "proto": 6,
            "src_hi": src[0].hi,
            "src_lo": src[0].lo,
            "dst_hi": dst[0].hi,
            "dst_lo": dst[0].lo,
            "src_port": src[1],
            "dst_port": dst[1],
            "ip_bytes": 40 + row.get("payload", 0),
            "ttl": 64,
            "traits": HAS_PORTS,
            "flags": flag_bits(row.get("f", "")),
            "window": 1000,
            "quote": -1,
        }
        values |= {name: value for name, value in row.items() if name in table.columns}
        if "quoted" in row:
            values["quote"] = len(quotes)
            quote = np.zeros(1, QUOTE)
            for name, value in row["quoted"].items():
                quote[name] = value
            quote["packet"] = i
            quotes.append(quote)
        for name, value in values.items():
            table.columns[name][i] = value
    if quotes:
        table.quotes = np.concatenate(quotes)
    return table
