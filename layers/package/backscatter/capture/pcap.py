"""Classic pcap (https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html): the file header and its records."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from backscatter.capture.layout import NANO, Interface, Layout, Section
from backscatter.capture.records import Record, Walk

if TYPE_CHECKING:
    from backscatter.capture.limits import Limits

FILE_HEADER = 24

#: magic number -> (ticks a second, bytes of a record header). The last is Kuznetzov's patch of 1998: its record
#: header has interface index, protocol and packet type behind the usual four fields.
MAGIC = {0xA1B2C3D4: (10**6, 16), 0xA1B23C4D: (10**9, 16), 0xA1B2CD34: (10**6, 24)}


def pcap_layout(head: bytes) -> Layout | None:
    """The layout that a file header tells, None if it is none. Its first record begins at FILE_HEADER."""
    if len(head) < FILE_HEADER:
        return None
    for order in "<>":
        magic, major, minor, _zone, _accuracy, _snaplen, link = struct.unpack_from(order + "IHHiIII", head)
        if magic in MAGIC:
            ticks, header = MAGIC[magic]
            # the upper bits of the link type tell of frame check sequences
            section = Section(0, order, (Interface(link & 0xFFFF, ticks),))
            return Layout("pcap", header=header, swapped=(major, minor) < (2, 4), sections=[section])
    return None


def walk_pcap(data: bytes, start: int, base: int, layout: Layout, limits: Limits, most: int) -> Walk:
    """Walks at most `most` records of `data` from index `start` on; `base` is the stream offset of data[0].

    A record's length is bounded by `limits.record_bytes`: a longer one is a lie, since no ordinary link carries it.
    """
    section = layout.sections[0]
    interface = section.interfaces[0]
    linktype, tick, header = interface.linktype, NANO // interface.ticks, layout.header
    fields = struct.Struct(section.order + "IIII").unpack_from
    walk, at, end = Walk(), start, len(data)
    records = walk.records
    while len(records) < most:
        if at + header > end:
            walk.wants = header
            break
        seconds, fraction, caplen, wirelen = fields(data, at)
        if layout.swapped and caplen > wirelen:
            caplen, wirelen = wirelen, caplen
        if caplen > limits.record_bytes:
            walk.lie = f"a record claims {caplen} captured bytes, more than {limits.record_bytes} (limit record_bytes)"
            break
        body = at + header
        if body + caplen > end:
            walk.wants = header + caplen
            break
        # a packet is at least as long as what was captured of it, whatever a writer claims
        time = seconds * NANO + fraction * tick
        records.append(Record(body, caplen, max(caplen, wirelen), time, base + at, linktype))
        at = body + caplen
    walk.at = at
    return walk
