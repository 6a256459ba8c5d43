from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.store.tables import any_tables, flows, quoting, same

from backscatter.errors import StoreError
from backscatter.flow.table import FLOW, FLOW_QUOTE, FlowTable
from backscatter.store import segments
from backscatter.store.frame import expand, squeeze
from backscatter.store.layout import QUOTES, ROWS, SCHEMA


def written(table: FlowTable) -> bytes:
    return segments.Writer(table).write(np.arange(len(table)), np.arange(len(table.quotes)))


def read(data: bytes) -> FlowTable:
    return segments.read(data, "tap", "one.pcap")


@given(any_tables())
def test_any_table_comes_back_exactly(table):
    back = read(written(table))
    for name in FLOW.names:
        if name not in ("scope", "tunnels"):
            assert np.array_equal(back.rows[name], table.rows[name]), name
    assert back.quotes.tobytes() == table.quotes.tobytes()
    assert [back.scopes[i] for i in back.rows["scope"]] == [table.scopes[i] for i in table.rows["scope"]]
    assert [back.tunnels[i] for i in back.rows["tunnels"]] == [table.tunnels[i] for i in table.rows["tunnels"]]


@given(any_tables(), st.data())
def test_any_selection_comes_back_as_the_table_itself_would_select(table, data):
    index = np.array(sorted(data.draw(st.sets(st.integers(0, max(0, len(table) - 1)), max_size=len(table)))), np.int64)
    index = index[: len(table)]
    quotes = np.flatnonzero(np.isin(table.quotes["flow"], index))
    back = read(segments.Writer(table).write(index, quotes))
    wanted = table.select(index)
    assert back.rows["history"].tolist() == wanted.rows["history"].tolist()
    assert back.rows["start"].tolist() == wanted.rows["start"].tolist()
    assert back.quotes["flow"].tolist() == wanted.quotes["flow"].tolist()


def test_every_field_but_the_sensor_is_written():
    assert {column.name.partition(".")[0] for column in ROWS.columns} == set(FLOW.names) - {"sensor"}
    assert {column.name for column in QUOTES.columns} == set(FLOW_QUOTE.names)


def test_the_columns_of_layout_1_have_not_changed():
    """Items that were written with other columns cannot be read: until the first release take the new number over;
    after it, keep the old columns as layout 1 with its reader and write layout 2.
    """
    assert f"{SCHEMA:08x}" == "70b270a1"


def test_a_thousand_backscatter_flows_take_less_than_30_bytes_each():
    table = flows([(1, i) for i in range(1000)], step=1000)
    assert len(written(table)) < 30_000


def test_two_kinds_of_flows_in_turn_cost_little_more_than_one_after_the_other():
    def table(silent: np.ndarray) -> FlowTable:
        made = flows([(1, 2)] * 2000, step=1000)
        made.rows["history"][silent], made.rows["dst_flags"][silent], made.rows["conn_state"][silent] = b"H", 0, 1
        for name in FLOW.names:
            if name.startswith("dst_") and name not in ("dst_hi", "dst_lo", "dst_port"):
                made.rows[name][silent] = -1 if name == "dst_places" else 0
        return made

    number = np.arange(2000)
    mixed, apart = table(number % 7 % 2 == 0), table(number < 4 * 2000 // 7)
    assert same(read(written(mixed)), mixed)
    assert len(written(mixed)) < len(written(apart)) + 500


def test_quotes_come_back_in_the_order_of_their_rows_whatever_kind_those_are():
    table = flows([(1, i) for i in range(6)])
    table.rows["history"] = [b"b", b"a", b"b", b"", b"a", b"c"]
    table = quoting(table, [(0, 5, 6), (0, 6, 7), (1, 7, 8), (3, 8, 9), (5, 9, 10), (5, 10, 11)])
    assert same(read(written(table)), table)


def test_microseconds_are_written_as_such_and_one_odd_nanosecond_changes_that():
    table = flows([(1, i) for i in range(1000)])
    for name in ("end", "dst_first", "dst_last"):
        table.rows[name] = table.rows["end"] // 1000 * 1000
    plain = written(table)
    assert same(read(plain), table)
    table.rows["end"][500] += 1
    odd = written(table)
    assert same(read(odd), table)
    assert len(plain) < len(odd) - 1000


def test_a_quote_of_the_flow_turned_round_costs_little():
    table = flows([(i, 1000 + i) for i in range(1000)])
    bare = len(written(table))
    table = quoting(table, [(i, 1000 + i, i) for i in range(1000)])
    assert same(read(written(table)), table)
    assert len(written(table)) - bare < 4000


def test_a_table_of_two_captures_is_refused():
    table = flows([(1, 2)])
    table.pieces = ("a", "b")
    with pytest.raises(ValueError, match="one capture"):
        segments.Writer(table)


def test_an_unknown_layout_is_named():
    with pytest.raises(StoreError, match="layout 99"):
        read(bytes((99,)) + written(flows([(1, 2)]))[1:])
    with pytest.raises(StoreError, match="layout none"):
        read(b"")


def test_other_columns_are_named():
    data = written(flows([(1, 2)]))
    inside = expand(data[1:], 10**6)
    with pytest.raises(StoreError, match="written with columns 00000000"):
        read(data[:1] + squeeze(bytes(4) + inside[4:]))


def test_a_frame_that_claims_gigabytes_is_refused_before_it_is_expanded():
    bomb = squeeze(bytes(segments.EXPANDED_LARGEST + 1))
    with pytest.raises(StoreError, match="are allowed"):
        read(bytes((segments.LAYOUT,)) + bomb)


@given(st.data())
def test_damage_inside_a_frame_is_a_store_error_or_another_table_never_a_crash(data):
    table = quoting(flows([(1, i) for i in range(5)]), [(0, 5, 6), (3, 7, 8)])
    inside = bytearray(expand(written(table)[1:], 10**6))
    for _ in range(data.draw(st.integers(1, 3))):
        inside[data.draw(st.integers(0, len(inside) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(inside)))
    with contextlib.suppress(StoreError):
        read(bytes((segments.LAYOUT,)) + squeeze(bytes(inside[:cut] if data.draw(st.booleans()) else inside)))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_store_error(data):
    with pytest.raises(StoreError):
        read(bytes((segments.LAYOUT,)) + data)


def test_histories_that_a_hash_would_mix_up_stay_apart():
    table = flows([(1, i) for i in range(300)])
    table.rows["history"] = [b"%040d" % (i * 7919) for i in range(300)]
    assert same(read(written(table)), table)
