"""`backscatter floods`, run as people run it."""

from __future__ import annotations

import json
import re

import pytest
from tests.cli import case
from tests.cli.schema import TIME
from tests.flood.made import answered, whole

from backscatter.demo.wire import pcap

NUMBER = (int, float)

FLOOD = {
    "victim": str, "proto": str, "ports": list, "ports_total": int, "first": TIME, "last": TIME, "seconds": NUMBER,
    "addresses": int, "examples": list, "conversations": dict, "unproven": dict, "packets": int, "answers": int,
    "rate": (*NUMBER, type(None)), "estimate": (dict, type(None)), "labels": list, "tools": list,
    "ttl": (dict, type(None)), "timeline": dict,
}  # fmt: skip


@pytest.fixture
def capture(tmp_path):
    return case.write(tmp_path / "day.pcap", case.day())


@pytest.fixture
def two(tmp_path):
    """A capture of two floods, one of them of an IPv6 host."""
    tape = whole("10.0.0.5", "fd00::5")
    for number in range(4):
        answered(tape, 300 + number, victim="198.51.100.7", our_port=4000 + number, ack=number * 90000 + 7)
    answered(tape, 320, victim="2001:db8::7", ours="fd00::5")
    path = tmp_path / "two.pcap"
    path.write_bytes(pcap(sorted(tape.records)))
    return str(path)


def objects(out: bytes) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_the_record_of_the_2007_case(capture):
    code, out, err = case.run("floods", capture, "--home", case.LOCAL, "--json")
    assert (code, err) == (0, "")
    (flood,) = objects(out)
    assert list(flood) == list(FLOOD)
    for name, kind in FLOOD.items():
        assert kind.fullmatch(flood[name]) if isinstance(kind, re.Pattern) else isinstance(flood[name], kind), name
    assert flood["victim"] == case.REMOTE
    assert flood["ports"] == [{"port": 6667, "answers": 2}]
    assert flood["estimate"]["packets_per_second"] == pytest.approx(1.08e6, rel=0.005)
    assert (flood["estimate"]["addresses"], flood["estimate"]["addresses_from"]) == (1, "home")
    assert flood["tools"] == ["juno.c"]
    assert sum(flood["timeline"]["answers"]) == 2


def test_one_flood_is_told_in_full(capture):
    code, out, _ = case.run("floods", capture)
    text = " ".join(out.decode().split())
    assert code == 0
    assert "193.109.122.67 was flooded (tcp)" in text
    assert "about 1.08M packets/s, 95 % interval 130k to 3.89M" in text
    assert "those that any flood hit" in text
    assert "juno.c" in text


def test_several_floods_are_a_table_of_those_with_most_answers_first(two):
    code, out, _ = case.run("floods", two)
    lines = out.decode().splitlines()
    assert code == 0
    assert lines[0].split()[:3] == ["VICTIM", "PROTO", "PORTS"]
    assert [line.split()[0] for line in lines[1:]] == ["198.51.100.7", "2001:db8::7"]
    assert "█" in lines[1]


def test_victims_can_be_chosen(two):
    _, out, _ = case.run("floods", two, "--victim", "2001:db8::/32", "--json")
    assert [flood["victim"] for flood in objects(out)] == ["2001:db8::7"]
    assert objects(out)[0]["estimate"] is None


def test_what_is_not_proven_is_told_and_counted_when_asked_for(tmp_path):
    capture = case.write(tmp_path / "pairs.pcap", case.pairs())
    code, out, err = case.run("floods", capture, "--json")
    assert (code, out) == (0, b"")
    assert "2 conversations more look like backscatter and are not proven" in err
    assert "no floods" in err
    code, out, err = case.run("floods", capture, "--json", "--unproven")
    assert (code, err, objects(out)[0]["answers"]) == (0, "", 2)
    assert objects(out)[0]["unproven"] == {"look_back": 1, "one_way": 2}
    _, out, _ = case.run("floods", capture, "--unproven")
    assert "1 conversation, counted above: too little unbroken capture" in " ".join(out.decode().split())


def test_a_victim_with_proven_answers_says_which_others_are_not_counted(tmp_path):
    tape = whole("10.0.0.5")
    answered(tape, 2, victim="198.51.100.7", our_port=4000)
    answered(tape, 300, victim="198.51.100.7", our_port=4001)
    path = tmp_path / "one.pcap"
    path.write_bytes(pcap(sorted(tape.records)))
    _, out, _ = case.run("floods", str(path))
    assert "1 conversation, alike but not counted: too little unbroken capture" in " ".join(out.decode().split())


def test_a_time_that_ends_before_it_begins_is_refused(two):
    code, out, err = case.run("floods", two, "--since", "2007-03-21T00:00:00Z", "--until", "2007-03-20T00:00:00Z")
    assert (code, out) == (2, b"")
    assert "--since is later than --until" in err


def test_the_page_draws_each_flood_and_loads_nothing(two, tmp_path):
    code, _, err = case.run("floods", two, "--report", str(tmp_path / "pages"))
    page = (tmp_path / "pages" / "floods.html").read_text(encoding="utf-8")
    assert code == 0
    assert "floods.html" in err
    assert page.count("<svg") == 2
    assert page.count("<rect") >= 2
    assert "198.51.100.7" in page
    assert not re.search(r"(?i)<script|https?://|src=|url\(", page)


def test_no_flood_is_no_error(tmp_path):
    capture = case.write(tmp_path / "calm.pcap", case.session())
    assert case.run("floods", capture) == (0, b"", "no floods\n")
