"""What UDP payloads say of their own role, for many of them: decode.speech in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import (
    DNS_ANSWER,
    DNS_QUERY,
    NTP_ANSWER,
    NTP_ASK,
    QUIC_INITIAL,
    QUIC_LONG,
    QUIC_SHORT,
    picked,
)
from backscatter.decode.speech import (
    DNS_OPCODES,
    DNS_PORTS,
    NTP_PORT,
    QUESTION,
    QUIC_DRAFTS,
    QUIC_INITIAL_TYPE,
    QUIC_MOST_ID,
    QUIC_NEGOTIATION,
    QUIC_PORT,
    RESOURCE,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.decode.vector.heads import Ints, Mask

    Fields = NDArray[Any]
    Ports = NDArray[np.uint16]
    Said = NDArray[np.uint8]

#: UDP port -> what is spoken there; the greater number is asked first where the ports of a packet differ.
NOTHING, QUIC, NTP, DNS = range(4)
LANGUAGE = np.zeros(2**16, np.uint8)
LANGUAGE[QUIC_PORT], LANGUAGE[NTP_PORT] = QUIC, NTP
LANGUAGE[list(DNS_PORTS)] = DNS

OPCODES = np.zeros(16, np.bool_)
OPCODES[list(DNS_OPCODES)] = True


def languages(sport: Ports, dport: Ports) -> Said:
    """What each packet of these ports would speak."""
    return np.maximum(LANGUAGE.take(sport), LANGUAGE.take(dport))


def _bits(*said: tuple[Mask, int]) -> Said:
    """Each packet's one bit of those whose masks it is in; no packet is in two of them."""
    bits = np.zeros(len(said[0][0]), np.uint8)
    for mask, bit in said:
        bits |= mask * np.uint8(bit)
    return bits


def dns(sport: Ports, dport: Ports, said: Fields, captured: Ints, length: Ints) -> Said:
    """As decode.speech.dns."""
    flags = said["dns_flags"].astype(np.uint16)
    resources = sum(said[name].astype(np.int32) for name in ("answers", "authorities", "additional"))
    least = 12 + said["questions"].astype(np.int32) * QUESTION + resources * RESOURCE
    sound = (captured >= 12) & OPCODES.take(flags >> 11 & 0xF) & (least <= length)
    answer = flags >= 0x8000
    answers = sound & answer & (LANGUAGE.take(sport) == DNS)
    asks = sound & ~answer & (LANGUAGE.take(dport) == DNS)
    return _bits((answers, DNS_ANSWER), (asks, DNS_QUERY))


def ntp(sport: Ports, dport: Ports, said: Fields, captured: Ints, length: Ints) -> Said:
    """As decode.speech.ntp."""
    first = said["first"].copy()
    version, mode = first >> 3 & 7, first & 7
    sound = (length >= 48) & (captured > 0) & (version >= 1) & (version <= 4)
    asks = sound & (mode == 3) & (dport == NTP_PORT)
    answers = sound & (mode == 4) & (sport == NTP_PORT)
    return _bits((asks, NTP_ASK), (answers, NTP_ANSWER))


def quic(_sport: Ports, _dport: Ports, said: Fields, captured: Ints, _length: Ints) -> Said:
    """As decode.speech.quic."""
    first, version = said["first"].copy(), said["version"].astype(np.uint32)
    sound, fixed, long = captured >= 7, first & 0x40 != 0, first >= 0x80
    negotiation = version == QUIC_NEGOTIATION
    known = version & 0xFFFFFF00 == QUIC_DRAFTS
    initial_type = np.zeros(len(version), np.uint8)
    for number, initial in QUIC_INITIAL_TYPE.items():
        those = version == number
        known |= those
        if initial:
            initial_type |= those * np.uint8(initial)
    longs = sound & long & (said["id_length"] <= QUIC_MOST_ID) & (negotiation | (fixed & known))
    initials = longs & ~negotiation & (first >> 4 & 3 == initial_type)
    shorts = sound & ~long & fixed
    return _bits((initials, QUIC_INITIAL), (longs & ~initials, QUIC_LONG), (shorts, QUIC_SHORT))


SPEAKERS = ((DNS, dns), (NTP, ntp), (QUIC, quic))


def speech(sport: Ports, dport: Ports, said: Fields, captured: Ints, length: Ints) -> Said:
    """Bits of Speech for UDP payloads; `said` is SAID, of whose payload `captured` of `length` bytes are there."""
    spoken = np.zeros(len(sport), np.uint8)
    language = languages(sport, dport)
    for which, speaker in SPEAKERS:
        those = np.flatnonzero(language == which)
        if len(those):
            spoken[those] = speaker(sport[those], dport[those], picked(said, those), captured[those], length[those])
    return spoken
