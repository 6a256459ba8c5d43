"""What may happen to bytes: a bit flips, a piece is lost or comes twice, a length lies, two files become one."""

from __future__ import annotations

import bz2
import copy
import gzip
import json
import lzma
import struct
from typing import TYPE_CHECKING, Any

import zstandard
from trials import LONGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

#: Numbers at which lengths, counts and times turn over.
EDGES = (0, 1, 2, 4, 7, 8, 14, 15, 16, 20, 24, 28, 40, 63, 64, 127, 128, 255, 256, 1500, 4095, 32767, 32768, 65535,
         65536, 262144, 262145, 2**24, 2**31 - 1, 2**31, 2**32 - 1)  # fmt: skip

MAGICS = (b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x34\xcd\xb2\xa1",
          b"\n\r\r\n", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh9", b"\x04\x22\x4d\x18")  # fmt: skip

#: EtherTypes, and words that alerts are told by.
WORDS = (b"\x08\0", b"\x86\xdd", b"\x81\0", b"\x88\xa8", b"\x88\x47", b"\x88\x64", b"\x65\x58", b"\x88\xbe",
         b"\x22\xeb", b"null", b"{}", b"[]", b'""', b"1e999", b"-1", b"NaN", b'"\\ud800"', b"\xe2\x80\xa8", b"\n",
         b"\xff\xfe", b'"detail":', b'"2007-03-20T18:04:19Z"', b'"::1"', b"true", b"9" * 40)  # fmt: skip

PACKERS: tuple[Callable[[bytes], bytes], ...] = (
    gzip.compress,
    bz2.compress,
    lzma.compress,
    zstandard.ZstdCompressor(level=1).compress,
)


def _records(data: bytes) -> list[int]:
    """Where the record headers of a pcap begin, as far as their lengths can be followed; empty for other files."""
    order = {b"\xa1\xb2": ">", b"\xd4\xc3": "<", b"\x4d\x3c": "<"}.get(data[:2])
    offsets: list[int] = []
    at = 24
    while order and at + 16 <= len(data):
        offsets.append(at)
        at += 16 + int(struct.unpack_from(order + "I", data, at + 8)[0])
    return offsets


def _place(rng: Random, data: bytes) -> int:
    """Some byte; most often one of a record's headers, where it matters."""
    records = _records(data) if rng.random() < 0.7 else []
    if records:
        return min(len(data), rng.choice(records) + rng.randrange(rng.choice((16, 60, 130))))
    return rng.randrange(len(data) + 1)


def _flip(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    changed = bytearray(data)
    for index in range(at, min(len(data), at + rng.choice((1, 1, 1, 4)))):
        changed[index] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _byte(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.randbytes(1) + data[at + 1 :]


def _lie(rng: Random, data: bytes) -> bytes:
    """A number of two, four or eight bytes is another: one at an edge, or one that is only a little off."""
    at, (size, form) = _place(rng, data), rng.choice(((1, "B"), (2, "H"), (2, "H"), (4, "I"), (4, "I"), (8, "Q")))
    order = rng.choice("<>")
    if rng.random() < 0.5 or at + size > len(data):
        number = rng.choice(EDGES)
    else:
        number = int(struct.unpack_from(order + form, data, at)[0]) + rng.randint(-9, 9)
    return data[:at] + struct.pack(order + form, number % 2 ** (8 * size)) + data[at + size :]


def _cut(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return (
        data[:at] if rng.random() < 0.5 else data[:at] + data[at + rng.choice((1, 2, 4, 16, rng.randrange(400) + 1)) :]
    )


def _insert(rng: Random, data: bytes) -> bytes:
    at = _place(rng, data)
    other = rng.randrange(len(data) + 1)
    piece = rng.choice(
        (rng.randbytes(rng.choice((1, 2, 4, 16, 300))), rng.choice(MAGICS), rng.choice(WORDS), bytes(rng.randrange(64)),
         data[other : other + rng.randrange(300)])
    )  # fmt: skip
    return data[:at] + piece + data[at + (len(piece) if rng.random() < 0.5 else 0) :]


def _swap(rng: Random, data: bytes) -> bytes:
    """Two records of a pcap change places, or one comes twice."""
    records = [*_records(data), len(data)]
    if len(records) < 3:
        return _insert(rng, data)
    a, b = sorted(rng.sample(range(len(records) - 1), 2)) if len(records) > 3 else (0, 1)
    one, other = data[records[a] : records[a + 1]], data[records[b] : records[b + 1]]
    kept = rng.choice((one, other, b""))
    return data[: records[a]] + other + data[records[a + 1] : records[b]] + kept + data[records[b + 1] :]


def spliced(rng: Random, data: bytes, other: bytes) -> bytes:
    """The beginning of one and the end of another; records in one piece where both are pcap."""
    if rng.random() < 0.7 and (mine := _records(data)) and (theirs := _records(other)):
        return data[: rng.choice(mine)] + other[rng.choice(theirs) :]
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _packed(rng: Random, data: bytes) -> bytes:
    """Compressed, in one or two members; what is mutated afterwards is the compressed stream."""
    pack = rng.choice(PACKERS)
    at = rng.choice((0, 0, _place(rng, data)))
    packed = pack(data[at:])
    return pack(data[:at]) + packed if at else packed


#: What a field of an alert may hold that nobody expects.
VALUES: tuple[Any, ...] = (
    None,
    True,
    "",
    "x",
    "::1",
    "0.0.0.0",  # noqa: S104 - an address in an alert
    "fe80::1%eth0",
    "10.0.0.5",
    "192.0.2.1:80",
    "1" * 5000,
    "\ud800",
    "\0\x1b[2J",
    "\u2028<b>`|*",
    -1,
    0,
    1.5,
    65536,
    1e308,
    10**400,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    [None],
    {"": {}},
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
    "2007-03-20T18:04:19+99:99",
    "2007-02-30T00:00:00Z",
    "INBOUND",
    "TCP",
)


def _nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        container = waiting.pop()
        keys = container if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], dict | list):
                waiting.append(container[key])
    return found


def _fielded(rng: Random, data: bytes) -> bytes:
    """One JSON document of an alert file with fields that hold something else, are gone, or hold one another."""
    lines = [data] if rng.random() < 0.5 else data.splitlines(keepends=True) or [data]
    chosen = rng.randrange(len(lines))
    try:
        document = json.loads(lines[chosen])
    except (ValueError, RecursionError):
        return rng.choice(CHANGES)(rng, data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        nodes = _nodes(document) if isinstance(document, dict | list) else []
        if not nodes:
            break
        (container, key), (other, its) = rng.choice(nodes), rng.choice(nodes)
        if isinstance(container, dict) and rng.random() < 0.15:
            del container[key]
        else:
            container[key] = copy.deepcopy(rng.choice((rng.choice(VALUES), rng.choice(VALUES), other[its])))
    lines[chosen] = json.dumps(document).encode() + b"\n"
    return b"".join(lines)


CHANGES = (_flip, _flip, _byte, _lie, _lie, _lie, _cut, _insert, _swap)


def mutated(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A few changes in a row, then sometimes compression and damage to that. At most LONGEST bytes."""
    if others and rng.random() < 0.15:
        data = spliced(rng, data, rng.choice(others))
    if data.lstrip()[:1] in {b"{", b"["} and rng.random() < 0.8:
        return _fielded(rng, data)[:LONGEST]
    for _ in range(rng.choice((1, 1, 2, 2, 3, 5, 9))):
        data = rng.choice(CHANGES)(rng, data[:LONGEST])
    if rng.random() < 0.08:
        data = _packed(rng, data)
        for _ in range(rng.choice((0, 0, 1, 3))):
            data = rng.choice((_flip, _byte, _cut, _insert))(rng, data)
    return data[:LONGEST]
