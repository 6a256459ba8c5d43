"""What holds backscatter back: each cap of the field guide, on a case that would be confirmed without it."""

from __future__ import annotations

import io
from functools import partial

import pytest
from tests.verdict.tape import ISN, LOCAL, PORT, REMOTE, SERVICE, Tape, alert, seconds

from backscatter.demo.wire import pcap, tcp
from backscatter.finding.model import End
from backscatter.flow.lookup import TableScene
from backscatter.flow.read import Piece, read_sensor
from backscatter.verdict.judge import judge
from backscatter.verdict.model import Effect, Label, Why
from backscatter.verdict.settings import Settings


@pytest.fixture
def tape() -> Tape:
    """Confirmed backscatter at 300 s, in ten minutes of ordinary traffic."""
    return Tape().ordinary(0, 600).backscatter(300)


def missing(verdict) -> str:
    return " ".join(evidence.text for evidence in verdict.evidence if evidence.effect is Effect.MISSING)


def test_nothing_holds_back_a_case_that_is_covered(tape):
    assert tape.judged().confidence == 97


def test_a_hole_in_the_look_back_shortens_it(tape):
    tape.records = [record for record in tape.records if not seconds(220) <= record[0] < seconds(240)]
    # Within one capture a silence is no hole; between rotated pieces it is.
    assert tape.judged().confidence == 97
    verdict = tape.judged(cuts=(230,))
    assert (verdict.rule, verdict.confidence) == ("R5", 85)


def test_taking_away_the_piece_that_holds_our_syn_never_makes_an_attempt_backscatter():
    tape = Tape().ordinary(0, 600, every=1.5).ours(299.9, "S", seq=ISN - 1).backscatter(300)
    assert tape.judged(cuts=(290, 299.95)).label is Label.CONNECTION_ATTEMPTED
    tape.records = [record for record in tape.records if not seconds(290) <= record[0] < seconds(299.95)]
    assert tape.judged(cuts=(290, 299.95)).label is Label.UNDETERMINED


def test_a_hole_within_the_conversation_caps_at_possible():
    tape = Tape().ordinary(0, 300, every=5).ordinary(320, 600, every=5).backscatter(299).backscatter(321)
    verdict = tape.judged(cuts=(310,))
    assert verdict.band == "possible"
    assert "hole" in missing(verdict)


def test_rotation_without_a_hole_changes_nothing():
    tape = Tape().ordinary(0, 600, every=1.5).backscatter(300)
    assert tape.judged(cuts=(120.5, 240.5, 300.0001, 360.5)).confidence == 97


def test_too_little_other_traffic_to_measure_loss_caps_at_probable():
    tape = Tape().ordinary(0, 600, every=250).backscatter(300)
    verdict = tape.judged()
    assert (verdict.rule, verdict.confidence, verdict.band) == ("R4", 94, "probable")
    assert "acknowledged segments" in missing(verdict)


@pytest.mark.parametrize(
    ("every", "label", "band"), [(40, Label.BACKSCATTER, "possible"), (5, Label.UNDETERMINED, "none")]
)
def test_loss_caps_by_its_rate(tape, every, label, band):
    data = [record for record in tape.records if len(record[1]) > 100]
    lost = set(data[::every])
    tape.records = [record for record in tape.records if record not in lost]
    verdict = tape.judged()
    assert (verdict.label, verdict.band) == (label, band)
    assert "lost about" in missing(verdict)


def test_with_measurable_loss_silence_of_ours_proves_nothing():
    tape = Tape().ordinary(0, 600).synack(300).synack(301)
    assert tape.judged().rule == "R6"
    data = [record for record in tape.records if len(record[1]) > 100]
    lost = set(data[::40])
    tape.records = [record for record in tape.records if record not in lost]
    verdict = tape.judged()
    assert (verdict.label, verdict.why, verdict.rule) == (Label.UNDETERMINED, Why.MIDSTREAM, "R16")


def test_a_loss_below_one_per_cent_that_may_be_above_it_caps_at_probable(tape):
    tape.records.remove(next(record for record in tape.records if len(record[1]) > 100))
    verdict = tape.judged()
    assert (verdict.rule, verdict.confidence) == ("R4", 94)
    assert "may be" in missing(verdict)


def test_a_loss_that_was_noticed_counts_where_there_is_too_little_traffic_for_an_estimate():
    tape = Tape().ordinary(0, 600, every=250).backscatter(300)
    tape.records.remove(next(record for record in tape.records if len(record[1]) > 100))
    assert tape.judged().band == "possible"


def test_a_half_open_scan_of_ours_caps_at_possible(tape):
    ends = (LOCAL, 60000, "203.0.113.1", 80)
    tape.add(200, tcp(*ends, "S", seq=5)).add(200.1, tcp(*ends[2:], *ends[:2], "SA", seq=9, ack=6))
    verdict = tape.add(200.2, tcp(*ends, "R", seq=6)).judged()
    assert (verdict.rule, verdict.confidence) == ("R4", 69)
    assert "half-open" in missing(verdict)


def test_a_capture_of_nothing_but_the_pair_caps_at_possible():
    verdict = Tape().backscatter(0).backscatter(7200, port=3072).judged(alert(7200, local=End(LOCAL, 3072)))
    assert verdict.label is Label.BACKSCATTER
    assert verdict.band == "possible"
    assert "filtered" in missing(verdict)


def test_a_finding_whose_window_was_mostly_not_captured_caps_at_probable(tape):
    verdict = tape.judged(alert(300, until=3000))
    assert verdict.confidence == 94
    assert "Nobody captured" in missing(verdict)


def test_another_sensor_that_missed_the_time_caps_at_probable(tape):
    other = Tape().ordinary(0, 250, host="10.0.0.99")
    sensors = [
        read_sensor(name, [Piece(f"{name}.pcap", partial(io.BytesIO, pcap(sorted(one.records))))])
        for name, one in (("tap", tape), ("other", other))
    ]
    verdict = judge(alert(), TableScene(sensors), Settings())
    assert (verdict.rule, verdict.confidence) == ("R4", 94)
    assert "other" in missing(verdict)


def test_one_scope_for_each_direction_caps_at_possible():
    tape = Tape(vlan=(1,)).ordinary(0, 600, host="10.0.0.77").synack(300).refusal(300.001, vlan=(2,))
    verdict = tape.judged()
    assert verdict.label in (Label.BACKSCATTER, Label.UNDETERMINED)
    assert verdict.confidence <= 69


def test_juno_ports_and_a_flooded_server_make_it_surer_but_never_confirmed():
    tape = Tape().ordinary(270, 600, every=5)
    for host in range(10, 22):
        ends = (REMOTE, SERVICE, f"10.0.0.{host}", 1024)
        tape.add(280 + host, tcp(*ends, "SA", seq=1, ack=host)).add(
            280.1 + host, tcp(*ends[2:], *ends[:2], "R", seq=host)
        )
    verdict = tape.backscatter(290, port=1024).judged(alert(290, local=End(LOCAL, 1024)))
    assert (verdict.rule, verdict.confidence) == ("R5", 60 + 3 + 8 + 5)


def test_a_capture_that_ends_with_the_conversation_caps_at_probable():
    verdict = Tape().ordinary(0, 295, every=5).backscatter(300).judged()
    assert (verdict.rule, verdict.band) == ("R4", "probable")


def test_undetermined_by_loss_says_why(tape):
    tape.records = [record for i, record in enumerate(tape.records) if i % 4 or record[0] == seconds(300)]
    verdict = tape.judged()
    assert verdict.label is not Label.BACKSCATTER or verdict.band != "confirmed"
    assert verdict.why in (None, Why.MIDSTREAM, Why.CONFLICT)
    assert PORT
