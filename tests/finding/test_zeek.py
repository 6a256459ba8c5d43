from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backscatter.errors import FindingError
from backscatter.finding.model import End, Tuple
from backscatter.finding.recognise import read_findings

#: As Zeek writes it, values of documentation networks.
NOTICE = {
    "ts": 1709838049.373142,
    "uid": "CPhDKt12KQPUVbQz06",
    "id.orig_h": "192.168.100.164",
    "id.orig_p": 49210,
    "id.resp_h": "198.51.100.226",
    "id.resp_p": 44523,
    "proto": "tcp",
    "note": "AgentTesla::C2_Traffic_Observed",
    "msg": "Potential C2 over FTP data",
    "sub": "payload",
    "src": "192.168.100.164",
    "dst": "198.51.100.226",
    "p": 44523,
    "actions": ["Notice::ACTION_LOG"],
    "email_dest": [],
    "suppress_for": 3600.0,
}
CONNECTION = Tuple("tcp", End("192.168.100.164", 49210), End("198.51.100.226", 44523))
FIELDS = [*NOTICE]
TYPES = ["time", "string", "addr", "port", "addr", "port", "enum", "enum", "string", "string", "addr", "addr", "port"]
TYPES += ["set[enum]", "set[string]", "interval"]


def tsv(notices, separator="\t", sets=",", empty="(empty)", unset="-", path="notice", types=TYPES):
    """The notices as Zeek's ASCII writer has them."""

    def value(notice, name):
        told = notice.get(name)
        if told is None:
            return unset
        if isinstance(told, list):
            return sets.join(map(escaped, told)) or empty
        return escaped(str(told)) or empty

    def escaped(text):
        text = text.replace("\\", "\\\\")
        return text.replace(separator, "".join(f"\\x{byte:02x}" for byte in separator.encode()))

    head = [
        "#separator " + "".join(f"\\x{byte:02x}" for byte in separator.encode()),
        separator.join(("#set_separator", sets)),
        separator.join(("#empty_field", empty)),
        separator.join(("#unset_field", unset)),
        separator.join(("#path", path)),
        separator.join(("#open", "2024-06-10-21-01-38")),
        separator.join(("#fields", *FIELDS)),
        separator.join(("#types", *types)),
    ]
    rows = [separator.join(value(notice, name) for name in FIELDS) for notice in notices]
    return "\n".join((*head, *rows, separator.join(("#close", "2024-06-10-21-01-38")))) + "\n"


def read(text):
    return list(read_findings(text.encode(), "notice.log"))


def one(text):
    (finding,) = read(text)
    assert not isinstance(finding, FindingError), finding
    return finding


@pytest.mark.parametrize("text", [json.dumps(NOTICE), tsv([NOTICE])], ids=["json", "tsv"])
def test_a_notice_is_read_in_either_form(text):
    finding = one(text)
    assert (finding.source, finding.type) == ("zeek", "AgentTesla::C2_Traffic_Observed")
    assert finding.tuples == (CONNECTION,)
    assert finding.title == "Potential C2 over FTP data: payload"
    assert finding.first_seen == finding.last_seen == 1709838049_373142000
    assert finding.original in text


def test_both_forms_have_the_same_id():
    assert one(json.dumps(NOTICE)).id == one(tsv([NOTICE])).id


def test_times_may_be_texts():
    assert one(json.dumps({**NOTICE, "ts": "2024-03-07T19:00:49.373142Z"})).first_seen == 1709838049_373142000


TEXTS = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=10)


@settings(max_examples=60)
@given(
    st.sampled_from(["\t", ",", "|", "::", " "]),
    st.sampled_from([",", ";", "/"]),
    st.sampled_from(["(empty)", "EMPTY"]),
    st.sampled_from(["-", "UNSET"]),
    st.sets(st.sampled_from(["uid", "id.orig_p", "sub", "src", "p", "proto"])),
    TEXTS,
)
def test_a_log_of_any_header_is_read_by_it(separator, sets, empty, unset, left_out, message):
    if message in (empty, unset):
        return  # Zeek escapes these too, but not alike in all its versions
    if separator == "::" and message.endswith(":"):
        return  # nobody can tell where the field ends
    notice = {name: told for name, told in NOTICE.items() if name not in left_out} | {"msg": message}
    text = tsv([notice, notice], separator, sets, empty, unset)
    first, second = read(text)
    assert first.tuples == second.tuples == one(json.dumps(notice)).tuples
    assert first.title == one(json.dumps(notice)).title
    assert first.id == one(json.dumps(notice)).id


def test_what_zeek_escapes_is_spelled_out():
    assert one(tsv([{**NOTICE, "msg": "a\tb", "sub": None}])).title == "a\tb"
    plain = tsv([{**NOTICE, "msg": "MESSAGE", "sub": None}])
    assert one(plain.replace("MESSAGE", "\\xc3\\xa9")).title == "\u00e9"
    assert one(plain.replace("MESSAGE", "\\xff\\\\x41")).title == "\u00ff\\x41"


def test_an_empty_field_is_empty_and_an_unset_one_is_none():
    assert one(tsv([{**NOTICE, "msg": "", "sub": None}])).title == NOTICE["note"]


@pytest.mark.parametrize(
    ("changes", "tuples"),
    [
        ({"src": "192.0.2.1", "dst": "10.0.0.5", "p": 80}, (Tuple("tcp", End("192.0.2.1"), End("10.0.0.5", 80)),)),
        ({"src": "192.0.2.1", "dst": None, "p": "80/tcp"}, (Tuple("tcp", End("192.0.2.1"), End(None, 80)),)),
        ({"src": None, "dst": None, "p": None}, ()),
    ],
)
def test_a_notice_without_a_connection_tells_the_hosts_that_it_names(changes, tuples):
    without = dict.fromkeys(("uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p"))
    for text in (json.dumps({**NOTICE, **without, **changes}), tsv([{**NOTICE, **without, **changes}])):
        finding = one(text)
        assert finding.tuples == tuples
        assert finding.is_network


def test_icmp_has_type_and_code_where_others_have_ports_and_one_name_for_both_families():
    six = {"id.orig_h": "2001:db8::5", "id.resp_h": "2001:db8::1", "id.orig_p": 128, "id.resp_p": 129, "proto": "icmp"}
    assert one(json.dumps({**NOTICE, **six})).tuples == (Tuple("icmp6", End("2001:db8::5"), End("2001:db8::1")),)


def test_a_row_that_does_not_fit_its_header_costs_itself():
    lines = tsv([NOTICE, NOTICE, NOTICE]).split("\n")
    lines[9] = "torn\trow"
    first, error, last = read("\n".join(lines))
    assert (error.line, error.lines) == (10, 1)
    assert "a row of 2 fields in a Zeek log of 16" in str(error)
    assert first.tuples == last.tuples == (CONNECTION,)


def test_rows_of_other_logs_are_told_each():
    errors = read(tsv([NOTICE, NOTICE], path="conn"))
    assert [error.line for error in errors] == [9, 10]
    assert "Zeek's 'conn' log" in str(errors[0])


def test_logs_behind_each_other_and_other_formats_between_them_are_read():
    eve = {"event_type": "alert", "alert": {"signature_id": 7}, "src_ip": "10.0.0.1", "dest_ip": "10.0.0.2"}
    text = tsv([NOTICE]) + json.dumps(eve) + "\n" + tsv([NOTICE], "|") + json.dumps(NOTICE)
    assert [finding.source for finding in read(text)] == ["zeek", "suricata", "zeek", "zeek"]
    rows = tsv([NOTICE, NOTICE]).replace("\n1709", "\n" + json.dumps(eve) + "\n1709")
    assert [finding.source for finding in read(rows)] == ["suricata", "zeek", "suricata", "zeek"]


def test_a_broken_object_among_rows_costs_its_line_only():
    rows = tsv([NOTICE, NOTICE]).replace("\n1709", '\n{"broken\n1709')
    kinds = [type(one).__name__ for one in read(rows)]
    assert kinds == ["FindingError", "Finding", "FindingError", "Finding"]


def test_rows_behind_the_end_of_a_log_are_no_rows_of_it():
    finding, error = read(tsv([NOTICE]) + "1709838049.0\tx\n")
    assert finding.source == "zeek"
    assert "no alert of a format that we read" in str(error)


def test_real_notices_are_all_read(captures):
    path = captures / "alerts" / "zeek__test9-mixed-zeek-dir-notice.log"
    lines = path.read_text().splitlines()
    findings = list(read_findings(path.read_bytes(), path.name))
    assert [finding.title for finding in findings] == [json.loads(line)["msg"] for line in lines]
    assert all(finding.tuples[0].b.ip is None for finding in findings)
