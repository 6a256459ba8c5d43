from __future__ import annotations

import copy
import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.store.tables import DAY, EXPIRY, HOUR, KEY, NOON, SECOND, census, flows, host, quoting, same, source

from backscatter.decode.columns import PLACE_BITS
from backscatter.errors import Hole, RequestError, StoreError
from backscatter.flow.census import ScopeCensus
from backscatter.flow.table import FlowTable
from backscatter.flow.window import Window
from backscatter.store.captures import is_listed, put_capture, segment_key, store_cost
from backscatter.store.catalogue import listed
from backscatter.store.cost import item_size
from backscatter.store.frame import squeeze
from backscatter.store.hosts import HostHash
from backscatter.store.memory import MemoryItems
from backscatter.store.scene import StoredScene, look

ALWAYS = Window(NOON - HOUR, NOON + HOUR)


def put(items, table: FlowTable, *, witness=None, where=None):
    where = where or source(table.pieces[0])
    return put_capture(
        items, KEY, table, witness or census(table), where, group="vpc", layout={"tick": 1}, expires_at=EXPIRY
    )


def scene(items) -> StoredScene:
    return StoredScene(items, KEY, "vpc")


def pairs_of(table: FlowTable) -> list[tuple[int, int]]:
    return sorted((int(row["src_lo"]) - 0x0A000000, int(row["dst_lo"]) - 0x0A000000) for row in table.rows)


def test_a_small_capture_is_one_item_that_holds_each_flow_once():
    items = MemoryItems()
    stored = put(items, flows([(1, 2), (3, 4), (1, 4)]))
    segments = [item for key, item in items.items.items() if key[0].startswith("flows#")]
    assert stored.new
    assert [item["flows"] for item in segments] == [3]
    assert stored.cost["items"] == 3
    assert stored.cost["write_units"] <= 4


def test_the_flows_of_a_host_come_back_whole_and_once():
    items, table = MemoryItems(), flows([(1, 2), (3, 4), (1, 4), (5, 1)])
    put(items, table)
    found = scene(items).flows_of([host(1), host(2)], ALWAYS)
    assert same(found, table.select(np.array([0, 2, 3])))


def test_a_large_capture_answers_as_the_table_itself_does():
    items = MemoryItems()
    random = np.random.default_rng(5)
    table = flows([(int(a), int(b)) for a, b in random.integers(0, 4000, (12_000, 2))], step=10**6)
    put(items, table)
    here = scene(items)
    assert len({key[0] for key in items.items if key[0].startswith("flows#")}) > 4
    for number in (0, 17, 3999):
        mine = np.array([number in pair for pair in zip(*lows(table), strict=True)])
        assert same(here.flows_of([host(number)], ALWAYS), table.select(mine))


def lows(table: FlowTable) -> tuple[list[int], list[int]]:
    return tuple((table.rows[f"{side}_lo"].astype(np.int64) - 0x0A000000).tolist() for side in ("src", "dst"))


def test_a_host_in_every_flow_is_split_by_its_peers_and_a_pair_reads_one_item():
    items = MemoryItems()
    put(items, flows([(1, 10 + i) for i in range(20_000)], step=10**6))
    parts = {key[0].split("#")[3] for key in items.items if key[0].startswith("flows#")}
    assert len(parts) > 3
    here = scene(items)
    here.censuses(ALWAYS)
    items.reads = 0
    assert pairs_of(here.flows_between([host(1)], [host(777)], ALWAYS)) == [(1, 777)]
    assert items.reads == 1
    assert len(here.flows_of([host(1)], ALWAYS)) == 20_000


def test_a_pair_that_outgrows_an_item_becomes_a_run_of_items():
    items = MemoryItems()
    table = flows([(1, 2)] * 20_000, step=10**6)
    put(items, table)
    assert max(int(key[1]) for key in items.items if key[0].startswith("flows#")) > 0
    assert same(scene(items).flows_between([host(2)], [host(1)], ALWAYS), table)


def test_no_item_is_near_the_limit_of_a_table():
    items = MemoryItems()
    table = flows([(1, 2 + i % 3) for i in range(30_000)], step=10**6)
    table.rows["src_rst_seq"] = np.random.default_rng(1).integers(0, 2**32, len(table))
    put(items, quoting(table, [(7, 500 + i, 90_000 + i) for i in range(20_000)]))
    assert max(len(item["data"]) for item in items.items.values() if "data" in item) < 160_000


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 39), st.integers(0, 12), st.integers(0, 12)), max_size=12),
    st.integers(0, 12),
    st.integers(0, 12),
)
def test_flows_and_errors_are_found_by_every_host_that_they_name(pairs, quotes, one, other):
    table = quoting(flows(pairs), [(row % len(pairs), src, dst) for row, src, dst in sorted(quotes)])
    items = MemoryItems()
    put(items, table)
    here = scene(items)
    quoted = [(int(q["flow"]), int(q["src_lo"]) - 0x0A000000, int(q["dst_lo"]) - 0x0A000000) for q in table.quotes]
    of_one = {i for i, pair in enumerate(pairs) if one in pair} | {row for row, src, _ in quoted if src == one}
    between = {i for i, pair in enumerate(pairs) if set(pair) == {one, other}}
    between |= {row for row, src, dst in quoted if {src, dst} == {one, other}}
    assert same(here.flows_of([host(one)], ALWAYS), table.select(np.array(sorted(of_one), np.int64)))
    assert same(
        here.flows_between([host(one)], [host(other)], ALWAYS), table.select(np.array(sorted(between), np.int64))
    )


def test_a_routers_ten_thousand_quotes_do_not_multiply():
    items = MemoryItems()
    table = quoting(flows([(1, 2), (3, 4)]), [(0, 2, 1000 + i) for i in range(10_000)])
    put(items, table)
    here = scene(items)
    assert same(here.flows_of([host(2)], ALWAYS), table.select(np.array([0])))
    one_victim = here.flows_between([host(2)], [host(4321)], ALWAYS)
    assert len(one_victim) == 1
    assert host(4321).lo in one_victim.quotes["dst_lo"]
    assert sum(len(item["data"]) for item in items.items.values() if "data" in item) < 1_000_000


def test_a_redelivered_event_finds_the_capture_listed_and_writes_nothing():
    items, table = MemoryItems(), flows([(1, 2)])
    first = put(items, table)
    writes = items.writes
    again = put(items, table)
    assert (first.capture, first.new, again.new) == (again.capture, True, False)
    assert items.writes == writes
    assert is_listed(items, source("one.pcap"))


class Dying(MemoryItems):
    """A table whose user is killed after a number of writes."""

    def __init__(self, lives: int) -> None:
        super().__init__()
        self.lives = lives

    def _put(self, item) -> None:
        if self.lives == 0:
            raise KeyboardInterrupt
        self.lives -= 1
        super()._put(item)


def test_killed_after_any_write_nothing_half_there_is_listed_and_a_second_run_equals_a_clean_one():
    table = flows([(i % 90, 100 + i % 700) for i in range(15_000)], step=10**6)
    witness = census(table, start=NOON - DAY)  # listed under two days
    clean = MemoryItems()
    total = put(clean, table, witness=witness).cost["items"]
    assert total > 8
    for lives in range(total):
        items = Dying(lives)
        with pytest.raises(KeyboardInterrupt):
            put(items, table, witness=witness)
        for entry in listed(items, "vpc", Window(NOON - 2 * DAY, NOON + DAY)):
            places = [
                segment_key(entry.capture, bucket, part, run)
                for bucket, parts in enumerate(entry.shelves.runs)
                for part, count in enumerate(parts)
                for run in range(count)
            ]
            assert len(items.get_all(places)) == len(places)
        items.lives = -1
        put(items, table, witness=witness)
        assert items.items == clean.items


def test_an_entry_comes_back_as_it_was_listed():
    items, table = MemoryItems(), flows([(1, 2)])
    witness = census(table)
    put(items, table, witness=witness, where=source("one.pcap", "etag", 77))
    (entry,) = listed(items, "vpc", ALWAYS)
    assert entry.census == witness
    assert entry.layout == {"tick": 1}
    assert entry.source == source("one.pcap", "etag", 77)
    assert entry.expires_at == EXPIRY
    assert scene(items).censuses(ALWAYS) == [witness]


def test_every_item_expires():
    items = MemoryItems()
    put(items, flows([(1, 2)]))
    assert {item["expires_at"] for item in items.items.values()} == {EXPIRY}


def test_a_capture_over_midnight_is_listed_under_both_days_and_given_once():
    items = MemoryItems()
    midnight = NOON + 12 * HOUR
    table = flows([(1, 2), (1, 3)], start=midnight - 10 * SECOND, step=20 * SECOND)
    put(items, table)
    for window in (Window(midnight - HOUR, midnight - SECOND), Window(midnight + SECOND, midnight + HOUR)):
        assert [entry.census.piece for entry in listed(items, "vpc", window)] == ["one.pcap"]
    assert len(listed(items, "vpc", Window(midnight - DAY, midnight + DAY))) == 1
    assert len([key for key in items.items if key[0].startswith("catalogue#")]) == 2


def test_a_capture_whose_clock_is_absurd_is_listed_once_and_marked():
    items, table = MemoryItems(), flows([(1, 2)])
    put(items, table, witness=census(table, end=NOON + 400 * DAY, clock_ok=False))
    assert len([key for key in items.items if key[0].startswith("catalogue#")]) == 1
    (witness,) = scene(items).censuses(ALWAYS)
    assert not witness.clock_ok


def test_a_long_capture_is_found_by_a_window_in_its_middle():
    items, table = MemoryItems(), flows([(1, 2)])
    put(items, table, witness=census(table, start=NOON - 7 * HOUR, end=NOON + 7 * HOUR))
    assert len(listed(items, "vpc", Window(NOON, NOON + 1))) == 1
    assert listed(items, "vpc", Window(NOON + 8 * HOUR, NOON + 9 * HOUR)) == []


def test_censuses_reach_back_24_hours_also_for_sensors_that_fell_silent():
    items = MemoryItems()
    for hours, sensor in ((-30, "too-old"), (-20, "silent"), (0, "here")):
        put(items, flows([(1, 2)], start=NOON + hours * HOUR, sensor=sensor, piece=sensor))
    found = scene(items).censuses(Window(NOON - SECOND, NOON + SECOND))
    assert [witness.sensor for witness in found] == ["silent", "here"]


def test_only_the_latest_version_of_an_object_counts():
    items = MemoryItems()
    put(items, flows([(1, 2), (1, 3)]), where=source("one.pcap", "new", 2))
    put(items, flows([(1, 2)]), where=source("one.pcap", "old", 1))
    assert pairs_of(scene(items).flows_of([host(1)], ALWAYS)) == [(1, 2), (1, 3)]


def remove_a_segment(items) -> None:
    items.delete(*next(key for key in items.items if key[0].startswith("flows#")))


def test_a_missing_item_makes_its_capture_a_witness_of_nothing():
    items, table = MemoryItems(), flows([(1, 2)])
    put(items, table)
    remove_a_segment(items)
    here = scene(items)
    assert len(here.flows_of([host(1)], ALWAYS)) == 0
    (witness,) = here.censuses(ALWAYS)
    assert witness.holes == ((witness.start, witness.end),)
    assert "1 items of this capture are missing" in witness.notes[0]


def test_a_hole_found_after_the_censuses_were_given_out_is_told_and_known_the_second_time():
    items = MemoryItems()
    put(items, flows([(1, 2)]))
    remove_a_segment(items)
    here = scene(items)
    assert here.censuses(ALWAYS)[0].holes == ()
    with pytest.raises(Hole, match=r"one\.pcap"):
        here.flows_of([host(1)], ALWAYS)
    assert len(here.flows_of([host(1)], ALWAYS)) == 0
    assert here.censuses(ALWAYS)[0].holes != ()


def test_look_judges_again_with_the_hole_known():
    items = MemoryItems()
    put(items, flows([(1, 2)]))
    remove_a_segment(items)

    def judge(view: StoredScene) -> int:
        witnesses = view.censuses(ALWAYS)
        view.flows_of([host(1)], ALWAYS)
        return len(witnesses[0].holes)

    assert look(scene(items), judge) == 1


def test_a_damaged_item_is_an_error_that_names_it_and_no_absence():
    items = MemoryItems()
    put(items, flows([(1, 2)]))
    key = next(key for key in items.items if key[0].startswith("flows#"))
    items.items[key]["data"] = b"\x01garbage"
    with pytest.raises(StoreError, match=r"flows#.*one\.pcap"):
        scene(items).flows_of([host(1)], ALWAYS)


def test_rows_of_two_captures_stay_two_rows_with_their_own_names():
    items = MemoryItems()
    put(items, flows([(1, 2)], piece="one", sensor="a"))
    put(items, flows([(1, 2)], piece="two", sensor="b"))
    found = scene(items).flows_between([host(1)], [host(2)], ALWAYS)
    assert len(found) == 2
    assert set(found.sensors) == {"a", "b"}
    assert set(found.pieces) == {"one", "two"}
    here = scene(items)
    here.flows_of([host(1)], ALWAYS)
    assert here.entry("two").census.sensor == "b"
    assert here.entry("three") is None


@pytest.fixture(scope="module")
def thousand():
    """A thousand captures of a minute; one host is in every flow of all, another is in five flows of five."""
    items = MemoryItems()
    for minute in range(1000):
        pairs = [(1, 1000 + minute * 3 + i) for i in range(3)] + ([(1, 2)] if minute % 200 == 0 else [])
        put(items, flows(pairs, start=NOON + minute * 60 * SECOND, piece=f"{minute}.pcap"))
    return items


THOUSAND = Window(NOON, NOON + 1000 * 60 * SECOND)


def admitting(items, one):
    return [e for e in listed(items, "vpc", THOUSAND) if int(HostHash(KEY).addresses([host(one)])[0]) in e.hosts]


def test_a_pair_is_asked_of_a_thousand_captures_and_only_those_that_can_hold_it_are_read(thousand):
    here = scene(thousand)
    thousand.reads = 0
    here.censuses(THOUSAND)
    assert thousand.reads < 1100
    thousand.reads = 0
    assert len(here.flows_between([host(1)], [host(2)], THOUSAND)) == 5
    admitted = len(admitting(thousand, 2))
    assert 5 <= admitted < 40
    thousand.reads = 0
    assert len(scene(thousand).flows_between([host(1)], [host(2)], THOUSAND)) == 5
    assert thousand.reads <= 1000 + admitted
    assert pairs_of(here.flows_of([host(2)], THOUSAND)) == [(1, 2)] * 5


def test_a_pair_is_asked_of_a_thousand_captures_in_less_than_a_second_of_cpu(thousand):
    begun = time.process_time()
    assert len(scene(thousand).flows_between([host(1)], [host(2)], THOUSAND)) == 5
    assert time.process_time() - begun < 1


def segments_read(items):
    """The keys of segments that are read from now on."""
    keys, get_all = [], items.get_all

    def told(wanted):
        keys.extend(key for key in wanted if key[0].startswith("flows#"))
        return get_all(wanted)

    items.get_all = told
    return keys


def test_rolled_up_hours_answer_alike_with_few_items_and_in_less_cpu(thousand):
    items = MemoryItems()
    items.items = copy.deepcopy(thousand.items)
    loose = listed(items, "vpc", THOUSAND)
    writes = items.writes
    assert listed(items, "vpc", THOUSAND, may_write=True) == loose
    rolled = [key for key in items.items if key[1].startswith("R#")]
    assert 15 < len(rolled) == items.writes - writes < 40
    full, read = items.query, []
    items.query = lambda *args: (read.append(item["sk"][0]) or item for item in full(*args))
    assert listed(items, "vpc", THOUSAND, may_write=True) == loose
    assert read == ["R"] * len(rolled)
    assert items.writes - writes == len(rolled)
    keys = segments_read(items)
    begun = time.process_time()
    assert len(scene(items).flows_between([host(1)], [host(2)], THOUSAND)) == 5
    assert time.process_time() - begun < 1
    assert len(keys) == len(admitting(items, 2))


def test_what_is_listed_after_a_roll_up_is_found_and_what_is_gone_is_not():
    items = MemoryItems()
    for minute in range(40):
        put(items, flows([(1, 2)], start=NOON + minute * 60 * SECOND, piece=f"{minute}.pcap"))
    window = Window(NOON, NOON + HOUR)
    listed(items, "vpc", window, may_write=True)
    late = flows([(1, 3)], start=NOON + 90 * SECOND, piece="late.pcap")
    put(items, late)
    gone = next(key for key in items.items if key[1].startswith("S#"))
    items.delete(*gone)
    pieces = {entry.census.piece for entry in listed(items, "vpc", window, may_write=True)}
    assert pieces == {"late.pcap", *(f"{minute}.pcap" for minute in range(1, 40))}
    assert pairs_of(scene(items).flows_of([host(3)], window)) == [(1, 3)]


@pytest.mark.parametrize(
    "harm",
    [
        lambda item: item | {"record": item["record"][:-9]},
        lambda item: item | {"hosts": item["hosts"][:-1]},
        lambda item: item | {"layout": 99},
        lambda item: {name: value for name, value in item.items() if name != "record"},
        lambda item: item | {"record": squeeze(b"[[]]")},
    ],
    ids=["cut", "filters cut", "layout", "no record", "no entries"],
)
def test_a_roll_up_that_cannot_be_read_is_as_none(harm):
    items = MemoryItems()
    for minute in range(40):
        put(items, flows([(1, 2)], start=NOON + minute * 60 * SECOND, piece=f"{minute}.pcap"))
    window = Window(NOON, NOON + HOUR)
    whole = listed(items, "vpc", window, may_write=True)
    (rolled,) = (key for key in items.items if key[1].startswith("R#"))
    items.items[rolled] = harm(items.items[rolled])
    assert listed(items, "vpc", window) == whole


def test_a_capture_of_five_flows_costs_at_most_four_write_units():
    items = MemoryItems()
    stored = put(items, flows([(1, i) for i in range(2, 7)]))
    assert stored.cost["write_units"] <= 4
    assert stored.cost["items"] == items.writes


def test_the_catalogue_is_read_by_the_hour_and_not_by_the_day():
    items = MemoryItems()
    for minute in range(0, 600, 10):
        put(items, flows([(1, 2)], start=NOON + minute * 60 * SECOND, piece=f"{minute}.pcap"))
    items.reads = 0
    assert len(listed(items, "vpc", Window(NOON + HOUR, NOON + HOUR + 1))) == 1
    assert items.reads < 10


def test_a_window_of_years_is_refused():
    with pytest.raises(RequestError, match="longer than"):
        listed(MemoryItems(), "vpc", Window(0, NOON))


def test_store_cost_is_what_ingest_writes():
    table = flows([(i % 50, 100 + i) for i in range(5000)], step=10**6)
    guess, real = store_cost(table, census(table)), put(MemoryItems(), table).cost
    assert guess["items"] == real["items"] + 1  # the intent, which ingest writes first
    assert guess["write_units"] == pytest.approx(real["write_units"], rel=0.03)  # hosts fall elsewhere under its key


def test_store_cost_takes_a_sensors_pieces_apart():
    one, two = (flows([(1, 2), (1, 3)], piece=name, start=NOON + i * HOUR) for i, name in enumerate("ab"))
    both = FlowTable.joined([one, two])
    cost = store_cost(both, census(one), census(two))
    assert cost["items"] == 8
    assert all(both.rows["src_packets"] == 1)


def test_a_judges_windows_are_answered_by_one_reading_of_the_catalogue():
    items = MemoryItems()
    put(items, flows([(1, 2)]))
    here = scene(items)
    here.censuses(Window(NOON - HOUR, NOON))
    items.reads = 0
    here.flows_of([host(9)], Window(NOON - DAY, NOON + HOUR))
    here.flows_between([host(9)], [host(8)], Window(NOON - HOUR, NOON + HOUR))
    assert items.reads == 0


def test_a_capture_of_endless_scopes_and_damage_is_listed_on_the_safe_side_and_fits_an_item():
    items, table = MemoryItems(), flows([(1, 2)])
    scopes = {
        f"vlan:{i % 4096}.{i}.{i * 7}": ScopeCensus(i, NOON + i * 997, NOON + i * 9973, i, 0) for i in range(9000)
    }
    witness = census(table, start=NOON, end=NOON + HOUR, scopes=scopes)
    holes = tuple((NOON + i, NOON + i + 1) for i in range(5000))
    put(items, table, witness=dataclasses.replace(witness, holes=holes))
    (kept,) = scene(items).censuses(ALWAYS)
    assert len(kept.scopes) == 5000
    assert min(scope.packets for scope in kept.scopes.values()) == 4000
    assert kept.holes == ((kept.start, kept.end),)
    assert len(kept.notes) == 2
    assert max(item_size(item) for item in items.items.values()) < 350_000


def test_captures_of_one_folder_that_overlap_in_time_are_of_two_sensors_and_do_not_fill_each_others_holes():
    items = MemoryItems()
    spans = {"a1": (0, 60), "a2": (61, 120), "b1": (30, 59), "b2": (90, 119), "a3": (119, 180)}
    for piece, (start, end) in spans.items():
        table = flows([(1, 2)], start=NOON + start * SECOND, piece=piece)
        put(items, table, witness=census(table, start=NOON + start * SECOND, end=NOON + end * SECOND))
    seen = scene(items)
    sensors = {one.piece: one.sensor for one in seen.censuses(ALWAYS)}
    assert sensors["a1"] == sensors["a2"] == sensors["a3"]
    assert sensors["b1"] == sensors["b2"] == f"{sensors['a1']} (2)"
    found = seen.flows_of([host(1)], ALWAYS)
    places = found.rows["src_places"][:, 0] >> PLACE_BITS
    told = {found.pieces[place]: found.sensors[row["sensor"]] for place, row in zip(places, found.rows, strict=True)}
    assert told == sensors


def test_captures_that_cross_a_little_at_a_rotation_are_of_one_sensor():
    items = MemoryItems()
    for number in range(4):
        table = flows([(1, 2)], start=NOON + number * 60 * SECOND, piece=f"{number}")
        end = NOON + (number + 1) * 60 * SECOND + SECOND // 2
        put(items, table, witness=census(table, start=NOON + number * 60 * SECOND, end=end))
    assert len({one.sensor for one in scene(items).censuses(ALWAYS)}) == 1


def test_other_groups_do_not_meet():
    items = MemoryItems()
    put(items, flows([(1, 2)]))
    assert StoredScene(items, KEY, "other").censuses(ALWAYS) == []


def test_another_key_files_hosts_elsewhere():
    table = flows([(i, 1000 + i) for i in range(8000)], step=10**6)
    sizes = []
    for key in (b"one", b"two"):
        items = MemoryItems()
        put_capture(items, key, table, census(table), source("x"), group="vpc", layout={}, expires_at=EXPIRY)
        sizes.append([item["flows"] for _, item in sorted(items.items.items()) if "data" in item])
    assert sizes[0] != sizes[1]
