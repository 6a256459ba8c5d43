"""What a file that is no capture seems to be, so that a person sees their mistake at once."""

from __future__ import annotations

import codecs
import struct
from typing import TYPE_CHECKING

from backscatter.capture.expand import compression
from backscatter.capture.pcap import MAGIC

if TYPE_CHECKING:
    from backscatter.capture.expand import Expanded

#: first bytes -> what begins with them
BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"snoop\0\0\0", "a snoop capture; convert it with `editcap -F pcap`"),
    (b"RTSS", "a Microsoft Network Monitor 1 capture; convert it with `editcap -F pcap`"),
    (b"GMBU", "a Microsoft Network Monitor 2 capture; convert it with `editcap -F pcap`"),
    (b"XCP\0", "a NetXRay capture; convert it with `editcap -F pcap`"),
    (b"TRSNIFF data", "a Sniffer capture; convert it with `editcap -F pcap`"),
    (b"%PDF-", "a PDF"),
    (b"\x7fELF", "an ELF program"),
    (b"MZ", "a Windows program"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it first"),
    (b"\x02\x21\x4c\x18", "an lz4 frame of the old kind; unpack it first"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"<?xml", "XML"),
    (b"#separator", "a Zeek log"),
)


def _is_erf(head: bytes) -> bool:
    """Whether two records follow each other as ERF has them: 8 bytes of time, type, flags, record length."""
    if len(head) < 16:
        return False
    kind, _flags, length = struct.unpack_from(">BBH", head, 8)
    if (kind & 0x7F) not in range(1, 49) or not 16 <= length <= len(head) - 16:
        return False
    next_kind, _flags, next_length = struct.unpack_from(">BBH", head, length + 8)
    near = abs(struct.unpack_from("<I", head, 4)[0] - struct.unpack_from("<I", head, length + 4)[0]) <= 86400
    return near and (next_kind & 0x7F) in range(1, 49) and next_length >= 16


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8, but for a character cut at its end, and has no control characters but those of text."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(character in "\t\n\r\x1b" or character >= " " for character in text)


def seems(source: Expanded) -> str:
    """What the beginning of `source` looks like, in a few words."""
    head = source.peek(65536)
    inside = f" inside {source.compression}" if source.compression else ""
    if not head:
        return f"{'nothing' if inside else 'an empty file'}{inside}{f' ({source.trouble})' if source.trouble else ''}"
    for beginning, what in BEGINNINGS:
        if head.startswith(beginning):
            return what + inside
    if nested := compression(head):
        return f"{nested}{inside}; only one compression is opened"
    if head.startswith(b"\n\r\r\n") or any(
        struct.pack(order + "I", magic) == head[:4] for order in "<>" for magic in MAGIC
    ):
        return f"a capture cut short in its file header{inside}"
    if _is_erf(head):
        return f"an ERF capture; convert it with `editcap -F pcap`{inside}"
    if head[257:262] == b"ustar":
        return f"a tar archive{inside}; unpack it first"
    text = head.lstrip()
    if text[:1] in {b"{", b"["} and b"\0" not in head:
        return f"JSON{inside}"
    if _is_text(head[:512]):
        return f"text{inside}"
    return f"unknown data{inside} that begins with {head[:8].hex(' ')}"
