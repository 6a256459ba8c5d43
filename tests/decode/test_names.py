"""Addresses in DNS answers: the reference against dpkt's own encoder, and the columns against the reference."""

from __future__ import annotations

import ipaddress
import struct

import dpkt
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from backscatter.decode.names import marks, marks_of, named
from backscatter.decode.vector import names as columns

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


def answer(name: str, told: list, *, alias: bool = False) -> bytes:
    message = dpkt.dns.DNS(id=7, op=0x8180, qd=[dpkt.dns.DNS.Q(name=name, type=1, cls=1)], an=[])
    if alias:
        message.an.append(dpkt.dns.DNS.RR(name=name, type=dpkt.dns.DNS_CNAME, cls=1, ttl=60, cname="edge.example.net"))
    for address in told:
        if address.version == 4:
            message.an.append(dpkt.dns.DNS.RR(name=name, type=1, cls=1, ttl=60, ip=address.packed))
        else:
            message.an.append(dpkt.dns.DNS.RR(name=name, type=28, cls=1, ttl=60, ip6=address.packed))
    return bytes(message)


def halves(address) -> tuple[int, int]:
    number = int(address)
    return number >> 64, number & (1 << 64) - 1


def holds(found: int, address) -> bool:
    asked = marks(*halves(address))
    return found & asked == asked


@given(st.lists(addresses, max_size=12), st.booleans())
def test_every_address_that_an_answer_gives_is_marked(told, alias):
    found = named(answer("www.example.com", told, alias=alias))
    assert all(holds(found, address) for address in told)
    if not told:
        assert found == 0


def test_others_are_hardly_ever_marked():
    found = named(answer("www.example.com", [ipaddress.ip_address(f"192.0.2.{n}") for n in range(4)]))
    others = [ipaddress.ip_address(0x0A000000 + n) for n in range(20_000)]
    assert sum(holds(found, address) for address in others) < 100


def test_a_question_and_an_answer_that_was_cut_say_nothing():
    whole = answer("www.example.com", [ipaddress.ip_address("192.0.2.1")])
    assert named(whole[:-1]) == 0
    assert named(b"") == 0
    assert named(whole[:4] + struct.pack(">H", 2) + whole[6:]) == 0


@given(st.lists(st.tuples(st.lists(addresses, max_size=6), st.booleans(), st.integers(0, 400), st.binary(max_size=4))))
@example([([ipaddress.ip_address("192.0.2.1")], True, 0, b"")])
def test_columns_find_what_the_reference_finds(messages):
    texts = []
    for told, alias, cut, junk in messages:
        whole = answer("a.example.org", told, alias=alias)
        at = cut % (len(whole) + 1)
        texts.append(whole[:at] + junk + whole[at:] if junk else whole[: len(whole) - at])
    _equal(texts)


@given(st.lists(st.binary(max_size=60).map(lambda tail: b"\0\1\x81\x80\0\1\0\3\0\0\0\0" + tail)))
def test_columns_find_what_the_reference_finds_in_anything(texts):
    _equal(texts)


def _equal(texts: list[bytes]) -> None:
    data = np.frombuffer(b"".join(texts), np.uint8)
    size = np.array([len(text) for text in texts], np.int64)
    assert columns.named(data, np.cumsum(size) - size, size).tolist() == [named(text) for text in texts]


@given(st.lists(addresses))
def test_marks_of_many_are_those_of_each(told):
    pairs = [halves(address) for address in told]
    found = marks_of(*(np.array([pair[at] for pair in pairs], np.uint64) for at in (0, 1)))
    assert found.tolist() == [marks(*pair) for pair in pairs]
