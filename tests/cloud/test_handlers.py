"""The two handlers as Lambda calls them: a batch in, what is to be delivered again out."""

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError
from tests.cloud.aws import BUCKET, deployed

from backscatter.cloud.batch import LEAST_MILLISECONDS
from backscatter.demo import case2007

SERVICES = itertools.count()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def cloud(monkeypatch):
    with deployed(monkeypatch) as cloud:
        for name, value in {**cloud.environment, "POWERTOOLS_METRICS_NAMESPACE": "Backscatter"}.items():
            monkeypatch.setenv(name, value)
        # powertools keeps one logger a service, with the stdout of the test that made it.
        monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", f"test-{next(SERVICES)}")
        yield cloud


def cold(name):
    """The module of a function, as a cold start imports it."""
    spec = importlib.util.spec_from_file_location(f"app_{name}", ROOT / "functions" / name / "app.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def handler(name):
    return cold(name).handler


def context(milliseconds=100_000):
    return SimpleNamespace(
        get_remaining_time_in_millis=lambda: milliseconds,
        function_name="f",
        memory_limit_in_mb=1769,
        invoked_function_arn="arn:aws:lambda:us-east-1:000000000000:function:f",
        aws_request_id="r",
    )


def batch(*bodies):
    """An event of SQS, by the sample of events/."""
    (sample,) = json.loads((ROOT / "events" / "capture_uploaded.json").read_text())["Records"]
    return {"Records": [{**sample, "messageId": f"m{at}", "body": body} for at, body in enumerate(bodies)]}


def uploaded(cloud, key, body):
    name = cloud.upload(key, body)
    detail = {"bucket": {"name": BUCKET}, "object": {"key": key, "etag": name.etag}}
    return json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail})


def test_a_batch_with_a_poisoned_object_is_worked_off_whole_and_the_poison_buried(cloud, capsys):
    good = case2007.pcap(case2007.pairs())
    bodies = [
        uploaded(cloud, "s/1.pcap", good),
        uploaded(cloud, "s/2.pcap", b"poison"),
        uploaded(cloud, "s/3.pcap", good),
    ]
    assert handler("ingest")(batch(*bodies), context()) == {"batchItemFailures": []}
    (buried,) = cloud.messages("dead")
    assert buried == bodies[1]
    assert len(cloud.messages("correlate")) == 2
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (reason,) = [line for line in logged if line.get("reason") == "no_capture" and "message" in line]
    assert "s3://captures/s/2.pcap" in reason["message"]
    (counted,) = [line for line in logged if "Hopeless" in line]
    assert counted["Hopeless"] == [1.0]
    assert counted["reason"] == "no_capture"


@pytest.mark.parametrize("name", ["ingest", "correlate"])
@pytest.mark.parametrize("body", ["no json", '{"detail-type": "Object Created"}', '{"Records": [{}]}'])
def test_a_message_that_is_no_event_is_buried(cloud, name, body):
    assert handler(name)(batch(body), context()) == {"batchItemFailures": []}
    assert cloud.messages("dead") == [body]


def test_a_message_in_the_wrong_queue_is_buried(cloud):
    body = json.dumps({"source": "backscatter", "detail-type": "Patience Tick", "detail": {}})
    assert handler("ingest")(batch(body), context()) == {"batchItemFailures": []}
    assert cloud.messages("dead") == [body]


def test_trouble_that_may_pass_costs_its_message_a_second_delivery_and_its_mates_nothing(cloud, capsys):
    good, slow = (uploaded(cloud, key, case2007.pcap(case2007.pairs())) for key in ("s/1.pcap", "s/slow.pcap"))

    def slow_down(params, **_):
        if "slow" in params["url_path"]:
            answer = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
            raise ClientError(answer, "GetObject")

    module = cold("ingest")
    module.stack.s3.meta.events.register("before-call.s3.GetObject", slow_down)
    answer = module.handler(batch(slow, good), context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m0"}]}
    assert len(cloud.messages("correlate")) == 1
    assert "delivered again" in capsys.readouterr().out


def test_with_too_little_time_left_nothing_is_begun_and_the_message_is_there_again_at_once(cloud, monkeypatch):
    queue = cloud.queues["ingest"]
    monkeypatch.setenv("QUEUE_URL", queue)
    cloud.sqs.send_message(QueueUrl=queue, MessageBody=uploaded(cloud, "s/1.pcap", case2007.pcap(case2007.pairs())))
    (message,) = cloud.sqs.receive_message(QueueUrl=queue, VisibilityTimeout=720)["Messages"]
    event = batch(message["Body"])
    event["Records"][0]["receiptHandle"] = message["ReceiptHandle"]
    answer = handler("ingest")(event, context(LEAST_MILLISECONDS - 1))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m0"}]}
    assert cloud.messages("correlate") == []
    assert cloud.messages("ingest") == [message["Body"]]


def test_an_object_that_is_gone_is_no_failure(cloud):
    body = uploaded(cloud, "s/1.pcap", case2007.pcap(case2007.pairs()))
    cloud.s3.delete_object(Bucket=BUCKET, Key="s/1.pcap")
    assert handler("ingest")(batch(body), context()) == {"batchItemFailures": []}
    assert cloud.messages("dead") == []


def test_an_object_of_a_notification_that_is_gone_costs_the_others_nothing(cloud):
    good = cloud.upload("s/good.pcap", case2007.pcap(case2007.pairs()))
    records = [
        {"s3": {"bucket": {"name": BUCKET}, "object": {"key": key, "eTag": etag}}}
        for key, etag in (("s/gone.pcap", "x"), ("s/poison.pcap", cloud.upload("s/poison.pcap", b"%PDF").etag))
    ]
    records.append({"s3": {"bucket": {"name": BUCKET}, "object": {"key": good.key, "eTag": good.etag}}})
    assert handler("ingest")(batch(json.dumps({"Records": records})), context()) == {"batchItemFailures": []}
    assert len(cloud.messages("correlate")) == 1
    assert len(cloud.messages("dead")) == 1


def test_the_sample_events_are_taken_by_the_functions_that_they_are_for(cloud, capsys):
    samples = {path.stem: json.loads(path.read_text()) for path in (ROOT / "events").glob("*.json")}
    for name, event in samples.items():
        function = "ingest" if "IngestQueue" in event["Records"][0]["eventSourceARN"] else "correlate"
        assert handler(function)(event, context())["batchItemFailures"] in ([], [{"itemIdentifier": "m0"}]), name
    assert len(samples) >= 6
    assert '"finding":"18f0c2007a1b4d6e9c3f5a7b8d9e0f12"' in capsys.readouterr().out
