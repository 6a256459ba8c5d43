"""IEEE 802.11 frames, and the headers that drivers put in front of them.

Only data frames in the clear carry IP for us; of an aggregate (A-MSDU) the first one is read.
"""

from __future__ import annotations

import struct

from backscatter.decode.network import LINK, LLC, OTHER, Network

IEEE802_11 = LINK + 105

DATA = 2

# bits of the frame control field as it is read little-endian
TO_AND_FROM_DS, PROTECTED, ORDER = 0x0300, 0x4000, 0x8000

# bits of the subtype of data frames
NO_DATA, QOS = 4, 8

#: Bit of the QoS field: what follows is an aggregate.
AGGREGATE = 0x80

# radiotap: bits of the presence word, and of the flags field
TSFT, FLAGS, MORE_WORDS = 1, 2, 1 << 31
FCS_AT_END, PADDED = 0x10, 0x20

AVS_MAGIC = 0x80211001
PRISM_HEADER = 144


def _inside(frame: bytes, start: int, end: int, *, padded: bool = False) -> Network | None:
    if len(frame) < start + 24:
        return None
    (control,) = struct.unpack_from("<H", frame, start)
    kind, subtype = control >> 2 & 3, control >> 4 & 15
    if kind != DATA or subtype & NO_DATA or control & PROTECTED:
        return Network(OTHER, start, end)
    size = 24 + (6 if control & TO_AND_FROM_DS == TO_AND_FROM_DS else 0)
    aggregate = False
    if subtype & QOS:
        if len(frame) < start + size + 2:
            return None
        aggregate = bool(frame[start + size] & AGGREGATE)
        size += 2 + (4 if control & ORDER else 0)
    body = start + size + (-size % 4 if padded else 0)
    # a part of an aggregate has two addresses and its length in front
    return Network(LLC, body + 14 if aggregate else body, end)


def wireless(frame: bytes, start: int, end: int) -> Network | None:
    """IEEE 802.11 without anything in front."""
    return _inside(frame, start, end)


def radiotap(frame: bytes, start: int, end: int) -> Network | None:
    """https://www.radiotap.org: a length, words of what is present, and the fields, of which flags matter here."""
    if len(frame) < start + 8:
        return None
    version, _pad, length, present = struct.unpack_from("<BBHI", frame, start)
    if version or length < 8:
        return None
    at, more = start + 8, present
    while more & MORE_WORDS:
        if at + 4 > min(start + length, len(frame)):
            return None
        (more,) = struct.unpack_from("<I", frame, at)
        at += 4
    flags = 0
    if present & FLAGS:
        if present & TSFT:
            at += -(at - start) % 8 + 8
        flags = frame[at] if at < min(start + length, len(frame)) else 0
    return _inside(frame, start + length, end - (4 if flags & FCS_AT_END else 0), padded=bool(flags & PADDED))


def avs(frame: bytes, start: int, end: int) -> Network | None:
    """AVS: magic number and length in front."""
    if len(frame) < start + 8:
        return None
    magic, length = struct.unpack_from(">II", frame, start)
    if magic != AVS_MAGIC or length < 8:
        return None
    return Network(IEEE802_11, start + length, end)


def prism(frame: bytes, start: int, end: int) -> Network | None:
    """Prism, of fixed size; drivers write AVS under the same number."""
    if len(frame) < start + 8:
        return None
    if struct.unpack_from(">I", frame, start)[0] == AVS_MAGIC:
        return avs(frame, start, end)
    return Network(IEEE802_11, start + PRISM_HEADER, end)
