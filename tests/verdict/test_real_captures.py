"""Real captures, judged as if an alert named each of their TCP conversations: no real connection is backscatter.

What a conversation really was is what tshark read (`class` in the oracle files), not what our own flow table says.
"""

from __future__ import annotations

import ipaddress
import json
from collections import Counter
from functools import partial

import pytest

from backscatter.errors import NotACapture
from backscatter.finding.model import End, Finding, Tuple
from backscatter.flow.lookup import TableScene
from backscatter.flow.read import Piece, read_sensor
from backscatter.verdict.judge import judge
from backscatter.verdict.model import Label
from backscatter.verdict.settings import Settings, parse_home

#: Classes of conversations that somebody on our side took part in, whichever end is ours.
REAL = (
    "full-handshake",
    "midstream with data",
    "synack without syn, two-way",
    "synack-first one way, then ack/data/fin (a real connection seen from one side)",
)


def scene_of(path) -> TableScene:
    return TableScene([read_sensor("tap", [Piece(path.name, partial(path.open, "rb"))])])


def verdict_on(scene, home: str, ours: End, theirs: End, at: int):
    finding = Finding("id", "suricata", "1", "alert", 1, at, at, tuples=(Tuple("tcp", ours, theirs),))
    return judge(finding, scene, Settings(home=parse_home([home])))


def test_no_real_connection_of_any_capture_is_called_backscatter(captures):
    wrong, judged = [], 0
    for oracle in sorted((captures / "oracle").glob("*.flows.json")):
        path = captures / oracle.name.removesuffix(".flows.json")
        streams = [one for one in json.loads(oracle.read_text())["tcp"] if one["class"] in REAL][:150]
        if not streams:
            continue
        try:
            scene = scene_of(path)
        except NotACapture:
            continue
        for one in streams:
            ends = End(one["a"], int(one["aport"])), End(one["b"], int(one["bport"]))
            at = int(one["first_time"].replace(".", ""))
            for ours, theirs in (ends, ends[::-1]):
                judged += 1
                if verdict_on(scene, ours.ip, ours, theirs, at).label is Label.BACKSCATTER:
                    wrong.append((path.name, one["stream"], ours.ip))
    assert judged > 1000
    assert not wrong


def test_the_answered_conversations_of_a_flooded_web_server_are_probable_backscatter(captures):
    scene = scene_of(captures / "ncsa__backscatter-192.150.186.pcap")
    oracle = json.loads((captures / "oracle" / "ncsa__backscatter-192.150.186.pcap.flows.json").read_text())
    answered = [one for one in oracle["tcp"] if one["flags_ba"].get("R")]
    rows = scene.table.rows[scene.table.rows["dst_rsts"] > 0]
    first_rst = {}
    for host, port, time in zip(
        rows["dst_lo"].tolist(), rows["dst_port"].tolist(), rows["dst_first"].tolist(), strict=True
    ):
        first_rst.setdefault((str(ipaddress.ip_address(host)), port), time)
    verdicts = []
    for one in answered:
        ours, theirs = End(one["b"], int(one["bport"])), End(one["a"], int(one["aport"]))
        verdicts.append(verdict_on(scene, "192.150.186.0/24", ours, theirs, first_rst[ours.ip, ours.port]))
    assert Counter((verdict.label, verdict.band) for verdict in verdicts) == {(Label.BACKSCATTER, "probable"): 300}
    assert {(one.victim.ip, one.victim.port) for one in verdicts if one.victim} == {("202.229.120.98", 80)}


@pytest.mark.parametrize(
    "name", ["asyncrat__cd010953-5faf-4054-86be-58c020c3a532.pcap", "slips__test-cc-capture-1.pcap"]
)
def test_real_command_and_control_is_an_established_connection(captures, name):
    scene = scene_of(captures / name)
    streams = json.loads((captures / "oracle" / f"{name}.flows.json").read_text())["tcp"]
    for one in streams[:100]:
        ours, theirs = End(one["a"], int(one["aport"])), End(one["b"], int(one["bport"]))
        verdict = verdict_on(scene, ours.ip, ours, theirs, int(one["first_time"].replace(".", "")))
        assert (verdict.label, verdict.rule) == (Label.CONNECTION_ESTABLISHED, "R1")
