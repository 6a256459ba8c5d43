"""The scene in memory, against looking at every flow."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.flow.made import SECOND, packets

from backscatter.decode.columns import HAS_PORTS, ONE_WAY
from backscatter.flow.address import Address
from backscatter.flow.build import build_flows
from backscatter.flow.census import Census
from backscatter.flow.lookup import TableScene
from backscatter.flow.read import SensorFlows
from backscatter.flow.table import FlowTable
from backscatter.flow.window import Window

HOSTS = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1", "::10.0.0.1"]


def sensor(name: str, table: FlowTable, *censuses: Census) -> SensorFlows:
    return SensorFlows(name, table, censuses, ())


@st.composite
def a_row(draw):
    a = draw(st.sampled_from(HOSTS))
    b = draw(st.sampled_from([host for host in HOSTS if (":" in host) == (":" in a)]))
    row = {"a": a, "b": b, "aport": draw(st.integers(1, 3)), "t": draw(st.integers(0, 900))}
    if draw(st.booleans()):
        src, dst = (Address.parse(draw(st.sampled_from(HOSTS[:3]))) for _ in range(2))
        quoted = {"version": 4, "src_lo": src.lo, "dst_lo": dst.lo, "proto": 17}
        row |= {"proto": 1, "bport": 0, "traits": HAS_PORTS | ONE_WAY, "quoted": quoted}
    return row


def plainly(table: FlowTable, window: Window, wanted) -> list[int]:
    """Rows that overlap the window and of which `wanted` says yes to the ends, or to those of a quote."""
    found = []
    for number, row in enumerate(table.rows):
        ends = [Address(int(row["version"]), int(row[f"{s}_hi"]), int(row[f"{s}_lo"])) for s in ("src", "dst")]
        quotes = [
            [Address(int(q["version"]), int(q[f"{s}_hi"]), int(q[f"{s}_lo"])) for s in ("src", "dst")]
            for q in table.quotes[table.quotes["flow"] == number]
        ]
        if row["start"] <= window.end and row["end"] >= window.start and wanted(ends, quotes):
            found.append(number)
    return found


def same(found: FlowTable, table: FlowTable, rows: list[int]) -> bool:
    return found.rows.tobytes() == table.select(np.array(rows, np.int64)).rows.tobytes()


@settings(max_examples=80, deadline=None)
@given(st.lists(a_row(), max_size=25), st.integers(0, 900), st.integers(0, 400), st.data())
def test_the_index_finds_what_a_full_scan_finds(rows, begin, length, data):
    half = len(rows) // 2
    tables = [
        build_flows(packets(part), ("",), ((),), sensor=name) for name, part in (("x", rows[:half]), ("y", rows[half:]))
    ]
    scene = TableScene([sensor(table.sensors[0], table) for table in tables])
    window = Window(begin * SECOND, (begin + length) * SECOND)
    ones, others = (
        [Address.parse(host) for host in data.draw(st.lists(st.sampled_from(HOSTS), max_size=2, unique=True))]
        for _ in range(2)
    )
    wanted = plainly(
        scene.table,
        window,
        lambda ends, quotes: any(end in ones for end in ends) or any(src in ones for src, _ in quotes),
    )
    assert same(scene.flows_of(ones, window), scene.table, wanted)

    def between(src, dst):
        return (src in ones and dst in others) or (src in others and dst in ones)

    wanted = plainly(
        scene.table, window, lambda ends, quotes: between(*ends) or any(between(*quote) for quote in quotes)
    )
    assert same(scene.flows_between(ones, others, window), scene.table, wanted)


def test_a_long_flow_is_found_in_a_window_that_lies_within_it():
    rows = [{"t": t, "aport": 1} for t in range(0, 1000, 250)] + [{"t": 400, "aport": 2}, {"t": 10, "aport": 3}]
    scene = TableScene([sensor("s", build_flows(packets(rows), ("",), ((),)))])
    found = scene.flows_of([Address.parse("10.0.0.1")], Window(500 * SECOND, 501 * SECOND))
    assert found.rows["src_port"].tolist() == [1]


def test_an_empty_scene_has_nothing():
    scene = TableScene([])
    host = Address.parse("10.0.0.1")
    assert len(scene.flows_of([host], Window(0, 1))) == 0
    assert len(scene.flows_between([host], [host], Window(0, 1))) == 0
    assert scene.censuses(Window(0, 1)) == []


def test_a_query_does_not_look_at_every_flow():
    count = 20_000
    rows = packets([{}]).columns
    table = packets([{}] * 1)
    table.columns = {name: np.repeat(column, count) for name, column in rows.items()}
    table.columns["src_port"] = np.arange(count, dtype="u2")
    table.columns["time"] = np.arange(count) * SECOND
    table.columns["place"] = np.arange(count)
    scene = TableScene([sensor("s", build_flows(table, ("",), ((),)))])
    host = Address.parse("10.0.0.1")
    candidates = scene._candidates(host, Window(700 * SECOND, 702 * SECOND))
    assert scene.table.rows["src_port"][candidates].tolist() == [700, 701, 702]


def census(name: str, source: str, start: int, end: int) -> Census:
    return Census(name, source, start * SECOND, end * SECOND, 1, 0, {})


def test_censuses_are_those_of_the_window_and_of_the_day_before_it_by_the_same_sensors():
    hour = 3600
    scene = TableScene(
        [
            sensor("x", FlowTable.empty(), *(census(f"x{h}", "x", h * hour, h * hour + 60) for h in (0, 6, 24, 30))),
            sensor("y", FlowTable.empty(), census("y", "y", 29 * hour, 29 * hour + 5)),
        ]
    )
    window = Window(24 * hour * SECOND, (24 * hour + 10) * SECOND)
    assert [one.piece for one in scene.censuses(window)] == ["x0", "x6", "x24"]
