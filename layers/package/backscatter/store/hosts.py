"""Hosts under a keyed hash, and the small filter that says which hosts a capture can hold.

Attackers choose addresses. With the deployment's key in the hash they cannot choose which bucket an address falls
into, nor fill a filter on purpose. SipHash-2-4 (https://www.aumasson.jp/siphash/siphash.pdf) is made for that, and its
additions, rotations and exclusive ors run over whole columns of addresses at once.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.errors import StoreError
from backscatter.flow.runs import run_starts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from backscatter.flow.address import Address

#: Rows hashed at once: the working columns stay in the processor's cache.
_STRIDE = 32768


def _rotate(column: NDArray[np.uint64], bits: int, room: NDArray[np.uint64]) -> None:
    np.right_shift(column, np.uint64(64 - bits), out=room)
    np.left_shift(column, np.uint64(bits), out=column)
    np.bitwise_or(column, room, out=column)


def _round(state: Sequence[NDArray[np.uint64]], room: NDArray[np.uint64]) -> None:
    v0, v1, v2, v3 = state
    v0 += v1
    _rotate(v1, 13, room)
    v1 ^= v0
    _rotate(v0, 32, room)
    v2 += v3
    _rotate(v3, 16, room)
    v3 ^= v2
    v0 += v3
    _rotate(v3, 21, room)
    v3 ^= v0
    v2 += v1
    _rotate(v1, 17, room)
    v1 ^= v2
    _rotate(v2, 32, room)


def siphash(key: bytes, words: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """SipHash-2-4 of many messages at once: word i of message j, little endian, is `words[i][j]`.

    Words that all messages have in common may be given as one, `words[i][0]`: at the front they cost nothing.
    """
    k0, k1 = struct.unpack("<QQ", key)
    count = 1
    start = (k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573)
    state = [np.full(count, value, np.uint64) for value in start]
    room = np.empty(count, np.uint64)
    for word in (*words, np.full(1, len(words) * 8 % 256 << 56, np.uint64)):
        if len(word) != count == 1:
            count = len(word)
            state = [np.repeat(v, count) for v in state]
            room = np.empty(count, np.uint64)
        state[3] ^= word
        _round(state, room)
        _round(state, room)
        state[0] ^= word
    state[2] ^= np.uint64(0xFF)
    for _ in range(4):
        _round(state, room)
    v0, v1, v2, v3 = state
    return v0 ^ v1 ^ v2 ^ v3


def _common(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return word[:1] if (word == word[0]).all() else word


class HostHash:
    """The keyed hash of a deployment: addresses to 64 bits."""

    def __init__(self, key: bytes) -> None:
        self._key = hashlib.blake2b(key, digest_size=16, person=b"backscatter host").digest()

    def column(self, version: NDArray[Any], hi: NDArray[np.uint64], lo: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The hashes of a column of addresses, as the flow table holds them."""
        hashes = np.empty(len(lo), np.uint64)
        for at in range(0, len(lo), _STRIDE):
            part = slice(at, at + _STRIDE)
            words = (_common(version[part].astype(np.uint64)), _common(hi[part]), lo[part])
            hashes[part] = siphash(self._key, words)
        return hashes

    def addresses(self, addresses: Sequence[Address]) -> NDArray[np.uint64]:
        """The hashes of some addresses."""
        columns = (np.array([address[i] for address in addresses], np.uint64) for i in range(3))
        return self.column(*columns)


def distinct(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The different numbers, ascending: of many, a tenth of the time of np.unique."""
    ascending = np.sort(numbers)
    return ascending[run_starts(ascending)]


def pigeonhole(bits: NDArray[np.uint64], count: NDArray[Any] | int) -> NDArray[np.int64]:
    """Which of `count` equal shares of the range of 32 bits each number falls into."""
    share: NDArray[np.int64] = (bits * np.asarray(count, np.uint64) >> np.uint64(32)).astype(np.int64)
    return share


def bucket_bits(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The half of the hash that chooses a host's bucket."""
    return hashes & np.uint64(0xFFFFFFFF)


def part_bits(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The other half: which part of a heavy host's bucket its peer falls into."""
    return hashes >> np.uint64(32)


@dataclass(frozen=True, slots=True)
class Bloom:
    """A set of hosts that may say yes to a stranger and never says no to a member.

    bits    the filter; empty says yes to all
    probes  bits set for each host
    """

    bits: bytes
    probes: int

    #: bits for each host: with seven probes one stranger in a hundred is let in
    BITS_A_HOST = 10
    #: bytes: an entry of the catalogue stays small, since a query reads a day of them
    LARGEST = 4096

    @classmethod
    def of(cls, *hashes: NDArray[np.uint64]) -> Bloom:
        """The filter of some hosts. Where there are too many for any filter of the size, it lets everyone in."""
        hosts = np.zeros(0, np.uint64)
        for column in hashes:
            for at in range(0, len(column), _STRIDE):
                hosts = distinct(np.concatenate((hosts, column[at : at + _STRIDE])))
                if len(hosts) > cls.LARGEST * 8:
                    return cls(b"", 0)
        size = 16
        while size * 8 < len(hosts) * cls.BITS_A_HOST and size < cls.LARGEST:
            size *= 2
        probes = max(1, min(7, round(size * 8 * 0.69 / max(1, len(hosts)))))
        field = np.zeros(size * 8, np.bool_)
        field[cls._places(hosts, probes, size * 8)] = True
        return cls(np.packbits(field).tobytes(), probes)

    def __contains__(self, host: int) -> bool:
        return bool(self.holds(np.array([host], np.uint64))[0])

    def holds(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """For each host whether it can be in the set."""
        if not self.bits:
            return np.ones(len(hashes), np.bool_)
        places = self._places(hashes, self.probes, len(self.bits) * 8)
        field = np.frombuffer(self.bits, np.uint8)
        hit: NDArray[np.bool_] = (field[places >> 3] >> (7 - (places & 7)).astype(np.uint8) & 1).all(axis=0)
        return hit

    def check(self) -> Bloom:
        """Itself, once it is known to be sound. Raises StoreError."""
        if len(self.bits) > self.LARGEST or (self.bits and not 1 <= self.probes <= 16):
            raise StoreError(f"host filter of {len(self.bits)} bytes and {self.probes} probes")
        return self

    @staticmethod
    def _places(hashes: NDArray[np.uint64], probes: int, size: int) -> NDArray[np.int64]:
        # Double hashing (Kirsch and Mitzenmacher 2006) from the two halves; an odd stride visits different bits.
        first, stride = hashes & np.uint64(0xFFFFFFFF), hashes >> np.uint64(32) | np.uint64(1)
        steps = np.arange(probes, dtype=np.uint64)[:, None]
        places: NDArray[np.int64] = ((first + steps * stride) % np.uint64(size)).astype(np.int64)
        return places
