from __future__ import annotations

import copy
import json

import pytest

from backscatter.errors import FindingError
from backscatter.finding.model import End, Tuple
from backscatter.finding.recognise import read_event, read_findings

#: A GuardDuty finding as Security Hub tells it. Fields: https://schema.ocsf.io/1.6.0/classes/detection_finding.
FINDING = {
    "activity_id": 1,
    "category_uid": 2,
    "class_name": "Detection Finding",
    "class_uid": 2004,
    "cloud": {"account": {"uid": "111122223333"}, "provider": "AWS", "region": "us-west-2"},
    "evidences": [
        {
            "connection_info": {"direction": "Outbound", "direction_id": 2, "protocol_name": "TCP", "protocol_num": 6},
            "src_endpoint": {"ip": "10.0.0.5", "port": 1024, "instance_uid": "i-99999999"},
            "dst_endpoint": {"ip": "192.0.2.1", "port": 6667},
        }
    ],
    "finding_info": {
        "uid": "arn:aws:guardduty:us-west-2:111122223333:detector/1/finding/2",
        "title": "EC2 instance i-99999999 communicating with a C&C server.",
        "types": ["Backdoor:EC2/C&CActivity.B"],
        "first_seen_time": 1174413859731,
        "last_seen_time": 1174413919000,
        "modified_time": 1174414000000,
    },
    "metadata": {"product": {"name": "GuardDuty", "vendor_name": "Amazon"}, "version": "1.6.0"},
    "severity": "High",
    "severity_id": 4,
    "time": 1174414000000,
    "count": 3,
}
#: https://docs.aws.amazon.com/securityhub/latest/userguide/securityhub-v2-cwe-event-formats.html
ENVELOPE = {
    "version": "0",
    "id": "CWE-event-id",
    "detail-type": "Findings Imported V2",
    "source": "aws.securityhub",
    "account": "111122223333",
    "time": "2019-04-11T21:52:17Z",
    "region": "us-west-2",
    "resources": ["e51603d1054aad9d9f498d82d6e81acf4cf6bc88140e8ad2273123c73b81084"],
    "detail": {"findings": [FINDING]},
}


def one(document):
    (finding,) = read_event(document, "event")
    assert not isinstance(finding, FindingError), finding
    return finding


def changed(path, value):
    document = copy.deepcopy(FINDING)
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return document


@pytest.mark.parametrize("document", [FINDING, ENVELOPE], ids=["bare", "event"])
def test_a_finding_is_read_bare_and_in_its_event(document):
    finding = one(document)
    assert (finding.source, finding.id) == ("security_hub", FINDING["finding_info"]["uid"])
    assert (finding.type, finding.severity, finding.count) == ("Backdoor:EC2/C&CActivity.B", "High", 3)
    assert finding.tuples == (Tuple("tcp", End("10.0.0.5", 1024), End("192.0.2.1", 6667), resource="a"),)
    assert (finding.first_seen, finding.last_seen) == (1174413859_731000000, 1174413919_000000000)
    assert (finding.account, finding.region, finding.updated) == ("111122223333", "us-west-2", "1174414000000")
    assert finding.is_network
    assert not finding.sample


def test_what_get_findings_v2_prints_is_read():
    text = json.dumps({"Findings": [FINDING, FINDING], "NextToken": "x"}, indent=1)
    assert [finding.id for finding in read_findings(text.encode(), "file")] == [FINDING["finding_info"]["uid"]] * 2


@pytest.mark.parametrize(
    ("named", "direction", "ours"),
    [
        ({}, {"direction_id": 1}, "b"),
        ({}, {"direction": "inbound"}, "b"),
        ({}, {"direction_id": 2}, "a"),
        ({}, {"direction_id": 3}, None),
        ({}, {}, None),
        ({"dst_endpoint": {"interface_uid": "eni-1"}}, {"direction_id": 2}, "b"),
        ({"src_endpoint": {"vpc_uid": "v"}, "dst_endpoint": {"vpc_uid": "v"}}, {"direction_id": 1}, "b"),
    ],
)
def test_the_end_that_is_ours_is_named_or_follows_from_the_direction(named, direction, ours):
    evidence = {"connection_info": {"protocol_num": 6, **direction}}
    for side, ip in (("src_endpoint", "10.0.0.5"), ("dst_endpoint", "192.0.2.1")):
        evidence[side] = {"ip": ip, **named.get(side, {})}
    assert one(changed(["evidences"], [evidence])).tuples[0].resource == ours


def test_each_conversation_is_told_once_and_icmp_has_no_ports():
    both = [FINDING["evidences"][0]] * 2
    icmp = {**both[0], "connection_info": {"protocol_num": 1}}
    tuples = one(changed(["evidences"], [*both, icmp])).tuples
    assert [(each.proto, each.a.port) for each in tuples] == [("tcp", 1024), ("icmp", None)]


def test_calls_of_apis_and_findings_of_other_classes_are_about_no_conversation():
    call = {"api": {"operation": "ListUsers"}, "src_endpoint": {"ip": "192.0.2.1"}}
    assert not one(changed(["evidences"], [call])).is_network
    assert not one(changed(["class_uid"], 2003)).is_network


def test_a_detection_without_evidence_is_not_quietly_out_of_scope():
    finding = one(changed(["evidences"], []))
    assert finding.is_network
    assert finding.tuples == ()


def test_times_may_be_texts_or_only_the_event_may_have_one():
    document = changed(["finding_info", "first_seen_time_dt"], "2007-03-20T18:04:19.731091Z")
    assert one(document).first_seen == 1174413859_731091000
    for name in ("first_seen_time", "last_seen_time"):
        document = {**document, "finding_info": {**FINDING["finding_info"], name: None, "last_seen_time": None}}
    document["finding_info"]["first_seen_time"] = None
    assert one(document).first_seen == 1174414000_000000000


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (["finding_info", "uid"], "", "finding_info.uid"),
        (["finding_info", "first_seen_time"], "x", "finding_info.first_seen_time"),
        (["evidences"], "x", "evidences"),
        (["evidences", 0, "src_endpoint", "ip"], "x", "evidences[0].src_endpoint.ip"),
        (["class_uid"], 4001, "class_uid"),
    ],
)
def test_a_field_that_does_not_fit_is_named(path, value, field):
    (error,) = read_event(changed(path, value), "event")
    assert f"field {field}" in str(error)
