"""The state machine for captures that lie in S3 already: what it makes of an object is what ingest reads."""

import json

import pytest
from tests.template.test_template import properties

from backscatter.cloud.backfill import ALERTS, SOURCE
from backscatter.cloud.events import ObjectCreated, read_message
from backscatter.cloud.objects import ObjectName

DEFINITION = properties("Backfill")["Definition"]
EACH = DEFINITION["States"]["EachObject"]
STATES = EACH["ItemProcessor"]["States"]


def resolved(template, state):
    """Parameters of a task with their paths followed, as Step Functions does."""
    if not isinstance(template, dict):
        return template
    made = {}
    for name, value in template.items():
        if name.endswith(".$"):
            found = state
            for step in value.removeprefix("$.").split("."):
                found = found[step]
            made[name.removesuffix(".$")] = found
        else:
            made[name] = resolved(value, state)
    return made


@pytest.mark.parametrize(("state", "version"), [("SendVersion", "v1"), ("Send", "")])
def test_an_object_becomes_the_message_that_its_upload_would_have_become(state, version):
    head = {"ETag": '"0123"', "ContentLength": 9} | ({"VersionId": version} if version else {})
    item = {"bucket": "b", "key": "tap/a +ü.pcap", "size": 9, "object": head}
    body = resolved(STATES[state]["Parameters"]["MessageBody"], item)
    assert body["source"] == SOURCE
    assert list(read_message(json.dumps(body))) == [ObjectCreated(ObjectName("b", "tap/a +ü.pcap", version, "0123"))]
    assert STATES[state]["Parameters"]["QueueUrl"] == {"Ref": "IngestQueue"}


def test_the_listing_gives_what_the_states_look_at():
    assert set(EACH["ItemSelector"]) == {"bucket.$", "key.$", "size.$"}
    assert EACH["ItemReader"]["Resource"]["Sub"].endswith(":states:::s3:listObjectsV2")
    assert EACH["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"}
    assert EACH["MaxConcurrency"] <= 40


def test_every_state_leads_to_one_that_is_there_and_passing_errors_are_tried_again():
    for name, state in STATES.items():
        targets = [state.get("Next"), state.get("Default")]
        targets += [choice["Next"] for choice in (*state.get("Choices", ()), *state.get("Catch", ()))]
        assert set(targets) - {None} <= set(STATES), name
        assert (state["Type"] == "Task") == ("Retry" in state), name
    assert EACH["ItemProcessor"]["StartAt"] in STATES


def test_alert_logs_of_the_stacks_bucket_are_no_captures():
    _, ours = STATES["IsCapture"]["Choices"]
    assert ours["And"][0]["StringEquals"] == {"Ref": "CaptureBucket"}
    assert ours["And"][1]["StringMatches"] == f"{ALERTS}*"
