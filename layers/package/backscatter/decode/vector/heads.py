"""Headers of many packets at once: how they lie on the wire, and how NumPy takes them out of a block.

A head is an IP header together with the first bytes of what it carries. All heads of a tile are copied side by side
once; every field is then a strided view of that copy, and a cast into its column is a single pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Bytes = NDArray[np.uint8]
    Mask = NDArray[np.bool_]


def _layout(size: int, fields: dict[str, tuple[str | np.dtype[np.void], int]]) -> np.dtype[np.void]:
    """A layout of `size` bytes from name -> (format, offset); fields may overlap."""
    return np.dtype(
        {
            "names": list(fields),
            "formats": [form for form, _ in fields.values()],
            "offsets": [offset for _, offset in fields.values()],
            "itemsize": size,
        }
    )


#: The first 16 bytes of TCP (RFC 9293), UDP (RFC 768) and ICMP (RFC 792, 4443), one over the other.
BODY = _layout(
    16,
    {
        "sport": (">u2", 0),
        "dport": (">u2", 2),
        "seq": (">u4", 4),
        "ack": (">u4", 8),
        "words": ("u1", 12),
        "flags": ("u1", 13),
        "window": (">u2", 14),
        "udp_length": (">u2", 4),
        "icmp_type": ("u1", 0),
        "icmp_code": ("u1", 1),
    },
)

#: IPv4 without options (RFC 791), and what it carries.
IP4 = _layout(
    36,
    {
        "first": ("u1", 0),
        "length": (">u2", 2),
        "fragment": (">u2", 6),
        "ttl": ("u1", 8),
        "proto": ("u1", 9),
        "src_lo": (">u4", 12),
        "dst_lo": (">u4", 16),
        "body": (BODY, 20),
    },
)

#: IPv6 (RFC 8200) without extension headers, and what it carries.
IP6 = _layout(
    56,
    {
        "first": ("u1", 0),
        "length": (">u2", 4),
        "proto": ("u1", 6),
        "ttl": ("u1", 7),
        "src_hi": (">u8", 8),
        "src_lo": (">u8", 16),
        "dst_hi": (">u8", 24),
        "dst_lo": (">u8", 32),
        "body": (BODY, 40),
    },
)

#: A VLAN tag behind its EtherType: the number, and the EtherType of what follows.
TAG = _layout(4, {"number": (">u2", 0), "kind": (">u2", 2)})

#: VXLAN (RFC 7348) and GENEVE (RFC 8926), which have their network number in the same place.
OVERLAY = _layout(8, {"words": ("u1", 0), "kind": (">u2", 2), "vni": (">u4", 4)})

#: What speech is told by: the beginnings of DNS, NTP and QUIC, one over the other.
SAID = _layout(
    12,
    {
        "first": ("u1", 0),
        "version": (">u4", 1),
        "id_length": ("u1", 5),
        "dns_flags": (">u2", 2),
        "questions": (">u2", 4),
        "answers": (">u2", 6),
        "authorities": (">u2", 8),
        "additional": (">u2", 10),
    },
)

NUMBER = np.dtype(">u2")


def within(data: Bytes, at: Ints, layout: np.dtype[Any]) -> Mask:
    """Which of the indices `at` have room for `layout` before the end of `data`."""
    mask: Mask = at <= len(data) - layout.itemsize
    return mask


def heads(data: Bytes, at: Ints, layout: np.dtype[Any]) -> NDArray[Any]:
    """A contiguous copy of the `layout` at each index of `at`, all of which have to be `within` data."""
    size = layout.itemsize
    if not len(at):
        return np.zeros(0, layout)
    # opaque items: NumPy would copy a structure field by field, fifteen times slower
    windows: NDArray[np.void] = np.ndarray((len(data) - size + 1,), f"V{size}", data, strides=(1,))
    return windows[at].view(layout)


def chosen(head: NDArray[Any], which: NDArray[np.intp]) -> NDArray[Any]:
    """Some rows of what `heads` gave."""
    return head.view(f"V{head.dtype.itemsize}")[which].view(head.dtype)


@dataclass(frozen=True, slots=True)
class Group:
    """Packets of one tile that have come to the same kind of header.

    rows      their rows in the tile, ascending
    at        index into the block's data of that header
    captured  bytes captured from there on; may be negative
    wire      bytes from there on as on the wire, by what the header outside of it says; at least as many
    path      numbers of the ways to it (decode.vector.paths)
    """

    rows: NDArray[np.intp]
    at: Ints
    captured: Ints
    wire: Ints
    path: Ints

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, mask: Mask) -> Group:
        """Those for which `mask` is true."""
        return self if mask.all() else self.take(np.flatnonzero(mask))

    def take(self, which: NDArray[np.intp]) -> Group:
        """Those at the positions `which`, ascending."""
        return Group(self.rows[which], self.at[which], self.captured[which], self.wire[which], self.path[which])

    def inward(self, size: int | Ints) -> Group:
        """The same packets `size` bytes further in."""
        return Group(self.rows, self.at + size, self.captured - size, self.wire - size, self.path)

    def along(self, path: Ints) -> Group:
        """The same packets, having gone another step of their ways."""
        return Group(self.rows, self.at, self.captured, self.wire, path)
