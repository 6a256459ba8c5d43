"""Rules that nearly applied: what was missing is computed from the table's own facts, never written twice."""

from __future__ import annotations

import pytest
from tests.verdict.scenarios.story import KINDS
from tests.verdict.scenarios.trial import trial
from tests.verdict.scenarios.world import World
from tests.verdict.tape import ISN, REMOTE, Tape, alert, seconds

from backscatter.demo.wire import tcp
from backscatter.finding.model import End
from backscatter.verdict.model import Effect

PLAIN = World(4, "none", "much", "one", 0, 65535, 0, 0)


@pytest.fixture
def tape() -> Tape:
    return Tape().ordinary(0, 600)


def near(verdict) -> list[str]:
    """What is told of rules that nearly applied."""
    return [
        piece.text
        for piece in verdict.evidence
        if piece.effect is Effect.MISSING and ("nearly applied" in piece.text or "fits the conversation" in piece.text)
    ]


def told_of(rule: str, verdict) -> str:
    return next((text for text in near(verdict) if text.startswith(f"{rule} ")), "")


def test_a_look_back_that_is_too_short_is_told_in_seconds():
    verdict = Tape().ordinary(260, 600).backscatter(300).judged()
    assert verdict.rule == "R5"
    assert told_of("R4", verdict) == (
        "R4 (backscatter, 97) nearly applied, but only 40 s of unbroken capture lie before the first packet; "
        "2 min 7 s are needed."
    )


def test_a_syn_of_ours_is_told_with_its_number(tape):
    verdict = tape.ours(299.9, "S", seq=ISN - 1).backscatter(300).judged()
    assert told_of("R4", verdict) == (
        f"R4 (backscatter, 97) nearly applied, but our host sent a SYN itself, with seq {ISN - 1}."
    )
    assert "no ACK, data or FIN of ours followed" in told_of("R1", verdict)


def test_a_hole_before_it_is_told_as_a_hole(tape):
    tape.records = [record for record in tape.records if not seconds(270) <= record[0] < seconds(290)]
    verdict = tape.ordinary(290, 300, every=5).backscatter(300).judged(cuts=(280,))
    assert "a hole in the captures ends 10 s before the first packet" in told_of("R4", verdict)


def test_a_hole_within_it_is_told(tape):
    tape = Tape().ordinary(0, 300, every=5).ordinary(320, 600, every=5).synack(299).synack(321)
    assert "a hole lies between its first and its last packet" in told_of("R6", tape.judged(cuts=(310,)))


def test_capture_that_ends_too_early_is_told():
    verdict = Tape().ordinary(0, 299, every=5).synack(300).judged()
    assert "ends less than 3 s after its last packet" in told_of("R6", verdict)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (lambda tape: tape.synack(300).refusal(300.001, payload=b"x"), "what we sent carries payload"),
        (lambda tape: tape.backscatter(300).theirs(301, "R", seq=78, payload=b"x"), "what they sent carries payload"),
        (lambda tape: tape.synack(300).refusal(300.001).refusal(300.002), "we sent more RSTs than they sent SYN+ACKs"),
        (lambda tape: tape.synack(300).refusal(309), "our RST came 9 s after their SYN+ACK"),
        (lambda tape: tape.synack(300).refusal(300.001, seq=5), "no bare RST of ours has the seq"),
        (lambda tape: tape.backscatter(300).theirs(301, "A", seq=78, ack=ISN), "they sent more than SYN+ACKs and RSTs"),
    ],
    ids=["our payload", "their payload", "too many rsts", "late", "another seq", "their ack"],
)
def test_what_spoils_r4_s_picture_is_told(tape, more, words):
    more(tape)
    verdict = tape.judged()
    assert verdict.label.value == "undetermined"
    assert words in told_of("R4", verdict)


def test_a_rule_that_fits_but_for_its_surroundings_is_told(tape):
    tape.backscatter(300).connection(310, "10.0.0.5", 41000, REMOTE, 443)
    verdict = tape.judged()
    assert verdict.rule == "R19"
    assert "fits the conversation itself" in told_of("R4", verdict)


def test_a_scanned_port_of_ours_nearly_took_part_in_a_connection(tape):
    tape.theirs(300, "S", seq=5).ours(300.001, "SA", seq=9, ack=6)
    assert "R13 (inbound connection, 90) nearly applied" in " ".join(near(tape.judged()))


def test_a_whole_connection_was_near_to_nothing_else(tape):
    tape.add(299, tcp("203.0.113.9", 1, "10.0.0.5", 2, "SA", seq=1, ack=2))
    tape.connection(300, "10.0.0.5", 40000, REMOTE, 6667)
    assert near(tape.judged(alert(remote=End(REMOTE, 6667)))) == []


@pytest.mark.parametrize("name", list(KINDS))
def test_no_verdict_was_near_to_itself_and_each_other_one_is_told_once(name):
    verdict = trial(7, name=name, world=PLAIN).verdict
    labels = [text.partition("(")[2].rpartition(", ")[0].partition(",")[0] for text in near(verdict)]
    assert len(labels) == len(set(labels)) <= 6
    assert all(text.endswith(".") and "\n" not in text for text in near(verdict))
