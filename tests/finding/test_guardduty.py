from __future__ import annotations

import copy
import json

import pytest

from backscatter.errors import FindingError
from backscatter.finding.model import End, Tuple
from backscatter.finding.recognise import read_event, read_findings

CONNECTION = {
    "schemaVersion": "2.0",
    "accountId": "123456789012",
    "region": "eu-central-1",
    "id": "6cb8b4d1",
    "arn": "arn:aws:guardduty:eu-central-1:123456789012:detector/a/finding/6cb8b4d1",
    "type": "Backdoor:EC2/C&CActivity.B",
    "title": "Command and control",
    "severity": 8,
    "updatedAt": "2007-03-20T18:20:00.000Z",
    "resource": {
        "instanceDetails": {
            "networkInterfaces": [
                {"networkInterfaceId": "eni-1", "privateIpAddress": "10.0.0.5", "publicIp": "69.143.202.28"},
            ]
        }
    },
    "service": {
        "action": {
            "actionType": "NETWORK_CONNECTION",
            "networkConnectionAction": {
                "connectionDirection": "OUTBOUND",
                "protocol": "TCP",
                "localIpDetails": {"ipAddressV4": "10.0.0.5"},
                "localPortDetails": {"port": 1024},
                "remoteIpDetails": {"ipAddressV4": "193.109.122.67"},
                "remotePortDetails": {"port": 6667},
            },
        },
        "eventFirstSeen": "2007-03-20T18:04:19Z",
        "eventLastSeen": "2007-03-20T20:17:14Z",
        "count": 2,
    },
}


def pascal(value):
    """The same document as the AWS SDKs of .NET and PowerShell print it."""
    if isinstance(value, dict):
        return {key[:1].upper() + key[1:]: pascal(inner) for key, inner in value.items()}
    return [pascal(inner) for inner in value] if isinstance(value, list) else value


def changed(**changes):
    """The finding with other values; __ goes a level down, None takes the field away."""
    document = copy.deepcopy(CONNECTION)
    for path, value in changes.items():
        *way, last = path.split("__")
        inner = document
        for step in way:
            inner = inner[step]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    return document


def only(document):
    (finding,) = read_event(document, "event-1")
    return finding


def test_a_network_connection_gives_the_tuple_with_the_local_side_as_resource():
    finding = only({"source": "aws.guardduty", "detail-type": "GuardDuty Finding", "detail": CONNECTION})
    assert finding.tuples == (Tuple("tcp", End("10.0.0.5", 1024), End("193.109.122.67", 6667), resource="a"),)
    assert (finding.first_seen, finding.last_seen) == (1174413859 * 10**9, 1174421834 * 10**9)
    assert (finding.count, finding.severity, finding.is_network) == (2, 8, True)
    assert finding.aliases == (("69.143.202.28", "10.0.0.5"),)
    assert (finding.account, finding.region) == ("123456789012", "eu-central-1")
    assert finding.updated == "2007-03-20T18:20:00.000Z"


def test_the_case_of_names_changes_nothing():
    assert only(pascal(CONNECTION)) == only(CONNECTION)
    mixed = copy.deepcopy(CONNECTION)
    mixed["service"] = pascal(mixed["service"])
    assert only(mixed) == only(CONNECTION)


@pytest.mark.parametrize("kind", ["AWS_API_CALL", "DNS_REQUEST", "KUBERNETES_API_CALL", "RDS_LOGIN_ATTEMPT"])
def test_findings_about_no_conversation_are_no_network_findings(kind):
    finding = only(changed(service__action={"actionType": kind, "awsApiCallAction": {}}))
    assert finding.is_network is False
    assert finding.tuples == ()


@pytest.mark.parametrize("action", [{}, {"actionType": "SOMETHING_NEW"}])
def test_an_action_that_says_nothing_stays_a_network_finding_without_a_tuple(action):
    finding = only(changed(service__action=action))
    assert finding.is_network is True
    assert finding.tuples == ()


def test_every_probe_of_a_port_probe_gives_a_tuple_without_protocol():
    probes = [
        {
            "localIpDetails": {"ipAddressV4": "10.0.0.5"},
            "localPortDetails": {"port": port},
            "remoteIpDetails": {"ipAddressV4": f"192.0.2.{port}"},
        }
        for port in (22, 80)
    ]
    action = {"actionType": "PORT_PROBE", "portProbeAction": {"portProbeDetails": probes}}
    assert only(changed(service__action=action)).tuples == (
        Tuple(None, End("10.0.0.5", 22), End("192.0.2.22"), resource="a"),
        Tuple(None, End("10.0.0.5", 80), End("192.0.2.80"), resource="a"),
    )


@pytest.mark.parametrize(
    ("told", "proto"),
    [("TCP", "tcp"), ("6", "tcp"), (6, "tcp"), ("17", "udp"), ("Udp", "udp"), (58, "icmp6"), (47, "47"), ("0", None)],
)
def test_protocols_are_read_as_names_and_numbers(told, proto):
    connection = "service__action__networkConnectionAction__protocol"
    assert only(changed(**{connection: told})).tuples[0].proto == proto


def test_port_zero_and_an_absent_port_are_unknown():
    connection = "service__action__networkConnectionAction__"
    finding = only(changed(**{connection + "localPortDetails": {"port": 0}, connection + "remotePortDetails": None}))
    assert (finding.tuples[0].a.port, finding.tuples[0].b.port) == (None, None)


def test_ipv6_addresses_are_taken_where_both_ends_have_them():
    connection = "service__action__networkConnectionAction__"
    finding = only(
        changed(
            **{
                connection + "localIpDetails": {"ipAddressV4": "10.0.0.5", "ipAddressV6": "2001:DB8:0::5"},
                connection + "remoteIpDetails": {"ipAddressV4": "", "ipAddressV6": "2001:db8:ffff::1"},
            }
        )
    )
    assert (finding.tuples[0].a.ip, finding.tuples[0].b.ip) == ("2001:db8::5", "2001:db8:ffff::1")


def test_a_finding_without_local_address_takes_the_only_private_one_of_its_instance():
    finding = only(changed(service__action__networkConnectionAction__localIpDetails=None))
    assert finding.tuples[0].a == End("10.0.0.5", 1024)
    two = CONNECTION["resource"]["instanceDetails"]["networkInterfaces"] + [{"privateIpAddress": "10.0.0.6"}]
    finding = only(
        changed(
            service__action__networkConnectionAction__localIpDetails=None,
            resource__instanceDetails__networkInterfaces=two,
        )
    )
    assert finding.tuples[0].a == End(None, 1024)


@pytest.mark.parametrize(
    "extra", [{"sample": True}, {"sample": "true"}, {"type": "default", "value": '{"sample": true}'}]
)
def test_samples_are_marked(extra):
    assert only(changed(service__additionalInfo=extra)).sample is True
    assert only(changed(service__additionalInfo={"value": "[" * 50_000})).sample is False


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("localIpDetails", {"ipAddressV4": "10.0.0.555"}, "localIpDetails.ipAddressV4"),
        ("localIpDetails", "10.0.0.5", "localIpDetails"),
        ("remotePortDetails", {"port": 65536}, "remotePortDetails.port"),
        ("remotePortDetails", {"port": True}, "remotePortDetails.port"),
        ("remotePortDetails", {"port": float("nan")}, "remotePortDetails.port"),
        ("protocol", [6], "protocol"),
        ("protocol", 256, "protocol"),
    ],
)
def test_a_field_that_cannot_be_is_an_error_that_names_it(path, value, field):
    error = only(changed(**{"service__action__networkConnectionAction__" + path: value}))
    assert isinstance(error, FindingError)
    assert f"networkConnectionAction.{field}: " in str(error)
    assert "event-1" in str(error)


def test_the_envelope_lends_its_account_and_region_to_a_finding_without():
    bare = changed(accountId=None, region=None)
    finding = only({"detail-type": "GuardDuty Finding", "account": "9", "region": "us-east-2", "detail": bare})
    assert (finding.account, finding.region) == ("9", "us-east-2")


def test_long_ids_are_bounded_and_still_told_apart():
    ids = {only(changed(id="x" * 1000 + end)).id for end in "ab"}
    assert len(ids) == 2
    assert max(map(len, ids)) == 300


def test_a_window_told_backwards_is_still_the_whole_window():
    finding = only(
        changed(service__eventFirstSeen="2007-03-20T20:17:14Z", service__eventLastSeen="2007-03-20T18:04:19Z")
    )
    assert finding.first_seen < finding.last_seen


NETWORK = {
    "DropPoint": (2000, 22),
    "MaliciousIPCaller": (3389, 5711),
    "SSHBruteForce": (22, 32794),
    "TorClient": (39677, 80),
}


def test_the_published_samples_of_every_kind_are_read(captures):
    read = {}
    for path in sorted((captures / "alerts").glob("guardduty-eventbridge__*.json")):
        (finding,) = read_findings(path.read_bytes(), path.name)
        assert not isinstance(finding, FindingError)
        assert finding.sample
        assert finding.original == path.read_text().strip()[:32768]
        read[path.stem.rpartition("-")[2]] = finding
    for kind, ports in NETWORK.items():
        (conversation,) = read[kind].tuples
        assert (conversation.a, conversation.b) == (End("10.0.0.23", ports[0]), End("198.51.100.0", ports[1]))
    assert [each.a.port for each in read["PortProbeUnprotectedPort"].tuples] == [80, 443, 22, 3306]
    assert not read["Behavior"].is_network
    assert not read["DNSDataExfiltration"].is_network
    assert len(read) == 7


def test_attack_sequences_have_no_tuple_and_policy_findings_are_no_network_findings(captures):
    def findings(name):
        return list(read_findings((captures / "alerts" / name).read_bytes(), name))

    sequences = findings("guardduty-raw__panther-critical.ndjson")
    assert [(each.tuples, each.is_network, each.sample) for each in sequences] == [((), True, False), ((), True, True)]
    assert sequences[0].first_seen == 1740516006 * 10**9
    assert [each.is_network for each in findings("guardduty-raw__panther-high.ndjson")] == [False, False]


def test_a_security_hub_event_gives_guardduty_s_own_tuple(captures):
    event = json.loads((captures / "alerts" / "asff-eventbridge__guardduty-c2activity.json").read_text())
    finding = only(event)
    assert finding.source == "security_hub"
    assert finding.tuples == (Tuple("tcp", End("10.0.0.23", 2000), End("198.51.100.0", 25), resource="a"),)
    assert (finding.severity, finding.sample, finding.region) == ("HIGH", True, "us-east-1")


def test_a_security_hub_finding_without_guardduty_s_fields_gives_what_the_format_has():
    base = {"ProductArn": "arn:aws:securityhub:eu-west-1::product/x/y", "AwsAccountId": "1", "Id": "x", "Title": "t"}
    connection = {
        "RemoteIpDetails": {"IpAddressV4": "192.0.2.7"},
        "RemotePortDetails": {"Port": 25},
        "LocalPortDetails": {"Port": 2000},
        "Protocol": "TCP",
    }
    by_action = only({**base, "Action": {"ActionType": "NETWORK_CONNECTION", "NetworkConnectionAction": connection}})
    assert by_action.tuples == (Tuple("tcp", End(None, 2000), End("192.0.2.7", 25), resource="a"),)
    network = {"Protocol": "UDP", "SourceIpV6": "2001:db8::1", "SourcePort": "53", "DestinationIpV6": "2001:db8::2"}
    assert only({**base, "Network": network}).tuples == (Tuple("udp", End("2001:db8::1", 53), End("2001:db8::2")),)
    assert only({**base, "Action": {"ActionType": "AWS_API_CALL"}}).is_network is False


#: Shapes: https://docs.aws.amazon.com/guardduty/latest/APIReference/API_Sequence.html and API_Ec2NetworkInterface.html.
SEQUENCE = {
    "uid": "s",
    "description": "A sequence of actions",
    "endpoints": [
        {"id": "1", "ip": "193.109.122.67", "port": 6667, "connection": {"direction": "OUTBOUND"}},
        {"id": "2", "ip": "2001:db8::1"},
        {"id": "3", "domain": "example.com"},
    ],
    "resources": [
        {"uid": "i", "resourceType": "EC2_INSTANCE", "data": {"ec2Instance": {"ec2NetworkInterfaceUids": ["eni-1"]}}},
        {
            "uid": "eni-1",
            "resourceType": "EC2_NETWORK_INTERFACE",
            "data": {
                "ec2NetworkInterface": {
                    "publicIp": "69.143.202.28",
                    "privateIpAddresses": [{"privateIpAddress": "10.0.0.5"}],
                    "ipv6Addresses": ["2001:db8::5"],
                }
            },
        },
    ],
    "signals": [{"uid": "a", "type": "FINDING", "name": "Backdoor:EC2/C&CActivity.B", "endpointIds": ["1"]}],
}


def sequence(**changes):
    return only(
        changed(type="AttackSequence:EC2/X", service__action=None, service__detection={"sequence": SEQUENCE | changes})
    )


def test_an_attack_sequence_means_all_conversations_of_its_endpoints_with_its_interfaces():
    finding = sequence()
    assert finding.tuples == (
        Tuple(None, End("10.0.0.5"), End("193.109.122.67"), resource="a"),
        Tuple(None, End("2001:db8::5"), End("2001:db8::1"), resource="a"),
    )
    assert finding.aliases == (("69.143.202.28", "10.0.0.5"),)
    assert finding.is_network


def test_an_attack_sequence_without_addresses_of_ours_names_the_other_end_only():
    assert sequence(resources=[]).tuples[0] == Tuple(None, End(), End("193.109.122.67"), resource="a")
    assert sequence(endpoints=[]).tuples == ()
    assert sequence(endpoints=[]).is_network


def test_which_of_several_private_addresses_is_behind_a_public_one_is_not_guessed():
    interface = {"publicIp": "203.0.113.9", "privateIpAddresses": [{"privateIpAddress": f"10.0.0.{n}"} for n in (7, 8)]}
    finding = sequence(resources=[{"data": {"ec2NetworkInterface": interface}}])
    assert ("203.0.113.9", "10.0.0.7") not in finding.aliases
    assert [one.a.ip for one in finding.tuples] == ["10.0.0.7", "10.0.0.8"]


def test_an_attack_sequence_of_many_endpoints_and_interfaces_is_bounded():
    ends = [{"ip": f"10.{n >> 8}.{n & 255}.1"} for n in range(900)]
    data = [
        {"data": {"ec2NetworkInterface": {"privateIpAddresses": [{"privateIpAddress": end["ip"]}]}}} for end in ends
    ]
    assert len(sequence(endpoints=ends, resources=data).tuples) == 1000


ASFF = {
    "ProductArn": "arn:aws:securityhub:us-east-1::product/aws/guardduty",
    "AwsAccountId": "123456789012",
    "Id": "1",
    "Title": "t",
    "Types": ["TTPs"],
}


@pytest.mark.parametrize(
    ("addresses", "aliases"),
    [
        (["10.0.0.5", "69.143.202.28"], (("69.143.202.28", "10.0.0.5"),)),
        (["69.143.202.28", "10.0.0.5"], (("69.143.202.28", "10.0.0.5"),)),
        (["10.0.0.5", "10.0.0.6", "69.143.202.28"], ()),
        (["10.0.0.5"], ()),
    ],
)
def test_an_instance_in_asff_pairs_its_one_public_address_with_its_one_private_one(addresses, aliases):
    resources = [{"Type": "AwsEc2Instance", "Details": {"AwsEc2Instance": {"IpV4Addresses": addresses}}}]
    finding = only({**ASFF, "Resources": resources})
    assert finding.aliases == aliases


def test_an_attack_sequence_in_asff_is_read_too():
    resources = [{"Details": {"AwsEc2Instance": {"IpV4Addresses": ["10.0.0.5", "69.143.202.28"]}}}]
    detection = {"Sequence": {"Uid": "s", "Endpoints": [{"Id": "1", "Ip": "193.109.122.67", "Port": 6667}]}}
    finding = only({**ASFF, "Resources": resources, "Detection": detection})
    assert finding.tuples == (Tuple(None, End("10.0.0.5"), End("193.109.122.67"), resource="a"),)
