from __future__ import annotations

import pytest

from backscatter.errors import FindingError
from backscatter.finding.model import AlertedPacket, End, Tuple
from backscatter.finding.recognise import read_findings

#: The event of 2007 as its analyst published it (taosecurity.blogspot.com/2007/03/backscatter-detected.html).
POST = """\
Count:2 Event#1.204541 2007-03-20 18:04:19
BLEEDING-EDGE DROP Known Bot C&C Server Traffic (group 1)
69.143.202.28 -> 193.109.122.67
IPVer=4 hlen=5 tos=0 dlen=40 ID=2644 flags=2 offset=0 ttl=64 chksum=58655
Protocol: 6 sport=1024 -> dport=6667

Seq=2934031229 Ack=0 Off=5 Res=0 Flags=*****R** Win=0 urp=54297 chksum=0
Payload:
None.
"""
RULE = "-" * 72 + "\n"


def read(text):
    return list(read_findings(text.encode(), "sguil.txt"))


def test_the_event_of_2007_is_read_with_its_packet():
    (finding,) = read(POST)
    assert (finding.id, finding.source, finding.count) == ("1.204541", "sguil", 2)
    assert finding.title == "BLEEDING-EDGE DROP Known Bot C&C Server Traffic (group 1)"
    assert finding.first_seen == finding.last_seen == 1174413859 * 10**9
    assert finding.tuples == (Tuple("tcp", End("69.143.202.28", 1024), End("193.109.122.67", 6667)),)
    assert finding.packet == AlertedPacket(flags=4, seq=2934031229, ack=0, window=0, ttl=64)
    assert finding.original == POST.strip()
    assert finding.origin == "sguil.txt:1"


@pytest.mark.parametrize(
    "text",
    [
        POST.replace("\n", "\r\n"),
        POST.replace("\n", "\n\n"),
        "\n\n" + RULE + POST.replace("\n", "  \n"),
        "\n".join("    " + line for line in POST.splitlines()),
    ],
)
def test_white_space_and_blank_lines_change_nothing(text):
    (finding,) = read(text)
    (plain,) = read(POST)
    assert (finding.tuples, finding.packet, finding.title) == (plain.tuples, plain.packet, plain.title)


def test_several_events_of_a_file_are_told_apart():
    second = POST.replace("1.204541", "1.204542").replace("sport=1024", "sport=3072")
    udp = (
        "Count:1 Event#1.7 2007-03-20 18:05:00\nET DNS\n10.0.0.1 -> 10.0.0.2\n"
        "IPVer=4 hlen=5 tos=0 dlen=60 ID=1 flags=0 offset=0 ttl=64 chksum=1\nProtocol: 17 sport=5353 -> dport=53\n\n"
        "len=40 chksum=7\n"
    )
    icmp = (
        "Count:1 Event#1.8 2007-03-20 18:05:01\nICMP PING\n10.0.0.1 -> 10.0.0.2\n"
        "IPVer=4 hlen=5 tos=0 dlen=60 ID=1 flags=0 offset=0 ttl=0 chksum=1\nProtocol: 1 Type=8 Code=0 chksum=7 ID=1\n"
    )
    findings = read(RULE + POST + RULE + second + udp + RULE + icmp)
    assert [finding.id for finding in findings] == ["1.204541", "1.204542", "1.7", "1.8"]
    assert findings[1].tuples[0].a.port == 3072
    assert findings[2].tuples[0] == Tuple("udp", End("10.0.0.1", 5353), End("10.0.0.2", 53))
    assert findings[3].tuples[0] == Tuple("icmp", End("10.0.0.1"), End("10.0.0.2"))
    assert findings[2].packet == AlertedPacket(ttl=64)
    assert findings[3].packet is None


def test_events_of_suricata_show_no_packet_since_all_their_numbers_are_zero():
    text = POST.replace("Seq=2934031229", "Seq=0").replace("*****R**", "********").replace("ttl=64", "ttl=0")
    assert read(text)[0].packet is None


@pytest.mark.parametrize(
    ("time", "width"),
    [
        ("2007-03-20 18:04:19 UTC", 0),
        ("2007-03-20 18:04 UTC", 59),
        ("First seen: 2007-03-20 18:04 UTC", 59),
    ],
)
def test_a_time_without_seconds_is_the_whole_minute(time, width):
    (finding,) = read(POST.replace("2007-03-20 18:04:19", time))
    assert finding.last_seen - finding.first_seen == width * 10**9


@pytest.mark.parametrize(
    ("text", "bits"),
    [("12UAPRSF", 255), ("******S*", 2), ("***A**S*", 18), ("*0******", 64), ("1*******", 128)],
)
def test_flags_are_read_from_their_letters(text, bits):
    assert read(POST.replace("*****R**", text))[0].packet.flags == bits


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("69.143.202.28 ->", "a.b.c.d ->", "src_ip"),
        ("sport=1024", "sport=70000", "sport"),
        ("Protocol: 6", "Protocol: 999", "Protocol"),
        ("Seq=2934031229", "Seq=4294967296", "Seq"),
        ("*****R**", "*****X**", "Flags"),
        ("2007-03-20", "2007-02-30", "time"),
        ("69.143.202.28 -> 193.109.122.67", "", "A -> B"),
    ],
)
def test_an_unreadable_field_costs_its_event_and_is_named(old, new, field):
    error, good = read(POST.replace(old, new) + RULE + POST)
    assert isinstance(error, FindingError)
    assert f"field {field}" in str(error) or f"field `{field}`" in str(error)
    assert error.line == 1
    assert good.id == "1.204541"


def test_nothing_in_the_message_or_the_payload_is_taken_for_a_header_field():
    text = POST.replace("(group 1)", "Protocol: 17 sport=1 ttl=1").replace("None.", "53 sport=9 Seq=1 Flags=********")
    (finding,) = read(text)
    assert finding.tuples[0] == Tuple("tcp", End("69.143.202.28", 1024), End("193.109.122.67", 6667))
    assert finding.packet.seq == 2934031229
