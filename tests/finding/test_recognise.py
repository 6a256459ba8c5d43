from __future__ import annotations

import gzip
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscatter.capture.limits import Limits
from backscatter.demo.wire import ether, pcap, tcp
from backscatter.errors import FindingError
from backscatter.finding.model import Finding
from backscatter.finding.recognise import read_event, read_findings

SGUIL = (
    "Count:1 Event#1.5 2007-03-20 18:04:19\nBot\n10.0.0.1 -> 10.0.0.2\n"
    "IPVer=4 ttl=64\nProtocol: 6 sport=1 -> dport=2\n\nSeq=1 Ack=0 Flags=*****R** Win=0\n"
)


def eve(number):
    return {
        "timestamp": f"2007-03-20T18:04:{number:02}.000000+0000",
        "event_type": "alert",
        "src_ip": "10.0.0.1",
        "src_port": number + 1,
        "dest_ip": "10.0.0.2",
        "dest_port": 80,
        "proto": "TCP",
        "alert": {"signature_id": number, "signature": f"rule {number}"},
    }


THREE = [eve(number) for number in range(3)]


def told(data):
    """Types of the findings, and lines of the errors as negative numbers, in order."""
    data = data.encode() if isinstance(data, str) else data
    return [-f.line if isinstance(f, FindingError) else f.type for f in read_findings(data, "file")]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(map(json.dumps, THREE)),
        "\r\n\r\n".join(map(json.dumps, THREE)) + "\r\n",
        json.dumps(THREE),
        json.dumps(THREE, indent=4),
        "".join(json.dumps(each, indent=2) for each in THREE),
        " ".join(map(json.dumps, THREE)),
        "".join("\x1e" + json.dumps(each) + "\n" for each in THREE),
        "\ufeff" + json.dumps(THREE),
        json.dumps({"findings": THREE}, indent=1),
        json.dumps({"Findings": THREE, "NextToken": "x"}),
        json.dumps({"Records": THREE}),
        json.dumps({"source": "x", "detail-type": "y", "detail": {"findings": THREE}}),
    ],
)
@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())])
def test_every_layout_of_json_gives_every_finding_in_order(text, pack):
    assert told(pack(text)) == ["0", "1", "2"]


def test_utf_16_and_several_gzip_members_are_read():
    lines = [json.dumps(each) + "\n" for each in THREE]
    assert told("".join(lines).encode("utf-16")) == ["0", "1", "2"]
    assert told(b"".join(gzip.compress(line.encode()) for line in lines)) == ["0", "1", "2"]


def test_formats_may_be_mixed_in_one_file():
    assert told(json.dumps(THREE[0]) + "\n" + SGUIL + json.dumps(THREE[1])) == ["0", "Bot", "1"]


@pytest.mark.parametrize(
    "broken",
    [
        '{"timestamp": "2007',
        '{"timestamp": ',
        '{"timestamp"',
        "{",
        "garbage",
        '{"severity": NaN}',
        '{"severity": -Infinity}',
        '{"severity": ' + "9" * 5000 + "}",
        '{"a":' * 100_000,
        "[" * 100_000 + "]" * 100_000 + "x",
        '{"unknown": "format"}',
        "\x00\xff\x1b[2J",
    ],
)
def test_a_broken_line_costs_itself_and_is_reported_with_its_number(broken):
    lines = [json.dumps(THREE[0]), broken, json.dumps(THREE[1]), json.dumps(THREE[2])]
    assert told("\n".join(lines)) == ["0", -2, "1", "2"]


def test_a_broken_element_of_a_pretty_printed_array_costs_itself():
    text = json.dumps(THREE, indent=2).replace('"src_port": 2', '"src_port": ,')
    assert told(text) == ["0", -15, "2"]


def test_an_array_that_was_cut_keeps_its_whole_elements_and_says_that_it_was_cut():
    text = json.dumps(THREE, indent=2)
    cut = text[: text.index('"rule 2"')]
    assert [kind if isinstance(kind, str) else "error" for kind in told(cut)] == ["0", "1", "error", "error"]


def test_elements_of_a_list_that_are_no_findings_are_named():
    first, second, third = read_findings(json.dumps({"findings": [THREE[0], 7, {"x": 1}]}).encode(), "file")
    assert isinstance(first, Finding)
    assert "findings[1]: not a JSON object" in str(second)
    assert "findings[2]: a JSON object of no alert format" in str(third)


def test_neighbouring_unreadable_lines_are_one_error_that_names_them_all():
    (error,) = read_findings(b"one\ntwo\nthree\n", "file")
    assert "lines 1 to 3" in str(error)


def test_an_empty_file_has_no_findings_and_no_errors():
    assert told("") == told(" \n\n") == told("[]") == told(gzip.compress(b"")) == []


def test_a_gzip_stream_that_was_cut_gives_what_was_whole_and_an_error():
    data = gzip.compress("\n".join(map(json.dumps, THREE)).encode())
    *_, error = read_findings(data[:-4], "file")
    assert isinstance(error, FindingError)
    assert "cut short" in str(error)
    assert told(data[:-4])[:3] == ["0", "1", "2"]


def test_a_gzip_bomb_is_stopped():
    data = gzip.compress(json.dumps(THREE[0]).encode() + b"\n" + b" " * 10**7)
    finding, error = read_findings(data, "file", limits=Limits(expanded_bytes=10_000))
    assert finding.type == "0"
    assert "more than 10000 expanded bytes" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":\n' * 20_000,
        '{"a":[[],\n' * 20_000,
        ",\n[" * 100_000,
        "{}" * 50_000,
        '{"x":"' + "y" * 10**6 + "\n" * 1000,
        "Count:1 Event#1.1 2007-03-20 18:04:19\n" * 5000,
        " " * 10**6 + "{",
    ],
)
def test_hostile_layouts_take_time_in_proportion_to_their_size(text):
    begin = time.perf_counter()
    list(read_findings(text.encode(), "file"))
    assert time.perf_counter() - begin < 10


def test_a_gzip_of_tiny_members_takes_time_in_proportion_to_its_size():
    begin = time.perf_counter()
    assert told(gzip.compress(b" ") * 100_000) == []
    assert time.perf_counter() - begin < 10


def test_what_lies_behind_a_gzip_stream_is_reported_and_padding_is_not():
    data = gzip.compress(json.dumps(THREE[0]).encode())
    assert told(data + b"\0" * 20_000) == ["0"]
    finding, error = read_findings(data + b"\0" * 20_000 + b"rest", "file")
    assert finding.type == "0"
    assert "4 bytes or more behind the gzip stream" in str(error)


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing(data):
    for finding in read_findings(data, "file"):
        assert isinstance(finding, Finding | FindingError)
        str(finding).encode()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["10.0.0.1", "2001:db8::1", "2007-03-20T18:04:19Z", "TCP", "alert", "NETWORK_CONNECTION"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "type",
                    "arn",
                    "severity",
                    "service",
                    "action",
                    "actionType",
                    "networkConnectionAction",
                    "portProbeAction",
                    "portProbeDetails",
                    "localIpDetails",
                    "ipAddressV4",
                    "localPortDetails",
                    "port",
                    "protocol",
                    "resource",
                    "instanceDetails",
                    "networkInterfaces",
                    "event_type",
                    "alert",
                    "signature_id",
                    "src_ip",
                    "src_port",
                    "flow",
                    "start",
                    "timestamp",
                    "vlan",
                    "packet",
                    "packet_info",
                    "linktype",
                    "detail",
                    "detail-type",
                    "source",
                    "findings",
                    "Findings",
                    "Records",
                    "ProductArn",
                    "AwsAccountId",
                    "Id",
                    "ProductFields",
                    "Action",
                    "firewall_name",
                    "event",
                    "additionalInfo",
                    "value",
                    "count",
                    "eventFirstSeen",
                    "account",
                    "region",
                ]
            ),
            inner,
            max_size=8,
        )
    ),
    max_leaves=30,
)
SHAPES = st.sampled_from(
    [
        {},
        {"event_type": "alert", "alert": {"signature_id": 1}},
        {"id": "x", "type": "t", "severity": 1, "service": {"action": {"actionType": "NETWORK_CONNECTION"}}},
        {"ProductArn": "p", "AwsAccountId": "1", "Id": "x"},
        {"firewall_name": "f", "event": {"event_type": "alert", "alert": {"signature": "s"}}},
    ]
)


@settings(max_examples=150, deadline=None)
@given(SHAPES, st.dictionaries(st.text(max_size=20), JSON, max_size=3), JSON)
def test_arbitrary_json_raises_nothing(shape, extra, value):
    document = {**shape, **extra, **(value if isinstance(value, dict) else {})}
    for finding in read_event(document, "event"):
        assert isinstance(finding, Finding | FindingError)
        str(finding).encode("utf-8", "strict")


def test_lone_surrogates_never_reach_a_finding():
    (finding,) = read_findings(b'{"event_type":"alert","alert":{"signature":"a\\ud800b","signature_id":1}}', "f")
    assert finding.title == "a\ufffdb"
    finding.original.encode()


def test_texts_and_originals_are_bounded():
    alert = {**eve(1), "alert": {"signature": "x" * 10_000, "signature_id": 1}, "payload": "y" * 100_000}
    (finding,) = read_findings(json.dumps(alert).encode(), "f")
    assert len(finding.title) == 500
    assert len(finding.original) == 32768


def test_a_capture_given_as_alerts_gets_one_clear_word():
    packet = ether(tcp("10.0.0.1", 1, "10.0.0.2", 2, "S"))
    (error,) = read_findings(pcap([(10**18 + number, packet) for number in range(50)]), "case.pcap")
    assert isinstance(error, FindingError)
    assert "packet capture" in str(error)
