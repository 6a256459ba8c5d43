"""Columns hold what was written last, in the room of one value where all is one."""

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backscatter.decode.filling import Filling

FORMS = {"a": "u1", "b": "i8"}
COUNT = 6


@st.composite
def writes(draw):
    """Rows as a slice or an index, and values of some columns: one for all, or one each."""
    rows = sorted(draw(st.sets(st.integers(0, COUNT - 1), min_size=1)))
    values = {}
    for name in draw(st.sets(st.sampled_from(sorted(FORMS)))):
        many = st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows))
        values[name] = draw(st.integers(0, 2) | many.map(np.array))
    whole = rows == list(range(rows[0], rows[-1] + 1))
    return slice(rows[0], rows[-1] + 1) if whole and draw(st.booleans()) else np.array(rows), values


@given(first=st.integers(1, COUNT - 1), ahead=writes(), behind=writes(), more=st.lists(writes(), max_size=4))
def test_columns_hold_what_was_written_last(first, ahead, behind, more):
    filling = Filling(COUNT, FORMS)
    plain = {name: np.zeros(COUNT, form) for name, form in FORMS.items()}
    for rows, (_, values) in ((slice(0, first), ahead), (slice(first, COUNT), behind)):
        size = len(range(COUNT)[rows])
        fitting = {name: np.resize(value, size) if np.ndim(value) else value for name, value in values.items()}
        filling.write(rows, fitting)
        for name in FORMS:
            plain[name][rows] = fitting.get(name, 0)
    for rows, values in more:
        filling.put(rows, values)
        for name, value in values.items():
            plain[name][rows] = value
    for name, column in plain.items():
        assert filling.column(name).tolist() == column.tolist()
        assert filling.column(name).dtype == column.dtype


def test_a_column_of_one_value_takes_the_room_of_one():
    filling = Filling(1000, FORMS)
    filling.write(slice(0, 500), {"a": 4, "b": np.arange(500)})
    filling.write(np.arange(500, 1000), {"a": np.full(500, 4), "b": 7})
    assert filling.column("a").strides == (0,)
    assert filling.column("b").strides == (8,)
    filling.hold({"b": 3})
    assert filling.column("b").tolist() == [3] * 1000


def test_nothing_of_dpkt_is_loaded_before_a_packet_needs_it():
    code = "import sys, backscatter.decode.decoder; sys.exit('dpkt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
