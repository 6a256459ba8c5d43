"""Packets on their way from whoever read them to whoever builds their flows: by conversation, not by time.

A capture that is shared out is read range by range, by several workers. Cut where ranges end, its conversations would
be known in pieces only, and history, connection state and losses of one do not follow from those of its pieces. So the
packets of each range are dealt into SLOTS by a keyed hash of their tuple, and whoever builds the flows of some
slots takes these slots of all ranges: the flows are those of a single pass.

A slot is the columns of its packets, byte-shuffled under zstd; slots lie one behind the other in one object for each
range, so that some of them are one ranged read.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import OK, PACKET, QUOTE, Packets
from backscatter.errors import StoreError
from backscatter.store.frame import expand, squeeze

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from backscatter.store.hosts import HostHash

#: Into how many slots packets are dealt.
SLOTS = 1024
#: Packets that are dealt to one worker, give or take a slot. Each may be a flow, and takes about 600 bytes there.
PART_PACKETS = 1_000_000
#: Bytes of a slot, expanded: a range of one conversation has all its packets in one.
_LARGEST = 1 << 30

#: packets, quotes
_HEAD = struct.Struct("<II")
#: Left out: packets that make flows have status OK, and their quotes tell whose they are.
_COLUMNS = [(name, np.dtype(dtype)) for name, (dtype, _) in PACKET.items() if name not in ("status", "quote")]
#: Written as differences: they run along the packets.
_RUNNING = ("time", "place")
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


def slots_of(packets: Packets, host_hash: HostHash) -> NDArray[np.uint16]:
    """The slot of each packet: the same for both directions of a tuple, whatever its scope."""
    version = packets["version"]
    ends = [
        _stirred(
            host_hash.column(version, packets[f"{side}_hi"], packets[f"{side}_lo"]) ^ packets[f"{side}_port"] * _SPREAD
        )
        for side in ("src", "dst")
    ]
    mixed = _stirred(ends[0] + ends[1] + packets["proto"].astype(np.uint64))
    slots: NDArray[np.uint16] = (mixed >> np.uint64(54)).astype(np.uint16)
    return slots


def deal(packets: Packets, host_hash: HostHash) -> Iterator[tuple[int, bytes]]:
    """The packets, all with status OK, of every slot: how many, and their bytes (none for none)."""
    slots = slots_of(packets, host_hash)
    order = np.argsort(slots, kind="stable")
    counts = np.bincount(slots, minlength=SLOTS)
    ends = np.cumsum(counts)
    for begin, end in zip((ends - counts).tolist(), ends.tolist(), strict=True):
        yield end - begin, _packed(packets.only(order[begin:end])) if end > begin else b""


def gather(data: bytes, lengths: Sequence[int]) -> Packets:
    """The packets of slots that lie one behind the other in `data`, of these lengths. Raises StoreError."""
    if len(data) != sum(lengths):
        raise StoreError(f"slots of {sum(lengths)} bytes were asked for, there are {len(data)}")
    tables, at = [], 0
    for length in lengths:
        if length:
            tables.append(_unpacked(data[at : at + length]))
        at += length
    return Packets.joined(tables)


def parts_of(counts: Sequence[int], most: int = PART_PACKETS) -> list[tuple[int, int]]:
    """Which slots (from, to) make a part each, by how many packets are in every slot: about `most` in a part."""
    parts, begin, held = [], 0, 0
    for slot, count in enumerate(counts):
        if held and held + count > most:
            parts.append((begin, slot))
            begin, held = slot, 0
        held += count
    return [*parts, (begin, len(counts))]


def _stirred(mixed: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = mixed * _SPREAD
    mixed ^= mixed >> np.uint64(32)
    stirred: NDArray[np.uint64] = mixed * _SPREAD
    return stirred


def _packed(packets: Packets) -> bytes:
    pieces = [_HEAD.pack(len(packets), len(packets.quotes)), packets.quotes.astype(QUOTE).tobytes()]
    for name, dtype in _COLUMNS:
        values = packets[name].astype(dtype)
        if (values == values[0]).all():
            pieces += [b"\0", values[:1].tobytes()]
            continue
        if name in _RUNNING:
            values = np.diff(values, prepend=dtype.type(0))
        pieces += [b"\1", _shuffled(values)]
    return squeeze(b"".join(pieces[:2]), *pieces[2:])


def _unpacked(frame: bytes) -> Packets:
    data = memoryview(expand(frame, _LARGEST))
    try:
        count, quotes = _HEAD.unpack_from(data)
        at = _HEAD.size
        quoted = np.frombuffer(data, QUOTE, quotes, at).copy()
        at += quoted.nbytes
        columns: dict[str, NDArray[Any]] = {}
        for name, dtype in _COLUMNS:
            kind = data[at]
            size = dtype.itemsize * (count if kind else 1)
            octets = np.frombuffer(data, np.uint8, size, at + 1)
            at += 1 + size
            if not kind:
                columns[name] = np.full(count, octets.view(dtype)[0], dtype)
                continue
            values = octets.reshape(dtype.itemsize, count).T.copy().view(dtype).reshape(count)
            columns[name] = np.cumsum(values, dtype=dtype) if name in _RUNNING else values
        columns["status"] = np.full(count, OK, PACKET["status"][0])
        columns["quote"] = np.full(count, -1, PACKET["quote"][0])
        columns["quote"][quoted["packet"]] = np.arange(quotes)
    except (ValueError, IndexError, struct.error) as error:
        raise StoreError(f"a slot of packets cannot be read: {error}") from error
    return Packets(columns, quoted)


def _shuffled(values: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), values.itemsize).T.tobytes()
