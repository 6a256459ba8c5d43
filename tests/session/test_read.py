"""Session records are read in every form that they come in; what cannot be read costs itself and is told."""

from __future__ import annotations

import gzip
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.session.made import HEADER, LOCAL, PORT, REMOTE, SERVICE, T0, eve, log, sessions, vpc

from backscatter.errors import FindingError, NoSessions
from backscatter.flow.address import Address
from backscatter.flow.window import Window

ALWAYS = Window(0, 1 << 62)


def records(*files: bytes):
    found, errors = sessions(*files)
    return found.between([Address.parse(LOCAL)], [Address.parse(REMOTE)], ALWAYS)[0], errors


# The examples of https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-records-examples.html, with our addresses.
DEFAULT = f"2 123456789010 eni-1235b8ca123456789 {REMOTE} {LOCAL} 443 40000 6 20 4249 1418530010 1418530070 REJECT OK"


def test_the_default_format_needs_no_header():
    ((record,), errors) = records(DEFAULT.encode())
    assert errors == []
    assert (str(record.src), record.sport, str(record.dst), record.dport) == (REMOTE, 443, LOCAL, 40000)
    assert (record.forth.packets, record.forth.bytes, record.forth.flags, record.action) == (20, 4249, None, "REJECT")
    assert (record.start, record.end) == (1418530010 * 10**9, 1418530071 * 10**9 - 1)
    assert record.place == "file-0:1"


def test_an_export_from_cloudwatch_has_times_in_front():
    ((record,), errors) = records(f"2014-12-14T04:06:50.000Z {DEFAULT}\n".encode())
    assert (errors, record.forth.packets) == ([], 20)


def test_records_without_data_are_none_and_skipped_ones_are_a_gap():
    nothing = "2 123456789010 eni-1235b8ca123456789 - - - - - - - 1431280876 1431280934 - NODATA"
    skipped = "2 123456789010 eni-11111111aaaaaaaaa - - - - - - - 1431280876 1431280934 - SKIPDATA"
    found, errors = sessions(f"{nothing}\n{skipped}\n{DEFAULT}\n".encode())
    assert errors == []
    assert (found.count, len(found.gaps)) == (1, 1)
    assert found.gaps[0].start == 1431280876 * 10**9


@pytest.mark.parametrize(
    "order",
    [
        "version vpc-id subnet-id instance-id interface-id account-id type srcaddr dstaddr srcport dstport pkt-srcaddr pkt-dstaddr protocol bytes packets start end action tcp-flags log-status",
        "tcp-flags dstport srcport dstaddr srcaddr protocol end start bytes packets",
        "${tcp-flags} ${dstport} ${srcport} ${dstaddr} ${srcaddr} ${protocol} ${end} ${start} ${bytes} ${packets} ${flow-direction}",
    ],
    ids=["version 3", "own order", "as the console writes it"],
)
def test_a_header_gives_the_order_of_columns(order):
    values = {
        "srcaddr": REMOTE, "dstaddr": LOCAL, "srcport": "443", "dstport": "40000", "protocol": "6", "bytes": "60",
        "packets": "1", "start": str(T0), "end": str(T0 + 60), "action": "ACCEPT", "tcp-flags": "18", "log-status": "OK",
    }  # fmt: skip
    line = " ".join(values.get(name.strip("${}"), "-") for name in order.split())
    ((record,), errors) = records(f"{order}\n{line}\n".encode())
    assert errors == []
    assert (record.sport, record.dport, record.forth.flags, record.forth.hidden) == (443, 40000, 18, True)


def test_gzip_and_files_behind_each_other_are_read():
    one, other = log(vpc("in", 18), around=False), log(vpc("out", 4), around=False)
    assert len(records(gzip.compress(one) + gzip.compress(other))[0]) == 2


def test_translated_addresses_are_known_by_their_other_names():
    header = "srcaddr dstaddr pkt-srcaddr pkt-dstaddr srcport dstport protocol packets bytes start end tcp-flags"
    line = f"10.0.0.99 {REMOTE} {LOCAL} {REMOTE} 40000 443 6 1 60 {T0} {T0 + 60} 2"
    ((record,), errors) = records(f"{header}\n{line}\n".encode())
    assert errors == []
    assert record.others == (Address.parse(LOCAL), Address.parse(REMOTE))


def test_eve_flows_and_netflows_are_read_and_other_events_are_none():
    lines = [
        eve((REMOTE, SERVICE), (LOCAL, PORT), (2, 120, "12"), (2, 80, "04")),
        eve((LOCAL, PORT), (REMOTE, SERVICE), (1, 60, "02"), None, event="netflow"),
        json.dumps({"event_type": "alert", "src_ip": REMOTE, "dest_ip": LOCAL, "flow": {}}),
        json.dumps({"event_type": "dns", "src_ip": REMOTE}),
    ]
    found, errors = records("\n".join(lines).encode())
    assert errors == []
    flow, netflow = found
    assert (flow.forth, flow.back, flow.began) == ((2, 120, 0x12, False), (2, 80, 0x04, False), True)
    assert (netflow.forth, netflow.back) == ((1, 60, 0x02, False), None)


def test_network_firewall_wraps_them():
    event = json.loads(eve((REMOTE, SERVICE), (LOCAL, PORT), (2, 120, "00"), (0, 0, "00")))
    text = json.dumps(
        {"firewall_name": "fw", "availability_zone": "a", "event_timestamp": "1700000300", "event": event}
    )
    ((record,), errors) = records(text.encode())
    assert errors == []
    assert (record.source, record.forth.flags) == ("network firewall", None)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (vpc("in", 18).replace(" 40000 ", " 99999 "), "column dstport: '99999' is no such number"),
        (vpc("in", "x"), "column tcp-flags: 'x' is no such number"),
        (vpc("in", 18) + " more", "14 columns instead of 13"),
        (vpc("in", 18).replace(LOCAL, "10.0.0.555"), None),
    ],
    ids=["port", "flags", "width", "an address that is nobody's"],
)
def test_a_line_that_cannot_be_read_costs_itself(line, told):
    found, errors = records(log(line, vpc("in", 18), around=False))
    if told is None:
        assert "is no address" in str(errors[0])
    else:
        assert str(errors[0]) == f"file-0: line 2: {told}"
    assert len(errors) == 1
    assert [record.place for record in found] == ["file-0:3"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "the file is empty"),
        (b"hello\nworld\n", "no session record"),
        (b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00" + bytes(40), "this is a packet capture and holds no session records"),
        (b"version srcaddr dstaddr srcport\n", "without the columns protocol, packets, bytes, start, end"),
        (gzip.compress(log(vpc("in", 18)))[:-20], "what came before was read"),
    ],
    ids=["empty", "text", "a capture", "columns", "cut"],
)
def test_what_is_no_log_is_told(data, told):
    _, errors = records(data)
    assert told in str(errors[-1])


def test_a_header_without_its_columns_behind_records_takes_nothing_from_them():
    found, errors = records(log(vpc("in", 18), around=False) + b"\nversion srcaddr dstaddr srcport\n")
    assert len(found) == 1
    assert [type(error) for error in errors] == [FindingError]
    _, errors = records(b"version srcaddr dstaddr srcport\n")
    assert [type(error) for error in errors] == [NoSessions]


def test_of_very_many_broken_lines_some_are_told_and_the_rest_counted():
    _, errors = records(HEADER.encode() + b"\n" + b"nonsense\n" * 5000)
    assert len(errors) == 101
    assert "4900 more lines" in str(errors[-1])


def test_a_line_without_end_is_cut():
    found, errors = records(HEADER.encode() + b"\n" + b"x" * 3_000_000 + b"\n" + vpc("in", 18).encode())
    assert (len(found), len(errors)) == (1, 1)


def test_json_that_is_no_eve_is_told():
    _, errors = records(b'{"Findings": [{"Type": "Backdoor:EC2/C&CActivity.B"}]}\n')
    assert [str(error) for error in errors] == ["file-0: line 1: JSON, but no event of EVE: it has no event_type"]
    _, errors = records(b'{"event_type": "stats"}\n{"firewall_name": "fw", "event": {"tls_error": {}}}\n')
    assert errors == []


def test_a_deep_line_of_json_is_told():
    deep = b'{"event_type": "flow", "flow": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    _, errors = records(eve((REMOTE, SERVICE), (LOCAL, PORT), (2, 120, "12"), (2, 80, "04")).encode() + b"\n" + deep)
    assert len(errors) == 1


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_no_bytes_break_the_reader(noise, at):
    data = log(vpc("in", 18), vpc("out", 4))
    sessions(noise, data[:at] + noise + data[at:], gzip.compress(data)[: at % 200] + noise)


def test_half_a_million_lines_are_read_in_seconds():
    line = vpc("in", 18).replace(LOCAL, "10.1.1.1").replace(REMOTE, "203.0.113.9")
    data = (HEADER + "\n" + (line + "\n") * 200_000).encode()
    before = time.process_time()
    assert records(data) == ([], [])
    assert time.process_time() - before < 3  # 0.4 s where nobody else is at work


def test_a_log_that_skips_all_the_time_vouches_for_nothing():
    from backscatter.session.log import MOST_GAPS

    gaps = "\n".join(f"5 - - - - - - - {number} {number} - - SKIPDATA" for number in range(MOST_GAPS + 10))
    found, errors = sessions(log() + gaps.encode())
    assert errors == []
    assert len(found.gaps) == MOST_GAPS + 1
    hosts = [Address.parse(LOCAL)]
    assert not found.covers(hosts, Window(0, 1 << 62), before=1 << 61)
    assert sessions(log())[0].covers(hosts, Window(0, (T0 + 10**6) * 10**9), before=T0 * 10**9)
