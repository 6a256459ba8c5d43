"""Mail, chat message, attributes and the terminal's text."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report.cases import BACKSCATTER, FINDING, HOSTILE, SYNACK, hostile, told_as

from backscatter.finding.model import End, Tuple
from backscatter.report import advice, text
from backscatter.report.attributes import attributes
from backscatter.report.chat import DESCRIPTION_CHARS, TITLE_CHARS, chat_message, thread_id
from backscatter.report.mail import mail
from backscatter.verdict.model import Effect, Evidence, Label, Why

EVERY = [told_as(label) for label in Label if label is not Label.UNDETERMINED] + [
    told_as(Label.UNDETERMINED, why=why, confidence=0) for why in Why
]


def test_the_mail_of_2007_says_what_verdict_why_victim_and_what_to_do():
    told = mail(BACKSCATTER, revision="rev-7")
    assert told.subject.startswith("Backscatter (confirmed): 69.143.202.28:1024 / 193.109.122.67:6667")
    lines = told.body.splitlines()
    assert lines[0] == "BACKSCATTER (confirmed, 97 of 99, rule R4)"
    order = [
        told.body.index(label) for label in ("Alert  ", "Verdict  ", "Why  ", "Victim  ", "What to do  ", "Revision")
    ]
    assert order == sorted(order)
    assert "193.109.122.67:6667 (tcp)" in told.body
    assert "2007-03-20 18:04:19.731091000  IP 193.109.122.67.6667 > 69.143.202.28.1024: Flags [S.]" in told.body
    assert "byte 24" in told.body
    assert "rev-7" in lines[-1]


@pytest.mark.parametrize("verdict", EVERY, ids=lambda verdict: f"{verdict.label}-{verdict.why}")
def test_every_verdict_has_a_headline_a_meaning_and_a_step(verdict):
    told = mail(verdict)
    assert told.body.startswith(advice.ADVICE[verdict.label].headline.upper())
    assert "What to do  1. " in told.body
    assert 0 < len(told.subject) <= 99
    assert chat_message(verdict)["content"]["nextSteps"]
    if verdict.why:
        assert advice.steps(verdict)[0] == advice.MISSING[verdict.why]


def test_only_confirmed_backscatter_says_that_nothing_needs_doing():
    assert "No action" in mail(BACKSCATTER).body
    likely = mail(replace(BACKSCATTER, confidence=94))
    assert "No action" not in likely.body
    assert "likely, not proven" in " ".join(likely.body.split())
    assert "Verdict     Most likely: Somebody flooded" in likely.body
    possible = mail(replace(BACKSCATTER, confidence=60))
    assert "keep the alert open" in possible.body
    assert "Verdict     Possibly: Somebody flooded" in possible.body
    for verdict in EVERY:
        if verdict.label is not Label.BACKSCATTER:
            assert "Close the alert" not in mail(verdict).body


@pytest.mark.parametrize("label", advice.REAL)
def test_backscatter_that_turns_real_says_so_in_the_first_line(label):
    told = mail(told_as(label), previous="backscatter")
    assert told.body.splitlines()[0].startswith("CORRECTION: ")
    assert "treat it as real" in told.body.splitlines()[0]
    assert told.subject.startswith("CORRECTION: ")
    message = chat_message(told_as(label), previous="backscatter")
    assert message["content"]["title"].startswith("CORRECTION")
    assert message["content"]["description"].splitlines()[0].startswith("*CORRECTION")


def test_a_verdict_that_stays_or_is_the_first_corrects_nothing():
    assert mail(BACKSCATTER, previous="backscatter") == mail(BACKSCATTER)
    assert mail(BACKSCATTER, previous="undetermined").body.startswith("This changes an earlier verdict, which was: not")
    assert "CORRECTION" in mail(told_as(Label.UNDETERMINED, why=Why.CONFLICT), previous="backscatter").body


@pytest.mark.parametrize("confidence", [50, 75, 95])
def test_what_alarms_is_never_hedged(confidence):
    real = told_as(Label.CONNECTION_ESTABLISHED, confidence=confidence)
    assert "Verdict     Our host and the remote really exchanged traffic." in mail(real).body


def test_a_sample_is_marked_everywhere():
    sample = replace(BACKSCATTER, finding=replace(FINDING, sample=True))
    told = mail(sample)
    assert told.subject.startswith("SAMPLE: ")
    assert "SAMPLE" in told.body
    assert chat_message(sample)["content"]["title"].startswith("SAMPLE: ")
    assert attributes(sample)["sample"] == "true"


def test_hostile_text_does_not_get_out_of_a_mail():
    told = mail(hostile(HOSTILE))
    assert all(" " <= letter <= "~" for letter in told.subject)
    assert len(told.subject) <= 99
    assert "\x1b" not in told.body
    assert "\u202e" not in told.body
    assert "\r" not in told.body
    assert not any(line.startswith("Subject:") for line in told.body.splitlines())


def test_hostile_text_does_not_get_out_of_a_chat_message():
    message = json.dumps(chat_message(hostile(HOSTILE)), ensure_ascii=False)
    for control in ("\x1b", "\u202e", r"\u001b"):
        assert control not in message
    content = chat_message(hostile(HOSTILE))["content"]
    shown = "\n".join([content["title"], content["description"], *content["nextSteps"]])
    for live in ("<!", "<script", "@here", "http://evil"):
        assert live not in shown
    # Between back quotes nothing is markup; outside of them there must be none but ours, at the head of a line.
    outside = re.sub(r"`[^`\n]*`", "", shown)
    assert "`" not in outside
    assert {line.count("*") for line in outside.splitlines()} <= {0, 2}


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(), max_size=300))
def test_whatever_an_alert_says_every_notice_can_be_made_and_sent(words):
    verdict = hostile(words)
    told = mail(verdict, revision=words)
    told.body.encode()
    assert set("\r\x1b\x00") & set(told.body) == set()
    json.dumps(chat_message(verdict, revision=words)).encode()
    assert all(value.strip() for value in attributes(verdict).values())


def test_a_mail_with_more_evidence_than_sns_takes_is_cut_and_says_so():
    line = replace(SYNACK, text="x" * 5000, capture="é" * 5000)
    pieces = tuple(Evidence(Effect.FOR, "€" * 5000, packets=(line,) * 500) for _ in range(500))
    told = mail(
        replace(BACKSCATTER, evidence=pieces, finding=replace(FINDING, title="T" * 10_000, notes=("n" * 999,) * 99))
    )
    assert len(told.body.encode()) <= 250_000
    assert "more lines of evidence are cut here" in told.body
    assert "Finding     1.204541" in told.body


def test_the_chat_message_is_of_the_schema_that_is_not_dropped():
    message = chat_message(BACKSCATTER, revision="rev-7")
    assert list(message) == ["version", "source", "content", "metadata"]
    assert (message["version"], message["source"]) == ("1.0", "custom")
    assert list(message["content"]) == ["textType", "title", "description", "nextSteps", "keywords"]
    assert message["content"]["textType"] == "client-markdown"
    assert list(message["metadata"]) == ["threadId", "summary", "eventType", "relatedResources", "additionalContext"]
    for name, value in message["metadata"]["additionalContext"].items():
        assert isinstance(name, str)
        assert isinstance(value, str)
        assert value
    for field in ("nextSteps", "keywords"):
        assert all(isinstance(value, str) and value for value in message["content"][field])
    assert "193.109.122.67" in message["content"]["description"]


def test_a_chat_message_keeps_its_bounds_and_whole_lines():
    line = replace(SYNACK, text="x" * 5000)
    pieces = tuple(Evidence(Effect.FOR, "&" * 5000, packets=(line,) * 50) for _ in range(50))
    message = chat_message(replace(BACKSCATTER, evidence=pieces, finding=replace(FINDING, title="&" * 5000)))
    description = message["content"]["description"]
    assert len(description) <= DESCRIPTION_CHARS
    assert description.splitlines()[-1] == "The rest is cut: see the mail or the record."
    assert all(row.count("`") % 2 == 0 for row in description.splitlines())
    assert len(message["content"]["title"]) <= TITLE_CHARS


def test_alerts_about_one_remote_and_verdict_share_a_thread():
    other_alert = replace(BACKSCATTER, finding=replace(FINDING, id="other"), local=End("69.143.202.29", 3072))
    assert thread_id(other_alert) == thread_id(BACKSCATTER)
    assert thread_id(replace(BACKSCATTER, remote=End("193.109.122.67", 6668))) != thread_id(BACKSCATTER)
    assert thread_id(told_as(Label.CONNECTION_ESTABLISHED)) != thread_id(BACKSCATTER)
    nobody = replace(BACKSCATTER, remote=End())
    assert thread_id(nobody) != thread_id(replace(nobody, finding=replace(FINDING, id="other")))


def test_attributes_are_all_there_and_never_empty():
    assert attributes(BACKSCATTER) == {
        "label": "backscatter",
        "why": "none",
        "band": "confirmed",
        "rule": "R4",
        "severity": "unknown",
        "source": "sguil",
        "sample": "false",
        "account": "unknown",
        "region": "unknown",
    }
    finding = replace(FINDING, severity=8.5, account="123456789012", region="eu-central-1")
    told = attributes(replace(BACKSCATTER, finding=finding))
    assert (told["severity"], told["account"], told["region"]) == ("8.5", "123456789012", "eu-central-1")


def test_an_ipv6_end_with_a_port_stands_in_brackets():
    assert text.end_text(End("2001:db8::1", 443)) == "[2001:db8::1]:443"
    assert text.end_text(End("2001:db8::1")) == "2001:db8::1"
    assert text.end_text(End()) == "unknown"


def test_the_terminal_s_view_names_evidence_against_and_missing():
    lines = text.detail(BACKSCATTER)
    assert "What speaks against it" in lines
    assert "What is missing" in lines
    assert max(len(line) for line in lines if "  IP " not in line) <= 78


def test_several_kinds_of_conversations_are_counted():
    mixed = replace(BACKSCATTER, conversations={"connection_established": 1, "backscatter": 4})
    assert "5 conversations: 1 connection established, 4 backscatter; the most dangerous decides" in " ".join(
        mail(mixed).body.split()
    )


def test_where_the_alerts_packet_is_and_how_it_came_is_told():
    tunnel = Tuple("udp", End("172.16.0.1", 4789), End("172.16.0.2", 4789))
    about = replace(FINDING, pcap_cnt=149, capture_file="log.pcap\n.1", tunnel=tunnel)
    body = " ".join(mail(replace(BACKSCATTER, finding=about)).body.split())
    assert "Its packet number 149 of log.pcap" in body
    assert "came through udp 172.16.0.1:4789 > 172.16.0.2:4789" in body
    assert "Its packet" not in mail(BACKSCATTER).body
