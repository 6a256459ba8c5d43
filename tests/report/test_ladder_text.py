"""The ladder in letters, as the page of rules prints it."""

from __future__ import annotations

from tests.verdict.scenarios.shown import shown

from backscatter.report.ladder import Ladder, Rung, ladder, ladder_text


def test_arrows_point_from_who_sent_to_who_got_it():
    drawn = ladder(shown("refused_once"))
    assert drawn
    head, asked, answered = ladder_text(drawn)
    assert head.split() == ["ours", "theirs"]
    assert asked.startswith("    |<----------- SYN+ACK ------------|  0 ")
    assert answered.startswith("    |------------- RST -------------->|  +400 µs ")
    assert len({line.rindex("|") for line in (asked, answered)}) == 1


def test_what_is_too_long_for_an_arrow_stands_behind_it():
    drawn = ladder(shown("echo_reply"))
    assert drawn
    (_, line) = ladder_text(drawn)
    assert line == "    |<" + "-" * 32 + "|  0         ICMP echo reply, id 0, seq 0, length 8"


def test_pauses_unknown_directions_and_what_is_left_out_are_said():
    rung = Rung(0, 5, 5, "+1 s", "SYN", "seq 1", "syn", "", "", "6 s later", "")
    lines = ladder_text(Ladder((rung,), 10, "", 3))
    assert "6 s later" in lines[1]
    assert lines[2].count(".") > 20
    assert "3 more" in lines[3]
