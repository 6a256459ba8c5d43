import bz2
import gzip
import io
import itertools
import lzma
import random
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from backscatter.capture.expand import Expanded
from backscatter.capture.limits import Limits
from backscatter.capture.reader import open_capture
from backscatter.demo.wire import ether, pcap, udp

FRAME = ether(udp("192.0.2.1", 1, "192.0.2.2", 2, bytes(range(256))))
CAPTURE = pcap([(10**18 + i, FRAME) for i in range(200)])

COMPRESS = {
    "gzip": gzip.compress,
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


class Trickle(io.RawIOBase):
    """A stream that gives a few bytes at a time, as sockets do."""

    def __init__(self, data, step):
        self._data, self._at, self._step = data, 0, step

    def read(self, size=-1):
        size = self._step if size < 0 else min(size, self._step)
        out = self._data[self._at : self._at + size]
        self._at += len(out)
        return out


def expanded(data, **limits):
    source = Expanded(io.BytesIO(data), "x", Limits(**limits))
    out = b""
    while piece := source.read(1000):
        out += piece
    return out, source


def packets(data, **limits):
    reader = open_capture(io.BytesIO(data), "x", Limits(**limits))
    return sum(len(block) for block in reader.blocks()), reader


@pytest.mark.parametrize("name", COMPRESS)
def test_compression_is_told_by_content_and_expands_to_the_same_bytes(name):
    out, source = expanded(COMPRESS[name](CAPTURE))
    assert out == CAPTURE
    assert (source.compression, source.trouble, source.position) == (name, "", len(CAPTURE))


@pytest.mark.parametrize("name", COMPRESS)
@given(cuts=st.lists(st.integers(0, len(CAPTURE)), max_size=3), padding=st.integers(0, 9))
def test_members_behind_each_other_are_one_stream(name, cuts, padding):
    edges = [0, *sorted(cuts), len(CAPTURE)]
    data = b"".join(COMPRESS[name](CAPTURE[a:b]) for a, b in itertools.pairwise(edges))
    out, source = expanded(data + b"\0" * padding)
    assert out == CAPTURE
    assert source.trouble == ""


@pytest.mark.parametrize("name", COMPRESS)
def test_a_stream_that_comes_in_trickles_is_the_same_stream(name):
    data = COMPRESS[name](CAPTURE[:3000]) * 2
    source = Expanded(Trickle(data, 1), "x", Limits())
    assert source.read(10**6) == CAPTURE[:3000] * 2
    assert source.trouble == ""


@pytest.mark.parametrize("name", COMPRESS)
@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_cut_stream_gives_every_packet_that_came_out_and_says_so(name, cut):
    first = 24 + 100 * (16 + len(FRAME))
    count, reader = packets(COMPRESS[name](CAPTURE[:first]) + COMPRESS[name](CAPTURE[first:])[:-cut])
    assert count >= 100
    assert "cut short" in reader.damage[-1].reason
    assert name in reader.damage[-1].reason


def test_a_cut_gzip_file_still_gives_nearly_everything():
    count, reader = packets(gzip.compress(CAPTURE, 0)[:-1000])
    assert count == 200 - (1000 // (len(FRAME) + 16) + 1)
    assert reader.damage[-1].after == 10**18 + count - 1


def test_a_wrong_checksum_costs_no_packet_but_is_told():
    data = bytearray(gzip.compress(CAPTURE))
    data[-8] ^= 1
    count, reader = packets(bytes(data))
    assert count == 200
    assert "corrupt" in reader.damage[-1].reason


@pytest.mark.parametrize(("pack", "checksum"), [(bz2.compress, -10), (lzma.compress, -60)])
def test_a_wrong_checksum_of_a_block_costs_little_of_it(pack, checksum):
    whole = pcap([(n, ether(udp("192.0.2.1", n, "192.0.2.2", 2, b"x" * 100))) for n in range(2000)])
    packed = bytearray(pack(whole))
    packed[checksum] ^= 0x10
    reader = open_capture(io.BytesIO(bytes(packed)), "x")
    assert sum(len(block) for block in reader.blocks()) >= 1950
    (damage,) = reader.damage
    assert "corrupt" in damage.reason


def test_what_came_out_before_a_corrupt_place_is_kept():
    stored = zlib.compressobj(0, wbits=31)
    data = stored.compress(CAPTURE[:20000]) + stored.flush(zlib.Z_FULL_FLUSH) + b"\xff" * 100
    count, reader = packets(data)
    assert count == (20000 - 24) // (len(FRAME) + 16)
    assert "corrupt" in reader.damage[-1].reason


def test_no_read_gives_more_than_was_asked_for():
    stored = zlib.compressobj(9, wbits=31)
    data = stored.compress(bytes(500_000)) + stored.flush(zlib.Z_FULL_FLUSH) + b"\xff" * 100
    source = Expanded(io.BytesIO(data), "x", Limits())
    sizes = [len(source.read(1000)) for _ in range(600)]
    assert sizes == [1000] * 500 + [0] * 100
    assert "corrupt" in source.trouble


def test_frames_of_zstd_without_data_are_passed_over():
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"index"
    data = COMPRESS["zstd"](CAPTURE[:5000]) + skippable + COMPRESS["zstd"](CAPTURE[5000:]) + skippable
    out, source = expanded(data)
    assert out == CAPTURE
    assert source.trouble == ""


def test_garbage_behind_a_stream_is_told():
    out, source = expanded(gzip.compress(CAPTURE) + b"garbage")
    assert out == CAPTURE
    assert "no such stream" in source.trouble


@pytest.mark.parametrize("name", COMPRESS)
def test_a_bomb_is_stopped_by_its_ratio_without_taking_memory(name):
    bomb = COMPRESS[name](CAPTURE + bytes(8 * 2**20))
    _, reader = packets(bomb, expansion_ratio=100, ratio_from=2**20)
    assert "expansion_ratio" in str(reader.stopped)
    assert reader.expanded < 4 * 2**20


def test_a_capture_inside_two_compressions_is_refused_with_a_reason():
    with pytest.raises(Exception, match="only one compression"):
        packets(gzip.compress(bz2.compress(CAPTURE)))


@given(st.sampled_from(sorted(COMPRESS)), st.data())
def test_flipped_bits_never_raise_anything(name, data):
    stream = bytearray(COMPRESS[name](CAPTURE[:4000]))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(6, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    out, source = expanded(bytes(stream))
    assert out == CAPTURE[:4000] or source.trouble or len(out) <= 4000


@pytest.mark.parametrize("compress", [lzma.compress, bz2.compress], ids=["xz", "bzip2"])
def test_as_much_is_salvaged_however_much_is_read_at_a_time(compress):
    chance = random.Random(5)
    data = bytearray(compress(bytes(chance.choice(b"abcdefgh") for _ in range(60000))))
    data[len(data) * 3 // 5] ^= 0x55
    salvaged = set()
    for size in (10**6, 4096, 5000, 777, 1):
        source, out = Expanded(io.BytesIO(bytes(data)), "x", Limits()), b""
        while some := source.read(size):
            out += some
        salvaged.add(out)
    assert len(salvaged) == 1
