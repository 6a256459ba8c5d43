"""Alert files of any size: read as they stream, every line a finding or told, and no trouble told a thousand times."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from backscatter.errors import FindingError
from backscatter.finding.model import Finding
from backscatter.finding.recognise import read_findings
from backscatter.finding.split import split
from backscatter.finding.troubles import Troubles
from backscatter.finding.unsaid import Unsaid

MARCH = Unsaid(span=(1174413859_000000000, 1174413860_000000000))
FAST = "03/20-18:04:19.731091  [**] [1:1:1] fast [**] [Priority: 1] {TCP} 10.0.0.5:1024 -> 192.0.2.1:6667"
FULL = (
    "[**] [1:2:1] full [**]\n[Priority: 1]\n03/20-18:04:19.731091 10.0.0.5:1024 -> 192.0.2.1:6667\n"
    "TCP TTL:64 TOS:0x0 ID:1 IpLen:20 DgmLen:40\n*****R** Seq: 0x1  Ack: 0x0  Win: 0x0  TcpLen: 20\n"
)
SGUIL = (
    "Count:1 Event#1.5 2007-03-20 18:04:19\nsguil\n10.0.0.1 -> 10.0.0.2\n"
    "IPVer=4 ttl=64\nProtocol: 6 sport=1 -> dport=2\n\nSeq=1 Ack=0 Flags=*****R** Win=0\n"
)
EVE = {"event_type": "alert", "alert": {"signature": "eve", "signature_id": 1}, "src_ip": "10.0.0.1"}
NOTICE = "#separator \\x09\n#path\tnotice\n#fields\tts\tnote\tmsg\n1174413859.731091\tScan\tzeek\n#close\tx\n"
CSV = "timestamp,sig_id,msg,proto,src,dst\n03/20-18:04:19.731091 ,9,csv,ICMP,10.0.0.1,10.0.0.2"
#: One of each; between them what is no alert.
PIECES = (FAST, FULL, SGUIL, json.dumps(EVE), json.dumps([EVE], indent=2), NOTICE, CSV)
MIXED = "\n".join(PIECES) + "\n"


def told(data, unsaid=MARCH):
    data = data.encode() if isinstance(data, str) else data
    return [-f.line if isinstance(f, FindingError) else f.title for f in read_findings(data, "file", unsaid)]


def test_every_format_may_be_in_one_file():
    assert told(MIXED) == ["fast", "full", "sguil", "eve", "eve", "zeek", "csv"]
    assert told("\n".join(reversed(PIECES[:6]))) == ["zeek", "eve", "eve", "sguil", "full", "fast"]


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress],
    ids=["gzip", "bzip2", "xz", "zstd"],
)
def test_every_compression_is_told_by_its_content(pack):
    assert told(pack(MIXED.encode())) == told(MIXED)


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_behind_rows_ends_them(indent):
    rows = NOTICE.replace("#close\tx\n", "")
    assert told(f"{rows}{json.dumps([EVE, EVE], indent=indent)}\n{FAST}") == ["zeek", "eve", "eve", "fast"]
    assert told(f"{CSV}\n{json.dumps([EVE, EVE], indent=indent)}\n{FAST}") == ["csv", "eve", "eve", "fast"]


@settings(max_examples=100)
@given(st.randoms(use_true_random=True), st.integers(1, 40))
def test_where_a_stream_is_cut_into_pieces_changes_nothing(chance, longest):
    text = "\n".join(chance.sample([*PIECES, "{torn", "garbage", "[" * 9, "[**] [1:1:1] torn", " " * 30], 8))
    pieces, at = [], 0
    while at < len(text):
        size = chance.randint(1, longest)
        pieces.append(text[at : at + size])
        at += size
    assert list(split(pieces)) == list(split([text]))


@settings(max_examples=200)
@given(st.lists(st.sampled_from([*MIXED.splitlines(), '{"torn', "garbage", "[{", "}]", "", ",", "-----", "\x1e"])))
def test_no_line_is_lost_unreported(lines):
    """Each line that is not blank, a bracket, a rule or part of a header lies within what some document says of it."""
    covered = set()
    for document in split(["\n".join(lines)]):
        assert document.form or document.fault
        covered.update(range(document.line, document.last + 1))
    silent = ("", ",", "[", "]", "-----", "\x1e")
    for number, line in enumerate(lines, 1):
        if line.strip() not in silent and not line.startswith(("#", "timestamp,")):
            assert number in covered, (number, line)


class Lines(io.RawIOBase):
    """A stream of the same line again and again, which nobody ever holds."""

    def __init__(self, line, times):
        self.line, self.left, self.rest, self.taken = line, times, b"", 0

    def readable(self):
        return True

    def readinto(self, buffer):
        while len(self.rest) < len(buffer) and self.left:
            self.rest += self.line
            self.left -= 1
        piece, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
        buffer[: len(piece)] = piece
        self.taken += len(piece)
        return len(piece)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_large_file_is_never_held(packed):
    chance = random.Random(1)
    flows = [json.dumps({"event_type": "flow", "x": chance.randbytes(4000).hex()}).encode() for _ in range(20)]
    stream = Lines(b"\n".join(flows) + b"\n", 200)  # 32 MB
    data = io.BytesIO(gzip.compress(stream.read(), 1)) if packed else io.BufferedReader(stream)
    tracemalloc.start()
    try:
        begin = tracemalloc.get_traced_memory()[0]
        assert list(read_findings(data, "eve.json")) == []
        assert tracemalloc.get_traced_memory()[1] - begin < 6 * 2**20
    finally:
        tracemalloc.stop()


def test_the_first_finding_is_told_before_the_rest_is_read():
    stream = Lines(json.dumps(EVE).encode() + b"\n", 100_000)
    finding = next(iter(read_findings(io.BufferedReader(stream), "eve.json")))
    assert isinstance(finding, Finding)
    assert stream.taken < 2**20


@pytest.mark.parametrize("line", ["x" * 10**6, "1" * 70_000 + ",", '{"a": "' + "y" * 10**6, FAST + "z" * 70_000])
def test_a_line_that_is_too_long_costs_itself(line):
    kinds = [kind if isinstance(kind, str) else "error" for kind in told(f"{FAST}\n{line}\n{FAST}\n")]
    assert kinds == ["fast", "error", "fast"]


@pytest.mark.parametrize(
    "text",
    [
        "[**] [1:1:1] full [**]\n" * 20_000,
        FAST[:60] + "\n" * 3 + (FAST[:60] + "\n") * 20_000,
        "#fields\tts\tnote\tmsg\n" * 20_000,
        "a,b,msg,src\n" * 20_000,
        "[**] [1:1:1] x [**]\n" + "y " * 500_000,
        "03/20-18:04:19 ,\n" * 20_000,
        "[**] [1:1:1] [**]\n" + "1 " * 4000 + "->" + " 1" * 4000,
        "[**\n" * 20_000,
        "#separator " + "\\x41" * 10_000 + "\n#fields" + "AAAAAAAAAA" * 10_000 + "\n" + "AAAAAAAAAA" * 10_000,
    ],
    ids=["full", "torn", "headers", "csv headers", "long full", "empty rows", "ends", "brackets", "separator"],
)
def test_hostile_layouts_take_time_in_proportion_to_their_size(text):
    for one in read_findings(text.encode(), "file", MARCH):
        assert isinstance(one, Finding | FindingError)


def test_changed_alerts_raise_nothing():
    chance = random.Random(3)
    for _ in range(400):
        data = bytearray(MIXED.encode())
        for _ in range(chance.randint(1, 12)):
            data[chance.randrange(len(data))] = chance.choice(b'\0\n\t,:[]{}#*"\\ 0\xff')
        for one in read_findings(bytes(data), "file", MARCH):
            assert isinstance(one, Finding | FindingError)
            str(one).encode()


def test_troubles_of_a_kind_are_told_once_and_counted_whole():
    lines = [FAST, "{x", FAST, '{"torn": ', FAST, "{y", FAST, "{z", FAST, "{w", "{v", FAST]
    troubles = Troubles()
    errors = [
        one for one in read_findings("\n".join(lines).encode(), "eve.json", MARCH) if isinstance(one, FindingError)
    ]
    news = [str(error) for error in errors if troubles.is_news(error)]
    assert len(news) == 2
    assert news[0].startswith("eve.json: line 2: broken JSON")
    (more,) = troubles.more()
    assert more.text.endswith("and 4 more like it: lines 6, 8, 10 to 11")
    assert troubles.count == len(errors) == len(news) + more.errors == 6
    assert list(troubles.more()) == []


def test_many_stretches_of_lines_are_named_in_part():
    troubles = Troubles()
    for line in range(1, 2002, 2):
        troubles.is_news(FindingError("f", line, f"number {line}"))
    (more,) = troubles.more()
    assert more.text == ("f: number 1: and 1,000 more like it: lines 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, ...")


def test_kinds_of_trouble_without_end_become_one():
    troubles = Troubles()
    told = sum(troubles.is_news(FindingError("f", line, "x" * line)) for line in range(1, 5000))
    assert told < 300
    assert told + sum(more.errors for more in troubles.more()) == troubles.count == 4999


#: What is in each real file by its publisher: findings, and lines that hold no alert of ours (README, ALERTS.tsv).
REAL = {
    "argus-binetflow__portscan.csv": (0, 67),
    "asff-eventbridge__guardduty-c2activity.json": (1, 0),
    "aws-network-firewall.ndjson": (1, 0),  # line 1; line 2 is a netflow record
    "guardduty-eventbridge__Credential-Access-IAM-Anomalous-Behavior.json": (1, 0),
    "guardduty-eventbridge__Recon-EC2-PortProbeUnprotectedPort.json": (1, 0),
    "guardduty-eventbridge__Trojan-EC2-DNSDataExfiltration.json": (1, 0),
    "guardduty-eventbridge__Trojan-EC2-DropPoint.json": (1, 0),
    "guardduty-eventbridge__UnauthorizedAccess-EC2-MaliciousIPCaller.json": (1, 0),
    "guardduty-eventbridge__UnauthorizedAccess-EC2-SSHBruteForce.json": (1, 0),
    "guardduty-eventbridge__UnauthorizedAccess-EC2-TorClient.json": (1, 0),
    "guardduty-raw__panther-critical.ndjson": (2, 0),
    "guardduty-raw__panther-high.ndjson": (2, 0),
    "snort-alert_fast.log": (10, 0),
    "suricata-eve__ctu-exposed-host.json": (384, 0),  # of 2562 events
    "suricata-fast__http2-files.log": (28, 0),
    "unified2__merged.log": (6, 0),
    "zeek__portscan-horizontal-conn.log": (0, 41),  # rows of 49 lines
    "zeek__test9-mixed-zeek-dir-conn.log": (0, 576),
    "zeek__test9-mixed-zeek-dir-notice.log": (18, 0),
}


def test_every_real_alert_file_is_read_whole_and_no_line_is_lost_unreported(captures):
    files = {path.name: path for path in (captures / "alerts").iterdir()}
    assert files.keys() == REAL.keys()
    for name, (findings, lines) in REAL.items():
        with files[name].open("rb") as stream:
            read = list(read_findings(stream, name, MARCH))
        errors = [one for one in read if isinstance(one, FindingError)]
        assert len(read) - len(errors) == findings, name
        assert sum(error.lines for error in errors) == lines, name
    rows = files["zeek__portscan-horizontal-conn.log"].read_text().splitlines()
    assert sum(not row.startswith("#") for row in rows) == 41
    eve = files["suricata-eve__ctu-exposed-host.json"].read_text().splitlines()
    assert sum(json.loads(line)["event_type"] == "alert" for line in eve) == 384


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=True), st.integers(0, 40))
def test_reading_goes_on_where_somebody_left_off(chance, done):
    text = "\n".join(chance.choices([*PIECES, '{"torn', "garbage", json.dumps({"Records": [EVE, 7, EVE]})], k=15))
    data = gzip.compress(text.encode())[: -chance.randint(1, 9)]
    whole = list(map(repr, read_findings(data, "file", MARCH)))
    assert list(map(repr, read_findings(data, "file", MARCH, done=done))) == whole[done:]
