"""docs/cost.md is what the price list and the measured figures say."""

from __future__ import annotations

import runpy
from pathlib import Path

from backscatter.store.prices import HOURS_A_DAY, MEASURED, PRICES

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "cost.py"))


def test_the_page_of_costs_is_made_from_the_list():
    assert (ROOT / "docs" / "cost.md").read_text(encoding="utf-8") == SCRIPT["page"]()


def test_where_two_costs_cross_they_are_equal():
    mirror = HOURS_A_DAY * PRICES["mirroring"].each
    for one in MEASURED.values():
        for how in (SCRIPT["bill"], SCRIPT["plain"]):
            rate = SCRIPT["crossing"](how(one, 1).total, 0.01)
            assert abs(how(one, rate * SCRIPT["DAY"]).total + 0.01 - mirror) < 1e-9


def test_it_costs_less_than_one_item_a_flow():
    for one in MEASURED.values():
        assert SCRIPT["bill"](one, 10**6).total * 10 < SCRIPT["plain"](one, 10**6).total


def test_the_figures_keep_the_limits():
    assert MEASURED["backscatter"].write_units / MEASURED["backscatter"].flows <= 0.06
    assert MEASURED["mix"].write_units / MEASURED["mix"].flows <= 0.1
    assert MEASURED["backscatter"].store_seconds <= 1.5 * MEASURED["backscatter"].read_seconds
    assert MEASURED["mix"].store_seconds <= 0.5 * MEASURED["mix"].read_seconds
