"""Coverage: what the captures can vouch for, and for how long."""

from __future__ import annotations

import io

import pytest
from tests.verdict.tape import ISN, LOCAL, Tape, alert, seconds

from backscatter.demo.wire import pcap, tcp
from backscatter.flow.census import Census, ScopeCensus
from backscatter.flow.lookup import TableScene
from backscatter.flow.read import Piece, read_sensor
from backscatter.flow.window import Window
from backscatter.verdict.coverage import Loss, Span, coverage_of, share_seen
from backscatter.verdict.judge import judge
from backscatter.verdict.settings import Settings

SECOND = 10**9
HOUR = 3600 * SECOND


def census(
    start: int, end: int, *, sensor="tap", packets=1000, gap=SECOND // 100, scope="", first=None, **more
) -> Census:
    inside = {
        scope: ScopeCensus(
            packets, start if first is None else first, end, more.pop("segments", 100), more.pop("lost", 0)
        )
    }
    return Census(f"{sensor}-{start}", sensor, start, end, packets, gap, inside, **more)


def spans(*censuses, scope="", window=None):
    (coverage,) = coverage_of(censuses, scope, window or Window(0, HOUR))
    return coverage.spans


def test_pieces_that_follow_each_other_closely_are_one_span():
    assert spans(census(0, 60 * SECOND), census(61 * SECOND, 120 * SECOND)) == (Span(0, 120 * SECOND),)


@pytest.mark.parametrize(
    ("gap", "silence", "whole"), [(0.01, 2.0, True), (0.01, 2.1, False), (1, 9.9, True), (1, 10.1, False)]
)
def test_a_hole_is_longer_than_two_seconds_and_ten_median_gaps(gap, silence, whole):
    first = census(0, 60 * SECOND, gap=round(gap * SECOND))
    begin = 60 * SECOND + round(silence * SECOND)
    second = census(begin, begin + 60 * SECOND, gap=round(gap * SECOND))
    assert len(spans(first, second)) == (1 if whole else 2)


def test_the_busier_piece_says_how_long_a_silence_may_be():
    busy = census(0, 60 * SECOND, gap=10**6, packets=10_000)
    quiet = census(90 * SECOND, 900 * SECOND, gap=30 * SECOND, packets=10)
    assert len(spans(busy, quiet)) == 2


def test_damage_breaks_a_span():
    assert spans(census(0, 100, holes=((40, 60),))) == (Span(0, 40), Span(60, 100))


def test_pieces_do_not_join_where_one_of_them_is_damaged_however_close_they_are():
    """A piece cut short may have lost minutes, or the one SYN that matters."""
    first, second = census(0, 60 * SECOND), census(61 * SECOND, 120 * SECOND)
    cut_short = census(0, 60 * SECOND, holes=((60 * SECOND, 60 * SECOND + 1),))
    torn = census(61 * SECOND, 120 * SECOND, holes=((61 * SECOND - 1, 61 * SECOND),))
    (whole,) = coverage_of([first, second], "", Window(0, HOUR))
    assert whole.lookback(100 * SECOND) == 100 * SECOND
    for pieces in ([cut_short, second], [first, torn]):
        (parted,) = coverage_of(pieces, "", Window(0, HOUR))
        assert 39 * SECOND - 1 <= parted.lookback(100 * SECOND) <= 40 * SECOND
        assert parted.has(0, 60 * SECOND)
        assert not parted.has(59 * SECOND, 62 * SECOND)
    assert len(spans(cut_short)) == 1
    assert spans(torn)[-1] == Span(61 * SECOND, 120 * SECOND)


@pytest.mark.parametrize("where", ["end of a piece", "begin of a piece"])
def test_a_syn_of_ours_in_a_damaged_end_of_a_piece_does_not_make_its_answer_backscatter(where):
    tape = Tape().ordinary(0, 600, every=1.7).ours(299.99, "S", seq=ISN - 1)
    tape.synack(300.1).refusal(300.1003)
    edge = seconds(299.995 if where == "end of a piece" else 299.98)
    records = sorted(tape.records)
    before, after = ([one for one in records if (one[0] < edge) is early] for early in (True, False))
    data = [pcap(before), pcap(after)]
    at = [time for time, _ in records].index(seconds(299.99))
    if where == "end of a piece":
        data[0] = data[0][: -len(records[at][1]) + 20]
    else:
        begin = len(pcap([]))
        torn = len(pcap([records[at]])) - begin
        data[1] = data[1][:begin] + b"\xff" * torn + data[1][begin + torn :]
    pieces = [Piece(f"piece-{number}.pcap", lambda one=one: io.BytesIO(one)) for number, one in enumerate(data)]
    verdict = judge(alert(), TableScene([read_sensor("tap", pieces)]), Settings())
    assert verdict.label.value == "undetermined"


def test_a_scope_is_covered_from_its_first_packet_on():
    assert spans(census(0, 100, first=70)) == (Span(70, 100),)


def test_an_implausible_clock_covers_nothing():
    assert coverage_of([census(0, 100, clock_ok=False)], "", Window(0, 100)) == ()


def test_other_scopes_cover_nothing():
    assert coverage_of([census(0, 100, scope="vlan:1")], "", Window(0, 100)) == ()


def test_lookback_reaches_to_the_begin_of_the_span_only():
    (coverage,) = coverage_of([census(0, 50 * SECOND), census(60 * SECOND, 300 * SECOND)], "", Window(0, HOUR))
    assert coverage.lookback(100 * SECOND) == 40 * SECOND
    assert coverage.lookback(55 * SECOND) == 0


def test_share_seen_counts_every_moment_once():
    coverages = coverage_of([census(0, 60), census(40, 80, sensor="other")], "", Window(0, 100))
    assert share_seen(coverages, Window(0, 100)) == pytest.approx(0.8)


def test_loss_needs_fifty_opportunities():
    assert Loss(49, 0, 0, 1000).rate is None
    assert Loss(50, 0, 0, 1000).rate == 0
    assert Loss(50, 1, 0, 1000).rate == pytest.approx(0.02)


def test_a_loss_that_was_noticed_counts_however_few_opportunities_there_were():
    assert Loss(10, 1, 0, 1000).rate == pytest.approx(0.02)
    assert Loss(10, 6, 0, 1000).rate == pytest.approx(0.12)


@pytest.mark.parametrize(("opportunities", "lost"), [(50, 0), (300, 1), (2000, 3)])
def test_what_a_loss_hardly_exceeds_lies_as_far_off_as_a_95_per_cent_bound_does(opportunities, lost):
    loss = Loss(opportunities, lost, 0, 9000)
    bound, share = loss.at_most, lost / opportunities
    # the defining equation of Wilson's interval: (bound - share)^2 = z^2 * bound * (1 - bound) / n
    assert bound > share
    assert (bound - share) ** 2 == pytest.approx(1.645**2 * bound * (1 - bound) / opportunities)


def test_the_sensor_s_own_drop_count_is_believed_when_it_is_worse():
    assert Loss(1000, 0, 100, 900).rate == pytest.approx(0.1)


def test_a_flow_that_began_in_a_piece_long_ago_tells_of_the_loss_around_a_conversation_now():
    """Its segments and losses are counted with the piece that holds its first packet."""
    tape = Tape().ordinary(-3000, 600, every=30)
    sent, peer = 1, "192.0.2.99"
    tape.add(-3000, tcp(LOCAL, 45000, peer, 443, "S", seq=0)).add(-3000, tcp(peer, 443, LOCAL, 45000, "SA", ack=1))
    for number in range(3600):
        if number % 20:
            tape.add(number - 2999.5, tcp(LOCAL, 45000, peer, 443, "PA", seq=sent, ack=1, payload=b"x" * 50))
        sent += 50
        tape.add(number - 2999, tcp(peer, 443, LOCAL, 45000, "A", seq=1, ack=sent))
    verdict = tape.backscatter(300).judged(cuts=tuple(range(-2700, 600, 300)))
    assert (verdict.label.value, verdict.confidence) == ("backscatter", 69)
    assert any("lost about" in piece.text for piece in verdict.evidence)
