"""From findings to verdicts: who is local, which conversations are meant, which of them decides."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.verdict.scenarios.shown import shown
from tests.verdict.tape import ISN, LOCAL, PORT, REMOTE, SERVICE, Tape, alert

from backscatter.demo.wire import tcp
from backscatter.finding.model import AlertedPacket, End, Tuple
from backscatter.report.mail import mail
from backscatter.report.page import page
from backscatter.report.record import verdict_record
from backscatter.report.text import detail
from backscatter.verdict.judge import judge
from backscatter.verdict.model import Effect, Label, Why
from backscatter.verdict.packets import packets_wanted
from backscatter.verdict.settings import Settings

if TYPE_CHECKING:
    import random

PUBLIC = "203.0.113.200"


@pytest.fixture
def tape() -> Tape:
    return Tape().ordinary(0, 600)


def test_the_most_dangerous_conversation_decides_and_all_are_counted(tape):
    tape.backscatter(300).connection(310, LOCAL, 41000, REMOTE, 443)
    verdict = tape.judged(alert(local=End(LOCAL), remote=End(REMOTE)))
    assert verdict.label is Label.CONNECTION_ESTABLISHED
    assert verdict.conversations == {"connection_established": 1, "undetermined": 1}


def test_the_conversations_of_a_finding_are_listed_with_their_own_verdicts(tape):
    tape.backscatter(300).connection(310, LOCAL, 41000, REMOTE, 443)
    verdict = tape.judged(alert(local=End(LOCAL), remote=End(REMOTE)))
    first, second = verdict.judged
    assert (first.label, first.rule, first.remote) == (Label.CONNECTION_ESTABLISHED, "R1", End(REMOTE, 443))
    assert (second.label, second.rule, second.packets) == (Label.UNDETERMINED, "R19", 2)
    assert any("R4 (backscatter, 97) fits the conversation itself" in text for text in second.missing)
    text = "\n".join(detail(verdict))
    assert "10.0.0.5:41000 and 198.51.100.9:443, 15 packets: connection" in " ".join(text.split())
    assert "Conversations" in page(verdict)
    assert [one["rule"] for one in verdict_record(verdict)["judged"]] == ["R1", "R19"]
    assert "Conversations" not in "\n".join(detail(tape.judged()))


def test_an_error_of_a_router_is_told_to_speak_of_the_host_behind_it():
    verdict = shown("victim_unreachable_by_its_router")
    assert (verdict.rule, verdict.remote.ip, verdict.victim.ip) == ("R8", "198.51.100.1", "198.51.100.9")
    assert "198.51.100.9" in verdict.summary
    assert "198.51.100.1 " not in verdict.summary


def test_a_long_list_of_conversations_is_cut_and_counted(tape):
    for number in range(50):
        tape.backscatter(300 + number, port=1100 + number)
    verdict = tape.judged(alert(300, until=360, local=End(LOCAL), remote=End(REMOTE)))
    assert len(verdict.judged) == 30
    assert "and 20 more" in "\n".join(detail(verdict))
    assert "and 20 more" in mail(verdict).body


def test_conversations_of_one_kind_are_as_sure_as_the_least_sure(tape):
    tape.backscatter(300).synack(310, port=41000)
    verdict = tape.judged(alert(local=End(LOCAL), remote=End(REMOTE)))
    assert (verdict.label, verdict.rule) == (Label.BACKSCATTER, "R6")
    assert verdict.conversations == {"backscatter": 2}


def test_an_alias_joins_the_finding_s_public_address_to_the_private_one_of_the_capture(tape):
    finding = alert(local=End(PUBLIC, PORT), tuples=(Tuple("tcp", End(PUBLIC, PORT), End(REMOTE, SERVICE)),))
    tape.backscatter(300)
    assert tape.judged(finding, settings=Settings()).why is Why.NO_CAPTURE
    verdict = tape.judged(finding, settings=Settings(aliases=((PUBLIC, LOCAL),)))
    assert (verdict.label, verdict.rule, verdict.local.ip) == (Label.BACKSCATTER, "R4", PUBLIC)


def test_a_finding_s_own_aliases_count_too(tape):
    about = Tuple("tcp", End(PUBLIC, PORT), End(REMOTE, SERVICE))
    verdict = tape.backscatter(300).judged(alert(tuples=(about,), aliases=((PUBLIC, LOCAL),)))
    assert verdict.label is Label.BACKSCATTER


def test_the_side_at_home_is_local_whichever_way_the_alert_s_packet_went(tape):
    tape.backscatter(300)
    forth = tape.judged()
    back = tape.judged(alert(tuples=(Tuple("tcp", End(REMOTE, SERVICE), End(LOCAL, PORT)),)))
    assert (back.label, back.local, back.remote) == (forth.label, forth.local, forth.remote)


def test_where_nobody_is_at_home_the_finding_s_resource_is_local(tape):
    nowhere = Settings(home=(ipaddress.ip_network("192.0.2.0/30"),))
    about = Tuple("tcp", End(LOCAL, PORT), End(REMOTE, SERVICE), resource="a")
    verdict = tape.backscatter(300).judged(alert(tuples=(about,)), settings=nowhere)
    assert (verdict.label, verdict.local.ip) == (Label.BACKSCATTER, LOCAL)


def test_where_nobody_says_who_is_local_the_more_dangerous_reading_holds(tape):
    nowhere = Settings(home=(ipaddress.ip_network("192.0.2.0/30"),))
    verdict = tape.connection(300, REMOTE, SERVICE, LOCAL, PORT).judged(settings=nowhere)
    assert (verdict.label, verdict.local.ip) == (Label.CONNECTION_ESTABLISHED, REMOTE)


def test_of_two_readings_only_the_one_that_holds_is_counted(tape):
    nowhere = Settings(home=(ipaddress.ip_network("192.0.2.0/30"),))
    verdict = tape.connection(300, REMOTE, SERVICE, LOCAL, PORT).judged(settings=nowhere)
    assert verdict.conversations == {"connection_established": 1}


def test_a_tuple_that_a_finding_names_twice_is_counted_once(tape):
    about = Tuple("tcp", End(LOCAL, PORT), End(REMOTE, SERVICE))
    verdict = tape.backscatter(300).judged(alert(tuples=(about, about)))
    assert verdict.conversations == {"backscatter": 1}


def test_a_finding_about_no_conversation_is_not_applicable(tape):
    verdict = tape.judged(alert(is_network=False))
    assert (verdict.label, verdict.confidence, verdict.rule) == (Label.NOT_APPLICABLE, 0, None)


@pytest.mark.parametrize(
    ("packet", "ours", "words"),
    [
        (AlertedPacket(flags=4, seq=2934031229, ack=0), True, "half-open scan"),
        (AlertedPacket(flags=20, seq=0, ack=7), True, "closed port answers"),
        (AlertedPacket(flags=20, seq=0, ack=7), False, "answered a SYN with seq 6"),
        (AlertedPacket(flags=20, seq=9, ack=7), True, "abort of a real connection"),
        (AlertedPacket(flags=18, seq=9, ack=7), False, "whether it sent a SYN decides"),
        (AlertedPacket(flags=2, seq=9, ack=0), True, "our host tried to connect"),
        (AlertedPacket(flags=2, seq=9, ack=0), False, "the remote tried to connect"),
        (AlertedPacket(flags=4, seq=9, ack=0), False, ""),
        (AlertedPacket(flags=16, seq=9, ack=7), True, ""),
    ],
    ids=["our rst", "our closed port", "their closed port", "abort", "synack", "our syn", "syn", "their rst", "ack"],
)
def test_the_alert_s_own_header_is_a_hint_where_nothing_was_captured(tape, packet, ours, words):
    ends = (End(LOCAL, PORT), End(REMOTE, SERVICE))
    about = Tuple("tcp", *(ends if ours else ends[::-1]))
    verdict = tape.judged(alert(100_000, packet=packet, tuples=(about,)))
    assert (verdict.label, verdict.why, verdict.confidence) == (Label.UNDETERMINED, Why.NO_CAPTURE, 0)
    told = " ".join(evidence.text for evidence in verdict.evidence)
    assert words in told if words else "own packet" not in told


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (280, "captured 20 s after the alert's time: its clock runs behind the capture's"),
        (330, "captured 30 s before the alert's time: its clock runs ahead of the capture's"),
        (299, ""),
    ],
    ids=["behind", "ahead", "together"],
)
def test_clocks_that_differ_are_told_and_change_nothing(tape, time, words):
    shown = AlertedPacket(flags=4, seq=ISN, ack=0)
    verdict = tape.backscatter(300).judged(alert(time, packet=shown))
    plain = tape.judged(alert(time))
    assert (verdict.label, verdict.rule, verdict.confidence) == (plain.label, plain.rule, plain.confidence)
    told = [evidence.text for evidence in verdict.evidence if "clock" in evidence.text]
    assert (words in told[0]) if words else not told


def test_evidence_points_at_the_packets_that_decided(tape):
    verdict = tape.backscatter(300).judged()
    wanted = packets_wanted([verdict])
    assert list(wanted) == ["piece-0.pcap"]
    assert len(wanted["piece-0.pcap"]) == 2
    assert verdict.evidence[0].effect is Effect.FOR


def test_a_verdict_carries_at_most_a_hundred_flows_and_says_how_many_there_were(tape):
    for number in range(150):
        tape.backscatter(300 + number, port=1100 + number)
    verdict = tape.judged(alert(300, until=460, local=End(LOCAL), remote=End(REMOTE)))
    assert (len(verdict.flows), verdict.flows_total) == (100, 150)
    assert verdict.conversations == {"backscatter": 150}


def test_conversations_that_are_too_many_to_judge_are_never_harmless(tape, monkeypatch):
    monkeypatch.setattr("backscatter.verdict.judge.MOST_CONVERSATIONS", 3)
    for number in range(5):
        tape.backscatter(300 + number, port=1100 + number)
    verdict = tape.judged(alert(300, until=310, local=End(LOCAL), remote=End(REMOTE)))
    assert (verdict.label, verdict.rule) == (Label.UNDETERMINED, "R16")
    assert verdict.conversations == {"undetermined": 2, "backscatter": 3}


def test_the_vlan_of_the_alert_selects_the_scope():
    tape = Tape(vlan=(1,)).ordinary(0, 600).backscatter(300)
    tape.records += Tape(vlan=(2,)).ordinary(0, 600).records
    assert tape.judged(alert(vlan=(1,))).label is Label.BACKSCATTER


def test_the_same_inputs_give_the_same_verdict(tape):
    tape.backscatter(300).connection(310, LOCAL, 41000, REMOTE, 443)
    finding, scene = alert(local=End(LOCAL), remote=End(REMOTE)), tape.scene()
    first, second = judge(finding, scene, Settings()), judge(finding, scene, Settings())
    assert (first.evidence, first.summary, first.conversations) == (
        second.evidence,
        second.summary,
        second.conversations,
    )


# -- the invariant that everything else serves ----------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_a_connection_of_ours_is_never_backscatter_whatever_prefix_of_it_was_lost(here, there, lost):
    tape = Tape().ordinary(0, 600)
    steps = [
        ("o", "S", 0), ("t", "SA", 0), ("o", "A", 0), ("o", "PA", 50), ("t", "PA", 80), ("o", "FA", 0), ("t", "FA", 0),
    ]  # fmt: skip
    for number, (who, flags, size) in enumerate(steps):
        seq, ack = (here, there) if who == "o" else (there, here)
        if number >= lost:
            send = tape.ours if who == "o" else tape.theirs
            send(300 + number / 100, flags, seq=seq, ack=ack if "A" in flags else 0, payload=b"x" * size)
        taken = size + ("S" in flags) + ("F" in flags)
        here, there = (here + taken, there) if who == "o" else (here, there + taken)
    assert tape.judged().label is not Label.BACKSCATTER


@given(
    st.lists(
        st.sampled_from(["oS", "tSA", "oA", "oR", "oRA", "tR", "tRA", "tA", "tPA", "oPA", "tFA", "oFA", "tS", "oSA"]),
        max_size=6,
    )
)
@settings(max_examples=150, deadline=None)
def test_a_syn_of_ours_with_the_seq_that_the_synack_acknowledges_always_removes_backscatter(steps):
    tape = Tape().ordinary(0, 600).ours(299, "S", seq=ISN - 1)
    for number, (who, *flags) in enumerate(steps):
        send, seq, ack = (tape.ours, ISN, 78) if who == "o" else (tape.theirs, 77, ISN)
        send(300 + number / 100, "".join(flags), seq=seq, ack=ack, payload=b"x" if "P" in flags else b"")
    assert tape.judged().label is not Label.BACKSCATTER


@given(st.lists(st.floats(1, 599), max_size=5), st.randoms(use_true_random=True))
@settings(max_examples=25, deadline=None)
def test_rotation_never_changes_a_verdict(cuts, chance: random.Random):
    tape = Tape().ordinary(0, 600, every=1.5).backscatter(300).backscatter(301)
    if chance.random() < 0.5:
        tape.connection(310, LOCAL, 41000, REMOTE, 443)
    finding = alert(local=End(LOCAL), remote=End(REMOTE))
    whole, cut = tape.judged(finding), tape.judged(finding, cuts=tuple(sorted(set(cuts))))
    assert (cut.label, cut.confidence, cut.rule) == (whole.label, whole.confidence, whole.rule)


def test_a_rst_that_refuses_somebody_else_s_synack_is_no_contact_with_this_remote(tape):
    tape.backscatter(300).add(299, tcp("203.0.113.50", 80, LOCAL, 1234, "SA", seq=1, ack=5))
    assert tape.judged().label is Label.BACKSCATTER
