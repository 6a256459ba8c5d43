"""Flows as columns tell what their rows tell, whichever flows and fields are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.flow.made import packets
from tests.flow.test_build import a_packet

from backscatter.flow import build, columns
from backscatter.flow.build import build_flows, flow_columns
from backscatter.flow.columns import FlowColumns
from backscatter.flow.conversation import conversations
from backscatter.flow.table import FLOW, FlowTable

NAMES = tuple(FLOW.names or ())

#: An error that quotes one of a few packets, as others of the same flow may.
an_error = st.builds(
    lambda way, port: {
        "way": way,
        "proto": 1,
        "icmp_type": 3,
        "quoted": {"version": 4, "proto": 17, "has_ports": 1, "src_lo": 1, "dst_lo": 2, "src_port": port},
    },
    st.integers(0, 1),
    st.integers(1, 3),
)

#: Answers of a flood, alike but for their ports and numbers: what is told of one holds for all.
an_answer = st.builds(
    lambda port, seq, f: {"aport": port, "seq": seq, "f": f},
    st.integers(2000, 2100),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["SA", "R"]),
)


def made(rows: list[dict]) -> FlowColumns:
    table = packets([row | {"t": number, "place": number} for number, row in enumerate(rows)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "PORTION_PACKETS", 16)  # runs of some flows each
        flows = flow_columns(table, conversations(table))
    at_once = build_flows(table, (), ())
    assert flows.rows().tobytes() == at_once.rows.tobytes()
    assert flows.quotes.tobytes() == at_once.quotes.tobytes()
    return flows


@pytest.fixture(autouse=True, scope="module")
def few_rows_together():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "TOGETHER", 3)
        yield


@settings(max_examples=150, deadline=None)
@given(st.lists(a_packet | an_error | an_answer, max_size=60), st.data())
def test_columns_and_rows_of_any_flows_are_those_of_all_rows(rows, data):
    flows = made(rows)
    table = flows.table()
    assert len(flows) == len(table)
    which = np.array(sorted(data.draw(st.sets(st.integers(0, len(flows) - 1)))) if len(flows) else [], np.int64)
    names = data.draw(st.lists(st.sampled_from(NAMES), unique=True))
    assert flows.rows(which).tobytes() == table.rows[which].tobytes()
    for some in (None, which):
        told = flows.columns(names, some)
        assert list(told) == names
        for name, column in told.items():
            wanted = table.rows[name] if some is None else table.rows[name][some]
            assert column.dtype == wanted.dtype
            assert column.tolist() == wanted.tolist() == table.columns([name], some)[name].tolist()
    one, other = flows.select(which), table.select(which)
    assert one.rows.tobytes() == other.rows.tobytes()
    assert one.quotes.tobytes() == other.quotes.tobytes()


def test_a_flood_of_answers_is_worked_out_once_and_told_of_each():
    flows = made([{"aport": 1000 + n, "seq": 7 * n, "ack": 9 * n, "f": "SA"} for n in range(50)])
    told = [part for run in flows.runs for part in run.parts if "history" in part.columns]
    assert sum(len(part.columns["history"]) for part in told) == len(flows.runs) < 50
    table = flows.table()
    assert set(table.rows["history"].tolist()) == {b"H"}
    assert table.rows["src_synack_seq"].tolist() == [7 * n for n in range(50)]


def test_no_flows_are_no_rows():
    flows = FlowColumns([], FlowTable.empty().quotes)
    assert len(flows) == len(flows.table()) == len(flows.select(np.zeros(0, np.int64))) == 0
    assert flows.columns(["start"])["start"].tolist() == []
