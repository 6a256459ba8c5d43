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


def layout(size: int, fields: dict[str, tuple[str | np.dtype[np.void], int]]) -> np.dtype[np.void]:
    """A layout of `size` bytes from name -> (format, offset); fields may overlap."""
    return np.dtype(
        {
            "names": list(fields),
            "formats": [form for form, _ in fields.values()],
            "offsets": [offset for _, offset in fields.values()],
            "itemsize": size,
        }
    )


#: What speech is told by: the beginnings of DNS, NTP and QUIC, one over the other.
SAID = layout(
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

#: The first 20 bytes of TCP (RFC 9293), UDP (RFC 768) and ICMP (RFC 792, 4443), one over the other. Behind UDP there is
#: SAID, as a whole, or VXLAN (RFC 7348) or GENEVE (RFC 8926), which have their network number in the same place.
BODY = layout(
    20,
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
        "said": (f"V{SAID.itemsize}", 8),
        "overlay_words": ("u1", 8),
        "overlay_kind": (">u2", 10),
        "vni": (">u4", 12),
    },
)

#: Bytes of IP4 before the header itself, so that it lies aligned.
BEFORE = 4

#: IPv4 without options (RFC 791), and what it carries, with the EtherType before it.
IP4 = layout(
    BEFORE + 20 + BODY.itemsize,
    {
        "kind": (">u2", 2),
        "first": ("u1", 4),
        "length": (">u2", 6),
        "fragment": (">u2", 10),
        "ttl": ("u1", 12),
        "proto": ("u1", 13),
        "src_lo": (">u4", 16),
        "dst_lo": (">u4", 20),
        "body": (BODY, 24),
    },
)

#: IPv6 (RFC 8200) without extension headers, and what it carries.
IP6 = layout(
    40 + BODY.itemsize,
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

#: Bytes of a VLAN tag behind its EtherType: the number, and the EtherType of what follows. Of VXLAN's and GENEVE's own.
TAG, OVERLAY = 4, 8

NUMBER = np.dtype(">u2")


def within(data: Bytes, at: Ints, form: np.dtype[Any], skip: int = 0) -> Mask:
    """Which of the indices `skip` bytes behind `at` have room for `form` in `data`."""
    mask: Mask = (at >= -skip) & (at <= len(data) - form.itemsize - skip)
    return mask


def heads(data: Bytes, at: Ints, form: np.dtype[Any], skip: int = 0) -> NDArray[Any]:
    """A contiguous copy of the `form` at `skip` bytes behind each index of `at`, all of which are `within` data."""
    size = form.itemsize
    if not len(at):
        return np.zeros(0, form)
    if skip < 0:
        at, skip = at + skip, 0
    # opaque items: NumPy would copy a structure field by field, fifteen times slower
    windows: NDArray[np.void] = np.ndarray((len(data) - size - skip + 1,), f"V{size}", data, skip, strides=(1,))
    return windows[at].view(form)


@dataclass(slots=True)
class Group:
    """Packets of one tile that have come to the same kind of header.

    Where nearly all are sound, those that are not stay among them, since that is cheaper than to copy all others. What
    is written for them is to be written again by whoever decodes them.

    rows      their rows in the block: a slice, or ascending
    base      indices into the block's data, from which that header is `skip` bytes away
    captured  bytes captured from `base` on; may be fewer than `skip`
    wire      bytes from `base` on as on the wire, by what the header outside of it says; of sound ones at least as many
    path      numbers of the ways to it (decode.vector.paths), or the one number of all
    sound     which of them are what the group says
    """

    rows: slice | NDArray[np.intp]
    base: Ints
    skip: int
    captured: Ints
    wire: Ints
    path: Ints | int
    sound: Mask

    def __len__(self) -> int:
        return len(self.base)

    def rows_of(self, which: NDArray[np.intp]) -> NDArray[np.intp]:
        """The rows in the block of those at the positions `which`."""
        return which + self.rows.start if isinstance(self.rows, slice) else self.rows[which]

    def take(self, which: NDArray[np.intp]) -> Group:
        """Those at the positions `which`, ascending; all of them are sound."""
        return Group(
            self.rows_of(which),
            self.base[which],
            self.skip,
            self.captured[which],
            self.wire[which],
            self.path if isinstance(self.path, int) else self.path[which],
            self.sound[which],
        )

    def where(self, mask: Mask) -> Group:
        """Those sound ones for which `mask` is true, and no others."""
        mask = mask & self.sound
        return self if mask.all() else self.take(np.flatnonzero(mask))

    def only(self, mask: Mask, skip: int | None = None) -> Group:
        """The same packets, of which those are sound for which `mask` is true too; at the header that is at `skip`."""
        return Group(
            self.rows,
            self.base,
            self.skip if skip is None else skip,
            self.captured,
            self.wire,
            self.path,
            mask & self.sound,
        )

    def read(self, data: Bytes, form: np.dtype[Any], before: int = 0) -> tuple[NDArray[Any], Group]:
        """The `form` that begins `before` each header, and the packets, of which those are sound that have it."""
        skip = self.skip - before
        last = len(data) - form.itemsize - skip
        if self.base.max() <= last and self.base.min() >= -skip:
            return heads(data, self.base, form, skip), self
        fits = within(data, self.base, form, skip)
        if not fits.any():
            return np.zeros(len(self), form), self.only(fits)
        return heads(data, np.where(fits, self.base, self.base[fits.argmax()]), form, skip), self.only(fits)
