"""LZ4 frames: those that the lz4 command makes, those made by hand, and those made up."""

import io
import shutil
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.capture.test_expand import CAPTURE, expanded, packets

from backscatter.capture.expand import Expanded
from backscatter.capture.limits import Limits
from backscatter.capture.lz4 import MAGIC, Lz4Error, expand_block


def frame(*blocks, flags=0x60, code=4, end=b"\0\0\0\0"):
    """A frame of compressed blocks."""
    return MAGIC + bytes([flags, code << 4, 0]) + b"".join(struct.pack("<I", len(b)) + b for b in blocks) + end


def literals(data):
    """A block without matches."""
    size, extra = len(data), b""
    if size >= 15:
        extra = b"\xff" * ((size - 15) // 255) + bytes([(size - 15) % 255])
    return bytes([min(size, 15) << 4]) + extra + data


@pytest.mark.parametrize(
    "options", [["-1"], ["-9", "-B4", "-BD"], ["-B5", "-BX", "--content-size"], ["--no-frame-crc"]]
)
def test_what_the_lz4_command_made_is_read(options):
    command = shutil.which("lz4")
    if command is None:
        pytest.skip("the lz4 command is not installed")
    data = CAPTURE * 9
    made = subprocess.run([command, "-q", *options, "-c"], input=data, capture_output=True, check=True).stdout
    assert len(made) < len(data)
    out, source = expanded(made)
    assert (out == data, source.compression, source.trouble) == (True, "lz4", "")
    out, source = expanded(made + made)
    assert (out == data * 2, source.trouble) == (True, "")
    out, source = expanded(made[:-9])
    assert data.startswith(out)
    assert source.trouble == "the lz4 stream is cut short"


def test_stored_blocks_matches_and_windows_are_read():
    repeat = b"\x1a" + b"a" + b"\1\0" + b"\x50" + b"bcdef"
    assert expand_block(repeat, b"", 100) == b"a" * 15 + b"bcdef"
    assert expand_block(b"\0\3\0" + b"\x10!", b"xyz", 100) == b"xyzx!"
    stored = struct.pack("<I", 1 << 31 | 3) + b"xyz"
    linked = MAGIC + b"\x40\x40\0" + stored + struct.pack("<I", 5) + b"\0\3\0\x10!" + b"\0\0\0\0"
    assert expanded(linked)[0] == b"xyzxyzx!"
    assert expanded(frame(literals(b"z" * 600), flags=0x74))[1].trouble != ""


def test_a_capture_in_blocks_without_matches_is_read():
    pieces = [literals(CAPTURE[at : at + 60_000]) for at in range(0, len(CAPTURE), 60_000)]
    count, reader = packets(frame(*pieces))
    assert (count, reader.damage, reader.layout.compression) == (200, [], "lz4")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(literals(b"x" * 70_000)), "more than 65536"),
        (frame(b"\x1fa\1\0" + b"\xff" * 300 + b"\0"), "goes beyond"),
        (frame(b"\x10a\2\0"), "goes beyond"),
        (frame(b"\x50a"), "beyond their block"),
        (frame(b"\xf0\xff"), "a length is cut"),
        (frame(flags=0x61, code=4) + bytes(9), "dictionary"),
        (frame(flags=0x20), "unknown version"),
        (frame(code=2), "unknown version or block size"),
    ],
)
def test_frames_that_contradict_themselves_are_corrupt(data, reason):
    _, source = expanded(data)
    assert reason in source.trouble


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_no_bytes_make_a_block_expand_beyond_its_bound(block, before):
    try:
        out = expand_block(block, before, 1000)
    except Lz4Error:
        return
    assert len(out) <= 1000


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_make_a_frame_raise(data, step):
    source = Expanded(io.BytesIO(MAGIC + data), "x", Limits())
    while source.read(step):
        pass
    assert source.position <= 300 * 256
