"""IP protocols by the names that the contract prints; every other one goes by its number."""

from __future__ import annotations

NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}
NUMBERS = {name: number for number, name in NAMES.items()}


def proto_name(number: int) -> str:
    """`tcp`, `udp`, `icmp`, `icmp6`, `sctp`, else the number as text."""
    return NAMES.get(number, str(number))


def proto_number(name: str) -> int | None:
    """The number of a protocol named or numbered in text, None where it is neither."""
    known = NUMBERS.get(name.strip().lower())
    if known is not None:
        return known
    return int(name) if name.isascii() and name.isdigit() and int(name) < 256 else None
