from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.report.cases import BACKSCATTER, FINDING, HOSTILE, RST, SYNACK, hostile, told_as

from backscatter.finding.model import End
from backscatter.report.ladder import LOCAL_X, MOST_RUNGS, REMOTE_X, ladder
from backscatter.report.page import page, page_name
from backscatter.verdict.model import Effect, Evidence, Label, PacketLine, Why
from backscatter.verdict.words import duration


class Outline(HTMLParser):
    """Which elements and attributes a page has, and whether every element is closed."""

    void = frozenset({"meta", "line", "path", "circle", "br"})

    def __init__(self, html):
        super().__init__()
        self.open, self.names, self.attributes, self.words = [], set(), [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("verdict", [told_as(label) for label in Label] + [hostile(HOSTILE)])
def test_a_page_is_well_formed_and_loads_nothing_from_anywhere(verdict):
    outline = Outline(page(verdict))
    assert outline.open == []
    assert not outline.names & {"script", "link", "img", "iframe", "object", "embed", "form", "a", "base", "image"}
    assert not {name for name, _ in outline.attributes} & {"src", "href", "onload", "onclick", "xlink:href"}
    assert "url(" not in page(verdict)
    assert "@import" not in page(verdict)


def test_hostile_text_stays_text():
    html = page(hostile(HOSTILE))
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "\x1b" not in html
    assert "\u202e" not in html


def test_a_page_shows_verdict_evidence_packets_and_flows():
    words = " ".join(" ".join(Outline(page(BACKSCATTER)).words).split())
    for told in (
        "Backscatter",
        "confirmed, 97 of 99, rule R4",
        "193.109.122.67, port 6667 (tcp)",
        "What speaks against it",
        "What is missing",
        "2007-03-20 18:04:19.731091000",
        "s3://captures/edge/2007-03-20-18.pcap, byte 24",
        "REJ",
        "1.204541",
    ):
        assert told in words


def test_a_verdict_without_packets_flows_and_addresses_has_a_page():
    bare = replace(
        told_as(Label.UNDETERMINED, why=Why.NO_TUPLE, confidence=0, rule="R18"),
        local=End(),
        remote=End(),
        proto=None,
        evidence=(),
        flows=BACKSCATTER.flows.select(BACKSCATTER.flows.rows["proto"] == 0),
        flows_total=0,
    )
    html = page(bare)
    assert "<svg" not in html
    assert "No evidence was recorded." in html


def test_arrows_go_from_sender_to_receiver_in_the_order_of_time():
    drawn = ladder(BACKSCATTER)
    assert [(rung.x1, rung.x2) for rung in drawn.rungs] == [(REMOTE_X, LOCAL_X), (LOCAL_X, REMOTE_X)] * 2
    assert [rung.label for rung in drawn.rungs] == ["SYN+ACK", "RST"] * 2
    assert drawn.rungs[0].numbers == "seq 4257997451  ack 2934031229"
    assert [(rung.local_port, rung.remote_port) for rung in drawn.rungs] == [("1024", "6667")] * 2 + [
        ("3072", "6667")
    ] * 2
    assert [rung.gap for rung in drawn.rungs] == ["", "", "2 h 12 min later", ""]
    assert [rung.time for rung in drawn.rungs] == ["0", "+338 µs", "0", "+352 µs"]
    assert sorted(rung.y for rung in drawn.rungs) == [rung.y for rung in drawn.rungs]


def seen(*packets, **changes):
    return ladder(replace(BACKSCATTER, evidence=(Evidence(Effect.FOR, "x", packets=packets),), **changes))


def test_packets_of_a_translated_host_are_drawn_by_their_remote():
    (rung,) = seen(replace(RST, text=RST.text.replace("69.143.202.28", "10.0.0.5"))).rungs
    assert (rung.x1, rung.x2) == (LOCAL_X, REMOTE_X)


def test_ipv6_icmp_and_tunnelled_packets_are_drawn():
    ends = {"local": End("2001:db8::1", 1024), "remote": End("2001:db8::2", 443)}
    (rung,) = seen(
        replace(SYNACK, text="IP6 2001:db8::2.443 > 2001:db8::1.1024: Flags [S.], seq 1, ack 2, length 0"), **ends
    ).rungs
    assert (rung.x1, rung.x2, rung.local_port, rung.remote_port) == (REMOTE_X, LOCAL_X, "1024", "443")
    (rung,) = seen(
        replace(
            SYNACK,
            text="vxlan 7 IP 10.0.0.1.4 > 10.0.0.2.4789: IP 193.109.122.67 > 69.143.202.28: ICMP echo reply, id 1",
        )
    ).rungs
    assert (rung.x1, rung.x2, rung.local_port) == (REMOTE_X, LOCAL_X, "")
    assert rung.label == "ICMP echo reply, id 1"
    (rung,) = seen(replace(SYNACK, text="IP 192.0.2.1.1 > 192.0.2.2.2: UDP, length 3")).rungs
    assert rung.x1 == rung.x2


def test_a_long_ladder_is_cut_and_says_so():
    packets = tuple(PacketLine(SYNACK.time + number, SYNACK.text, SYNACK.capture, number) for number in range(100))
    drawn = seen(*packets)
    assert (len(drawn.rungs), drawn.more) == (MOST_RUNGS, 100 - MOST_RUNGS)


@pytest.mark.parametrize(
    ("nanoseconds", "words"),
    [
        (0, "0 ns"),
        (338_000, "338 µs"),
        (4_200_000_000, "4.2 s"),
        (61 * 10**9, "1 min 1 s"),
        (7975 * 10**9, "2 h 12 min"),
    ],
)
def test_spans_are_told_in_the_unit_that_a_person_would_choose(nanoseconds, words):
    assert duration(nanoseconds) == words


def test_a_page_s_name_is_safe_and_tells_findings_apart():
    names = {
        page_name(replace(BACKSCATTER, finding=replace(FINDING, id=finding_id, updated=updated)))
        for finding_id, updated in [
            ("../../etc/passwd", ""),
            ("..\\x\0y", ""),
            ("é" * 300, ""),
            ("", ""),
            ("1", "a"),
            ("1", "b"),
        ]
    }
    assert len(names) == 6
    for name in names:
        assert re.fullmatch(r"[a-z][A-Za-z0-9_-]{1,120}\.html", name)
    assert page_name(BACKSCATTER) == page_name(BACKSCATTER)
