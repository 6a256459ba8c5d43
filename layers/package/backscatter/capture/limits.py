"""What a capture may ask of us before we stop believing it."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB, GIB = 2**10, 2**20, 2**30


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what an untrusted capture makes us do. Sizes are in bytes of the expanded stream.

    record_bytes     captured bytes of one packet; libpcap's own bound for ordinary link types
    block_bytes      one pcapng block, of whatever type
    interfaces       interface descriptions of those sections of one pcapng that differ from their predecessor
    sections         such sections
    expansion_ratio  expanded bytes a compressed byte, looked at once `ratio_from` bytes came out
    ratio_from       before this many expanded bytes any ratio is fine: a small capture may be all zeros
    expanded_bytes   of the whole stream
    """

    record_bytes: int = 256 * KIB
    block_bytes: int = 16 * MIB
    interfaces: int = 2048
    sections: int = 2048
    expansion_ratio: int = 250
    ratio_from: int = 64 * MIB
    expanded_bytes: int = 256 * GIB
