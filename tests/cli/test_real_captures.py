"""The commands on captures that others made. Alerts are made from the oracle files, so not from our own decoder."""

import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from tests.cli.schema import FLOW, PACKET, VERDICT, faults
from tests.conftest import SHARED

from backscatter.cli.main import cli

FOLDER = SHARED / "captures"
NAMES = sorted(path.name for path in FOLDER.glob("*") if path.is_file() and path.suffix not in (".md", ".tsv"))

ALERTS = sorted(path.name for path in FOLDER.glob("alerts/*"))

#: Real connections seen from one side or from the middle, as captures/README.md names them.
TRAPS = (
    "sv__tcp-async-01-input.pcap",
    "sv__alert-testmyids-async-input.pcap",
    "nDPI__http_asymmetric.pcapng",
    "zeek__one-sided-2745.pcap",
    "zeek__missing-syn.pcap",
    "zeek__http-on-irc-port-missing-syn.pcapng",
    "arkime__http-syn-ack.pcap",
)


def invoke(*arguments: str):
    result = CliRunner().invoke(cli, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def conversations(captures, name: str) -> list[dict]:
    """The TCP conversations that tshark and argus found."""
    return json.loads((captures / "oracle" / f"{name}.flows.json").read_text())["tcp"]


def triage(captures, tmp_path, name: str, alerts: list[dict], *options: str) -> list[dict]:
    """The verdicts on EVE alerts made of conversations, in their order."""
    path = tmp_path / "eve.json"
    path.write_text("".join(json.dumps(eve) + "\n" for eve in alerts))
    result = invoke("triage", str(captures / name), "--findings", str(path), "--json", *options)
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == len(alerts)
    for verdict in found:
        assert faults(verdict, VERDICT) == []
    return found


def eve(src: tuple[str, int], dst: tuple[str, int], epoch: str) -> dict:
    seconds, _, fraction = epoch.partition(".")
    at = datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{fraction[:6]}+0000"
    return {
        "timestamp": at,
        "event_type": "alert",
        "src_ip": src[0],
        "src_port": src[1],
        "dest_ip": dst[0],
        "dest_port": dst[1],
        "proto": "TCP",
        "alert": {"signature_id": 1, "signature": "made from the oracle", "severity": 2},
    }


def alert_on(flow: dict) -> dict:
    return eve((flow["a"], flow["aport"]), (flow["b"], flow["bport"]), flow["first_time"])


@pytest.mark.parametrize("name", NAMES)
def test_every_capture_is_read_or_refused_in_words(captures, name):
    path = str(captures / name)
    flows, packets = invoke("flows", "--json", path), invoke("packets", "--json", path)
    for result in (flows, packets):
        assert result.exit_code in (0, 1, 2)
        assert (result.exit_code == 0) == (result.stderr == "")
        assert result.exit_code < 2 or result.stdout == ""
    assert [fault for line in flows.stdout.splitlines() for fault in faults(json.loads(line), FLOW)] == []
    lines = [json.loads(line) for line in packets.stdout.splitlines()]
    assert [fault for line in lines[:1000] for fault in faults(line, PACKET)] == []
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


def test_the_flooded_web_server_is_the_victim_of_every_conversation_that_we_answered(captures, tmp_path):
    name, victim = "ncsa__backscatter-192.150.186.pcap", ("202.229.120.98", 80)
    answered = {  # as tshark and argus count them: one port may be hit again hours later
        (one["b"], one["bport"])
        for one in conversations(captures, name)
        if "SA" in one["flags_ab"] and "R" in one["flags_ba"]
    }
    assert len(answered) == 300
    printed = invoke("packets", str(captures / name), "--json").stdout.splitlines()
    alerts = []
    for packet in map(json.loads, printed):
        if "Flags [R]," in packet["text"]:
            address, _, port = packet["text"].split()[1].rpartition(".")
            at = packet["time"].replace("000Z", "+0000")
            alerts.append({**eve((address, int(port)), victim, "0.000000"), "timestamp": at})
    assert {(alert["src_ip"], alert["src_port"]) for alert in alerts} == answered
    found = triage(captures, tmp_path, name, alerts, "--home", "192.150.186.0/24")
    assert {(one["verdict"], one["band"]) for one in found} == {("backscatter", "probable")}
    assert all(one["victim"] == {"ip": victim[0], "port": victim[1], "proto": "tcp"} for one in found)


def test_sessions_inside_an_aws_mirror_are_real_connections(captures, tmp_path):
    name = "sv__vxlan-decoder-03-vxlan.pcap"
    sessions = conversations(captures, name)
    result = invoke("flows", "--json", "--port", "22", str(captures / name))
    flows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(flow["src_port"], flow["scope"]) for flow in flows] == [(one["aport"], "vni:5569041") for one in sessions]
    assert all(flow["tunnels"][0] == "vxlan" for flow in flows)
    found = triage(captures, tmp_path, name, [alert_on(one) for one in sessions])
    assert {one["verdict"] for one in found} == {"inbound_connection"}


@pytest.mark.parametrize(
    ("name", "remote"),
    [
        ("asyncrat__cd010953-5faf-4054-86be-58c020c3a532.pcap", "181.131.218.39"),
        ("slips__test-cc-capture-1.pcap", "141.193.213.21"),
    ],
)
def test_calls_to_a_controller_are_established_connections(captures, tmp_path, name, remote):
    calls = [one for one in conversations(captures, name) if one["b"] == remote]
    home = ("--home", f"{calls[0]['a']}/32")
    found = triage(captures, tmp_path, name, [alert_on(one) for one in calls], *home)
    assert {one["verdict"] for one in found} == {"connection_established"}


@pytest.mark.parametrize("ours", ["a", "b"])
@pytest.mark.parametrize("name", TRAPS)
def test_a_real_connection_seen_from_one_side_is_never_backscatter(captures, tmp_path, name, ours):
    flows = conversations(captures, name)
    homes = [part for one in flows for part in ("--home", one[ours])]
    found = triage(captures, tmp_path, name, [alert_on(one) for one in flows], *homes)
    assert "backscatter" not in {one["verdict"] for one in found}


@pytest.mark.parametrize("name", ALERTS)
def test_every_file_of_alerts_is_judged_or_refused_in_words(captures, name):
    capture, alerts = captures / "sv__vxlan-decoder-03-vxlan.pcap", captures / "alerts" / name
    result = invoke("triage", str(capture), "--findings", str(alerts), "--json")
    assert result.exit_code in (0, 1, 2)
    assert result.exit_code == 0 or name in result.stderr
    verdicts = [json.loads(line) for line in result.stdout.splitlines()]
    assert [fault for verdict in verdicts for fault in faults(verdict, VERDICT)] == []
    assert "backscatter" not in {verdict["verdict"] for verdict in verdicts}, "none of these was captured here"
