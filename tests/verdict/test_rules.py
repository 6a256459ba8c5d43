"""Every rule has a test named for its id; each builds its case from packets and judges it as a user's would be."""

from __future__ import annotations

import io
from functools import partial

import pytest
from tests.verdict.tape import ISN, LOCAL, PORT, REMOTE, SERVICE, Tape, alert

from backscatter.demo.wire import icmp, icmp_error, pcap, tcp, udp
from backscatter.finding.model import End
from backscatter.flow.lookup import TableScene
from backscatter.flow.read import Piece, read_sensor
from backscatter.verdict.judge import judge
from backscatter.verdict.model import Label, Why
from backscatter.verdict.rules import R18, RULES
from backscatter.verdict.settings import Settings

DNS_ANSWER = bytes.fromhex("123481800001000100000000") + b"\x03www\x07example\x03com\0\0\x01\0\x01"
DNS_QUERY = bytes.fromhex("123401000001000000000000") + b"\x03www\x07example\x03com\0\0\x01\0\x01"

QUIC_INITIAL = bytes.fromhex("c00000000108") + bytes(1200)
QUIC_HANDSHAKE = bytes.fromhex("e00000000108") + bytes(900)


@pytest.fixture
def tape() -> Tape:
    """Ten minutes of ordinary traffic of our host; the case happens at 300 s."""
    return Tape().ordinary(0, 600)


def verdict_of(verdict):
    return verdict.label, verdict.rule, verdict.confidence


def test_r1_a_handshake_that_our_host_completed_is_a_connection(tape):
    tape.connection(300, LOCAL, PORT, REMOTE, SERVICE)
    assert verdict_of(tape.judged()) == (Label.CONNECTION_ESTABLISHED, "R1", 95)


def test_r1_data_with_the_last_ack_of_the_handshake_counts_after_repeated_syns(tape):
    tape.ours(297, "S", seq=ISN - 1).ours(298, "S", seq=ISN - 1).synack(300)
    tape.ours(300.01, "PA", seq=ISN, ack=78, payload=b"x")
    assert verdict_of(tape.judged()) == (Label.CONNECTION_ESTABLISHED, "R1", 95)


def test_r1_holds_when_the_remote_side_was_not_captured(tape):
    tape.ours(300, "S", seq=ISN - 1).ours(300.1, "A", seq=ISN, ack=78).ours(300.2, "PA", seq=ISN, ack=78, payload=b"x")
    assert verdict_of(tape.judged()) == (Label.CONNECTION_ESTABLISHED, "R1", 95)


def test_r1_a_udp_request_and_its_answer_are_a_connection(tape):
    tape.add(300, udp(LOCAL, PORT, REMOTE, 53, DNS_QUERY)).add(300.02, udp(REMOTE, 53, LOCAL, PORT, DNS_ANSWER))
    verdict = tape.judged(alert(proto="udp", remote=End(REMOTE, 53)))
    assert verdict_of(verdict) == (Label.CONNECTION_ESTABLISHED, "R1", 95)


def test_r1_a_ping_that_was_answered_is_a_connection(tape):
    tape.add(300, icmp(LOCAL, REMOTE, 8)).add(300.02, icmp(REMOTE, LOCAL, 0))
    verdict = tape.judged(alert(proto="icmp", local=End(LOCAL), remote=End(REMOTE)))
    assert verdict_of(verdict) == (Label.CONNECTION_ESTABLISHED, "R1", 95)


def test_r1_a_quic_initial_of_ours_counts_even_when_it_is_delivered_after_its_answer(tape):
    tape.add(300, udp(REMOTE, 443, LOCAL, PORT, QUIC_HANDSHAKE)).add(301, udp(LOCAL, PORT, REMOTE, 443, QUIC_INITIAL))
    verdict = tape.judged(alert(proto="udp", remote=End(REMOTE, 443)))
    assert verdict_of(verdict) == (Label.CONNECTION_ESTABLISHED, "R1", 95)


@pytest.mark.parametrize(
    "more",
    [
        lambda tape: tape.ours(300.1, "A", seq=ISN, ack=78),
        lambda tape: tape.ours(300.1, "PA", seq=ISN, ack=78, payload=b"x"),
        lambda tape: tape.theirs(300.1, "PA", seq=78, ack=ISN, payload=b"x"),
        lambda tape: tape.theirs(300.1, "FA", seq=78, ack=ISN),
        lambda tape: tape.theirs(300.1, "A", seq=78, ack=ISN + 100),
        lambda tape: tape.refusal(300.1).theirs(300.2, "A", seq=78, ack=ISN + 100),
    ],
    ids=["our ack", "our data", "their data", "their fin", "their further ack", "further ack after our rst"],
)
def test_r2_a_synack_that_led_on_is_a_connection_without_its_handshake(tape, more):
    more(tape.synack(300))
    assert verdict_of(tape.judged()) == (Label.CONNECTION_ESTABLISHED, "R2", 75)


def test_r2_data_both_ways_without_a_handshake_is_a_connection(tape):
    tape.ours(300, "PA", seq=5, ack=7, payload=b"x").theirs(300.1, "PA", seq=7, ack=6, payload=b"y")
    assert verdict_of(tape.judged()) == (Label.CONNECTION_ESTABLISHED, "R2", 75)


@pytest.mark.parametrize(
    "more",
    [
        lambda tape: tape,
        lambda tape: tape.theirs(300.1, "RA", seq=0, ack=ISN),
        lambda tape: tape.synack(300.1).refusal(300.2),
        lambda tape: tape.add(
            300.1, icmp_error(REMOTE, LOCAL, 3, 1, tcp(LOCAL, PORT, REMOTE, SERVICE, "S", seq=ISN - 1))
        ),
    ],
    ids=["nothing", "refused", "half-open scan", "icmp error"],
)
def test_r3_a_syn_of_ours_that_came_to_nothing_is_an_attempt(tape, more):
    more(tape.ours(300, "S", seq=ISN - 1))
    assert verdict_of(tape.judged()) == (Label.CONNECTION_ATTEMPTED, "R3", 90)


def test_r3_an_error_about_a_ping_of_ours_belongs_to_that_ping(tape):
    ping = icmp(LOCAL, REMOTE, 8)
    tape.add(300, ping).add(300.1, icmp_error("203.0.113.1", LOCAL, 3, 1, ping))
    verdict = tape.judged(alert(proto="icmp", local=End(LOCAL), remote=End("203.0.113.1")))
    assert verdict_of(verdict) == (Label.CONNECTION_ATTEMPTED, "R3", 90)
    assert verdict.conversations == {"connection_attempted": 1}


def test_r3_our_syn_counts_in_every_scope(tape):
    tape.ours(299.9, "S", seq=ISN - 1, vlan=(7,)).backscatter(300)
    assert verdict_of(tape.judged()) == (Label.CONNECTION_ATTEMPTED, "R3", 90)


def test_r3_our_syn_may_be_delivered_up_to_3_s_after_the_synack(tape):
    tape.backscatter(300).ours(302.9, "S", seq=ISN - 1)
    assert tape.judged().label is Label.CONNECTION_ATTEMPTED


def test_r3_our_syn_of_14_minutes_before_still_counts():
    tape = Tape().ordinary(0, 1500).ours(100, "S", seq=1).backscatter(100 + 14 * 60)
    assert verdict_of(tape.judged(alert(100 + 14 * 60))) == (Label.CONNECTION_ATTEMPTED, "R3", 90)


def test_r3_our_syn_with_the_acknowledged_seq_counts_at_any_distance():
    tape = Tape().ordinary(0, 5000).ours(10, "S", seq=ISN - 1).backscatter(4700)
    assert verdict_of(tape.judged(alert(4700))) == (Label.CONNECTION_ATTEMPTED, "R3", 90)


def test_r3_another_syn_of_ours_does_not_count_at_any_distance():
    tape = Tape().ordinary(0, 5000).ours(10, "S", seq=ISN - 2).backscatter(4700)
    assert tape.judged(alert(4700)).label is Label.BACKSCATTER


def test_r3_data_in_a_syn_that_was_refused_is_no_established_connection(tape):
    tape.ours(300, "S", seq=ISN - 1, payload=b"early").theirs(300.1, "RA", seq=0, ack=ISN + 5)
    assert verdict_of(tape.judged()) == (Label.CONNECTION_ATTEMPTED, "R3", 90)


def test_r13_a_connection_that_they_opened_and_we_accepted_is_inbound(tape):
    tape.connection(300, REMOTE, SERVICE, LOCAL, PORT)
    assert verdict_of(tape.judged()) == (Label.INBOUND_CONNECTION, "R13", 90)


def test_r13_holds_when_only_their_side_was_captured(tape):
    tape.theirs(300, "S", seq=1).theirs(300.1, "A", seq=2, ack=9).theirs(300.2, "PA", seq=2, ack=9, payload=b"x")
    assert verdict_of(tape.judged()) == (Label.INBOUND_CONNECTION, "R13", 90)


def test_r13_a_udp_request_that_we_answered_is_inbound(tape):
    tape.add(300, udp(REMOTE, 5000, LOCAL, 53, DNS_QUERY)).add(300.02, udp(LOCAL, 53, REMOTE, 5000, DNS_ANSWER))
    verdict = tape.judged(alert(proto="udp", local=End(LOCAL, 53), remote=End(REMOTE, 5000)))
    assert verdict_of(verdict) == (Label.INBOUND_CONNECTION, "R13", 90)


def test_r13_holds_when_only_our_side_was_captured(tape):
    tape.ours(300, "SA", seq=8, ack=2).ours(300.2, "PA", seq=9, ack=50, payload=b"x")
    assert verdict_of(tape.judged()) == (Label.INBOUND_CONNECTION, "R13", 90)


def test_r13_who_asked_is_in_the_payload_even_where_the_capture_has_just_begun():
    tape = Tape().ordinary(290, 600, every=5)
    tape.add(300, udp(REMOTE, 5000, LOCAL, 53, DNS_QUERY)).add(300.02, udp(LOCAL, 53, REMOTE, 5000, DNS_ANSWER))
    tape.add(301, icmp(REMOTE, LOCAL, 8)).add(301.02, icmp(LOCAL, REMOTE, 0))
    asked = tape.judged(alert(proto="udp", local=End(LOCAL, 53), remote=End(REMOTE, 5000)))
    pinged = tape.judged(alert(proto="icmp", local=End(LOCAL), remote=End(REMOTE)))
    assert verdict_of(asked) == verdict_of(pinged) == (Label.INBOUND_CONNECTION, "R13", 90)


def test_r13_a_server_of_ours_that_was_asked_before_too_is_still_the_one_that_is_asked():
    tape = Tape().ordinary(0, 1500)
    for time in (60, 925):
        tape.add(time, udp(REMOTE, 5000, LOCAL, 7777, b"?")).add(time + 0.01, udp(LOCAL, 7777, REMOTE, 5000, b"!"))
    verdict = tape.judged(alert(1025, proto="udp", local=End(LOCAL, 7777), remote=End(REMOTE, 5000)))
    assert verdict_of(verdict) == (Label.INBOUND_CONNECTION, "R13", 90)


def test_r14_answers_of_fifty_hosts_in_a_minute_are_a_reflection_at_us(tape):
    for number in range(50):
        tape.add(300 + number, tcp(f"203.0.113.{number + 1}", 80, LOCAL, 1024 + number, "SA", seq=1, ack=number))
    tape.synack(330)
    verdict = tape.judged(alert(330))
    assert verdict_of(verdict) == (Label.REFLECTION_TARGET, "R14", 80)


def test_r14_closed_ports_answer_too(tape):
    for number in range(50):
        packet = tcp(f"203.0.113.{number + 1}", 80, LOCAL, 1024 + number, "RA", seq=0, ack=number)
        tape.add(300 + number, packet)
    verdict = tape.theirs(330, "RA", seq=0, ack=ISN).judged(alert(330))
    assert verdict_of(verdict) == (Label.REFLECTION_TARGET, "R14", 80)


def test_r14_needs_fifty_hosts_within_one_minute(tape):
    for number in range(49):
        tape.add(200 + 4 * number, tcp(f"203.0.113.{number + 1}", 80, LOCAL, 1024 + number, "SA", seq=1, ack=number))
    assert tape.backscatter(300).judged().label is Label.BACKSCATTER


@pytest.mark.parametrize("ack", [0, 12345])
def test_r15_lone_synacks_with_one_ack_to_ten_of_us_are_a_scan(tape, ack):
    for number in range(10):
        packet = tcp(REMOTE, 2000 + number, f"10.0.0.{number + 1}", 1000, "SA", seq=number, ack=ack)
        tape.add(300 + number, packet)
    verdict = tape.judged(alert(304, local=End(LOCAL, 1000), remote=End(REMOTE, 2004)))
    assert verdict_of(verdict) == (Label.SYNACK_SCAN, "R15", 75)


def test_r15_answers_from_one_port_with_acks_that_differ_are_no_scan(tape):
    for number in range(10):
        tape.add(300 + number, tcp(REMOTE, SERVICE, f"10.0.0.{number + 1}", 1000, "SA", seq=number, ack=9 * number))
    verdict = tape.judged(alert(304, local=End(LOCAL, 1000)))
    assert (verdict.label, verdict.rule) == (Label.BACKSCATTER, "R6")


def test_r8_an_icmp_error_about_a_packet_that_we_never_sent_is_backscatter(tape):
    forged = tcp(LOCAL, 1024, "203.0.113.7", 80, "S", seq=1)
    tape.add(300, icmp_error(REMOTE, LOCAL, 3, 1, forged))
    verdict = tape.judged(alert(proto="icmp", local=End(LOCAL), remote=End(REMOTE)))
    assert verdict_of(verdict) == (Label.BACKSCATTER, "R8", 80)
    assert (verdict.victim.ip, verdict.victim.port, verdict.victim.proto) == ("203.0.113.7", 80, "tcp")


def test_r8_an_icmp_error_about_a_packet_that_we_did_send_is_an_attempt(tape):
    sent = tcp(LOCAL, 1024, "203.0.113.7", 80, "S", seq=1)
    tape.add(299, sent).add(300, icmp_error(REMOTE, LOCAL, 3, 1, sent))
    verdict = tape.judged(alert(proto="icmp", local=End(LOCAL), remote=End(REMOTE)))
    assert verdict_of(verdict) == (Label.CONNECTION_ATTEMPTED, "R3", 90)


def test_r8_an_icmp_error_that_went_to_somebody_else_says_nothing_of_us(tape):
    forged = tcp(LOCAL, 1024, REMOTE, SERVICE, "S", seq=1)
    tape.add(300, icmp_error("203.0.113.1", "10.0.0.99", 3, 1, forged))
    assert tape.judged(alert(local=End(LOCAL, 1024))).label is Label.UNDETERMINED


def test_r8_a_quote_that_ends_before_the_ports_proves_nothing(tape):
    forged = tcp(LOCAL, 1024, "203.0.113.7", 80, "S", seq=1)
    tape.add(300, icmp_error(REMOTE, LOCAL, 3, 1, forged, keep=20))
    assert tape.judged(alert(proto="icmp", local=End(LOCAL), remote=End(REMOTE))).label is Label.UNDETERMINED


def test_r9_a_ping_reply_without_a_ping_is_backscatter(tape):
    tape.add(300, icmp(REMOTE, LOCAL, 0))
    verdict = tape.judged(alert(proto="icmp", local=End(LOCAL), remote=End(REMOTE)))
    assert verdict_of(verdict) == (Label.BACKSCATTER, "R9", 65)


def test_r10_a_dns_answer_without_a_query_is_backscatter(tape):
    tape.add(300, udp(REMOTE, 53, LOCAL, PORT, DNS_ANSWER))
    verdict = tape.judged(alert(proto="udp", remote=End(REMOTE, 53)))
    assert verdict_of(verdict) == (Label.BACKSCATTER, "R10", 60)


@pytest.mark.parametrize(
    "more",
    [
        lambda tape: tape.theirs(300, "S", seq=1),
        lambda tape: tape.theirs(300, "S", seq=1).ours(300.01, "RA", seq=0, ack=2),
        lambda tape: tape.theirs(300, "S", seq=1).ours(300.01, "SA", seq=5, ack=2),
        lambda tape: tape.theirs(300, "S", seq=1).ours(300.01, "SA", seq=5, ack=2).theirs(300.02, "R", seq=2),
        lambda tape: tape.theirs(300, ""),
        lambda tape: tape.theirs(300, "FPU"),
    ],
    ids=["unanswered", "refused", "never completed", "half-open", "null", "xmas"],
)
def test_r12_a_probe_that_led_to_nothing_is_an_inbound_scan(tape, more):
    more(tape)
    assert verdict_of(tape.judged()) == (Label.INBOUND_SCAN, "R12", 85)


def test_r12_a_ping_of_theirs_that_we_did_not_answer_is_an_inbound_scan(tape):
    tape.add(300, icmp(REMOTE, LOCAL, 8))
    verdict = tape.judged(alert(proto="icmp", local=End(LOCAL), remote=End(REMOTE)))
    assert verdict_of(verdict) == (Label.INBOUND_SCAN, "R12", 85)


def test_r12_udp_that_nobody_can_read_is_a_probe_only_where_the_capture_reaches_back(tape):
    late = Tape().ordinary(200, 600).add(300, udp(REMOTE, 51820, LOCAL, PORT, b"?"))
    finding = alert(proto="udp", remote=End(REMOTE, 51820))
    assert verdict_of(late.judged(finding)) == (Label.UNDETERMINED, "R16", 0)
    verdict = tape.add(300, udp(REMOTE, 51820, LOCAL, PORT, b"?")).judged(finding)
    assert verdict_of(verdict) == (Label.INBOUND_SCAN, "R12", 85)


def test_r12_quic_packets_of_a_server_are_no_probe(tape):
    verdict = tape.add(300, udp(REMOTE, 443, LOCAL, PORT, b"\x40" + bytes(60))).judged(
        alert(proto="udp", remote=End(REMOTE, 443))
    )
    assert verdict_of(verdict) == (Label.UNDETERMINED, "R16", 0)


def test_r12_a_challenge_ack_of_ours_shows_that_the_tuple_carries_a_connection(tape):
    tape.theirs(300, "S", seq=1).ours(300.01, "A", seq=500, ack=900).theirs(300.1, "R", seq=900)
    assert verdict_of(tape.judged()) == (Label.UNDETERMINED, "R16", 0)


def test_r19_a_rst_of_ours_that_fits_no_synack_is_a_conflict(tape):
    verdict = tape.synack(300).refusal(300.1, seq=ISN + 5).judged()
    assert (verdict.label, verdict.why, verdict.rule) == (Label.UNDETERMINED, Why.CONFLICT, "R19")


def test_r19_another_contact_with_the_remote_in_the_window_is_a_conflict(tape):
    verdict = tape.backscatter(300).connection(250, LOCAL, 33333, REMOTE, 443).judged()
    assert (verdict.label, verdict.why, verdict.rule) == (Label.UNDETERMINED, Why.CONFLICT, "R19")


def test_r19_an_idle_session_with_the_remote_is_contact_too(tape):
    tape.theirs(250, "A", port=33333, seq=8, ack=5).ours(250.01, "A", port=33333, seq=5, ack=9)
    verdict = tape.backscatter(300).judged()
    assert (verdict.label, verdict.why, verdict.rule) == (Label.UNDETERMINED, Why.CONFLICT, "R19")


@pytest.mark.parametrize("proto", ["udp", "icmp"])
def test_r19_a_request_of_ours_minutes_before_the_answer_is_a_conflict(proto):
    tape = Tape().ordinary(0, 1500)
    if proto == "udp":
        tape.add(60, udp(LOCAL, PORT, REMOTE, 53, DNS_QUERY)).add(925, udp(REMOTE, 53, LOCAL, PORT, DNS_ANSWER))
        finding = alert(1025, proto="udp", remote=End(REMOTE, 53))
    else:
        tape.add(60, icmp(LOCAL, REMOTE, 8)).add(925, icmp(REMOTE, LOCAL, 0))
        finding = alert(1025, proto="icmp", local=End(LOCAL), remote=End(REMOTE))
    verdict = tape.judged(finding)
    assert (verdict.label, verdict.why, verdict.rule) == (Label.UNDETERMINED, Why.CONFLICT, "R19")


def test_r19_scopes_that_disagree_are_a_conflict():
    tape = Tape(vlan=(1,)).ordinary(0, 600)
    both = Tape(vlan=(2,)).ordinary(0, 600, first_port=30000)
    tape.records += both.records
    verdict = tape.backscatter(300).synack(300.0001, vlan=(2,)).judged()
    assert (verdict.label, verdict.why, verdict.rule) == (Label.UNDETERMINED, Why.CONFLICT, "R19")


def test_r4_a_synack_first_and_answered_exactly_is_backscatter(tape):
    verdict = tape.backscatter(300).judged()
    assert verdict_of(verdict) == (Label.BACKSCATTER, "R4", 97)
    assert verdict.band == "confirmed"
    assert (verdict.victim.ip, verdict.victim.port, verdict.victim.proto) == (REMOTE, SERVICE, "tcp")


def test_r4_holds_for_every_retransmission_answered_exactly(tape):
    verdict = tape.backscatter(300).backscatter(301).backscatter(303).judged()
    assert verdict_of(verdict) == (Label.BACKSCATTER, "R4", 97)


def test_r4_holds_when_our_answer_was_delivered_just_before_the_synack(tape):
    assert verdict_of(tape.synack(300.001).refusal(300).judged()) == (Label.BACKSCATTER, "R4", 97)


def test_r4_holds_for_several_forged_seqs_on_one_tuple(tape):
    for number, beyond in enumerate((0, 10**6, 10**9)):
        tape.synack(300 + number, ack=ISN + beyond).refusal(300.0003 + number, seq=ISN + beyond)
    assert verdict_of(tape.judged()) == (Label.BACKSCATTER, "R4", 97)


def test_r4_holds_when_the_server_s_port_was_closed_for_a_while_before(tape):
    tape.theirs(298, "RA", seq=0, ack=ISN).backscatter(300)
    assert verdict_of(tape.judged()) == (Label.BACKSCATTER, "R4", 97)


@pytest.mark.parametrize(("before", "confidence"), [(126, 85), (31, 85), (29, 60), (1, 60)])
def test_r5_less_look_back_gives_less_confidence(before, confidence):
    verdict = Tape().ordinary(300 - before, 600, every=5).backscatter(300).judged()
    assert verdict_of(verdict) == (Label.BACKSCATTER, "R5", confidence)


def test_r5_our_icmp_unreachable_that_quotes_the_synack_refuses_it_too(tape):
    answer = tcp(REMOTE, SERVICE, LOCAL, PORT, "SA", seq=77, ack=ISN)
    verdict = tape.add(300, answer).add(300.001, icmp_error(LOCAL, REMOTE, 3, 3, answer)).judged()
    assert verdict_of(verdict) == (Label.BACKSCATTER, "R5", 85)


def test_r5_our_rst_with_ack_is_weaker(tape):
    verdict = tape.synack(300).ours(300.001, "RA", seq=ISN, ack=78).judged()
    assert verdict_of(verdict) == (Label.BACKSCATTER, "R5", 60)


def test_r5_our_rst_with_ack_may_be_delivered_before_the_synack(tape):
    verdict = tape.synack(300.01).ours(300, "RA", seq=ISN, ack=78).judged()
    assert verdict_of(verdict) == (Label.BACKSCATTER, "R5", 60)


def test_r6_a_synack_without_answer_is_probable_backscatter(tape):
    assert verdict_of(tape.synack(300).judged()) == (Label.BACKSCATTER, "R6", 75)


def test_r6_retransmission_of_the_same_seq_makes_it_surer(tape):
    verdict = tape.synack(300).synack(301).synack(303).synack(307).judged()
    assert verdict_of(verdict) == (Label.BACKSCATTER, "R6", 85)


def test_r6_holds_for_several_forged_seqs_on_one_tuple(tape):
    verdict = tape.synack(300).synack(301, ack=ISN + 10**6).synack(305, ack=ISN + 10**9).judged()
    assert verdict_of(verdict) == (Label.BACKSCATTER, "R6", 75)


def test_r7_a_closed_port_answering_a_syn_that_we_never_sent_is_backscatter(tape):
    verdict = tape.theirs(300, "RA", seq=0, ack=ISN).judged()
    assert verdict_of(verdict) == (Label.BACKSCATTER, "R7", 70)


def test_r17_one_direction_of_our_host_proves_nothing():
    tape = Tape().ordinary(0, 600, host="10.0.0.77").synack(300)
    verdict = tape.judged()
    assert (verdict.label, verdict.why, verdict.rule) == (Label.UNDETERMINED, Why.ASYMMETRIC, "R17")


def test_r17_broadcasts_of_our_host_beside_what_it_receives_prove_nothing():
    tape = Tape().ordinary(0, 600, host="10.0.0.77").synack(300)
    for time in range(0, 600, 60):
        tape.add(time, udp(LOCAL, 137, "10.0.0.255", 137, b"here I am"))
    verdict = tape.judged()
    assert (verdict.label, verdict.why, verdict.rule) == (Label.UNDETERMINED, Why.ASYMMETRIC, "R17")


def test_r18_nothing_captured_at_the_time_is_no_capture(tape):
    verdict = tape.judged(alert(100_000))
    assert (verdict.label, verdict.why, verdict.rule) == (Label.UNDETERMINED, Why.NO_CAPTURE, R18)


def test_r18_a_host_that_was_covered_but_never_met_the_remote_is_not_seen(tape):
    verdict = tape.judged()
    assert (verdict.label, verdict.why, verdict.rule) == (Label.UNDETERMINED, Why.NOT_SEEN, R18)


def test_r18_a_finding_without_addresses_is_no_tuple(tape):
    verdict = tape.backscatter(300).judged(alert(tuples=()))
    assert (verdict.label, verdict.why, verdict.rule) == (Label.UNDETERMINED, Why.NO_TUPLE, R18)


@pytest.mark.parametrize(
    "more",
    [
        lambda tape: tape.theirs(300, "PA", seq=1, ack=2, payload=b"x"),
        lambda tape: tape.theirs(300, "A", seq=1, ack=2),
        lambda tape: tape.theirs(300, "FA", seq=1, ack=2),
        lambda tape: tape.theirs(300, "R", seq=1),
    ],
    ids=["data", "lone ack", "fin", "bare rst"],
)
def test_r16_what_begins_in_the_middle_is_undetermined(tape, more):
    more(tape)
    verdict = tape.judged()
    assert (verdict.label, verdict.why, verdict.rule) == (Label.UNDETERMINED, Why.MIDSTREAM, "R16")


def test_r16_an_unanswered_synack_inside_the_guard_time_is_undetermined():
    verdict = Tape().ordinary(290, 600, every=5).synack(300).judged()
    assert (verdict.label, verdict.why, verdict.rule) == (Label.UNDETERMINED, Why.MIDSTREAM, "R16")


def test_r16_silence_proves_nothing_where_a_filter_hid_every_syn():
    tape = Tape().ordinary(0, 600).connection(300, LOCAL, PORT, REMOTE, SERVICE)
    tape.connection(290, "192.0.2.81", 7777, LOCAL, 22)
    tape.add(310, tcp(LOCAL, 5, "192.0.2.80", 443, "R", seq=1))
    # Corsaro's filter: (SYN and ACK) or RST
    tape.records = [one for one in tape.records if one[1][14 + 33] & 0x12 == 0x12 or one[1][14 + 33] & 4]
    assert tape.judged().label is Label.UNDETERMINED


def test_every_rule_of_the_table_has_a_test_named_for_it():
    named = {name.split("_")[1].upper() for name in globals() if name.startswith("test_r")}
    assert {rule.id for rule in RULES} | {R18} <= named


def test_the_last_rule_matches_everything():
    assert RULES[-1].id == "R16"
    assert RULES[-1].matches(None)


def test_r12_many_hosts_that_knock_at_once_are_told_as_a_flood_with_forged_senders(tape):
    tape.theirs(300, "S", seq=1)
    assert "forged" not in " ".join(piece.text for piece in tape.judged().evidence)
    for number in range(60):
        tape.add(300 + number / 10, tcp(f"203.0.113.{number + 1}", 999, LOCAL, PORT, "S", seq=number))
    verdict = tape.judged()
    assert verdict_of(verdict) == (Label.INBOUND_SCAN, "R12", 85)
    assert "61 hosts knocked within a minute" in " ".join(piece.text for piece in verdict.evidence)


@pytest.mark.parametrize(("others", "rule"), [(1, "R6"), (9, "R15")], ids=["one port mostly", "many ports"])
def test_r15_looks_at_the_ports_that_most_synacks_come_from(tape, others, rule):
    """A flooded server with a forged constant seq answers from its port; a few strays make no scan of that."""
    for number in range(30):
        port = 7000 + number if number < 3 * others else SERVICE
        tape.add(290 + number / 10, tcp(REMOTE, port, f"10.0.1.{number + 1}", 2000, "SA", seq=number, ack=ISN))
    assert tape.synack(300).judged().rule == rule


def test_r6_what_vouches_for_a_conversation_that_goes_on_behind_the_window_is_looked_at_too():
    tape = Tape().ordinary(0, 700, every=1.5)
    for after in (0, 1, 3, 7, 15, 31, 63):
        tape.synack(300 + after)
    verdict = tape.judged(alert(280), cuts=(341.2, 365.1))
    assert verdict_of(verdict) == (Label.BACKSCATTER, "R6", 85)


def test_r19_more_rsts_than_synacks_are_counted_over_sensors_that_share_the_packets():
    one, two = Tape().ordinary(0, 600).refusal(300.7), Tape().ordinary(0, 600, first_port=30000).backscatter(300)
    sensors = [
        read_sensor(name, [Piece(f"{name}.pcap", partial(io.BytesIO, pcap(sorted(tape.records))))])
        for name, tape in (("one", one), ("two", two))
    ]
    verdict = judge(alert(), TableScene(sensors), Settings())
    assert (verdict.label, verdict.rule) == (Label.UNDETERMINED, "R19")


@pytest.mark.parametrize("asker", ["203.0.113.7", "10.0.0.6"], ids=["translated", "another address of ours"])
@pytest.mark.parametrize("answer", ["refused", "silent", "closed port"])
def test_r3_a_syn_captured_under_another_address_only_is_no_forgery(tape, asker, answer):
    """One side of an address translation may be captured for what goes out, the other for what comes in."""
    tape.add(299.9, tcp(asker, 61000, REMOTE, SERVICE, "S", seq=ISN - 1))
    if answer == "closed port":
        tape.theirs(300, "RA", seq=0, ack=ISN)
    else:
        tape.synack(300)
    if answer == "refused":
        tape.refusal(300.0003)
    assert verdict_of(tape.judged()) == (Label.CONNECTION_ATTEMPTED, "R3", 75)


def test_a_syn_to_them_with_another_number_takes_nothing_from_backscatter(tape):
    tape.add(299.9, tcp("10.0.0.6", 61000, REMOTE, SERVICE, "S", seq=ISN))
    assert verdict_of(tape.backscatter(300).judged()) == (Label.BACKSCATTER, "R4", 97)
