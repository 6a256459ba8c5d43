"""What session records make of an alert: real connections win, and nothing is ever confirmed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.session.made import LOCAL, PORT, REMOTE, SERVICE, alert, eve, judged, log, sessions, vpc
from tests.verdict.tape import Tape
from tests.verdict.tape import alert as tape_alert

from backscatter.finding.model import End
from backscatter.session.log import Sessions
from backscatter.verdict.judge import judge
from backscatter.verdict.model import Label, Why
from backscatter.verdict.sessions import SESSION_RULES, with_sessions
from backscatter.verdict.settings import Settings

US, THEM = (LOCAL, PORT), (REMOTE, SERVICE)


def case(verdict):
    return verdict.rule, verdict.label.value, verdict.confidence


def test_a_syn_ack_that_the_security_group_rejected_is_backscatter():
    verdict = judged(log(vpc("in", 18, 4, action="REJECT")))
    assert case(verdict) == ("S5", "backscatter", 75)
    assert (verdict.band, verdict.why) == ("probable", None)
    assert (verdict.victim.ip, verdict.victim.port) == (REMOTE, SERVICE)
    texts = [piece.text for piece in verdict.evidence]
    assert any("198.51.100.9:443 > 10.0.0.5:40000" in text and "flags SA, REJECT" in text for text in texts)
    assert any("file-0:2" in text for text in texts)


def test_a_log_of_rejections_alone_proves_nothing():
    """A network ACL may reject the answer to a SYN of ours, which such a log does not hold."""
    other = [vpc("in", 2, at=at, action="REJECT", remote="203.0.113.50") for at in range(-900, 900, 60)]
    verdict = judged(log(vpc("in", 18, 4, action="REJECT"), *other, around=False))
    assert case(verdict) == ("S8", "undetermined", 0)
    assert verdict.why is Why.ASYMMETRIC


def test_where_records_are_skipped_or_the_log_begins_with_it_our_syn_may_be_missing():
    gap = f"5 - - - - - - - {1_700_000_200} {1_700_000_260} - - SKIPDATA"
    for log_of_it in (log(vpc("in", 18, action="REJECT"), gap), log(vpc("in", 18, action="REJECT"), around=False)):
        assert case(judged(log_of_it)) == ("S8", "undetermined", 0)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([vpc("out", 3, 6, 900), vpc("in", 19, 5, 5000)], ("S1", "connection_established", 85)),
        ([vpc("out", 2, 3, 160), vpc("in", 18, 2, 120)], ("S1", "connection_established", 85)),
        ([vpc("in", 19, 5, 5000)], ("S3", "connection_established", 75)),
        ([vpc("in", 18, 5, 5000)], ("S3", "connection_established", 75)),
        ([vpc("in", 0, 9, 9000), vpc("out", 0, 9, 900)], ("S3", "connection_established", 75)),
        ([vpc("out", 0, 2, 104), vpc("in", 18, 1, 60)], ("S3", "connection_established", 75)),
        ([vpc("out", 2, 1, 60)], ("S4", "connection_attempted", 85)),
        ([vpc("out", 6, 2, 100), vpc("in", 18, 1, 60)], ("S4", "connection_attempted", 85)),
        ([vpc("out", 2, 1, 60, action="REJECT")], ("S4", "connection_attempted", 85)),
        ([vpc("out", 2, 1, 60), vpc("in", 18, 3, action="REJECT")], ("S4", "connection_attempted", 85)),
        ([vpc("in", 3, 6, 900), vpc("out", 19, 5, 5000)], ("S2", "inbound_connection", 85)),
        ([vpc("in", 2, 2, 100), vpc("out", 18, 1, 60)], ("S2", "inbound_connection", 85)),
        ([vpc("in", 2, 3, 180)], ("S7", "inbound_scan", 70)),
        ([vpc("in", 2, 3, 180, action="REJECT")], ("S7", "inbound_scan", 70)),
        ([vpc("in", 2), vpc("out", 4)], ("S7", "inbound_scan", 70)),
        ([vpc("in", 18), vpc("out", 4, 1, 40)], ("S6", "backscatter", 65)),
        ([vpc("in", 18)], ("S6", "backscatter", 55)),
        ([vpc("in", 18, 12, 600)], ("S8", "undetermined", 0)),
        ([vpc("in", "-", 1), vpc("out", "-", 1)], ("S8", "undetermined", 0)),
        ([vpc("in", "-", 1, action="REJECT")], ("S8", "undetermined", 0)),
        ([vpc("in", "-", 30, 9000), vpc("out", "-", 30, 9000)], ("S3", "connection_established", 75)),
        ([vpc("in", 0, 1, 52)], ("S8", "undetermined", 0)),
    ],
)
def test_flow_logs(lines, expected):
    assert case(judged(log(*lines))) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (eve(US, THEM, (6, 900, "1b"), (5, 5000, "1b")), ("S1", "connection_established", 85)),
        (eve(US, THEM, (3, 180, "02"), (0, 0, "00")), ("S4", "connection_attempted", 85)),
        (eve(US, THEM, (1, 60, "02"), (1, 40, "14")), ("S4", "connection_attempted", 85)),
        (eve(US, THEM, (2, 100, "06"), (1, 60, "12")), ("S4", "connection_attempted", 85)),
        (eve(THEM, US, (6, 900, "1b"), (5, 5000, "1b")), ("S2", "inbound_connection", 85)),
        (eve(THEM, US, (2, 120, "02"), (2, 80, "14")), ("S7", "inbound_scan", 70)),
        (eve(THEM, US, (3, 180, "12"), (0, 0, "00")), ("S6", "backscatter", 55)),
        (eve(THEM, US, (2, 120, "12"), (2, 80, "04")), ("S6", "backscatter", 65)),
        (eve(US, THEM, (2, 80, "04"), (2, 120, "12")), ("S6", "backscatter", 65)),  # turned round, as midstream does
        (eve(THEM, US, (5, 5000, "1a"), (0, 0, "00")), ("S3", "connection_established", 75)),  # one side of ours
        (eve(THEM, US, (2, 120, "00"), (2, 80, "00")), ("S8", "undetermined", 0)),
        (eve(THEM, US, (1, 52, "10"), (1, 40, "04")), ("S8", "undetermined", 0)),
    ],
    ids=lambda value: "" if isinstance(value, str) else value[0],
)
def test_eve_flows(line, expected):
    around = [
        eve((LOCAL, 50000 + at), ("192.0.2.80", 443), (9, 900, "1b"), (9, 900, "1b"), at=at)
        for at in range(-700, 900, 60)
    ]
    assert case(judged("\n".join([line, *around]).encode())) == expected


def test_datagrams():
    def verdict(*lines):
        return case(judged(log(*lines), finding=alert("udp")))

    assert verdict(vpc("out", 0, proto="udp"), vpc("in", 0, proto="udp", at=301))[:2] == (
        "S1",
        "connection_established",
    )
    assert verdict(vpc("in", 0, proto="udp"), vpc("out", 0, proto="udp", at=301))[:2] == ("S2", "inbound_connection")
    assert verdict(vpc("out", 0, proto="udp"))[:2] == ("S4", "connection_attempted")
    assert verdict(vpc("in", 0, proto="udp", action="REJECT"))[:2] == ("S7", "inbound_scan")
    assert verdict(vpc("in", 0, proto="udp"))[:2] == ("S8", "undetermined")


def test_records_of_nobody_change_nothing():
    bare = judge(alert(), Tape().scene(), Settings())
    found, _ = sessions(log())
    assert with_sessions(bare, found, Settings()) is bare
    assert with_sessions(bare, Sessions(()), Settings()) is bare


def test_contact_on_another_port_makes_backscatter_a_conflict():
    verdict = judged(
        log(vpc("in", 18, action="REJECT"), vpc("out", 3, 9, 900, port=41000), vpc("in", 19, 9, 9000, port=41000))
    )
    assert (verdict.rule, verdict.label, verdict.why) == ("S9", Label.UNDETERMINED, Why.CONFLICT)


def test_a_finding_without_ports_takes_the_most_dangerous_of_its_conversations():
    verdict = judged(
        log(vpc("in", 2, port=22), vpc("out", 3, 9, 900, port=41000), vpc("in", 19, 9, 9000, port=41000)),
        finding=alert(None, port=None, service=None),
    )
    assert verdict.label is Label.CONNECTION_ESTABLISHED
    assert verdict.conversations == {"connection_established": 1, "inbound_scan": 1}


def test_records_before_and_after_the_finding_are_not_its_own():
    assert judged(log(vpc("out", 2, at=-1500))).why is Why.NO_CAPTURE
    assert judged(log(vpc("out", 2, at=900))).why is Why.NO_CAPTURE


def scene_of_backscatter():
    return Tape().ordinary(0, 900).backscatter(300)


def captured_alert():
    return tape_alert(local=End(LOCAL, PORT), remote=End("198.51.100.9", 6667))


def test_a_record_of_a_real_connection_wins_over_captured_backscatter():
    tape = scene_of_backscatter()
    assert tape.judged().label is Label.BACKSCATTER
    lines = [vpc("out", 3, 9, 900, service=6667), vpc("in", 19, 9, 9000, service=6667)]
    verdict = judged(log(*lines), finding=captured_alert(), scene=tape.scene())
    assert (verdict.label, verdict.rule) == (Label.CONNECTION_ESTABLISHED, "S1")
    assert any("Captures alone would have said backscatter (R4)" in piece.text for piece in verdict.evidence)
    assert verdict.flows_total > 0


@pytest.mark.parametrize("flags", ["-", 18], ids=["unknown flags", "a SYN+ACK"])
def test_a_record_that_shows_no_connection_leaves_the_captured_verdict(flags):
    tape = scene_of_backscatter()
    before = judge(captured_alert(), tape.scene(), Settings())
    verdict = judged(log(vpc("in", flags, service=6667)), finding=captured_alert(), scene=tape.scene())
    assert (verdict.label, verdict.confidence, verdict.rule) == (before.label, before.confidence, before.rule)
    assert len(verdict.evidence) > len(before.evidence)


def test_a_real_connection_in_captures_stays_one():
    tape = Tape().ordinary(0, 900).connection(300, LOCAL, PORT, REMOTE, 6667)
    verdict = judged(log(vpc("in", 18, service=6667, action="REJECT")), finding=captured_alert(), scene=tape.scene())
    assert (verdict.label, verdict.rule) == (Label.CONNECTION_ESTABLISHED, "R1")


_FLAGS = st.sampled_from([0, 1, 2, 3, 4, 6, 7, 18, 19, 22, 23, "-"])
_LINES = st.lists(
    st.builds(
        vpc, st.sampled_from(["in", "out"]), _FLAGS, st.integers(1, 12), st.integers(40, 5000),
        action=st.sampled_from(["ACCEPT", "REJECT"]), at=st.integers(200, 400), port=st.sampled_from([PORT, 41000]),
    ),
    max_size=5,
)  # fmt: skip


@given(_LINES, st.booleans())
def test_nothing_is_confirmed_and_a_syn_of_ours_ends_all_backscatter(lines, around):
    verdict = judged(log(*lines, around=around))
    assert verdict.confidence < 95
    with_syn = judged(log(*lines, vpc("out", 2), around=around))
    assert with_syn.label in (Label.CONNECTION_ESTABLISHED, Label.CONNECTION_ATTEMPTED)


@given(_LINES)
def test_the_order_of_records_changes_nothing(lines):
    forth, back = judged(log(*lines)), judged(log(*lines[::-1]))
    assert (forth.label, forth.confidence, forth.rule, forth.conversations) == (
        back.label, back.confidence, back.rule, back.conversations,
    )  # fmt: skip


def test_no_rule_confirms():
    assert max(rule.confidence for rule in SESSION_RULES) < 95
    assert max(rule.confidence for rule in SESSION_RULES if rule.label is Label.BACKSCATTER) <= 75


def test_no_real_connection_of_the_exposed_host_is_harmless(captures):
    """1779 flow records of a really exposed host: where both sides sent data, no verdict is harmless."""
    import io
    import json

    from backscatter.errors import FindingError
    from backscatter.finding.recognise import read_findings
    from backscatter.flow.address import Address
    from backscatter.flow.lookup import TableScene
    from backscatter.session.read import read_sessions
    from backscatter.verdict.settings import Settings

    data = (captures / "alerts" / "suricata-eve__ctu-exposed-host.json").read_bytes()
    home = Settings()
    real, answered = set(), set()
    for line in data.splitlines():
        event = json.loads(line)
        if event["event_type"] != "flow" or event["proto"] != "TCP" or "tcp" not in event:
            continue
        flags = int(event["tcp"]["tcp_flags_ts"], 16), int(event["tcp"]["tcp_flags_tc"], 16)
        key = event["src_ip"], event["src_port"], event["dest_ip"], event["dest_port"]
        if all(one & 0x18 == 0x18 for one in flags):
            real.add(key)
        answered.add(key)
    findings = [one for one in read_findings(io.BytesIO(data), "eve.json") if not isinstance(one, FindingError)]
    pairs = [
        frozenset((Address.parse(one.a.ip), Address.parse(one.b.ip))) for alert in findings for one in alert.tuples
    ]
    found = Sessions(pairs)
    for record in read_sessions(io.BytesIO(data), "eve.json", found.hosts):
        assert not isinstance(record, FindingError)
        found.add(record)
    joined = 0
    for finding in findings:
        verdict = with_sessions(judge(finding, TableScene(()), home), found, home)
        (about,) = finding.tuples
        assert verdict.label is not Label.BACKSCATTER
        joined += verdict.rule.startswith("S")
        if (about.a.ip, about.a.port, about.b.ip, about.b.port) in real and verdict.rule.startswith("S"):
            assert verdict.label in (Label.CONNECTION_ESTABLISHED, Label.INBOUND_CONNECTION)
    assert joined > 200
    assert real <= answered
