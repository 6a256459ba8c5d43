"""docs/rules.md is what the table of rules says."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_rules_is_made_from_the_table():
    script = runpy.run_path(str(ROOT / "scripts" / "rules_page.py"))
    assert (ROOT / "docs" / "rules.md").read_text(encoding="utf-8") == script["page"]()
