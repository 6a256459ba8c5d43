"""docs/fields.md names every field that the commands print."""

from __future__ import annotations

import re
from pathlib import Path

from tests.verdict.tape import Tape

from backscatter.flow.record import flow_records
from backscatter.report.record import verdict_record

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fields.md"


def test_every_printed_field_is_documented():
    verdict = Tape().ordinary(0, 600).backscatter(300).judged()
    record, (flow,) = verdict_record(verdict), flow_records(verdict.flows)
    documented = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]*)`", PAGE.read_text(encoding="utf-8")))))
    printed = {*record, *record["finding"], *record["evidence"][0], *flow, *flow["tcp"]["src"]}
    assert printed - documented == set()
