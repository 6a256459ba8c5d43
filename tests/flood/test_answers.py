"""What counts as an unsolicited answer: whatever looks real does not, and what cannot be vouched for is told apart."""

from __future__ import annotations

from ipaddress import ip_network

import numpy as np
import pytest
from tests.flood.made import ALWAYS, OURS, VICTIM, answered, answers_in, whole
from tests.verdict.scenarios.story import KINDS, Story, Truth
from tests.verdict.scenarios.trial import told  # noqa: F401  it fills KINDS
from tests.verdict.scenarios.world import World, captured

from backscatter.decode.columns import DNS_ANSWER
from backscatter.demo.wire import icmp, icmp_error, tcp, udp
from backscatter.flood.answers import Kind, unsolicited
from backscatter.flood.vouch import Doubt
from backscatter.flow.address import Address

DNS = bytes.fromhex("000081800001000000000000") + b"\x01x\x00\x00\x01\x00\x01"


def doubt_of(tape, **how):
    answers = answers_in(tape, **how)
    assert len(answers) == 1
    return Doubt(int(answers.doubt[0]))


def test_a_refused_syn_ack_counts_with_whom_it_tells_of():
    answers = answers_in(answered(whole(), 300))
    assert Kind(answers.kind[0]) is Kind.REFUSED
    assert answers.doubt.tolist() == [0]
    assert Address(4, int(answers.victim_hi[0]), int(answers.victim_lo[0])) == Address.parse(VICTIM)
    assert Address(4, int(answers.ours_hi[0]), int(answers.ours_lo[0])) == Address.parse(OURS)
    assert (answers.victim_port[0], answers.our_port[0], answers.seq[0]) == (80, 4000, 499)


@pytest.mark.parametrize(
    ("kind", "packet"),
    [
        (Kind.SILENT, tcp(VICTIM, 80, OURS, 4000, "SA", seq=1, ack=2)),
        (Kind.CLOSED, tcp(VICTIM, 80, OURS, 4000, "RA", seq=0, ack=2)),
        (Kind.ICMP_REPLY, icmp(VICTIM, OURS, 0)),
        (Kind.ICMP_ERROR, icmp_error("203.0.113.1", OURS, 3, 1, tcp(OURS, 4000, VICTIM, 80, "S", seq=7))),
        (Kind.UDP_ANSWER, udp(VICTIM, 53, OURS, 4000, DNS)),
    ],
    ids=lambda value: value.name if isinstance(value, Kind) else "",
)
def test_other_answers_count_too(kind, packet):
    answers = answers_in(whole().add(300, packet))
    assert [Kind(one) for one in answers.kind] == [kind]
    assert answers.doubt.tolist() == [0]
    assert Address(4, 0, int(answers.victim_lo[0])) == Address.parse(VICTIM)


def test_a_captures_speech_is_what_the_case_above_says():
    table = whole().add(300, udp(VICTIM, 53, OURS, 4000, DNS)).scene().table
    assert DNS_ANSWER in table.rows["src_speech"]


@pytest.mark.parametrize(
    "ours",
    [
        tcp(OURS, 4000, VICTIM, 80, "S", seq=499),
        tcp(OURS, 4000, VICTIM, 80, "A", seq=500, ack=10),
        tcp(OURS, 4000, VICTIM, 80, "R", seq=12345),
        tcp(OURS, 4000, VICTIM, 80, "PA", seq=500, ack=10, payload=b"x"),
    ],
    ids=["a SYN", "an ACK", "a RST that fits nothing", "data"],
)
@pytest.mark.parametrize("vlan", [(), (7,)], ids=["here", "in another scope"])
@pytest.mark.parametrize("at", [299.9, 302.0, 600.0])
def test_one_packet_of_ours_that_is_no_refusal_makes_it_no_answer(ours, vlan, at):
    tape = answered(whole(), 300).add(at, ours, vlan=vlan)
    assert len(answers_in(tape)) == 0


def test_data_of_the_remote_makes_it_no_answer():
    tape = answered(whole(), 300, refused=False).add(
        301, tcp(VICTIM, 80, OURS, 4000, "PA", seq=10, ack=500, payload=b"x")
    )
    assert len(answers_in(tape)) == 0


def test_a_quote_of_a_packet_that_we_sent_is_no_answer():
    ours = tcp(OURS, 4000, VICTIM, 80, "S", seq=7)
    tape = whole().add(300, ours).add(300.1, icmp_error("203.0.113.1", OURS, 3, 1, ours))
    assert len(answers_in(tape)) == 0


def test_a_refusal_in_another_scope_fits():
    tape = answered(whole(), 300, refused=False).add(300.1, tcp(OURS, 4000, VICTIM, 80, "R", seq=500), vlan=(7,))
    answers = answers_in(tape)
    assert [Kind(kind) for kind in answers.kind] == [Kind.REFUSED]


def test_too_short_a_look_back_is_a_doubt():
    assert doubt_of(answered(whole(), 10)) == Doubt.LOOKBACK
    assert doubt_of(answered(whole(), 40)) == Doubt(0)
    assert doubt_of(answered(whole(), 40, refused=False)) == Doubt.LOOKBACK


def test_silence_of_a_host_that_never_speaks_proves_nothing():
    assert doubt_of(answered(whole(), 300, ours="10.0.0.99", refused=False)) == Doubt.ONE_WAY


def test_a_capture_of_answers_alone_proves_nothing():
    tape = whole(until=0)
    for at in range(0, 400, 50):
        answered(tape, at)
    assert doubt_of(tape) & Doubt.ONE_WAY


def test_a_host_that_was_in_contact_with_the_victim_is_a_doubt_for_a_while():
    near = answered(whole(), 300).connection(280, OURS, 50123, VICTIM, 80)
    assert doubt_of(near) == Doubt.CONTACT
    assert doubt_of(answered(whole(until=2000), 1900).connection(280, OURS, 50123, VICTIM, 80)) == Doubt(0)
    long = whole(until=2600)
    for at in range(100, 2500, 100):
        long.add(at, udp(OURS, 7000, VICTIM, 7000, b"?")).add(at + 0.1, udp(VICTIM, 7000, OURS, 7000, b"!"))
    assert doubt_of(answered(long, 1500)) == Doubt.CONTACT


def test_a_host_that_scans_half_open_is_a_doubt():
    tape = answered(whole(), 300)
    tape.add(310, tcp(OURS, 6000, "203.0.113.9", 22, "S", seq=1))
    tape.add(310.1, tcp("203.0.113.9", 22, OURS, 6000, "SA", seq=5, ack=2)).add(
        310.2, tcp(OURS, 6000, "203.0.113.9", 22, "R", seq=2)
    )
    assert doubt_of(tape) == Doubt.SCAN


def test_many_answers_at_one_host_at_once_are_an_attack_on_us():
    tape = whole()
    for number in range(60):
        answered(tape, 300 + number * 0.5, victim=f"198.51.100.{number + 1}", our_port=4000 + number)
    answers = answers_in(tape)
    assert len(answers) == 60
    assert (answers.doubt & Doubt.REFLECTION > 0).all()
    slowly = whole()
    for number in range(60):
        answered(slowly, 50 + number * 8, victim=f"198.51.100.{number + 1}", our_port=4000 + number)
    assert not (answers_in(slowly).doubt & Doubt.REFLECTION).any()


def test_lone_syn_acks_with_one_ack_from_many_ports_are_a_scan_of_us():
    hosts = [f"10.0.1.{number}" for number in range(1, 21)]
    tape = whole(*hosts)
    for number, host in enumerate(hosts):
        answered(tape, 300 + number, ours=host, port=1000 + number, ack=77)
    assert (answers_in(tape).doubt & Doubt.PROBE > 0).all()


def test_home_says_whose_answers_count():
    tape = answered(answered(whole(), 300), 310, ours="10.9.9.9")
    assert len(answers_in(tape, home=[ip_network("10.0.0.0/24")])) == 1
    assert len(answers_in(tape, home=[ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])) == 2
    assert len(answers_in(tape, home=[ip_network("2001:db8::/32")])) == 0


def test_retransmissions_are_packets_and_no_answers_of_their_own_however_flows_are_cut():
    tape = whole()
    for at in (300, 301, 303, 307, 580):  # the last after the time-out of a flow, in another row
        answered(tape, at, refused=False)
    answers = answers_in(tape)
    assert (answers.packets.tolist(), answers.answers.tolist()) == ([5], [1])
    again = answers_in(tape, cuts=(302.0, 305.0))
    assert (again.packets.tolist(), again.answers.tolist()) == ([5], [1])


def test_views_are_never_summed():
    tape = answered(whole(), 300)
    tape.add(300.0001, tcp(VICTIM, 80, OURS, 4000, "SA", seq=9, ack=500), vlan=(4,))
    answers = answers_in(tape)
    assert (answers.packets.tolist(), answers.answers.tolist()) == ([1], [1])


REAL = sorted(name for name, kind in KINDS.items() if kind.truth in (Truth.OURS, Truth.THEIRS))


@pytest.mark.parametrize("name", REAL, ids=[name.replace(" ", "-") for name in REAL])
def test_nothing_genuine_is_proven_in_any_scenario(name):
    """Every genuine story, in a capture that covers it: its pair of hosts is in no flood."""
    import random

    chance = random.Random(name)
    world = World(4, "none", "much", "one", cuts=1, snap=65535, reordered=0, loss=0)
    story = Story(chance, 4)
    KINDS[name].tell(story)
    scene = captured(story, world, chance)
    answers = unsolicited(scene.table, scene.censuses(ALWAYS))
    remote = Address.parse(story.remote)
    proven = answers.select(answers.doubt == 0)
    assert not (proven.victim_lo == np.uint64(remote.lo)).any()
