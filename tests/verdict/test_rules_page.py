"""docs/rules.md is what the table of rules says."""

from __future__ import annotations

import runpy
from pathlib import Path

from backscatter.verdict.rules import RULES

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_rules_is_made_from_the_table():
    script = runpy.run_path(str(ROOT / "scripts" / "rules_page.py"))
    assert (ROOT / "docs" / "rules.md").read_text(encoding="utf-8") == script["page"]()


def test_every_row_of_the_table_has_a_case_that_it_decides():
    script = runpy.run_path(str(ROOT / "scripts" / "rules_page.py"))
    text = script["page"]()  # raises where a case is judged by another rule than the one it stands for
    assert set(script["CASES"]) == {(rule.id, rule.case) for rule in RULES}
    assert text.count("```text") == len(RULES)
