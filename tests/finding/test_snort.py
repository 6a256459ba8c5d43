from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscatter.errors import FindingError
from backscatter.finding.model import AlertedPacket, End, Tuple
from backscatter.finding.recognise import read_findings
from backscatter.finding.snort_csv import USUAL
from backscatter.finding.tcpflags import parse_flags
from backscatter.finding.unsaid import Unsaid

SECOND = 10**9
#: The case: 2007-03-20 18:04:19.731091.
T = 1174413859_731091000
MARCH = Unsaid(span=(T - 3600 * SECOND, T + 3600 * SECOND))

FAST = (
    "03/20-18:04:19.731091  [**] [1:2000:3] Known Bot C&C [**] [Classification: A Network Trojan was detected] "
    "[Priority: 1] {TCP} 69.143.202.28:1024 -> 193.109.122.67:6667"
)
FULL = """\
[**] [1:2000:3] Known Bot C&C [**]
[Classification: A Network Trojan was detected] [Priority: 1]
03/20-18:04:19.731091 69.143.202.28:1024 -> 193.109.122.67:6667
TCP TTL:64 TOS:0x0 ID:2644 IpLen:20 DgmLen:40 DF
*****R** Seq: 0xAEE1FCBD  Ack: 0x0  Win: 0x0  TcpLen: 20
[Xref => http://www.example.com/2000]

"""
#: With `snort -e`: Ethernet addresses stand on the line of the time.
FULL_ETHERNET = FULL.replace(
    "19.731091 69", "19.731091 0A:00:27:00:00:00 -> 08:00:27:B3:15:40 type:0x800 len:0x3C\n69"
).replace("6667\nTCP", "6667 TCP")
#: An ICMP error quotes a packet, whose numbers are not the alert's.
FULL_ERROR = """\
[**] [1:402:7] ICMP Destination Unreachable Port Unreachable [**]
[Classification: Misc activity] [Priority: 3]
03/20-18:04:19.731091 192.0.2.1 -> 10.0.0.5
ICMP TTL:60 TOS:0xC0 ID:1 IpLen:20 DgmLen:68
Type:3  Code:3  DESTINATION UNREACHABLE: PORT UNREACHABLE
** ORIGINAL DATAGRAM DUMP:
10.0.0.5:1024 -> 192.0.2.1:80
TCP TTL:64 TOS:0x0 ID:2 IpLen:20 DgmLen:40
******S* Seq: 0x1
** END OF DUMP

"""
CSV = (
    '03/20-18:04:19.731091 ,1,2000,3,"Known Bot, C&C",TCP,69.143.202.28,1024,193.109.122.67,6667,0:C:42:FF:CE:E3,'
    "5C:F3:FC:56:CB:FA,0x3C,*****R**,0xAEE1FCBD,0x0,20,0x0,64,0,2644,40,20,,,,"
)
JSON = {
    "timestamp": "03/20-18:04:19.731091",
    "pkt_num": 7,
    "proto": "TCP",
    "pkt_gen": "raw",
    "pkt_len": 40,
    "dir": "C2S",
    "src_ap": "69.143.202.28:1024",
    "dst_ap": "193.109.122.67:6667",
    "rule": "1:2000:3",
    "action": "allow",
}

BOT = Tuple("tcp", End("69.143.202.28", 1024), End("193.109.122.67", 6667))


def read(text, unsaid=MARCH):
    data = text if isinstance(text, bytes) else text.encode()
    return list(read_findings(data, "alert", unsaid))


def one(text, unsaid=MARCH):
    (finding,) = read(text, unsaid)
    assert not isinstance(finding, FindingError), finding
    return finding


@pytest.mark.parametrize(
    ("text", "kind"),
    [(FAST, "fast"), (FULL, "full"), (FULL_ETHERNET, "full"), (CSV, "csv"), (json.dumps(JSON), "json")],
    ids=["fast", "full", "full with Ethernet", "csv", "json"],
)
def test_every_log_of_snort_tells_the_same_alert(text, kind):
    finding = one(text)
    assert (finding.source, finding.type, finding.tuples) == ("snort", "1:2000", (BOT,))
    assert finding.first_seen == finding.last_seen == T
    if kind in ("full", "csv"):
        assert finding.packet == AlertedPacket(flags=4, seq=0xAEE1FCBD, ack=0, window=0, ttl=64)
    if kind in ("fast", "full"):
        assert (finding.title, finding.severity) == ("Known Bot C&C", 1)
    assert finding.original.strip() == text.strip()


def test_the_message_of_csv_may_hold_commas():
    assert one(CSV).title == "Known Bot, C&C"


def test_the_packet_that_an_icmp_error_quotes_is_not_the_alerts():
    finding = one(FULL_ERROR)
    assert finding.tuples == (Tuple("icmp", End("192.0.2.1"), End("10.0.0.5")),)
    assert finding.packet == AlertedPacket(ttl=60)


@pytest.mark.parametrize(
    ("ends", "proto", "told"),
    [
        ("{UDP} 0.0.0.0:68 -> 255.255.255.255:67", "udp", (End("0.0.0.0", 68), End("255.255.255.255", 67))),
        ("{ICMP} 10.0.0.1 -> 10.0.0.2", "icmp", (End("10.0.0.1"), End("10.0.0.2"))),
        ("{ICMP} 10.0.0.1:8 -> 10.0.0.2:0", "icmp", (End("10.0.0.1"), End("10.0.0.2"))),
        ("{IPV6-ICMP} fe80::1 -> ff02::1", "icmp6", (End("fe80::1"), End("ff02::1"))),
        ("{ICMP} fe80::1 -> ff02::1", "icmp6", (End("fe80::1"), End("ff02::1"))),
        ("{TCP} fe80::1:80 -> fe80::2:1024", "tcp", (End("fe80::1", 80), End("fe80::2", 1024))),
        (
            "{TCP} 0000:0000:0000:0000:0000:0000:0000:0001:3000 -> 0000:0000:0000:0000:0000:0000:0000:0002:56508",
            "tcp",
            (End("::1", 3000), End("::2", 56508)),
        ),
        ("{PROTO:047} 10.0.0.1 -> 10.0.0.2", "47", (End("10.0.0.1"), End("10.0.0.2"))),
        ("{IP} 10.0.0.1 -> 10.0.0.2", None, (End("10.0.0.1"), End("10.0.0.2"))),
    ],
)
def test_ends_are_told_whatever_protocol_and_family(ends, proto, told):
    head, _, _ = FAST.partition("{")
    assert one(head + ends).tuples == (Tuple(proto, *told),)


@pytest.mark.parametrize(
    "cut",
    [FAST[:40], FAST[:70], FAST[: FAST.index("{")], FAST[: FAST.index("->")], FAST + " trailing"],
    ids=["in the rule", "in the message", "before the protocol", "before the target", "something behind"],
)
def test_a_torn_line_of_alert_fast_costs_itself_and_is_told(cut):
    first, error, last = read(f"{FAST}\n{cut}\n{FAST}")
    assert isinstance(error, FindingError)
    assert (error.line, first.origin, last.origin) == (2, "alert:1", "alert:3")


def test_a_torn_alert_of_alert_full_costs_itself_and_is_told():
    cut = "[**] [1:2000:3] Bot [**]\n[Priority: 1]\n"
    first, error, last = read(FULL + cut + "\n" + FULL)
    assert (error.line, error.last) == (8, 9)
    assert "cut" in str(error)
    assert (first.tuples, last.tuples) == ((BOT,), (BOT,))


def test_alerts_of_alert_full_without_empty_lines_between_them_are_told_apart():
    assert [finding.tuples for finding in read(FULL.strip() + "\n" + FULL.strip())] == [(BOT,), (BOT,)]


def test_snort_3_quotes_its_message_and_tells_what_it_dropped():
    text = FAST.replace("Known Bot C&C", '"Known Bot C&C"').replace("  [**]", " [drop] [**]", 1)
    assert one(text).title == "Known Bot C&C"


def test_a_year_of_four_digits_is_suricatas():
    finding = one(FAST.replace("03/20-", "03/20/2007-"), Unsaid())
    assert (finding.source, finding.first_seen, finding.notes) == ("suricata", T, ())
    assert one(FAST.replace("03/20-", "03/20/07-"), Unsaid()).source == "snort"


def test_a_packet_of_suricata_without_addresses_is_an_alert_without_a_tuple():
    head, _, _ = FAST.replace("03/20-", "03/20/2007-").partition("{")
    finding = one(head.rstrip() + " {PROTO:000} [**] [Raw pkt: 00 01 02 ]")
    assert (finding.tuples, finding.is_network) == ((), True)


@pytest.mark.parametrize(
    ("span", "placed"),
    [
        ((2007, 2007), 2007),
        ((1999, 2001), 2001),  # each of them fits: the last
        ((2012, 2012), 2012),
    ],
)
def test_a_time_without_a_year_is_placed_by_what_is_at_hand(span, placed):
    first, last = (int(datetime(year, 3, 20, 18, tzinfo=UTC).timestamp()) * SECOND for year in span)
    finding = one(FAST, Unsaid(span=(first, last + 3600 * SECOND)))
    assert datetime.fromtimestamp(finding.first_seen // SECOND, UTC).year == placed
    assert bool(finding.notes) == (span[0] != span[1])


def test_a_time_without_any_year_is_none_and_says_so():
    finding = one(FAST, Unsaid())
    assert finding.first_seen is finding.last_seen is None
    assert "no year" in finding.notes[0]


def test_times_are_of_the_zone_that_is_told():
    east = Unsaid(span=MARCH.span, zone=timezone(timedelta(hours=2)))
    assert one(FAST, east).first_seen == T - 7200 * SECOND
    assert one(json.dumps({**JSON, "seconds": T // SECOND}), east).first_seen == T


def test_seconds_tell_the_year_that_the_timestamp_does_not():
    assert one(json.dumps({**JSON, "seconds": T // SECOND}), Unsaid()).first_seen == T
    only = {name: value for name, value in JSON.items() if name != "timestamp"} | {"seconds": T // SECOND}
    assert one(json.dumps(only), Unsaid()).first_seen == T // SECOND * SECOND


def test_json_tells_its_packet_in_decimal_numbers_and_one_put_together_is_nobodys():
    numbers = {"tcp_flags": "*****R**", "tcp_seq": 2934031229, "tcp_ack": 0, "tcp_win": 0, "ttl": 64}
    assert one(json.dumps({**JSON, **numbers})).packet == AlertedPacket(4, 2934031229, 0, 0, 64)
    assert one(json.dumps({**JSON, **numbers, "pkt_gen": "stream_tcp"})).packet is None


def test_json_of_icmp_has_ports_of_zero_and_a_vlan_selects_the_scope():
    finding = one(json.dumps({**JSON, "proto": "ICMP", "src_ap": "10.0.0.1:0", "dst_ap": "10.0.0.2:0", "vlan": 100}))
    assert finding.tuples == (Tuple("icmp", End("10.0.0.1"), End("10.0.0.2")),)
    assert finding.vlan == (100,)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("src_ap", "10.0.0.1"),
        ("src_ap", "10.0.0.1:99999"),
        ("timestamp", "yesterday"),
        ("timestamp", "02/30-00:00:00"),
        ("timestamp", "13/01-00:00:00"),
        ("timestamp", "01/01-24:00:00"),
        ("tcp_flags", "RST"),
        ("tcp_seq", 2**32),
        ("vlan", "x"),
    ],
)
def test_a_field_that_does_not_fit_is_named(field, value):
    numbers = {"tcp_flags": "*****R**", "tcp_seq": 1}
    (error,) = read(json.dumps({**JSON, **numbers, field: value}))
    assert f"field {field}" in str(error)


def test_csv_tells_its_columns_in_a_header_or_by_whoever_calls():
    row = "193.109.122.67,6667,69.143.202.28,1024,TCP,2000,03/20-18:04:19.731091"
    names = "dst,dstport,src,srcport,proto,sig_id,timestamp"
    assert one(f"{names}\n{row}").tuples == (BOT,)
    assert one(row, Unsaid(span=MARCH.span, columns=tuple(names.split(",")))).tuples == (BOT,)
    first, second = read(f"{names}\n{row}\n{json.dumps(JSON)}\n")
    assert (first.tuples, second.tuples, second.origin) == ((BOT,), (BOT,), "alert:3")


def test_a_first_field_that_is_empty_keeps_its_place():
    assert one("msg,sig_id,src,dst,timestamp\n,5,10.0.0.1,10.0.0.2,03/20-18:04:19").type == "5"


def test_csv_of_columns_that_nobody_tells_says_what_to_do():
    (error,) = read("03/20-18:04:19.731091 ,1,2000,3,Bot")
    assert "5 fields" in str(error)
    assert "--csv-columns" in str(error)


def test_pfsense_and_snort_3_choose_columns_that_are_known():
    pfsense = (
        '03/20/07-18:04:19.731091 ,1,2000,3,"Bot",TCP,69.143.202.28,1024,193.109.122.67,6667,2644,Trojan,1,alert,Allow'
    )
    assert one(pfsense, Unsaid()).tuples == (BOT,)
    three = "03/20-18:04:19.731091, 7, TCP, raw, 40, C2S, 69.143.202.28:1024, 193.109.122.67:6667, 1:2000:3, allow"
    assert one(three).tuples == (BOT,)
    assert set(USUAL) == {10, 13, 15, 27}


def test_the_same_alert_told_twice_has_one_id_and_two_alerts_have_two():
    assert one(FAST).id == one(FAST, Unsaid()).id
    assert one(FAST).id != one(FAST.replace("18:04:19", "18:04:20")).id
    assert one(FAST).id != one(FAST.replace(":1024", ":1025")).id


@pytest.mark.parametrize(("text", "bits"), [("*****R**", 4), ("12UAPRSF", 255), ("***A**S*", 18), ("CE******", 192)])
def test_flags_are_read_from_the_highest_bit_down(text, bits):
    assert parse_flags(text) == bits


@pytest.mark.parametrize("text", ["", "R", "R*******", "*****r**", "********* "])
def test_flags_of_any_other_form_are_refused(text):
    with pytest.raises(ValueError, match="12UAPRSF"):
        parse_flags(text)


ADDRESSES = st.ip_addresses(v=4).map(str)
PORTS = st.integers(1, 65535)
#: A year that has no leap day, so that a time without its year fits it once.
FIRST, LAST = (T // SECOND + day * 86400 for day in (-300, 65))
MOMENTS = st.integers(FIRST * 10**6, LAST * 10**6 - 1).map(lambda microseconds: microseconds * 1000)


def clock(moment):
    time = datetime.fromtimestamp(moment // SECOND, UTC)
    return f"{time:%m/%d-%H:%M:%S}.{moment % SECOND // 1000:06}"


@settings(max_examples=60)
@given(ADDRESSES, PORTS, ADDRESSES, PORTS, MOMENTS, st.integers(1, 2**31), st.sampled_from(["TCP", "UDP"]))
def test_what_alert_fast_wrote_is_read_back(a, sport, b, dport, moment, sid, proto):
    line = f"{clock(moment)}  [**] [1:{sid}:1] msg [**] [Priority: 2] {{{proto}}} {a}:{sport} -> {b}:{dport}\n"
    finding = one(line, Unsaid(span=(FIRST * SECOND, LAST * SECOND - 1)))
    assert finding.tuples == (Tuple(proto.lower(), End(a, sport), End(b, dport)),)
    assert (finding.first_seen, finding.type) == (moment, f"1:{sid}")


NUMBERS = {
    "tcpseq": 0xAEE1FCBD,
    "tcpack": 7,
    "tcpwindow": 512,
    "ttl": 64,
}


@settings(max_examples=60)
@given(st.permutations(USUAL[27]), st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), max_size=20))
def test_csv_of_any_order_of_columns_is_read_back(columns, message):
    values = dict.fromkeys(columns, "") | {
        "timestamp": clock(T) + " ",
        "sig_id": "2000",
        "sig_generator": "1",
        "msg": message,
        "proto": "TCP",
        "src": "69.143.202.28",
        "srcport": "1024",
        "dst": "193.109.122.67",
        "dstport": "6667",
        "tcpflags": "***A**S*",
        **{name: f"0x{value:X}" for name, value in NUMBERS.items()},
    }
    out = io.StringIO()
    csv.writer(out, escapechar="\\", lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerow(
        [values[name] for name in columns]
    )
    finding = one(",".join(columns) + "\n" + out.getvalue())
    assert finding.tuples == (BOT,)
    assert finding.packet == AlertedPacket(18, *NUMBERS.values())
    assert finding.title == (message.strip() or "rule 1:2000:0")


@pytest.mark.parametrize(
    "document",
    [
        {"timestamp": "2007-03-20T18:04:19Z", "rule": {"id": "5710", "level": 5}},
        {"timestamp": "2007-03-20T18:04:19Z", "rule": "name of a rule"},
        {"timestamp": "2007-03-20T18:04:19Z", "sid": "s-1-5-18"},
    ],
)
def test_what_merely_has_a_rule_is_no_alert_of_snort(document):
    (error,) = read(json.dumps(document))
    assert "no alert format that we read" in str(error)
