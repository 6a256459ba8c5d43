"""The floods behind answers: their numbers against published ones, against made truth, and against themselves."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections import defaultdict
from ipaddress import ip_network

import dpkt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.flood.made import ALWAYS, OURS, answered, answers_in, whole

from backscatter.demo import case2007
from backscatter.demo.wire import tcp
from backscatter.flood.answers import Kind, unsolicited
from backscatter.flood.floods import floods_of
from backscatter.flood.poisson import interval
from backscatter.flow.address import Address
from backscatter.flow.lookup import TableScene
from backscatter.flow.read import Piece, read_sensor
from backscatter.flow.table import FlowTable


def read(data: bytes, name: str = "capture.pcap"):
    return read_sensor(name, [Piece(name, lambda: io.BytesIO(data))])


def test_the_2007_case_was_a_flood_of_about_a_million_packets_a_second():
    sensor = read(case2007.capture())
    home = [ip_network(case2007.OURS)]
    (flood,) = floods_of(unsolicited(sensor.table, sensor.censuses, home), home).floods
    assert (str(flood.victim), flood.proto, flood.ports) == (case2007.VICTIM, "tcp", ((6667, 2),))
    assert (flood.packets, flood.answers, flood.addresses, round(flood.seconds)) == (2, 2, 1, 7975)
    assert flood.estimate.rate == pytest.approx(1.08e6, rel=0.005)
    assert flood.estimate.low == pytest.approx(0.13e6, rel=0.005)
    assert flood.estimate.high == pytest.approx(3.89e6, rel=0.005)
    assert flood.signs.tools == ("juno.c",)
    assert flood.signs.labels == ()


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # Garwood's limits, from Ulm, "A simple method to calculate the confidence interval of an SMR", 1990, and R's
    # poisson.test.
    [
        (0, 0.0, 3.689),
        (1, 0.0253, 5.572),
        (2, 0.242, 7.225),
        (10, 4.795, 18.39),
        (50, 37.11, 65.92),
        (100, 81.36, 121.63),
    ],
)
def test_intervals_are_those_of_the_tables(count, low, high):
    assert interval(count) == (pytest.approx(low, abs=0.006), pytest.approx(high, abs=0.006))


def test_ipv6_has_no_size():
    tape = whole("fd00::5")
    for number in range(3):
        answered(tape, 300 + number, victim="2001:db8::7", ours="fd00::5", our_port=4000 + number)
    (flood,) = floods_of(answers_in(tape)).floods
    assert flood.estimate is None
    assert flood.rate == pytest.approx(1.5)


def test_one_answer_has_no_rate():
    (flood,) = floods_of(answers_in(answered(whole(), 300))).floods
    assert (flood.rate, flood.estimate, flood.seconds) == (None, None, 0)


def test_what_is_not_proven_is_counted_apart_or_when_asked_for():
    tape = answered(answered(whole(), 300), 320, ours="10.0.0.99", refused=False)
    (flood,) = floods_of(answers_in(tape)).floods
    assert (flood.answers, flood.addresses, flood.unproven) == (1, 1, {"one_way": 1})
    (both,) = floods_of(answers_in(tape), unproven=True).floods
    assert (both.answers, both.addresses, both.unproven) == (2, 2, {"one_way": 1})
    assert both.conversations == {"refused": 1, "silent": 1}


@pytest.mark.parametrize(
    ("sign", "forged"),
    [
        ("juno.c", [(1024, 5), (3072, 900_000), (1024, 7_000_000)]),
        ("scapy", [(20, 1), (20, 1), (20, 1)]),
        ("constant_seq", [(4000, 674711610), (4100, 674711610), (5100, 674711610)]),
        ("constant_port", [(1234, number * 10**8) for number in range(1, 7)]),
        ("seq_below_65536", [(4000, 1000), (4100, 5000), (4200, 60000)]),
        (None, [(4000, 12345678), (1024, 5), (4200, 600000)]),
    ],
    ids=str,
)
def test_tools_leave_marks(sign, forged):
    hosts = [f"10.0.2.{number}" for number in range(1, len(forged) + 1)]
    tape = whole(*hosts)
    for number, (port, ack) in enumerate(forged):
        answered(tape, 300 + number, ours=hosts[number], our_port=port, ack=ack)
    (flood,) = floods_of(answers_in(tape)).floods
    assert (sign in flood.signs.tools) if sign else flood.signs.tools == ()


def test_thresholds_are_labels():
    tape = whole(until=900)
    for number in range(70):
        answered(tape, 300 + number * 1.5, our_port=4000 + number, ack=1000 * number)
    (flood,) = floods_of(answers_in(tape)).floods
    assert {"corsaro", "corsaro_packets", "corsaro_duration", "corsaro_rate"} <= set(flood.signs.labels)
    slow = whole(until=900)
    for number in range(26):
        answered(slow, 100 + number * 20, our_port=4000 + number, ack=1000 * number)
    (flood,) = floods_of(answers_in(slow)).floods
    assert set(flood.signs.labels) == {"corsaro_packets", "corsaro_duration"}


def test_many_hosts_answered_from_one_port_are_scan_ngs_backscatter():
    hosts = [f"10.0.2.{number}" for number in range(1, 13)]
    tape = whole(*hosts)
    for number, host in enumerate(hosts):
        answered(tape, 300 + number, ours=host, ack=1000 * number + 5)
    (flood,) = floods_of(answers_in(tape)).floods
    assert "scan_ng" in flood.signs.labels
    assert flood.addresses == 12
    assert len(flood.examples) == 10


def test_the_map_holds_every_answer():
    tape = whole(until=900)
    for number in range(40):
        answered(tape, 300 + number * 7, our_port=4000 + number, ack=1000 * number)
    found = floods_of(answers_in(tape))
    assert sum(found.floods[0].bins) == found.floods[0].answers == 40


def test_the_real_flood_of_2009(captures):
    """The publisher: 24 h of one flooded web server; 300 conversations answered by our RST, 161 of SYN+ACK only."""
    data = (captures / "ncsa__backscatter-192.150.186.pcap").read_bytes()
    sensor = read(data)
    answers = unsolicited(sensor.table, sensor.censuses)
    assert int((answers.kind == Kind.REFUSED).sum()) == 300
    assert int((answers.kind == Kind.SILENT).sum()) == 161
    (flood,) = floods_of(answers, unproven=True).floods
    assert (str(flood.victim), flood.ports_total, flood.ports[0][0]) == ("202.229.120.98", 1, 80)
    assert flood.conversations == {"refused": 300, "silent": 161, "closed": 2}
    (proven,) = floods_of(answers).floods
    assert proven.conversations == {"refused": 299}  # the first one came too early in the capture
    assert proven.estimate.low < flood.estimate.rate < proven.estimate.high


def test_ordinary_captures_hold_no_flood(captures):
    from backscatter.errors import CaptureError

    tried = 0
    for path in sorted(captures.glob("*.pcap*")):
        if path.name.startswith("ncsa"):
            continue
        sensor = read_sensor(path.name, [Piece(path.name, lambda path=path: path.open("rb"))])
        if any(isinstance(piece.error, CaptureError) and not piece.tally.packets for piece in sensor.pieces):
            continue
        tried += 1
        answers = unsolicited(sensor.table, sensor.censuses)
        assert floods_of(answers).floods == (), path.name
        labels = {label for flood in floods_of(answers, unproven=True).floods for label in flood.signs.labels}
        if path.name != "malcolm__DNS.pcap":  # answers of one resolver, whose questions were filtered out
            assert "corsaro" not in labels, path.name
    assert tried > 90


def test_the_truth_of_a_made_telescope(captures, tmp_path):
    """bench/gen.py: victims, ports and monitored hosts by another program, counted once more by dpkt."""
    generator = captures.parent / "bench" / "gen.py"
    capture = tmp_path / "telescope.pcap"
    subprocess.run(
        [sys.executable, generator, "backscatter", capture, "-n", "30000", "-f", "13200"],
        check=True,
        capture_output=True,
    )
    convs, answered_ones = defaultdict(set), set()
    for _, frame in dpkt.pcap.Reader(io.BytesIO(capture.read_bytes())):
        ip = dpkt.ethernet.Ethernet(frame).data
        if isinstance(ip.data, dpkt.tcp.TCP):
            segment = ip.data
            if segment.flags == 0x12:
                convs[ip.src, segment.sport, ip.dst, segment.dport].add((segment.seq, segment.ack))
            elif segment.flags == 0x04:
                answered_ones.add((ip.dst, segment.dport, ip.src, segment.sport))
    sensor = read(capture.read_bytes())
    answers = unsolicited(sensor.table, sensor.censuses)
    synacks = answers.select(np.isin(answers.kind, (Kind.REFUSED, Kind.SILENT)))
    found = floods_of(synacks, unproven=True)
    assert len(synacks) == len(convs)
    assert int((synacks.kind == Kind.REFUSED).sum()) == len(answered_ones & convs.keys())
    assert sum(flood.answers for flood in found.floods) == sum(map(len, convs.values()))
    victims = defaultdict(set)
    for src, _, dst, _ in convs:
        victims[src].add(dst)
    assert {flood.victim.packed: flood.addresses for flood in found.floods} == {
        src: len(hit) for src, hit in victims.items()
    }
    assert found.in_view == len({dst for _, _, dst, _ in convs})
    truth = json.loads((tmp_path / "telescope.pcap.truth.json").read_text())
    assert found.in_view <= truth["monitored"]


def test_two_hundred_thousand_flows_take_moments():
    rows = 200_000
    table = FlowTable.empty()
    one = read(_one_answer()).table
    answer = np.flatnonzero(one.rows["src_synacks"] > 0)[:1]
    some = np.repeat(one.rows[answer], rows)
    some["dst_lo"] = 10 << 24 | np.arange(rows) % 4096
    some["dst_port"] = np.arange(rows) % 50000 + 1024
    some["src_lo"] = 23 << 24 | np.arange(rows) % 3000
    some["start"] += np.arange(rows) * 10**6
    table = FlowTable(some, one.quotes[:0], one.scopes, one.tunnels, one.sensors, one.pieces)
    before = time.process_time()
    found = floods_of(unsolicited(table, read(_one_answer()).censuses), unproven=True)
    assert len(found.floods) == 3000
    assert time.process_time() - before < 8  # 1 s where nobody else is at work


def _one_answer() -> bytes:
    from backscatter.demo.wire import ether, pcap

    return pcap([(1_700_000_000 * 10**9, ether(tcp("198.51.100.7", 80, OURS, 4000, "SA", seq=1, ack=5)))])


_CONVERSATIONS = st.lists(
    st.tuples(
        st.sampled_from(["198.51.100.7", "198.51.100.8", "2001:db8::9"]),
        st.integers(1, 3),
        st.sampled_from([80, 443]),
        st.integers(4000, 4004),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda one: one[:4],
)


@given(_CONVERSATIONS, st.data())
def test_which_capture_holds_a_flow_changes_no_total(conversations, data):
    tape = whole("10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2", "fd00::3", until=30)
    for number, (victim, host, port, our_port, refused) in enumerate(conversations):
        ours = f"fd00::{host}" if ":" in victim else f"10.0.0.{host}"
        answered(
            tape, 5 + number, victim=victim, ours=ours, port=port, our_port=our_port, ack=number * 7919, refused=refused
        )
    scene = tape.scene()
    whole_table = scene.table
    sensor = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(whole_table), max_size=len(whole_table))))
    parts = []
    for number in range(3):
        part = whole_table.select(sensor == number)
        part.sensors = (f"sensor {number}",)
        part.rows["sensor"] = 0
        parts.append(part)
    once = floods_of(unsolicited(whole_table, scene.censuses(ALWAYS)), unproven=True)
    split = floods_of(unsolicited(FlowTable.joined(parts), scene.censuses(ALWAYS)), unproven=True)
    assert [_totals(flood) for flood in once.floods] == [_totals(flood) for flood in split.floods]


def _totals(flood):
    return (
        flood.victim, flood.proto, flood.ports, flood.first, flood.last, flood.addresses, flood.conversations,
        flood.packets, flood.answers, flood.estimate, flood.signs, flood.bins,
    )  # fmt: skip


def test_a_scene_of_nothing_holds_no_flood():
    assert floods_of(unsolicited(TableScene([]).table, ())).floods == ()
    assert Address.parse(OURS).version == 4
