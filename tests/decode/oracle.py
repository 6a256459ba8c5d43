"""Directed conversations, counted once from our packet columns and once from what tshark said of the same capture."""

from __future__ import annotations

import ipaddress
import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from backscatter.capture.reader import open_capture
from backscatter.decode.columns import FRAGMENT, HAS_PORTS, OK, Packets
from backscatter.decode.decoder import Decoder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LETTERS = "FSRPAUEC"
#: The order in which the oracle writes flags.
ORACLE_LETTERS = "SFRPAUEC"


def decoded(path: Path) -> tuple[Packets, Decoder]:
    """All packets of a capture."""
    decoder = Decoder()
    with path.open("rb") as stream:
        packets = Packets.joined([decoder.decode(block) for block in open_capture(stream, path.name).blocks()])
    return packets, decoder


def text(version: int, high: int, low: int) -> str:
    if version == 4:
        return str(ipaddress.IPv4Address(low))
    return str(ipaddress.IPv6Address(high << 64 | low))


def flag_set(bits: int) -> frozenset[str]:
    return frozenset(letter for bit, letter in enumerate(LETTERS) if bits >> bit & 1)


def ours(packets: Packets, proto: int) -> dict[tuple, dict]:
    """(src, sport, dst, dport) -> packets, payload, flags of each set; first fragments and whole packets only."""
    table: dict[tuple, dict] = defaultdict(lambda: {"packets": 0, "payload": 0, "flags": Counter()})
    columns: list[NDArray] = [
        packets[name]
        for name in (
            "status",
            "proto",
            "traits",
            "version",
            "src_hi",
            "src_lo",
            "dst_hi",
            "dst_lo",
            "src_port",
            "dst_port",
            "flags",
            "payload",
        )
    ]
    for status, kind, traits, version, sh, sl, dh, dl, sport, dport, flags, payload in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        if status != OK or kind != proto or not traits & HAS_PORTS or traits & FRAGMENT:
            continue
        row = table[text(version, sh, sl), sport, text(version, dh, dl), dport]
        row["packets"] += 1
        row["payload"] += payload
        row["flags"][flag_set(flags)] += 1
    return dict(table)


def theirs(path: Path, proto: str) -> dict[tuple, dict]:
    """The same from an oracle file. It has no payload and no flags for UDP."""
    table: dict[tuple, dict] = defaultdict(lambda: {"packets": 0, "payload": 0, "flags": Counter()})
    for flow in json.loads(path.read_text())[proto]:
        for side, (a, b) in (("ab", ("a", "b")), ("ba", ("b", "a"))):
            if not flow[f"pkts_{side}"]:
                continue
            row = table[flow[a], flow[f"{a}port"], flow[b], flow[f"{b}port"]]
            row["packets"] += flow[f"pkts_{side}"]
            if proto == "tcp":
                row["payload"] += flow[f"payload_{side}"]
                for letters, count in flow[f"flags_{side}"].items():
                    row["flags"][frozenset(letters) - {"-"}] += count
    return dict(table)
