from __future__ import annotations

import base64
import gzip
import ipaddress
import random
import struct

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscatter.demo.wire import ether, tcp
from backscatter.errors import FindingError
from backscatter.finding import unified2
from backscatter.finding.model import AlertedPacket, End, Finding, Tuple
from backscatter.finding.recognise import read_findings

SECOND = 1174413859


def record(kind, body):
    return struct.pack(">II", kind, len(body)) + body


def event(number, a="10.0.0.5", b="192.0.2.1", *, kind=104, sport=1024, dport=80, proto=6, vlan=0, second=SECOND):
    """An event as Unified2_common.h lays it out."""
    body = struct.pack(">9I", 1, number, second, 731091, 2000, 1, 3, 4, 2)
    body += ipaddress.ip_address(a).packed + ipaddress.ip_address(b).packed
    body += struct.pack(">HHBBBB", sport, dport, proto, 0, 0, 0)
    if kind > 100:
        body += struct.pack(">IHH", 0, vlan, 0)
    if kind > 110:
        body += b"http".ljust(64, b"\0")
    return record(kind, body)


def packet(number, frame, *, linktype=1, second=SECOND):
    return record(2, struct.pack(">7I", 1, number, second, second, 731091, linktype, len(frame)) + frame)


def extra(number):
    blob = b"\xc0\0\2\x07"
    return record(110, struct.pack(">8I", 4, 36, 1, number, SECOND, 1, 1, len(blob) + 8) + blob)


def syn(a="10.0.0.5", b="192.0.2.1", sport=1024, dport=80):
    return ether(tcp(a, sport, b, dport, "S", seq=9))


def read(data):
    return list(read_findings(data, "merged.log"))


SYN = AlertedPacket(flags=2, seq=9, ack=0, window=65535, ttl=64)


@pytest.mark.parametrize("kind", [7, 72, 104, 105, 111, 112])
def test_an_event_of_every_type_is_read_with_its_packet(kind):
    a, b = ("2001:db8::5", "2001:db8::1") if kind in (72, 105, 112) else ("10.0.0.5", "192.0.2.1")
    (finding,) = read(event(1, a, b, kind=kind, vlan=7 if kind > 100 else 0) + packet(1, syn(a, b)))
    assert (finding.source, finding.type, finding.severity) == ("snort", "1:2000", 2)
    assert finding.tuples == (Tuple("tcp", End(a, 1024), End(b, 80)),)
    assert finding.first_seen == finding.last_seen == SECOND * 10**9 + 731091000
    assert (finding.packet.flags, finding.packet.seq) == (2, 9)
    assert finding.vlan == ((7,) if kind > 100 else ())
    assert finding.origin == "merged.log byte 0"
    assert base64.b64encode(syn(a, b)).decode() in finding.original


@settings(max_examples=40)
@given(st.integers(1, 30), st.randoms(use_true_random=True), st.booleans())
def test_records_join_in_any_order(count, order, packed):
    records = []
    for number in range(count):
        ends = f"10.0.{number}.5", "192.0.2.1", 1024 + number, 80
        records += [event(number, ends[0], ends[1], sport=ends[2]), packet(number, syn(*ends)), extra(number)]
    order.shuffle(records)
    data = b"".join(records)
    findings = read(gzip.compress(data) if packed else data)
    if records[0][:4] == struct.pack(">I", 110) and not findings:
        raise AssertionError("nothing was read")
    assert sorted(finding.tuples[0].a.port for finding in findings) == [1024 + number for number in range(count)]
    assert all(finding.packet is not None and finding.packet.seq == 9 for finding in findings)


def test_a_packet_of_another_conversation_is_not_the_alerts():
    (finding,) = read(event(1) + packet(1, syn(dport=81)))
    assert finding.packet is None
    assert "not used" in finding.notes[0]


def test_the_same_event_id_a_second_later_or_told_again_is_another_event():
    findings = read(event(1) + packet(1, syn()) + event(1, second=SECOND + 1) + event(1) + event(1, sport=5))
    assert [finding.tuples[0].a.port for finding in findings] == [1024, 1024, 1024, 5][: len(findings)]
    assert len(findings) == 4
    assert len({finding.id for finding in findings}) == 3  # the third is the first, told twice


def test_a_packet_without_its_event_is_told():
    first, error = read(event(1) + packet(2, syn()))
    assert isinstance(first, Finding)
    assert f"byte {len(event(1))}: a packet of an event that the file does not hold" in str(error)


def test_a_file_that_was_cut_keeps_what_is_whole_and_says_where():
    whole = event(1) + packet(1, syn())
    for kept in (whole + event(2)[:5], whole + event(2)[:30]):
        error, finding = read(kept)
        assert f"byte {len(whole)}: the file ends inside" in str(error)
        assert (finding.tuples[0].a.port, finding.packet.seq) == (1024, 9)


def test_damage_costs_what_it_hit_and_reading_goes_on_at_the_next_event():
    damaged = bytearray(event(2))
    damaged[0:8] = b"\xff" * 8
    data = event(1, sport=1) + bytes(damaged) + bytes(range(256)) * 1000 + event(3, sport=3)
    first, *rest = read(data)
    assert isinstance(first, FindingError)
    assert f"byte {len(event(1))}: a record of type 4294967295" in str(first)
    assert f"{len(damaged) + 256_000} bytes were passed over" in str(first)
    assert [finding.tuples[0].a.port for finding in rest] == [1, 3]


def test_a_record_of_a_type_that_we_do_not_read_is_told_and_costs_nothing_else():
    error, first, second = read(event(1) + record(99, b"x" * 20) + event(2))
    assert "a record of type 99" in str(error)
    assert (first.type, second.type) == ("1:2000", "1:2000")


def test_lengths_that_lie_are_not_believed():
    frame = struct.pack(">7I", 1, 1, SECOND, SECOND, 0, 1, 10**6) + syn()
    error, finding = read(event(1) + record(2, frame))
    assert "a packet of 1000000 bytes in a record that has" in str(error)
    assert finding.packet is None
    error, finding = read(event(1) + struct.pack(">II", 2, 2**31) + b"\0" * 100)
    assert "2147483648 bytes: damaged" in str(error)
    assert finding.packet is None


def test_icmp_has_type_and_code_where_others_have_ports():
    (finding,) = read(event(1, sport=8, dport=0, proto=1))
    assert finding.tuples == (Tuple("icmp", End("10.0.0.5"), End("192.0.2.1")),)


def test_events_wait_for_their_packets_in_bounded_room(monkeypatch):
    monkeypatch.setattr(unified2, "_MOST_WAITING", 10)
    data = b"".join(event(number) for number in range(100)) + b"".join(packet(number, syn()) for number in range(100))
    found = read(data)
    assert sum(isinstance(one, Finding) for one in found) == 100
    joined = sum(isinstance(one, Finding) and one.packet is not None for one in found)
    assert joined + sum(isinstance(one, FindingError) for one in found) == 100  # packets whose events were told already


@settings(max_examples=200)
@given(st.sampled_from([event(1), packet(1, syn()), event(1, "::1", "::2", kind=105)]), st.binary(max_size=300))
def test_arbitrary_bytes_behind_a_record_raise_nothing(begin, rest):
    for one in read(begin + rest):
        assert isinstance(one, Finding | FindingError)


def test_changed_bytes_raise_nothing():
    chance = random.Random(7)
    whole = b"".join(event(number) + packet(number, syn()) + extra(number) for number in range(4))
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(8, len(data))] = chance.randrange(256)
        for one in read(bytes(data)):
            assert isinstance(one, Finding | FindingError)


def test_real_events_tell_what_dpkt_reads_in_their_packets(captures):
    data = (captures / "alerts" / "unified2__merged.log").read_bytes()
    findings = read(data)
    at, frames = 0, []
    while at < len(data):
        kind, length = struct.unpack_from(">II", data, at)
        if kind == 2:
            frames.append(dpkt.ethernet.Ethernet(data[at + 36 : at + 8 + length]))
        at += 8 + length
    assert len(findings) == len(frames) == 6
    for finding, frame in zip(findings, frames, strict=True):
        assert finding.type == "1:498"
        ends = [str(ipaddress.ip_address(ip)) for ip in (frame.data.src, frame.data.dst)]
        assert [finding.tuples[0].a.ip, finding.tuples[0].b.ip] == ends
        assert (finding.packet.flags, finding.packet.seq) == (frame.data.data.flags, frame.data.data.seq)
