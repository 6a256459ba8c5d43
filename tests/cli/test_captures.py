"""`backscatter captures`: what a capture says of itself."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner

from backscatter.cli.captures import record
from backscatter.cli.main import cli
from backscatter.demo.wire import ether, pcap, tcp
from backscatter.flow.census import Census, ScopeCensus
from backscatter.flow.read import Piece, read_sensor
from backscatter.flow.window import Window
from backscatter.verdict.coverage import coverage_of

T, SECOND, SEGMENTS = 1174413859731091000, 10**9, 1000


def download(lost: int) -> bytes:
    """Segments of 100 bytes, each acknowledged, of which every so manieth was not captured."""
    server, client = ("192.0.2.1", 80), ("10.0.0.5", 1024)
    frames = [
        tcp(*client, *server, "S", seq=9),
        tcp(*server, *client, "SA", seq=99, ack=10),
        tcp(*client, *server, "A", seq=10, ack=100),
    ]
    for n in range(SEGMENTS):
        if n % lost or not n:
            frames.append(tcp(*server, *client, "A", seq=100 + 100 * n, ack=10, payload=bytes(100)))
        frames.append(tcp(*client, *server, "A", seq=10, ack=200 + 100 * n))
    return pcap([(T + n * 10**6, ether(frame)) for n, frame in enumerate(frames)])


@pytest.mark.parametrize("lost", [2, 5, 100])
def test_the_loss_is_the_share_of_segments_that_nobody_captured(tmp_path, lost):
    path = tmp_path / "lossy.pcap"
    path.write_bytes(download(lost))
    result = CliRunner().invoke(cli, ["captures", "--json", str(path)])
    told = json.loads(result.stdout)
    share = pytest.approx((SEGMENTS / lost - 1) / SEGMENTS, abs=0.003)
    assert told["loss"] == told["scopes"][""]["loss"] == share
    sensor = read_sensor("tap", [Piece("lossy", lambda: path.open("rb"))])
    (coverage,) = coverage_of(sensor.censuses, "", Window(T, T + 3600 * SECOND))
    assert coverage.loss.rate == share


def test_what_a_capture_says_takes_no_longer_for_each_scope_the_more_there_are():
    scopes = {f"vlan:{number}": ScopeCensus(1, 0, 1, 10, 1) for number in range(30_000)}
    start = time.process_time()
    told = record(Census("piece", "tap", 0, 1, 30_000, 1, scopes))
    assert time.process_time() - start < 5
    assert told["loss"] == told["scopes"]["vlan:7"]["loss"] == 0.1
