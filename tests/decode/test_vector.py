"""The vectorised decoder gives what the reference decoder gives, in every column of every packet."""

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscatter.capture.reader import open_capture
from backscatter.capture.record import RecordBlock
from backscatter.decode.columns import NON_IP, OK, PACKET, QUOTE
from backscatter.decode.decoder import FILLED, Decoder
from backscatter.decode.filling import Filling
from backscatter.decode.tunnels import BY_UDP_PORT
from backscatter.decode.vector import decoder as vector_decoder
from backscatter.decode.vector.decoder import VectorDecoder
from backscatter.demo import wire
from backscatter.demo.wire import ether, geneve, icmp, icmp_error, ip, tcp, udp, vxlan
from backscatter.errors import NotACapture

T = 1174413859731091000


def block_of(frames, linktypes=None, more=None):
    """A block of (frame, bytes on the wire) with nothing behind the last but `more`. Wire lengths may be any."""
    bodies = np.cumsum([0, *(16 + len(frame) for frame, _ in frames)])[:-1] + 16
    data = b"".join(b"\0" * 16 + frame for frame, _ in frames) + (more or b"")
    count = len(frames)
    return RecordBlock(
        np.frombuffer(data, np.uint8),
        bodies.astype(np.int64),
        np.array([len(frame) for frame, _ in frames], np.int64),
        np.array([wirelen for _, wirelen in frames], np.int64),
        T + np.arange(count) * 1000,
        bodies.astype(np.int64) - 16,
        np.array([1] * count if linktypes is None else linktypes, np.int32),
    )


def named(packets, decoder):
    """The columns as lists, with names in the place of their numbers, and the quotes."""
    columns = {name: packets[name].tolist() for name in PACKET}
    columns["scope"] = [decoder.scopes.values[number] for number in columns["scope"]]
    columns["tunnels"] = [decoder.tunnels.values[number] for number in columns["tunnels"]]
    return columns | {"quotes": packets.quotes.tolist()}


class Pair:
    """Both decoders, given the same blocks one after the other."""

    def __init__(self):
        self.vectorised, self.reference = Decoder(), Decoder(vectorised=False)

    def differing(self, block):
        """(column, packet, vectorised, reference) of every difference; the dtypes of the columns must be the same."""
        mine, theirs = self.vectorised.decode(block, 1), self.reference.decode(block, 1)
        assert {name: column.dtype for name, column in mine.columns.items()} == {
            name: np.dtype(form) for name, (form, _) in PACKET.items()
        }
        assert mine.quotes.dtype == QUOTE
        mine, theirs = named(mine, self.vectorised), named(theirs, self.reference)
        return [
            (name, index, a, b)
            for name in theirs
            if mine[name] != theirs[name]
            for index, (a, b) in enumerate(zip(mine[name], theirs[name], strict=name != "quotes"))
            if a != b
        ] or [(name, -1, mine[name], theirs[name]) for name in theirs if mine[name] != theirs[name]]


def test_every_real_capture_decodes_alike(captures):
    compared = 0
    for path in sorted(captures.glob("*.*cap*")):
        pair = Pair()
        with path.open("rb") as stream:
            try:
                reader = open_capture(stream, path.name)
            except NotACapture:
                continue
            for block in reader.blocks():
                assert pair.differing(block) == [], path.name
                compared += len(block)
    assert compared > 20_000


FOUR, SIX = ("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")
PORTS = [53, 5353, 123, 443, 4789, 8472, 6081, 4790, 2152, 3544, 1701, 80, 50000, 0]


class Made:
    """Packets of every shape, sound and odd, from a random number generator."""

    def __init__(self, rng):
        self.rng = rng

    def some(self, *choices):
        return self.rng.choice(choices)

    def rarely(self, odds=0.1):
        return self.rng.random() < odds

    def noise(self, most=60):
        return self.rng.randbytes(self.rng.randrange(most))

    def said(self):
        """A UDP payload, often one that says something."""
        rng = self.rng
        dns = struct.pack(">HHHHHH", 7, rng.choice([0x0100, 0x8180, 0x2800, 0x3000]), *rng.choices([0, 1, 2, 9], k=4))
        ntp = bytes([rng.choice([0x23, 0x24, 0x1B, 0x1C, 0x03, 0x2B, 0x25])]) + bytes(rng.choice([47, 46, 60]))
        version = rng.choice([0, 1, 0x6B3343CF, 0xFF00001D, 0xABCD])
        quic = struct.pack(">BIB", rng.choice([0xC3, 0xD3, 0xE3, 0x83, 0x43, 0x03]), version, rng.choice([8, 20, 21]))
        return rng.choice([dns + self.noise(), ntp, quic + self.noise(), self.noise(), self.noise(9)])

    def transport(self, six):
        """Protocol and payload of an IP packet."""
        rng = self.rng
        kind = rng.choice(["tcp"] * 4 + ["udp"] * 4 + ["icmp"] * 2 + ["error", "other"])
        if kind == "tcp":
            words = 5 if not self.rarely(0.3) else rng.randrange(16)
            head = struct.pack(
                ">HHIIBBHHH",
                rng.choice(PORTS),
                rng.randrange(2**16),
                rng.randrange(2**32),
                rng.randrange(2**32),
                words << 4 | rng.randrange(16),
                rng.randrange(256),
                rng.randrange(2**16),
                0,
                0,
            )
            return 6, head + self.noise()
        if kind == "udp":
            payload = self.said()
            length = 8 + len(payload) if not self.rarely() else rng.choice([0, 3, 8, 9, 500])
            ports = rng.choice(PORTS), rng.choice(PORTS)
            return 17, struct.pack(">HHHH", *ports, length, 0) + payload
        if kind == "icmp":
            return 58 if six else 1, struct.pack(">BBHI", rng.randrange(256), rng.randrange(4), 0, 7) + self.noise()
        if kind == "error":
            quoted = self.packet(rng.choice([six, six, not six]))
            error = rng.choice([1, 2, 3, 4]) if six else rng.choice([3, 3, 4, 5, 11, 12])
            return 58 if six else 1, struct.pack(">BBHI", error, rng.randrange(4), 0, 0) + quoted[
                : rng.choice([0, 19, 20, 24, 27, 28, 40, 48, 200])
            ]
        return rng.choice([1, 58, 2, 4, 41, 47, 50, 51, 132, 0, 44, 60]), self.noise()

    def packet(self, six):
        """An IP packet."""
        rng = self.rng
        proto, body = self.transport(six)
        if six:
            if self.rarely():
                body, proto = bytes([proto, 0]) + bytes(6) + body, rng.choice([0, 60, 44, 43])
            packet = bytearray(ip(*rng.sample(SIX, 2), proto, body, ttl=rng.randrange(256)))
            at, right = 4, len(body)
        else:
            fragment = rng.choice([0, 0x4000, 0x2000, 0x0001, 0x8000]) if self.rarely(0.2) else 0
            options = bytes([1]) * 4 * rng.randrange(1, 4) if self.rarely() else b""
            packet = bytearray(
                ip(
                    *rng.sample(FOUR, 2),
                    proto,
                    body,
                    ttl=rng.randrange(256),
                    fragment=fragment,
                    options=options,
                    ip_id=rng.randrange(3),
                )
            )
            at, right = 2, len(packet)
        if self.rarely():
            lie = rng.choice([0, 1, 19, 20, 28, 39, max(0, right - 1), right + 1, right + 40, 65535])
            packet[at : at + 2] = struct.pack(">H", lie)
        return bytes(packet)

    def framed(self, packet):
        """A frame of one of the vectorised link types, and that type."""
        rng = self.rng
        link = rng.choice(
            [wire.ETHERNET] * 6 + [12, 14, wire.RAW_IP, 228, 229, wire.LINUX_SLL, wire.LINUX_SLL2, 0, 9999]
        )
        if link == wire.ETHERNET:
            return self.ethernet(packet), link
        kind = struct.pack(">H", 0x86DD if packet[0] >> 4 == 6 else 0x0800)
        if link == wire.LINUX_SLL:
            return bytes(14) + kind + packet, link
        if link == wire.LINUX_SLL2:
            return kind + bytes(18) + packet, link
        return packet, link

    def ethernet(self, packet):
        rng = self.rng
        vlan = tuple(rng.choice([0, 1, 77, 4095, 0x2001]) for _ in range(rng.choice([0, 0, 0, 1, 2, 3, 4])))
        frame = bytearray(ether(packet, vlan=vlan, tag=rng.choice([0x8100, 0x88A8, 0x9100, 0x9200])))
        if self.rarely(0.05):
            frame[12:14] = struct.pack(">H", rng.choice([0x0806, 0x0800, 0x86DD, 0x8847, 0x8864, 0x0026]))
        return bytes(frame) + bytes(rng.choice([0, 0, 6]))

    def tunnelled(self, packet, depth):
        rng = self.rng
        for _ in range(depth):
            vni = rng.choice([0, 7, 8, 2**24 - 1])
            if self.rarely(0.6):
                packet = vxlan(self.ethernet(packet), vni, reserved=rng.choice([0, 255]))
            else:
                options = bytes(4 * rng.choice([0, 1, 8, 63]))
                whole = rng.random() < 0.7
                kind = 0x6558 if whole else 0x86DD if packet[0] >> 4 == 6 else 0x0800
                packet = geneve(self.ethernet(packet) if whole else packet, vni, options=options, kind=kind)
        return packet

    def record(self):
        """(frame as captured, its length on the wire), and its link type."""
        rng = self.rng
        packet = self.tunnelled(self.packet(self.rarely(0.3)), rng.choice([0, 0, 0, 0, 1, 1, 2, 3, 4, 5]))
        frame, link = self.framed(packet)
        whole = len(frame)
        if self.rarely(0.2):
            damaged = bytearray(frame)
            for _ in range(rng.randrange(1, 4)):
                damaged[rng.randrange(min(whole, 130))] = rng.randrange(256)
            frame = bytes(damaged)
        if self.rarely(0.3):
            frame = frame[: rng.randrange(whole + 1)]
        wirelen = rng.randrange(whole + 1) if self.rarely(0.05) else whole
        return (frame, wirelen), link


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**64), tile=st.sampled_from([16384, 16]), few=st.sampled_from([0, 3, 256]), alone=st.booleans()
)
def test_packets_of_every_shape_decode_alike(seed, tile, few, alone):
    made = Made(random.Random(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_decoder, "TILE", tile)
        patch.setattr(vector_decoder, "FEW_TUNNELS", few)
        pair = Pair()
        for _ in range(2):  # names and fragments go on from block to block
            records = [made.record() for _ in range(100)]
            frames, links = [frame for frame, _ in records], [link for _, link in records]
            assert pair.differing(block_of(frames, [wire.ETHERNET] * len(frames) if alone else links)) == []


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**64),
    tile=st.sampled_from([16384, 40, 16]),
    tunnels=st.integers(0, 2),
    six=st.booleans(),
    more=st.sampled_from([b"", bytes(64)]),
    few=st.sampled_from([0, 3, 256]),
)
def test_a_few_odd_packets_among_common_ones_decode_alike(seed, tile, tunnels, six, more, few):
    rng = random.Random(seed)
    made = Made(rng)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_decoder, "TILE", tile)
        patch.setattr(vector_decoder, "FEW_TUNNELS", few)
        pair = Pair()
        for _ in range(2):
            records = []
            for _ in range(100):
                if made.rarely():
                    records.append(made.record())
                    continue
                ends = rng.sample(SIX if six else FOUR, 2)
                inner = made.some(
                    *[tcp(ends[0], rng.choice(PORTS), ends[1], 80, "A", seq=rng.randrange(9))] * 6,
                    udp(ends[0], rng.choice(PORTS), ends[1], rng.choice(PORTS), made.said()),
                    icmp(*ends, rng.choice([8, 11])),
                )
                for _ in range(tunnels):
                    inner = vxlan(ether(inner), rng.choice([5, 6, 2**23]))
                records.append(((ether(inner), 14 + len(inner)), wire.ETHERNET))
            block = block_of([frame for frame, _ in records], [link for _, link in records], more)
            assert pair.differing(block) == []


SEGMENT = tcp(*("10.0.0.1", 1), *("10.0.0.2", 2), "SA", seq=9, payload=b"abc")
DNS = struct.pack(">HHHHHH", 1, 0x8180, 1, 1, 0, 0) + bytes(30)
QUIC = b"\xc0\0\0\0\1\x08" + bytes(20)
SHAPES = {
    "tcp": SEGMENT,
    "icmp error": icmp_error("10.9.9.9", "10.0.0.1", 3, 3, SEGMENT),
    "dns": udp("10.0.0.1", 53, "10.0.0.2", 9, DNS),
    "dns to a tunnel's port": udp("10.0.0.1", 53, "10.0.0.2", 2152, DNS),
    "ntp": udp("10.0.0.1", 123, "10.0.0.2", 9, b"\x24" + bytes(47)),
    "quic": udp("10.0.0.1", 9, "10.0.0.2", 443, QUIC),
    "quic over IPv6": udp("2001:db8::1", 443, "2001:db8::2", 9, QUIC),
    "vxlan": vxlan(ether(SEGMENT, vlan=(3,)), 9),
    "vxlan over IPv6": vxlan(ether(SEGMENT), 9, "2001:db8::1", "2001:db8::2"),
    "geneve": geneve(vxlan(ether(SEGMENT), 9), 5, options=bytes(8), kind=0x0800),
    "geneve with a frame": geneve(ether(SEGMENT), 5, options=bytes(8)),
}
shapes = pytest.mark.parametrize("packet", SHAPES.values(), ids=SHAPES)


@shapes
@pytest.mark.parametrize("vlan", [(), (0,), (5, 6)])
def test_packets_cut_at_every_byte_decode_alike(packet, vlan):
    frame = ether(packet, vlan=vlan)
    shown = [(frame[:size], wirelen) for size in range(len(frame) + 1) for wirelen in {len(frame), size, size // 2}]
    pair = Pair()
    assert pair.differing(block_of(shown)) == []
    for one in shown:  # behind which the block ends
        assert pair.differing(block_of([one])) == []


@shapes
def test_packets_of_every_claimed_length_decode_alike(packet):
    six = packet[0] >> 4 == 6
    ip_length, udp_length = (4, 44) if six else (2, 24)
    shown = []
    for at in (ip_length, udp_length):
        for length in [*range(len(packet) + 10), 65535]:
            lying = packet[:at] + struct.pack(">H", length) + packet[at + 2 :]
            shown.append((ether(lying), 14 + len(packet)))
            shown.append((ether(lying) + b"behind it", 14 + len(packet) + 9))
    assert Pair().differing(block_of(shown)) == []


@shapes
def test_packets_with_any_byte_changed_decode_alike(packet):
    frame, rng = ether(packet), random.Random(5)
    shown = []
    for at in range(12, len(frame)):
        values = {0, 255, frame[at] ^ 0x40, frame[at] ^ 0x80, *rng.choices(range(256), k=6)}
        shown += [(frame[:at] + bytes([value]) + frame[at + 1 :], len(frame)) for value in values]
    assert Pair().differing(block_of(shown)) == []


def test_every_beginning_of_a_quic_packet_says_alike():
    shown = []
    for first in range(256):
        for version in (0, 1, 2, 0x6B3343CF, 0xFF00001D, 0xFF000100):
            for id_length in (8, 20, 21):
                packet = udp("10.0.0.1", 9, "10.0.0.2", 443, struct.pack(">BIB", first, version, id_length) + b"id")
                shown.append((ether(packet), 14 + len(packet)))
    assert Pair().differing(block_of(shown)) == []


SYN_SIX = tcp("2001:db8::1", 1, "2001:db8::2", 2, "S")
COMMON = {
    "tcp": tcp("10.0.0.1", 1, "10.0.0.2", 2, "S"),
    "tcp over IPv6": SYN_SIX,
    "of a length that the card fills in, over IPv6": SYN_SIX[:4] + b"\0\0" + SYN_SIX[6:],
    "udp": udp("10.0.0.1", 1, "10.0.0.2", 2, b"x"),
    **{f"udp to {port}": udp("10.0.0.1", 9, "10.0.0.2", port, b"GET / HTTP/1.1\r\n" * 4) for port in BY_UDP_PORT},
    **{f"udp from {port}": udp("10.0.0.1", port, "10.0.0.2", 9, bytes(range(60))) for port in BY_UDP_PORT},
    "ping": icmp("10.0.0.1", "10.0.0.2", 8),
    "ping over IPv6": icmp("2001:db8::1", "2001:db8::2", 128),
    "unreachable": icmp_error("10.0.0.9", "10.0.0.1", 3, 3, tcp("10.0.0.1", 1, "10.0.0.2", 2, "S")),
    "of a length that the card fills in": SEGMENT[:2] + b"\0\0" + SEGMENT[4:],
    "in VXLAN": vxlan(ether(tcp("10.0.0.1", 1, "10.0.0.2", 2, "S")), 5),
    "in GENEVE": geneve(ether(tcp("10.0.0.1", 1, "10.0.0.2", 2, "S")), 5, options=bytes(12)),
    "in VXLAN in GENEVE": geneve(vxlan(ether(tcp("10.0.0.1", 1, "10.0.0.2", 2, "S")), 5), 6, kind=0x0800),
}


@pytest.mark.parametrize("vlan", [(), (5,), (5, 6)])
@pytest.mark.parametrize("name", COMMON)
def test_common_packets_are_never_decoded_one_by_one(name, vlan):
    padding = bytes(64)  # behind the last packet of a block nothing can be gathered
    frame = ether(COMMON[name], vlan=vlan)
    frames = [(frame, len(frame))]
    block = block_of(frames, more=padding)
    filling = Filling(1, FILLED)
    common = VectorDecoder(block, block.data, filling)
    assert common.done.tolist() == [True]
    assert filling.column("status").tolist() == [OK]


def test_arp_is_told_in_columns_too():
    block = block_of([(bytes(12) + b"\x08\x06" + bytes(28), 42)])
    filling = Filling(1, FILLED)
    assert VectorDecoder(block, block.data, filling).done.tolist() == [True]
    assert filling.column("status").tolist() == [NON_IP]


def test_thousands_of_scopes_decode_alike():
    rng = random.Random(3)
    inner = ether(tcp("10.0.0.1", 1, "10.0.0.2", 2, "S"))
    frames = [ether(vxlan(inner, rng.randrange(2**24))) for _ in range(1500)]
    frames += [ether(vxlan(inner, rng.randrange(300))) for _ in range(1500)]
    assert Pair().differing(block_of([(frame, len(frame)) for frame in frames])) == []


def test_an_empty_block_decodes_to_nothing():
    assert Pair().differing(block_of([])) == []
