import gzip
import io
import struct

import pytest

from backscatter.capture.reader import open_capture
from backscatter.demo.wire import pcap
from backscatter.errors import NotACapture

ERF = b"".join(
    struct.pack("<II", 0, 1_600_000_000) + struct.pack(">BBHHH", 2, 4, 80, 0, 64) + bytes(64) for _ in range(3)
)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty file"),
        (gzip.compress(b"", mtime=0), "nothing inside gzip"),
        (b"snoop\0\0\0\0\0\0\2\0\0\0\4", "snoop"),
        (ERF, "ERF"),
        (b'{"version": 1}', "JSON"),
        (b' \n[{"a": 1}]', "JSON"),
        (gzip.compress(b'{"version": 1}', mtime=0), "JSON inside gzip"),
        (b"%PDF-1.4 ...", "PDF"),
        (b"\x7fELF\2\1\1", "ELF"),
        (b"PK\3\4....", "zip"),
        (b"#separator \\x09\n", "Zeek"),
        (b"a line of text\n", "text"),
        ("Zäune".encode()[:2], "text"),
        (b"\xff\xfe\xfd", "unknown data"),
        (b"\0\1\2\3\4\5\6\7\x08", "begins with 00 01 02 03"),
        (pcap([])[:20], "cut short in its file header"),
        (b"\n\r\r\n\0\0", "cut short in its file header"),
    ],
)
def test_what_is_no_capture_is_told_in_one_line(data, what):
    with pytest.raises(NotACapture) as error:
        open_capture(io.BytesIO(data), "s3://bucket/x.pcap")
    assert what in str(error.value)
    assert str(error.value).startswith("s3://bucket/x.pcap: byte 0: no capture")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["libtrace__provenance.erf", "libtrace__10_packets.tsh.gz", "README.md"])
def test_real_files_that_are_no_captures_are_refused(captures, name):
    with (captures / name).open("rb") as stream, pytest.raises(NotACapture):
        open_capture(stream, name)
