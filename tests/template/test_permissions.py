"""What the functions call, on moto, is what their roles allow: nothing is missing, nothing is spare."""

import json
import time

import pytest
from tests.cloud.aws import BUCKET, deployed
from tests.cloud.test_large import conversations
from tests.template.test_template import listed, properties

from backscatter.cloud.events import PATIENCE_TICK, RangeToRead, our_event, read_message
from backscatter.cloud.ingest import ingest, ingest_part, ingest_range, sweep
from backscatter.demo import case2007
from backscatter.demo.wire import pcap
from backscatter.errors import Gone

#: What a role allows besides the calls that the code makes: on behalf of Lambda and SNS, and what S3 asks for with them.
BESIDES = {
    *("sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:ChangeMessageVisibility"),
    *("logs:CreateLogStream", "logs:PutLogEvents", "kms:Decrypt", "kms:GenerateDataKey"),
    *("s3:GetObjectVersion", "s3:ListBucket"),
}


def allowed(role):
    return {
        action
        for policy in properties(role)["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
        for action in listed(statement["Action"])
    }


@pytest.fixture
def cloud(monkeypatch):
    with deployed(monkeypatch) as cloud:
        cloud.called = set()

        def note(model, **_):
            cloud.called.add(f"{model.service_model.endpoint_prefix}:{model.name}")

        cloud.stack._session.events.register("before-call", note)
        yield cloud


def test_the_ingest_role_allows_what_ingest_calls(cloud):
    name = cloud.upload("s/a.pcap", case2007.pcap(case2007.pairs()))
    cloud.called.clear()
    ingest(cloud.stack, name)
    ingest(cloud.stack, name)
    cloud.environment |= {"RANGE_MEGABYTES": "0.004", "QUEUE_URL": cloud.queues["ingest"]}
    ingest(cloud.stack, cloud.upload("s/large.pcap", pcap(conversations(12))))
    while bodies := cloud.messages("ingest"):
        for event in (event for body in bodies for event in read_message(body)):
            if isinstance(event, RangeToRead):
                ingest_range(cloud.stack, event.name, event.index, told=event.told)
            else:
                ingest_part(cloud.stack, event.name, event.part)
    sweep(cloud.stack, time.time_ns(), lambda name: None)
    assert cloud.called == allowed("IngestRole") - BESIDES


def test_the_correlate_role_allows_what_correlate_calls(cloud):
    cloud.hurried = lambda: True
    for name in ("f1", "f2"):
        cloud.report(case2007.guardduty_finding(finding=name))
    alerts = cloud.upload("alerts/sguil.txt", case2007.sguil_alert().encode())
    cloud.ingest("s/a.pcap", case2007.capture())
    cloud.called.clear()
    cloud.now += 10 * 60 * case2007.SECOND  # what EC2 said of these addresses is old by then
    detail = {"bucket": {"name": BUCKET}, "object": {"key": alerts.key, "etag": alerts.etag}}
    cloud.correlate(json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail}))
    cloud.wake()
    cloud.now += 31 * 60 * case2007.SECOND
    cloud.correlate(our_event(PATIENCE_TICK, {}))
    missing = {"bucket": {"name": BUCKET}, "object": {"key": "alerts/none", "etag": "x"}}
    with pytest.raises(Gone):
        cloud.correlate(json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": missing}))
    assert cloud.called == allowed("CorrelateRole") - BESIDES
