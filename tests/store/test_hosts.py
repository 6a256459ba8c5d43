from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backscatter.errors import StoreError
from backscatter.flow.address import Address
from backscatter.store.hosts import Bloom, HostHash, pigeonhole, siphash

MASK = 2**64 - 1


def plain_siphash(key: bytes, message: bytes) -> int:
    """SipHash-2-4 as its paper writes it, one message at a time."""

    def rotl(x: int, b: int) -> int:
        return (x << b | x >> (64 - b)) & MASK

    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rounds(n: int) -> None:
        for _ in range(n):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = rotl(v[1], 13) ^ v[0]
            v[0] = rotl(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = rotl(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = rotl(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = rotl(v[1], 17) ^ v[2]
            v[2] = rotl(v[2], 32)

    padded = message + bytes(7 - len(message) % 8) + bytes((len(message) % 256,))
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def test_the_plain_siphash_gives_the_vector_of_the_paper():
    assert plain_siphash(bytes(range(16)), bytes(range(15))) == 0xA129CA6149BE45E5


@given(st.binary(min_size=16, max_size=16), st.lists(st.binary(min_size=24, max_size=24), min_size=1, max_size=5))
def test_the_columns_are_hashed_as_the_plain_siphash_hashes_each(key, messages):
    words = [np.array([struct.unpack("<3Q", m)[i] for m in messages], np.uint64) for i in range(3)]
    assert siphash(key, words).tolist() == [plain_siphash(key, message) for message in messages]


def test_more_addresses_than_a_stride_are_hashed_alike():
    lo = np.arange(40_000, dtype=np.uint64)
    whole = HostHash(b"k").column(np.full(len(lo), 4), np.zeros_like(lo), lo)
    some = HostHash(b"k").addresses([Address(4, 0, i) for i in (0, 16_384, 39_999)])
    assert whole[[0, 16_384, 39_999]].tolist() == some.tolist()
    assert len(np.unique(whole)) == 40_000


def test_an_address_of_either_version_and_another_key_hash_otherwise():
    hashes = {int(HostHash(key).addresses([Address(v, 0, 1)])[0]) for key in (b"a", b"b") for v in (4, 6)}
    assert len(hashes) == 4


@given(st.lists(st.integers(0, MASK), max_size=300), st.integers(1, 5000))
def test_every_hash_has_a_pigeonhole(bits, count):
    holes = pigeonhole(np.array(bits, np.uint64) & np.uint64(0xFFFFFFFF), count)
    assert all(0 <= hole < count for hole in holes)


@given(st.sets(st.integers(0, MASK), max_size=400))
def test_a_filter_never_denies_a_member(hosts):
    bloom = Bloom.of(np.array(sorted(hosts), np.uint64))
    assert bloom.check().holds(np.array(sorted(hosts), np.uint64)).all()


def some_hosts(count: int, salt: bytes = b"") -> np.ndarray:
    digests = (hashlib.blake2b(salt + i.to_bytes(4), digest_size=8).digest() for i in range(count))
    return np.frombuffer(b"".join(digests), np.uint64)


@pytest.mark.parametrize("count", [1, 10, 300, 3000])
def test_a_filter_lets_one_stranger_in_a_hundred_in(count):
    bloom = Bloom.of(some_hosts(count))
    assert bloom.holds(some_hosts(20_000, b"strange")).mean() < 0.013
    assert len(bloom.bits) <= max(16, count * 10 // 4)


def test_a_filter_of_too_many_hosts_lets_everyone_in():
    bloom = Bloom.of(some_hosts(50_000))
    assert bloom.bits == b""
    assert 12345 in bloom


def test_a_filter_that_is_filled_beyond_its_measure_still_turns_strangers_away():
    assert Bloom.of(some_hosts(12_000)).holds(some_hosts(20_000, b"strange")).mean() < 0.5


def test_an_empty_capture_holds_nobody():
    assert 5 not in Bloom.of(np.zeros(0, np.uint64))


@pytest.mark.parametrize("bloom", [Bloom(bytes(5000), 3), Bloom(bytes(16), 0), Bloom(bytes(16), 99)])
def test_a_damaged_filter_is_a_store_error(bloom):
    with pytest.raises(StoreError):
        bloom.check()
