"""What holds backscatter back: each cap of the field guide, on a case that would be confirmed without it."""

from __future__ import annotations

import io
import ipaddress
import struct
from functools import partial

import dpkt
import pytest
from tests.verdict.tape import ISN, LOCAL, PORT, REMOTE, SERVICE, Tape, alert, seconds

from backscatter.demo.wire import pcap, tcp, udp
from backscatter.finding.model import End
from backscatter.flow.lookup import TableScene
from backscatter.flow.read import Piece, read_sensor
from backscatter.flow.window import Window
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


def test_a_hole_in_the_look_back_leaves_it_open_whether_our_syn_was_in_it(tape):
    tape.records = [record for record in tape.records if not seconds(220) <= record[0] < seconds(240)]
    # Within one capture a silence is no hole; between rotated pieces it is.
    assert tape.judged().confidence == 97
    verdict = tape.judged(cuts=(230,))
    assert (verdict.rule, verdict.why) == ("R16", Why.MIDSTREAM)
    assert "a hole in the captures ends 1 min 0 s before the first packet; 2 min 7 s are needed" in missing(verdict)


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


def looked_up(tape, time: float, address: str, *, asker: str = LOCAL):
    """A question of somebody for the address of a name, and its answer."""
    answer = dpkt.dns.DNS(id=7, op=0x8180, qd=[dpkt.dns.DNS.Q(name="irc.example.net", type=1, cls=1)])
    question = bytes(dpkt.dns.DNS(id=7, op=0x0100, qd=answer.qd))
    for number in (address, "198.51.100.77"):
        packed = ipaddress.ip_address(number).packed
        answer.an.append(dpkt.dns.DNS.RR(name="irc.example.net", type=1, cls=1, ttl=60, ip=packed))
    tape.add(time, udp(asker, 40000, "192.0.2.53", 53, question))
    return tape.add(time + 0.02, udp("192.0.2.53", 53, asker, 40000, bytes(answer)))


def test_a_look_up_of_the_remote_right_before_caps_at_possible(tape):
    verdict = looked_up(tape, 295, REMOTE).judged()
    assert (verdict.label, verdict.rule, verdict.confidence) == (Label.BACKSCATTER, "R4", 69)
    assert "asked for the remote's name" in missing(verdict)


@pytest.mark.parametrize(
    ("time", "address", "asker"),
    [(295, "203.0.113.44", LOCAL), (301, REMOTE, LOCAL), (295, REMOTE, "10.0.0.77")],
    ids=["of somebody else", "afterwards", "by another host"],
)
def test_other_look_ups_cap_nothing(tape, time, address, asker):
    before = tape.judged().confidence
    assert looked_up(tape, time, address, asker=asker).judged().confidence == before


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


def two_hours(*, lossy: tuple[float, float]) -> Tape:
    """Two hours in one capture, with backscatter at 6000 s; data is lost between two times."""
    tape = Tape().ordinary(0, 7200, every=8).backscatter(6000)
    inside = [one for one in tape.records if seconds(lossy[0]) <= one[0] < seconds(lossy[1]) and len(one[1]) > 100]
    lost = set(inside[::10])
    tape.records = [record for record in tape.records if record not in lost]
    return tape


def test_a_burst_of_loss_does_not_drown_in_a_long_capture():
    tape = two_hours(lossy=(5700, 6100))
    (census,) = tape.scene().censuses(Window(0, 1 << 62))
    assert 0 < census.scopes[""].lost < 0.01 * census.scopes[""].segments
    verdict = tape.judged(alert(6000))
    assert (verdict.label, verdict.band) == (Label.BACKSCATTER, "possible")
    assert "lost about" in missing(verdict)


def test_loss_at_another_time_holds_nothing_back():
    verdict = two_hours(lossy=(0, 4000)).judged(alert(6000))
    assert (verdict.rule, verdict.confidence) == ("R4", 97)


def test_the_slices_of_a_capture_add_up_to_its_whole():
    (census,) = two_hours(lossy=(300, 4000)).scene().censuses(Window(0, 1 << 62))
    scope = census.scopes[""]
    assert sum(segments for _, segments, _ in scope.slices) == scope.segments
    assert sum(lost for _, _, lost in scope.slices) == scope.lost > 0
    assert len(scope.slices) in (24, 25)


def test_what_the_sensor_says_that_it_dropped_counts_in_pcapng_statistics():
    tape = Tape().ordinary(0, 600).backscatter(300)
    data = pcapng(sorted(tape.records), dropped=len(tape.records) // 20)
    scene = TableScene([read_sensor("tap", [Piece("tap.pcapng", partial(io.BytesIO, data))])])
    verdict = judge(alert(), scene, Settings())
    assert (verdict.label, verdict.band) == (Label.BACKSCATTER, "possible")
    assert "lost about 4." in missing(verdict)


def pcapng(records: list[tuple[int, bytes]], *, dropped: int) -> bytes:
    """A pcapng of one section and interface (nanoseconds) whose statistics tell dropped packets (isb_ifdrop)."""

    def block(kind: int, body: bytes) -> bytes:
        body += b"\0" * (-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    parts = [
        block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)),
        block(1, struct.pack("<HHI", 1, 0, 0) + struct.pack("<HHB3x", 9, 1, 9) + struct.pack("<HH", 0, 0)),
    ]
    for time, frame in records:
        head = struct.pack("<IIIII", 0, time >> 32, time & 0xFFFFFFFF, len(frame), len(frame))
        parts.append(block(6, head + frame))
    last = records[-1][0]
    told = struct.pack("<III", 0, last >> 32, last & 0xFFFFFFFF) + struct.pack("<HHQ", 5, 8, dropped)
    parts.append(block(5, told + struct.pack("<HH", 0, 0)))
    return b"".join(parts)
