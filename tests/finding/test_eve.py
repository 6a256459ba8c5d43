from __future__ import annotations

import base64
import json

import pytest

from backscatter.demo import wire
from backscatter.errors import FindingError
from backscatter.finding.model import AlertedPacket, End, Tuple
from backscatter.finding.recognise import read_findings
from backscatter.flow.address import Address
from backscatter.flow.community import community_id

ALERT = {
    "timestamp": "2007-03-20T18:04:19.731429+0000",
    "flow_id": 1406059894217967,
    "event_type": "alert",
    "src_ip": "69.143.202.28",
    "src_port": 1024,
    "dest_ip": "193.109.122.67",
    "dest_port": 6667,
    "proto": "TCP",
    "alert": {"action": "allowed", "gid": 1, "signature_id": 2404000, "signature": "ET CNC Known Bot", "severity": 1},
    "flow": {"start": "2007-03-20T18:04:19.731091+0000"},
}
SENT = wire.tcp("69.143.202.28", 1024, "193.109.122.67", 6667, "R", seq=2934031229, window=0)


def only(**changes):
    alert = {key: value for key, value in {**ALERT, **changes}.items() if value is not None}
    (finding,) = read_findings(json.dumps(alert).encode(), "eve.json")
    return finding


def with_packet(packet, linktype=1):
    text = packet if isinstance(packet, str) else base64.b64encode(packet).decode()
    return only(packet=text, packet_info={"linktype": linktype})


def test_an_alert_keeps_the_packet_s_direction_and_takes_the_flow_s_start_into_its_window():
    finding = only()
    assert finding.tuples == (Tuple("tcp", End("69.143.202.28", 1024), End("193.109.122.67", 6667)),)
    assert finding.first_seen == 1174413859_731091000
    assert finding.last_seen == 1174413859_731429000
    assert (finding.source, finding.type, finding.severity) == ("suricata", "2404000", 1)
    assert finding.title == "ET CNC Known Bot"


def test_a_flow_that_starts_after_its_alert_widens_nothing_backwards():
    finding = only(flow={"start": "2007-03-20T19:00:00.000000+0000"})
    assert finding.first_seen == finding.last_seen == 1174413859_731429000


def test_the_id_of_an_alert_hangs_on_its_content_and_not_on_the_order_of_its_keys():
    turned = dict(reversed(ALERT.items()))
    (finding,) = read_findings(json.dumps(turned).encode(), "other.json")
    assert finding.id == only().id
    assert len({only(**{name: value}).id for name, value in [("flow_id", 7), ("src_port", 1025), ("pcap_cnt", 3)]}) == 3
    assert only(flow_id=7).id != only().id


def test_an_id_that_a_pipeline_added_does_not_make_different_alerts_one():
    assert only(id="sensor-1", flow_id=7).id != only(id="sensor-1").id


@pytest.mark.parametrize(("told", "proto"), [("UDP", "udp"), ("ICMP", "icmp"), ("IPv6-ICMP", "icmp6"), ("ESP", "50")])
def test_protocols_get_our_names(told, proto):
    assert only(proto=told).tuples[0].proto == proto


def test_icmp_has_no_ports():
    finding = only(proto="ICMP", icmp_type=3, icmp_code=1, src_port=0, dest_port=3)
    assert (finding.tuples[0].a.port, finding.tuples[0].b.port) == (None, None)


def test_vlan_tags_select_the_scope_without_their_priority_bits():
    assert only(vlan=[100, 0x2007]).vlan == (100, 7)


def test_the_tunnel_s_inner_addresses_are_taken():
    finding = only(tunnel={"src_ip": "10.9.0.1", "dest_ip": "10.9.0.2", "proto": "UDP", "depth": 1})
    assert finding.tuples[0].a.ip == "69.143.202.28"


@pytest.mark.parametrize("kind", ["flow", "dns", "stats", "http", "anomaly", "drop"])
def test_events_that_are_no_alerts_are_no_findings(kind):
    assert list(read_findings(json.dumps({**ALERT, "event_type": kind}).encode(), "eve.json")) == []


def test_the_wrapper_of_the_network_firewall_is_opened_and_its_time_used_where_the_event_has_none():
    event = {key: value for key, value in ALERT.items() if key not in {"timestamp", "flow"}}
    wrapper = {"firewall_name": "edge", "availability_zone": "a", "event_timestamp": "1174413859", "event": event}
    (finding,) = read_findings(json.dumps(wrapper).encode(), "nfw")
    assert finding.source == "network_firewall"
    assert finding.first_seen == finding.last_seen == 1174413859 * 10**9
    wrapper["event"] = {"timestamp": "2007-03-20T18:04:19Z", "sni": "example.org", "tls_error": {}}
    assert list(read_findings(json.dumps(wrapper).encode(), "nfw")) == []


@pytest.mark.parametrize(
    ("frame", "linktype"),
    [
        (wire.ether(SENT), 1),
        (wire.ether(SENT, vlan=(5,)), 1),
        (SENT, wire.RAW_IP),
        (SENT, 12),
        (wire.ether(wire.vxlan(wire.ether(SENT), 7)), 1),
    ],
)
def test_the_packet_in_an_alert_is_read_to_the_innermost(frame, linktype):
    finding = with_packet(frame, linktype)
    assert finding.packet == AlertedPacket(flags=4, seq=2934031229, ack=0, window=0, ttl=64)
    assert finding.notes == ()


@pytest.mark.parametrize(
    "packet",
    [
        "no base64!",
        "AAAA",
        "A" * 200_000,
        wire.ether(wire.tcp("193.109.122.67", 6667, "69.143.202.28", 1024, "SA", seq=1, ack=2)),
        wire.ether(wire.tcp("69.143.202.28", 1025, "193.109.122.67", 6667, "R", seq=1)),
        wire.ether(SENT)[:30],
    ],
)
def test_a_packet_that_is_damaged_or_of_another_conversation_is_noted_and_costs_no_finding(packet):
    finding = with_packet(packet)
    assert finding.packet is None
    assert len(finding.notes) == 1
    assert finding.tuples[0].a.port == 1024


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"src_ip": "69.143.202"}, "src_ip"),
        ({"dest_port": -1}, "dest_port"),
        ({"timestamp": "soon"}, "timestamp"),
        ({"vlan": [1, "x"]}, "vlan"),
        ({"alert": None}, "alert"),
        ({"flow": {"start": {}}}, "flow.start"),
    ],
)
def test_an_unreadable_field_is_named(changes, field):
    error = only(**changes)
    assert isinstance(error, FindingError)
    assert f"field {field}" in str(error)
    assert error.line == 1


def test_all_alerts_of_an_exposed_host_are_read_and_told_apart(captures):
    path = captures / "alerts" / "suricata-eve__ctu-exposed-host.json"
    lines = path.read_text().splitlines()
    wanted = {number: json.loads(line) for number, line in enumerate(lines, 1) if '"event_type":"alert"' in line}
    findings = list(read_findings(path.read_bytes(), path.name))
    assert len(findings) == len(wanted) == len({finding.id for finding in findings}) == 384
    for finding in findings:
        event = wanted[int(finding.origin.rpartition(":")[2])]
        (conversation,) = finding.tuples
        assert (conversation.a.ip, conversation.b.ip) == (event["src_ip"], event["dest_ip"])
        assert (conversation.a.port, conversation.b.port) == (event["src_port"], event["dest_port"])
        assert finding.title == event["alert"]["signature"]
        assert json.loads(finding.original) == event


def test_a_published_log_of_the_network_firewall_gives_its_alert_and_not_its_netflow(captures):
    path = captures / "alerts" / "aws-network-firewall.ndjson"
    (finding,) = read_findings(path.read_bytes(), path.name)
    assert finding.tuples == (Tuple("tcp", End("81.2.69.143", 51254), End("216.160.83.57", 80)),)
    assert finding.title == "Deny all other TCP traffic"


def test_where_the_alerts_packet_lies_and_what_it_came_in_are_kept():
    tunnel = {"src_ip": "172.16.0.1", "src_port": 4789, "dest_ip": "172.16.0.2", "dest_port": 4789, "proto": "UDP"}
    finding = only(tunnel=tunnel, capture_file="/var/log/log.pcap.1", pcap_cnt=149)
    assert finding.tunnel == Tuple("udp", End("172.16.0.1", 4789), End("172.16.0.2", 4789))
    assert (finding.capture_file, finding.pcap_cnt) == ("/var/log/log.pcap.1", 149)
    assert only().tunnel is only().pcap_cnt is None


def test_a_community_id_is_held_against_the_alerts_own_tuple():
    told = community_id(6, Address.parse("69.143.202.28"), Address.parse("193.109.122.67"), 1024, 6667)
    assert (only(community_id=told).community_id, only(community_id=told).notes) == (told, ())
    (note,) = only(community_id="1:AAAAAAAAAAAAAAAAAAAAAAAAAAA=").notes
    assert "community id" in note
