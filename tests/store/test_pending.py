from __future__ import annotations

import dataclasses
import itertools
import json
import time

import pytest
from tests.store.tables import DAY, EXPIRY, HOUR, KEY, NOON, SECOND, census, flows, host, source

from backscatter.errors import StoreError
from backscatter.finding.model import End, Finding, Tuple
from backscatter.flow.window import Window
from backscatter.store.captures import find_capture, put_capture
from backscatter.store.catalogue import MOST_DAYS
from backscatter.store.findings import finding_key, recall, verdict_of, verdict_text, waiting_items
from backscatter.store.memory import MemoryItems
from backscatter.store.news import is_news
from backscatter.store.pending import (
    Terms,
    gathered,
    lease,
    mark_told,
    overdue,
    put_off,
    remember,
    settle,
    take_up,
    taken,
    waiting_for,
    wakened_by,
)

MINUTE = 60 * SECOND
NOW = NOON + 10 * MINUTE
WINDOW = Window(NOON - 15 * MINUTE, NOON + MINUTE)

NOT_YET = {"verdict": "undetermined", "why": "no_capture", "band": "none", "victim": None, "summary": "nothing"}
BENIGN = {
    "verdict": "backscatter",
    "why": None,
    "band": "confirmed",
    "victim": {"ip": "193.109.122.67", "port": 6667, "proto": "tcp"},
    "summary": "an answer",
}
REAL = {"verdict": "connection_established", "why": None, "band": "confirmed", "victim": None, "summary": "a call"}


def finding(number: int = 1, updated: str = "1", **changes) -> Finding:
    ends = End("10.0.0.1", 1024), End("10.0.0.2", 6667)
    alert = Finding(f"alert-{number}", "sguil", "bot", "C&C", 1, NOON, NOON, updated, tuples=(Tuple("tcp", *ends),))
    return dataclasses.replace(alert, **changes)


def keep(items, alert: Finding | None = None, *, hosts=(1, 2), others=(), window=WINDOW, now=NOW):
    ends = ([host(number) for number in some] for some in (hosts, others))
    one, other = ends
    return remember(items, KEY, alert or finding(), one, window, now, others=other)


def capture(items, pairs, *, start=NOON, piece="one.pcap", **witness):
    table = flows(pairs, start=start, piece=piece)
    stored = put_capture(
        items, KEY, table, census(table, **witness), source(piece), group="vpc", layout={}, expires_at=EXPIRY
    )
    return find_capture(items, stored.capture)


def woken(items, entry, now=NOW) -> list[str]:
    return sorted(state.finding.id for state in waiting_for(items, entry, wakened_by(items, entry, now).now, now))


# remembering


def test_a_finding_is_kept_whole_and_unjudged():
    items = MemoryItems()
    state = keep(items)
    assert recall(items, finding_key(finding())) == state
    assert (state.finding, state.judged, state.revision, state.untold) == (finding(), "", 0, False)
    assert recall(items, "nobody") is None


def test_the_same_finding_twice_is_one_and_tells_what_is_known():
    items = MemoryItems()
    judged = settle(items, keep(items), BENIGN, NOW)
    before = dict(items.items)
    assert keep(items) == judged
    assert items.items == before


def test_a_newer_update_replaces_and_is_to_be_judged_and_an_older_one_does_not():
    items = MemoryItems()
    settle(items, keep(items, finding(updated="2026-11-02")), BENIGN, NOW)
    newer = keep(items, finding(updated="2026-11-03", count=7))
    assert (newer.judged, newer.revision, newer.finding.count) == ("", 1, 7)
    assert keep(items, finding(updated="2026-11-01")) == newer
    assert settle(items, newer, BENIGN, NOW).revision == 1


def test_updates_do_not_stretch_the_patience():
    items = MemoryItems()
    first = keep(items)
    assert keep(items, finding(updated="2"), now=NOW + 20 * MINUTE).patience_until == first.patience_until


def test_findings_of_two_accounts_with_one_id_are_two():
    assert finding_key(finding(account="1")) != finding_key(finding(account="2"))


class Dying(MemoryItems):
    """A table whose user is killed after a number of writes."""

    lives = -1

    def _put(self, item) -> None:
        if self.lives == 0:
            raise KeyboardInterrupt
        self.lives -= 1
        super()._put(item)


def test_killed_while_remembering_a_redelivery_finds_the_work_undone_and_does_it():
    clean = MemoryItems()
    keep(clean)
    for lives in range(len(clean.items)):
        items = Dying()
        items.lives = lives
        with pytest.raises(KeyboardInterrupt):
            keep(items)
        items.lives = -1
        assert list(overdue(items, NOW)) == []
        assert keep(items).judged == ""
        assert items.items == clean.items


# captures wake findings


def test_a_capture_wakes_the_findings_that_it_overlaps_and_whose_hosts_it_can_hold():
    items = MemoryItems()
    keep(items, finding(1))
    keep(items, finding(2), hosts=(7, 8))
    keep(items, finding(3), window=Window(NOON + HOUR, NOON + 2 * HOUR))
    keep(items, finding(4), hosts=())
    keep(items, finding(5), hosts=(9, 5))
    assert woken(items, capture(items, [(1, 3), (5, 6)])) == ["alert-1", "alert-4", "alert-5"]


def test_a_capture_an_hour_away_in_the_same_partition_wakes_nobody():
    items = MemoryItems()
    keep(items, window=Window(NOON + 1, NOON + MINUTE))
    assert woken(items, capture(items, [(1, 2)], start=NOON + 30 * MINUTE)) == []


@pytest.mark.parametrize("hours", [1, 7, 100])
def test_a_long_window_is_found_by_a_capture_anywhere_in_it(hours):
    items = MemoryItems()
    keep(items, window=Window(NOON, NOON + hours * HOUR))
    for at in (0, hours * HOUR // 2, hours * HOUR - SECOND):
        entry = capture(items, [(1, 2)], start=NOON + at, piece=f"{at}")
        assert woken(items, entry) == ["alert-1"]


def test_a_window_of_years_is_kept_in_few_items():
    items = MemoryItems()
    state = keep(items, window=Window(0, NOON))
    assert len(waiting_items(state)) < 100
    assert woken(items, capture(items, [(1, 2)], start=NOON - DAY)) == ["alert-1"]


def test_a_capture_whose_clock_spans_years_looks_at_one_hour():
    items = MemoryItems()
    keep(items)
    entry = capture(items, [(1, 2)], end=NOON + 2 * MOST_DAYS * DAY, clock_ok=False)
    items.reads = 0
    assert woken(items, entry) == ["alert-1"]
    assert items.reads < 10


def test_a_judged_finding_stays_open_for_a_day_and_then_is_final():
    items = MemoryItems()
    settle(items, keep(items), BENIGN, NOW)
    entry = capture(items, [(1, 2)])
    assert woken(items, entry, NOW + 23 * HOUR) == ["alert-1"]
    assert woken(items, entry, NOW + 25 * HOUR) == []


def test_whichever_comes_second_the_finding_or_the_capture_finds_the_other():
    for order in itertools.permutations(("finding", "capture")):
        items, met = MemoryItems(), False
        for what in order:
            if what == "finding":
                keep(items)
                met = met or any(key[0].startswith("catalogue#") for key in items.items)
            else:
                met = met or woken(items, capture(items, [(1, 2)])) == ["alert-1"]
        assert met


def test_ten_thousand_pending_findings_and_a_capture_take_less_than_two_seconds():
    items = MemoryItems()
    state = keep(items, hosts=(1,))
    for number in range(10_000):
        items.put_all(waiting_items(dataclasses.replace(state, key=f"key-{number}", hosts=(number,) * 2)))
    entry = capture(items, [(1, 2)])
    began = time.process_time()
    assert woken(items, entry) == ["alert-1"]
    assert time.process_time() - began < 2


class CountedItems(MemoryItems):
    """Counts requests as DynamoDB takes them: a query gives 1 MB at a time, a batch 100 items."""

    requests = 0

    def query(self, pk, first="", last="\U0010ffff"):
        size, self.requests = 0, self.requests + 1
        for item in super().query(pk, first, last):
            size += len(json.dumps(item))
            if size > 2**20:
                size, self.requests = 0, self.requests + 1
            yield item

    def get_all(self, keys):
        self.requests += -(-len(set(keys)) // 100)
        return super().get_all(keys)


def test_ten_thousand_pending_findings_of_one_busy_host_are_not_read_for_a_capture_without_their_remotes():
    items = CountedItems()
    state = keep(items, hosts=(1,), others=(2,))
    assert state.ends == 1
    for number in range(10_000):
        hosts = (state.hosts[0], number)
        items.put_all(waiting_items(dataclasses.replace(state, key=f"key-{number:05d}", hosts=hosts)))
    entry = capture(items, [(1, 3)])
    items.requests = 0
    began = time.process_time()
    found = wakened_by(items, entry, NOW)
    assert list(waiting_for(items, entry, found.now, NOW)) == []
    put_off(items, entry, NOW)
    assert time.process_time() - began < 2
    assert len(found.later) == 10_001
    assert items.requests < 12


def test_a_capture_that_can_hold_one_end_only_matters_later():
    items = MemoryItems()
    keep(items, finding(1), hosts=(1,), others=(2,))
    keep(items, finding(2), hosts=(1, 5), others=(7, 8))
    keep(items, finding(3), hosts=(1,))
    keep(items, finding(4), hosts=())
    keep(items, finding(5), hosts=(8,), others=(9,))

    def names(keys, entry):
        return sorted(state.finding.id for state in waiting_for(items, entry, keys, NOW))

    one = capture(items, [(1, 3)], piece="one")
    assert names(wakened_by(items, one, NOW).now, one) == ["alert-3", "alert-4"]
    assert names(wakened_by(items, one, NOW).later, one) == ["alert-1", "alert-2"]
    both = capture(items, [(1, 2), (5, 8)], piece="both")
    assert names(wakened_by(items, both, NOW).now, both) == ["alert-1", "alert-2", "alert-3", "alert-4"]
    assert names(wakened_by(items, both, NOW).later, both) == ["alert-5"]


def test_findings_kept_before_ends_were_told_apart_wake_as_they_did():
    items = MemoryItems()
    state = keep(items, hosts=(1,), others=(2,))
    for item in items.items.values():
        item.pop("ends", None)
        item.pop("tries", None)
    entry = capture(items, [(1, 3)])
    assert wakened_by(items, entry, NOW) == ([state.key], [])
    (known,) = waiting_for(items, entry, [state.key], NOW)
    assert (known.ends, known.tries) == (0, 0)


def test_captures_that_were_put_off_are_gathered_once_their_time_has_come():
    items = MemoryItems()
    entries = [capture(items, [(1, 2)], piece=f"{number}") for number in range(3)]
    for number, entry in enumerate(entries):
        put_off(items, entry, NOW + number * MINUTE)
    put_off(items, entries[0], NOW)  # the message came twice
    assert gathered(items, NOW + 4 * MINUTE, 10) == []
    found = gathered(items, NOW + 15 * MINUTE, 10)
    assert sorted(one.capture for one in found) == sorted(entry.capture for entry in entries)
    assert {one.start for one in found} == {NOON}
    assert len(gathered(items, NOW + 15 * MINUTE, 2)) == 2
    taken(items, found)
    assert gathered(items, NOW + HOUR, 10) == []


def test_a_finding_that_fails_again_and_again_is_put_off_for_longer_each_time():
    items = MemoryItems()
    state, now, pauses = keep(items), NOW, []
    for _ in range(12):
        state = take_up(items, state, now)
        pauses.append((state.due - now) // MINUTE)
        assert list(overdue(items, state.due - 1)) == []
        now = state.due
        (again,) = overdue(items, now)
        assert again == state
    assert pauses == [3, 3, 6, 12, 24, 48, 96, 192, 360, 360, 360, 360]
    settled = settle(items, state, NOT_YET, NOW)
    assert settled.tries == 0


def test_news_that_nobody_takes_is_put_off_for_longer_each_time_until_it_is_told():
    items = MemoryItems()
    state, now, pauses = settle(items, keep(items), BENIGN, NOW), NOW, []
    for _ in range(4):
        state = settle(items, take_up(items, state, now), BENIGN, now)
        assert state.untold
        pauses.append((state.due - now) // MINUTE)
        now = state.due
    assert pauses == [3, 6, 12, 24]
    assert mark_told(items, state).tries == 0


# judging


def test_the_first_verdict_is_news_and_is_kept():
    items = MemoryItems()
    state = settle(items, keep(items), BENIGN, NOW)
    assert (state.revision, state.untold, state.turned_from, state.due > NOW) == (1, True, "", True)
    assert verdict_of(items, state) == BENIGN
    assert recall(items, state.key) == state


def test_a_missing_capture_is_told_only_when_patience_ends():
    items = MemoryItems()
    state = settle(items, keep(items), NOT_YET, NOW)
    assert (state.revision, state.untold) == (0, False)
    looks = 0
    now = NOW
    while not state.untold:
        now = state.due
        (again,) = overdue(items, now)
        state = settle(items, again, NOT_YET, now)
        looks += 1
    assert now == NOW + 30 * MINUTE
    assert looks == 6
    assert state.revision == 1


def test_an_undetermined_verdict_that_no_capture_changes_is_told_at_once():
    items = MemoryItems()
    assert settle(items, keep(items), {**NOT_YET, "why": "no_tuple"}, NOW).untold


def test_the_same_verdict_again_is_no_news_and_nothing_is_written():
    items = MemoryItems()
    state = mark_told(items, settle(items, keep(items), BENIGN, NOW))
    writes = items.writes
    assert settle(items, state, BENIGN, NOW + HOUR) == state
    assert items.writes == writes


def test_other_words_are_kept_and_not_told():
    items = MemoryItems()
    state = mark_told(items, settle(items, keep(items), BENIGN, NOW))
    after = settle(items, state, {**BENIGN, "summary": "said better"}, NOW)
    assert not after.untold
    assert verdict_of(items, after)["summary"] == "said better"


def test_backscatter_that_turns_real_is_news_and_says_what_it_was():
    items = MemoryItems()
    state = mark_told(items, settle(items, keep(items), BENIGN, NOW))
    after = settle(items, state, REAL, NOW)
    assert (after.revision, after.untold, after.turned_from) == (2, True, "backscatter")
    assert after.notice_id != state.notice_id


@pytest.mark.parametrize(
    "record",
    [
        REAL,
        NOT_YET,
        {**BENIGN, "band": "probable"},
        {**BENIGN, "victim": {"ip": "193.109.122.67", "port": 6668, "proto": "tcp"}},
    ],
)
def test_another_label_band_or_victim_is_news_also_while_there_is_patience(record):
    told = {"verdict": "backscatter", "band": "confirmed", "victim": "tcp 193.109.122.67 6667"}
    assert is_news(told, record, patient=True)
    assert not is_news(told, BENIGN, patient=True)


def test_a_finding_about_no_conversation_is_nobodys_news():
    about_nothing = {**BENIGN, "verdict": "not_applicable", "band": "none", "victim": None}
    assert not is_news(None, about_nothing, patient=True)
    assert not is_news(None, about_nothing, patient=False)


def test_of_two_judges_at_once_the_loser_reads_again():
    items = MemoryItems()
    state = keep(items)
    assert settle(items, state, BENIGN, NOW).revision == 1
    assert settle(items, state, REAL, NOW) is None
    current = recall(items, state.key)
    assert verdict_of(items, current) == BENIGN
    assert settle(items, current, REAL, NOW).turned_from == "backscatter"


def test_killed_while_settling_the_finding_is_still_due_or_settled():
    for lives in range(4):
        items = Dying()
        state = keep(items)
        items.lives = lives
        try:
            settle(items, state, BENIGN, NOW)
        except KeyboardInterrupt:
            items.lives = -1
        items.lives = -1
        (again,) = overdue(items, NOW + HOUR)
        assert settle(items, again, BENIGN, NOW + HOUR).untold


def test_a_verdict_with_a_thousand_flows_is_kept_without_most_of_them():
    record = {**BENIGN, "flows": [{"history": "x" * 5000}] * 1000, "flows_total": 1000, "evidence": []}
    text = verdict_text(record)
    assert len(text) < 260_000
    assert '"flows_total":1000' in text


def test_a_verdict_with_endless_evidence_loses_packets_first_and_then_is_an_error():
    record = {**BENIGN, "evidence": [{"effect": "for", "text": "because", "packets": [{"text": "x" * 400_000}]}]}
    assert '"packets":[]' in verdict_text(record)
    with pytest.raises(StoreError, match="characters"):
        verdict_text({**BENIGN, "summary": "x" * 400_000})


# telling


def test_news_is_told_once_by_whoever_has_the_lease():
    items = MemoryItems()
    state = settle(items, keep(items), BENIGN, NOW)
    mine = lease(items, state, NOW)
    assert mine is not None
    assert lease(items, state, NOW + MINUTE) is None
    after = mark_told(items, mine)
    assert (after.told, after.untold, after.due) == (1, False, 0)
    assert lease(items, after, NOW + HOUR) is None
    assert list(overdue(items, NOW + DAY)) == []


def test_killed_between_publishing_and_marking_the_notice_is_repeated_with_its_id():
    items = MemoryItems()
    state = settle(items, keep(items), BENIGN, NOW)
    first = lease(items, state, NOW)
    (again,) = overdue(items, NOW + HOUR)
    second = lease(items, again, NOW + HOUR)
    assert second is not None
    assert second.notice_id == first.notice_id
    mark_told(items, second)
    assert lease(items, again, NOW + 2 * HOUR) is None


def test_the_lease_of_old_news_is_refused_and_the_new_one_is_told():
    items = MemoryItems()
    old = settle(items, keep(items), BENIGN, NOW)
    new = settle(items, old, REAL, NOW)
    assert lease(items, old, NOW) is None
    assert lease(items, new, NOW) is not None


def test_news_that_comes_while_the_last_is_told_stays_due():
    items = MemoryItems()
    state = lease(items, settle(items, keep(items), BENIGN, NOW), NOW)
    newer = settle(items, state, REAL, NOW + SECOND)
    after = mark_told(items, state)
    assert (after.told, after.revision, after.untold) == (1, 2, True)
    assert [one.key for one in overdue(items, newer.due)] == [state.key]


def test_marking_what_is_gone_is_an_error():
    items = MemoryItems()
    state = settle(items, keep(items), BENIGN, NOW)
    items.delete(f"finding#{state.key}", "state")
    with pytest.raises(StoreError, match="gone"):
        mark_told(items, state)


def test_overdue_gives_the_longest_waiting_first_and_clears_what_nobody_owns():
    items = MemoryItems()
    for number in (1, 2, 3):
        keep(items, finding(number), now=NOW + number * MINUTE)
    items.put_all([{"pk": "due", "sk": f"{NOW:020d}#nobody", "expires_at": EXPIRY}])
    assert [state.finding.id for state in overdue(items, NOW + 7 * MINUTE)] == ["alert-1", "alert-2"]
    assert len(list(items.query("due"))) == 3
    assert [state.finding.id for state in overdue(items, NOW + HOUR, most=1)] == ["alert-1"]


def test_an_overdue_finding_that_kills_its_judge_does_not_stand_first_again():
    items = MemoryItems()
    for number in (1, 2):
        keep(items, finding(number), now=NOW + number)
    now = NOW + 10 * MINUTE
    first = next(overdue(items, now))
    assert take_up(items, first, now).finding == first.finding
    assert [state.finding.id for state in overdue(items, now)] == ["alert-2"]
    assert [state.finding.id for state in overdue(items, now + HOUR)] == ["alert-2", "alert-1"]
    assert take_up(items, first, now) is None  # by somebody who read it before


def test_an_entry_of_the_schedule_is_not_cleared_before_its_state_had_time_to_be_written():
    items = MemoryItems()
    state = keep(items)
    soon = f"{state.due + 1:020d}#{state.key}"
    items.put_all([{"pk": "due", "sk": soon, "expires_at": EXPIRY}])  # a judge is about to write it into the state
    assert [one.key for one in overdue(items, state.due + MINUTE)] == [state.key]
    assert ("due", soon) in items.items


def test_a_state_that_cannot_be_read_costs_the_others_nothing_and_is_told():
    items = MemoryItems()
    for number in (1, 2, 3):
        keep(items, finding(number), now=NOW + number)
    broken = finding_key(finding(2))
    del items.items[f"finding#{broken}", "state"]["lock"]
    entry = capture(items, [(1, 2)])
    for walk in (overdue(items, NOW + HOUR), waiting_for(items, entry, wakened_by(items, entry, NOW).now, NOW)):
        found = []
        with pytest.raises(StoreError, match="cannot be read"):
            found.extend(state.finding.id for state in walk)
        assert sorted(found) == ["alert-1", "alert-3"]
    assert len(list(items.query("due"))) == 3


def test_a_finding_comes_again_while_time_to_live_is_taking_it_away_in_pieces():
    items = MemoryItems()
    old = mark_told(items, settle(items, keep(items), BENIGN, NOW))
    del items.items[f"finding#{old.key}", f"finding#{old.text}"]
    assert recall(items, old.key) is None
    update = finding(updated="2")
    with pytest.raises(StoreError, match="somebody else"):
        keep(items, update)  # its time is not over: time to live did not take it
    again = keep(items, update, now=old.expires_at * SECOND)
    assert (again.judged, again.revision) == ("", 0)
    assert recall(items, old.key) == again


def test_every_item_expires():
    items = MemoryItems()
    settle(items, keep(items), BENIGN, NOW)
    assert all(
        isinstance(item["expires_at"], int) and item["expires_at"] > NOW // SECOND for item in items.items.values()
    )


def test_terms_of_no_patience_tell_at_once():
    items = MemoryItems()
    terms = Terms(patience=0)
    state = remember(items, KEY, finding(), [host(1)], WINDOW, NOW, terms)
    assert settle(items, state, NOT_YET, NOW, terms).untold


def test_hostile_titles_do_not_break_what_people_read():
    items = MemoryItems()
    state = keep(items, finding(title="\ud800" + "x" * 10_000))
    shown = items.items[f"finding#{state.key}", "state"]["title"]
    assert len(shown) <= 200
    shown.encode()
