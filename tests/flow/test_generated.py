"""Generated captures whose number of flows is known by their maker."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from backscatter.flow.read import Piece, read_sensor


@pytest.mark.parametrize(
    ("kind", "count", "flows"), [("mix", 12000, 900), ("backscatter", 12000, 5200), ("v6", 6000, 400)]
)
def test_the_number_of_flows_is_the_true_one_and_nothing_was_lost(captures, tmp_path, kind, count, flows):
    generator = captures.parent / "bench/gen.py"
    if not generator.is_file():
        pytest.skip("../shared/bench/gen.py is not here: generated captures are not tested")
    path = tmp_path / "made.pcap"
    command = [sys.executable, str(generator), kind, str(path), "-n", str(count), "-f", str(flows)]
    subprocess.run(command, check=True, capture_output=True)
    truth = json.loads((tmp_path / "made.pcap.truth.json").read_text())
    found = read_sensor("s", [Piece("made", lambda: path.open("rb"))])
    rows = found.table.rows
    assert len(rows) == truth["flows"]
    assert (rows["proto"] == 6).sum() == truth["tcp_flows"]
    assert rows["src_packets"].sum() + rows["dst_packets"].sum() == truth["packets"]
    assert rows["src_lost"].sum() + rows["dst_lost"].sum() == 0
