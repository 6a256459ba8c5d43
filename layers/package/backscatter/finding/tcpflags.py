"""TCP flags as Snort writes them, and Sguil after it: eight places, the highest bit first, `*` where a bit is off."""

from __future__ import annotations

#: What stands in each place where the bit is on. The reserved bits are 1 and 2, C and E where somebody gave them their
#: newer names; Sguil's client writes 0 for the second.
PLACES = ("1C", "2E0", "U", "A", "P", "R", "S", "F")


def parse_flags(text: str) -> int:
    """The flags as on the wire. Raises ValueError where the text is something else."""
    if len(text) != len(PLACES):
        raise ValueError(f"{text[:20]!a} is not of the form 12UAPRSF with *")
    bits = 0
    for letter, place in zip(text, PLACES, strict=True):
        if letter != "*" and letter not in place:
            raise ValueError(f"{text!a} is not of the form 12UAPRSF with *")
        bits = bits << 1 | (letter != "*")
    return bits
