"""The sample events of events/ pass the rules of the template, and are read as what they are."""

import json
from pathlib import Path

import pytest
from tests.template.test_template import RESOURCES

from backscatter.cloud.events import (
    CaptureListed,
    CleaningTick,
    FindingReported,
    ObjectCreated,
    PartToStore,
    PatienceTick,
    RangeToRead,
    read_message,
)
from backscatter.cloud.objects import ObjectName
from backscatter.errors import Hopeless
from backscatter.finding.model import End
from backscatter.finding.recognise import read_findings

FOLDER = Path(__file__).resolve().parents[2] / "events"
BUCKET = "backscatter-capturebucket-example"
VALUES = {"CaptureBucket": BUCKET, "FindingSource": "aws.guardduty"}


def body(name):
    (record,) = json.loads((FOLDER / f"{name}.json").read_text())["Records"]
    return record["body"]


def matches(pattern, value):
    """EventBridge's matching, as far as the template uses it."""
    if isinstance(value, list):  # any of an array's elements
        return any(matches(pattern, one) for one in value)
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(name in value and matches(p, value[name]) for name, p in pattern.items())
    return any(_matches_one(one, value) for one in pattern)


def _matches_one(one, value):
    if not isinstance(one, dict):
        return one == value
    ((operator, operand),) = one.items()
    if operator == "Ref":
        return VALUES[operand] == value
    if operator == "prefix":
        return value.startswith(operand)
    assert operator == "anything-but"
    return not _matches_one(operand, value)


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("capture_uploaded", {"CaptureUploaded"}),
        ("alert_log_uploaded", {"AlertLogUploaded"}),
        ("guardduty_finding", {"FindingReported"}),
        ("security_hub_finding", {"FindingImported"}),
        ("capture_listed", set()),
        ("patience_tick", set()),
        ("cleaning_tick", set()),
        ("range_to_read", set()),
        ("part_to_store", set()),
    ],
)
def test_an_event_is_taken_by_one_rule_and_what_we_tell_ourselves_by_none(name, rules):
    event = json.loads(body(name))
    patterns = {
        rule: resource["Properties"]["EventPattern"]
        for rule, resource in RESOURCES.items()
        if resource["Type"] == "AWS::Events::Rule" and "EventPattern" in resource["Properties"]
    }
    assert {rule for rule, pattern in patterns.items() if matches(pattern, event)} == rules


def test_what_security_hub_has_of_guardduty_comes_by_guarddutys_own_rule():
    event = json.loads(body("security_hub_finding"))
    pattern = RESOURCES["FindingImported"]["Properties"]["EventPattern"]
    assert matches(pattern, event)
    event["detail"]["findings"][0]["ProductName"] = "GuardDuty"
    assert not matches(pattern, event)


def test_the_finding_of_security_hub_is_read_with_both_ends():
    (finding,) = read_findings(body("security_hub_finding").encode(), "event")
    (between,) = finding.tuples
    assert finding.source == "security_hub"
    assert (between.a, between.b) == (End("69.143.202.28", 1024), End("193.109.122.67", 6667))


@pytest.mark.parametrize(
    ("rule", "sample", "tick"),
    [("PatienceTick", "patience_tick", PatienceTick()), ("CleaningTick", "cleaning_tick", CleaningTick())],
    ids=["patience", "cleaning"],
)
def test_the_tick_of_a_schedule_is_the_sample(rule, sample, tick):
    (target,) = RESOURCES[rule]["Properties"]["Targets"]
    assert json.loads(target["Input"]) == json.loads(body(sample))
    assert list(read_message(target["Input"])) == [tick]


def test_ranges_and_parts_name_the_object_as_it_was_uploaded():
    name = ObjectName(BUCKET, "sensor/large.pcap", "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e")
    assert list(read_message(body("range_to_read"))) == [RangeToRead(name, 3, told=False)]
    assert list(read_message(body("part_to_store"))) == [PartToStore(name, 1)]


def test_a_key_in_an_event_of_eventbridge_is_taken_as_it_is():
    event = json.loads(body("capture_uploaded"))
    event["detail"]["object"]["key"] = "a+b %2F.pcap"
    (created,) = read_message(json.dumps(event))
    assert created == ObjectCreated(
        ObjectName(BUCKET, "a+b %2F.pcap", "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e", "b1946ac92492d2347c6235b4d2611184")
    )


def test_a_key_in_a_notification_of_s3_is_url_encoded():
    (created,) = read_message(body("capture_uploaded_notification"))
    assert created.name.key == "sensor a/2007-03-20 17:49.pcap"
    assert created.name.version == "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e"


def test_the_test_event_of_s3_is_about_nothing():
    assert list(read_message('{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}')) == []


def test_an_object_without_versions_is_known_by_its_etag():
    event = json.loads(body("capture_uploaded"))
    event["detail"]["object"]["version-id"] = "null"
    (created,) = read_message(json.dumps(event))
    assert (created.name.version, created.name.identity) == ("", "etag:b1946ac92492d2347c6235b4d2611184")
    assert ObjectName.identified(BUCKET, created.name.key, created.name.identity) == created.name


def test_what_is_none_of_ours_has_to_be_a_finding():
    (event,) = read_message(body("guardduty_finding"))
    assert isinstance(event, FindingReported)
    assert event.id == "cd2d702e-ab31-411b-9344-793ce56b1bc7"
    (event,) = read_message(body("capture_listed"))
    assert isinstance(event, CaptureListed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{",
        '{"a": ' * 100_000,
        '{"detail-type": "Object Created"}',
        '{"detail-type": "Object Created", "detail": {"bucket": {"name": "b"}, "object": {"key": ""}}}',
        '{"detail-type": "Object Created", "detail": {"bucket": "b", "object": {"key": 7}}}',
        '{"source": "backscatter", "detail-type": "Range To Read", "detail": {"bucket": "b", "key": "k"}}',
        '{"source": "backscatter", "detail-type": "Part To Store", "detail": null}',
        '{"Records": [7]}',
        '{"Records": [{"s3": {"bucket": {"name": "b"}, "object": {"key": 7}}}]}',
    ],
)
def test_a_message_that_can_never_be_read_is_hopeless_and_says_so(text):
    with pytest.raises(Hopeless, match=r"no JSON|without its object") as told:
        list(read_message(text))
    assert told.value.reason == "no_event"
