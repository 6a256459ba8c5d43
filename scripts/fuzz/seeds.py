"""Inputs to begin with: small ones made here, and the small real ones where ../shared is there."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import struct
from typing import TYPE_CHECKING

import zstandard
from trials import LONGEST, ROOT

from backscatter.demo.wire import ether, geneve, icmp, icmp_error, ip, pcap, tcp, udp, vxlan

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED = ROOT.parent / "shared" / "captures"
NAMED_AS_NONE = (".md", ".tsv")

T = 1174413859_731091000
OURS, THEIRS = "10.0.0.5", "192.0.2.1"
OURS_SIX, THEIRS_SIX = "2001:db8::5", "2001:db8::1"

DNS = struct.pack(">HHHHHH", 7, 0x8180, 1, 1, 0, 0) + b"\1a\0\0\1\0\1"
QUIC = b"\xc3\0\0\0\1\x08" + bytes(40)

SYN = tcp(OURS, 1024, THEIRS, 80, "S", seq=9)
SYN_SIX = tcp(OURS_SIX, 1024, THEIRS_SIX, 80, "S", seq=9)
TALK = (
    SYN,
    tcp(THEIRS, 80, OURS, 1024, "SA", seq=99, ack=10),
    tcp(OURS, 1024, THEIRS, 80, "A", seq=10, ack=100),
    tcp(OURS, 1024, THEIRS, 80, "PA", seq=10, ack=100, payload=b"GET /"),
    tcp(OURS, 1024, THEIRS, 80, "PA", seq=10, ack=100, payload=b"GET /"),
    tcp(THEIRS, 80, OURS, 1024, "FA", seq=100, ack=15, payload=b"200"),
    tcp(OURS, 1024, THEIRS, 80, "R", seq=15),
    SYN,
    udp(OURS, 53, THEIRS, 5353, DNS),
    udp(OURS, 999, THEIRS, 443, QUIC),
    udp(OURS, 123, THEIRS, 123, b"\x23" + bytes(47)),
    icmp(OURS, THEIRS, 8, payload=b"ping"),
    icmp(THEIRS, OURS, 0, payload=b"ping"),
    icmp_error("192.0.2.9", OURS, 3, 3, SYN),
    ip(OURS, THEIRS, 17, udp(OURS, 1, THEIRS, 2, bytes(32))[20:], fragment=0x2000, ip_id=7),
    ip(OURS, THEIRS, 17, bytes(16), fragment=0x0005, ip_id=7),
    ip(OURS, THEIRS, 1, bytes(8), options=b"\1\1\1\0"),
)
TALK_SIX = (
    SYN_SIX,
    tcp(THEIRS_SIX, 80, OURS_SIX, 1024, "RA", ack=10),
    icmp(OURS_SIX, THEIRS_SIX, 128, payload=b"ping"),
    icmp_error(THEIRS_SIX, OURS_SIX, 1, 4, SYN_SIX, keep=60),
    ip(OURS_SIX, THEIRS_SIX, 0, bytes([6, 0]) + bytes(6) + SYN_SIX[40:]),
    ip(OURS_SIX, THEIRS_SIX, 44, bytes([17, 0, 0, 1]) + bytes(4) + bytes(24)),
)
TUNNELS = (
    vxlan(ether(SYN, vlan=(5,)), 7),
    geneve(ether(SYN), 7, options=bytes(8)),
    geneve(vxlan(ether(SYN_SIX), 8), 9, kind=0x0800),
    ip(OURS, THEIRS, 4, SYN),
    ip(OURS, THEIRS, 41, SYN_SIX),
    ip(OURS, THEIRS, 47, struct.pack(">HHI", 0x2000, 0x0800, 5) + SYN),
    ip(OURS, THEIRS, 47, struct.pack(">HHI", 0x1000, 0x88BE, 1) + bytes(8) + ether(SYN)),
    udp(OURS, 2152, THEIRS, 2152, struct.pack(">BBHI", 0x30, 255, len(SYN), 7) + SYN),
    udp(OURS, 3544, THEIRS, 3544, SYN_SIX),
    ip(OURS, THEIRS, 51, struct.pack(">BBHII", 6, 4, 0, 1, 1) + bytes(12) + SYN[20:]),
)


def _block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A pcapng block."""
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def _pcapng(order: str) -> bytes:
    """A pcapng with every block that we read, of two sections and three interfaces."""
    section = _block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    options = struct.pack(order + "HHB3xHHqHH", 9, 1, 9, 14, 8, 3600, 0, 0)
    ethernet = _block(1, struct.pack(order + "HHI", 1, 0, 0) + options, order)
    raw = _block(1, struct.pack(order + "HHI", 101, 0, 96), order)
    ticks, frame = T + 5, ether(SYN)
    head = struct.pack(order + "IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame))
    enhanced = _block(6, head + frame, order)
    head = struct.pack(order + "HHIIII", 1, 0xFFFF, ticks >> 32, ticks & 0xFFFFFFFF, len(SYN), len(SYN))
    old = _block(2, head + SYN, order)
    simple = _block(3, struct.pack(order + "I", len(frame)) + frame, order)
    told = _block(5, struct.pack(order + "IIIHHQHH", 0, 0, 0, 5, 8, 3, 0, 0), order)
    unknown = _block(0x0BAD, b"custom", order)
    return section + ethernet + enhanced + raw + old + simple + unknown + enhanced + told + section + raw + old


def _made() -> Iterator[bytes]:
    """Captures of every container, link type and tunnel that a few lines can make."""
    for packets in (TALK, TALK_SIX, TUNNELS):
        records = [(T + number * 10**8, ether(packet)) for number, packet in enumerate(packets)]
        for nano, big in ((True, False), (False, True)):
            yield pcap(records, nano=nano, big=big)
        for packet in packets:
            yield pcap([(T, ether(packet, vlan=(3, 4)))])
    both = [*TALK[:3], *TALK_SIX[:3]]
    raw = [(T + number, packet) for number, packet in enumerate(both)]
    for linktype in (12, 14, 101, 228, 229):
        yield pcap(raw, linktype=linktype)
    for linktype, head in (
        (0, struct.pack("<I", 2)),
        (9, b"\xff\x03\x00\x21"),
        (104, b"\x0f\0\x08\0"),
        (108, struct.pack(">I", 2)),
        (113, bytes(14) + b"\x08\0"),
        (276, b"\x08\0" + bytes(18)),
        (105, b"\x08\0" + bytes(22) + b"\xaa\xaa\3\0\0\0\x08\0"),
        (127, b"\0\0\x08\0" + bytes(4) + b"\x08\0" + bytes(22) + b"\xaa\xaa\3\0\0\0\x08\0"),
        (239, b"\x02\0\0\1" + struct.pack("<HH", len(SYN) + 4, 9)),
    ):
        yield pcap([(T, head + packet) for packet in TALK[:3]], linktype=linktype)
    mpls = bytes(12) + b"\x88\x47" + struct.pack(">II", 0x10040, 0x20140) + SYN
    pppoe = bytes(12) + b"\x88\x64" + struct.pack(">BBHHH", 0x11, 0, 7, len(SYN) + 2, 0x21) + SYN
    yield pcap([(T, mpls), (T, pppoe)])
    plain = pcap([(T, ether(packet)) for packet in TALK[:4]])
    for packed in (gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress):
        yield packed(plain)
    yield gzip.compress(plain[:100]) + gzip.compress(plain[100:])
    for order in "<>":
        yield _pcapng(order)
    modified = struct.pack("<IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 1)
    yield modified + struct.pack("<IIIIIHBB", 1, 2, len(SYN), len(SYN), 1, 0, 0, 0) + SYN


def _expanded(data: bytes) -> bytes:
    """Without gzip, so that a mutation reaches what is inside."""
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def captures() -> list[bytes]:
    """Captures of at most LONGEST bytes; of longer real ones the beginning."""
    real = [
        path.read_bytes() for path in sorted(SHARED.glob("*")) if path.is_file() and path.suffix not in NAMED_AS_NONE
    ]
    return [*_made(), *(_expanded(data)[:LONGEST] for data in real)]


def _unified2() -> bytes:
    """An event of each family, with its packet."""
    records = []
    for number, packet, kind in ((1, SYN, 104), (2, SYN_SIX, 105)):
        width, at = (4, 12) if kind == 104 else (16, 8)
        key = struct.pack(">3I", 1, number, T // 10**9)
        ends = packet[at : at + 2 * width] + struct.pack(">HHBBBBIHH", 1024, 80, 6, 0, 0, 0, 0, 7, 0)
        frame = ether(packet)
        packed = key + struct.pack(">4I", T // 10**9, 0, 1, len(frame)) + frame
        for told, body in ((kind, key + struct.pack(">6I", 0, 2000, 1, 3, 4, 2) + ends), (2, packed), (110, key)):
            records.append(struct.pack(">II", told, len(body)) + body)
    return b"".join(records)


def _texts() -> list[bytes]:
    """An alert of each format that is no JSON of one line, and of those that are."""
    rule, ends = "[**] [1:2000:3] Bot [**]", f"{OURS}:1024 -> {THEIRS}:80"
    full = f"{rule}\n[Priority: 1]\n03/20-18:04:19.731091 {ends}\nTCP TTL:64 TOS:0x0 ID:1 IpLen:20 DgmLen:40\n"
    ocsf = {
        "class_uid": 2004,
        "finding_info": {"uid": "1", "title": "bot", "first_seen_time": T // 10**6},
        "evidences": [
            {
                "connection_info": {"protocol_num": 6, "direction_id": 2},
                "src_endpoint": {"ip": OURS, "port": 1024},
                "dst_endpoint": {"ip": THEIRS, "port": 80},
            }
        ],
    }
    sequence = {
        "endpoints": [{"ip": THEIRS, "port": 80}],
        "resources": [{"data": {"ec2NetworkInterface": {"privateIpAddresses": [{"privateIpAddress": OURS}]}}}],
    }
    guardduty = {"id": "1", "arn": "a", "type": "AttackSequence", "service": {"detection": {"sequence": sequence}}}
    snort = {"timestamp": "03/20-18:04:19.7", "src_ap": f"{OURS}:1024", "dst_ap": f"{THEIRS}:80", "rule": "1:2:3"}
    notice = {"ts": T / 10**9, "note": "Bot::C2", "msg": "bot", "id.orig_h": OURS, "id.resp_h": THEIRS, "proto": "tcp"}
    header = "#separator \\x09\n#set_separator\t,\n#unset_field\t-\n#path\tnotice\n#fields\tts\tnote\tsrc\tdst\n"
    texts = [
        f"03/20-18:04:19.731091  {rule} [Priority: 1] {{TCP}} {ends}\n",
        f"{full}*****R** Seq: 0xAEE1FCBD  Ack: 0x0  Win: 0x0  TcpLen: 20\n\n",
        f'timestamp,sig_id,msg,proto,src,dst,tcpseq\n03/20-18:04:19.7 ,2,"a, b",TCP,{OURS},{THEIRS},0x1\n',
        f'03/20-18:04:19.7 ,1,2,3,"bot",TCP,{OURS},1024,{THEIRS},80,9,Trojan,1\n',
        f"{header}1174413859.731091\tBot\t{OURS}\t-\n#close\tx\n",
        *(json.dumps(each) for each in (ocsf, guardduty, snort, notice)),
        json.dumps(
            {"detail-type": "Findings Imported V2", "source": "aws.securityhub", "detail": {"findings": [ocsf]}}
        ),
    ]
    return [_unified2(), *(text.encode() for text in texts)]


def alerts() -> list[bytes]:
    """Alert files of at most LONGEST bytes; of longer real ones the beginning."""
    eve = {
        "timestamp": "2007-03-20T18:04:19.731091+0000",
        "event_type": "alert",
        "src_ip": THEIRS,
        "src_port": 80,
        "dest_ip": OURS,
        "dest_port": 1024,
        "proto": "TCP",
        "flow_id": 1,
        "alert": {"signature": "ET \u2028 bot", "signature_id": 1, "severity": 1},
    }
    made = [json.dumps(eve).encode(), json.dumps({"Records": [eve, {"detail": eve, "detail-type": "x"}, 1]}).encode()]
    made.append(gzip.compress(made[0] + b"\n" + made[0]))
    made += _texts()
    events = ROOT / "events"
    real = [path.read_bytes() for path in sorted(events.glob("*.json"))]
    logs = [path.read_bytes() for path in sorted((SHARED / "alerts").glob("*"))]
    # lines alone too: they are quicker to read, and a change in one is not lost among many
    lines = [line for data in logs for line in data.splitlines()[:3] if len(line) > 40]
    return [*made, *(data[:LONGEST] for data in (*real, *logs, *lines))]


SEEDS = {"captures": captures, "alerts": alerts}
