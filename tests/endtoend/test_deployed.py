"""The deployed template, from the upload to the notice, with everything delivered at least once and in any order."""

import json
import re
import time

import numpy as np
import pytest

from backscatter.cloud.dynamo import DynamoItems
from backscatter.cloud.events import PATIENCE_TICK, our_event
from backscatter.cloud.objects import ObjectName
from backscatter.cloud.stack import GROUP, KEY_AT
from backscatter.demo import case2007
from backscatter.demo.deploy import FINDING_SOURCE
from backscatter.demo.wire import pcap
from backscatter.finding.recognise import read_event
from backscatter.flow.address import Address
from backscatter.flow.read import Piece, read_sensor
from backscatter.flow.window import Window
from backscatter.store.captures import is_listed
from backscatter.store.catalogue import CaptureObject
from backscatter.store.findings import finding_key, recall
from backscatter.store.scene import StoredScene

# One local cloud for all of them: they run in one worker.
pytestmark = pytest.mark.xdist_group("cloud")

SECONDS = 60


def until(done, what):
    """Wait for something that happens in the cloud."""
    deadline = time.monotonic() + SECONDS
    while not (found := done()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def object_event(bucket, key, etag):
    detail = {"bucket": {"name": bucket}, "object": {"key": key, "etag": etag}}
    return json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail})


class Play:
    """What a test does to the deployed stack."""

    def __init__(self, cloud, stack, audience):
        self.stack, self.audience = stack, audience
        self.s3, self.sqs, self.events = (cloud.client(name) for name in ("s3", "sqs", "events"))
        self.items = DynamoItems(cloud.client("dynamodb"), stack["Table"])
        self.table = cloud.client("dynamodb")
        self.bucket = stack["CaptureBucket"]

    def upload(self, key, body):
        etag = self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)["ETag"].strip('"')
        return CaptureObject(self.bucket, key, ObjectName(self.bucket, key, etag=etag).identity)

    def upload_capture(self, key, body):
        source = self.upload(key, body)
        until(lambda: is_listed(self.items, source), f"{key} was not listed")
        return source

    def report(self, finding):
        entry = {"Source": FINDING_SOURCE, "DetailType": "GuardDuty Finding", "Detail": json.dumps(finding)}
        assert not self.events.put_events(Entries=[entry])["FailedEntryCount"]
        return finding["id"]

    def key(self):
        return bytes(self.items.get_all([KEY_AT])[0]["key"])

    def at_rest(self):
        """Wait until every message was worked off."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        for queue in ("IngestQueue", "CorrelateQueue"):
            until(
                lambda queue=queue: (
                    not any(
                        int(count)
                        for count in self.sqs.get_queue_attributes(QueueUrl=self.stack[queue], AttributeNames=names)[
                            "Attributes"
                        ].values()
                    )
                ),
                f"{queue} never came to rest",
            )

    def stored(self):
        """Every item of the table."""
        pages = self.table.get_paginator("scan").paginate(TableName=self.stack["Table"], ConsistentRead=True)
        return {(item["pk"]["S"], item["sk"]["S"]): item for page in pages for item in page["Items"]}

    def buried(self, queue, key):
        """The message in a dead-letter queue that speaks of a key; it is taken out."""

        def found():
            answer = self.sqs.receive_message(
                QueueUrl=self.stack[queue], MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=0
            )
            for message in answer.get("Messages", []):
                if key in message["Body"]:
                    self.sqs.delete_message(QueueUrl=self.stack[queue], ReceiptHandle=message["ReceiptHandle"])
                    return {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
            return None

        return until(found, f"nothing about {key} in {queue}")


@pytest.fixture
def play(cloud, stack, audience):
    return Play(cloud, stack, audience)


def finding_of(later, name, **how):
    return case2007.guardduty_finding(later, finding=name, **how)


def test_the_flows_of_an_upload_are_those_that_a_laptop_reads(play, later, tmp_path):
    body = case2007.capture(later)
    play.upload_capture("sensor/equal.pcap", body)
    path = tmp_path / "equal.pcap"
    path.write_bytes(body)
    local = read_sensor("sensor", [Piece("equal", lambda: path.open("rb"))]).table
    window = Window(case2007.START + later, case2007.END + later + 3600 * case2007.SECOND)
    stored = StoredScene(play.items, play.key(), GROUP).flows_of([Address.parse(case2007.OURS)], window)
    assert len(local) > 400
    # Names are numbered by each table for itself; everything else is equal, field by field.
    for field in local.rows.dtype.names:
        if field not in ("sensor", "scope", "tunnels"):
            assert np.array_equal(stored.rows[field], local.rows[field]), field


def test_the_case_is_told_by_mail_chat_and_event_with_one_revision(play, later, audience):
    play.upload_capture("packet-captures/i-0demo/2007-03-20-17-49.pcap", case2007.capture(later))
    verdict = audience.verdict_on(play.report(finding_of(later, "told")))
    assert (verdict["verdict"], verdict["rule"], verdict["band"]) == ("backscatter", "R4", "confirmed")
    assert verdict["victim"] == {"ip": case2007.VICTIM, "port": case2007.IRC, "proto": "tcp"}
    shown = [line for piece in verdict["evidence"] for line in piece["packets"]]
    assert [line["text"].partition("Flags")[2][:6] for line in shown[:2]] == [" [S.],", " [R], "]
    mail = audience.mail_of(verdict)
    assert mail.subject.startswith("Backscatter (confirmed)")
    assert mail.attributes | {"label": "backscatter", "band": "confirmed", "source": "guardduty"} == mail.attributes
    (chat,) = [json.loads(each.body) for each in audience.chats if verdict["revision"] in each.body]
    assert (chat["version"], chat["source"]) == ("1.0", "custom")
    assert chat["content"]["textType"] == "client-markdown"


def test_what_is_delivered_twice_leaves_the_same_items_and_one_notice(play, later, audience):
    source = play.upload_capture("sensor/twice.pcap", case2007.capture(later))
    finding = finding_of(later, "twice")
    verdict = audience.verdict_on(play.report(finding))
    play.at_rest()
    before = play.stored()
    event = object_event(play.bucket, source.key, source.version.removeprefix("etag:"))
    for _ in range(2):
        play.sqs.send_message(QueueUrl=play.stack["IngestQueue"], MessageBody=event)
        play.report(finding)
    time.sleep(0.5)
    play.at_rest()
    assert play.stored() == before
    audience.hear()
    assert [told["revision"] for told in audience.verdicts if told["finding"]["id"] == "twice"] == [verdict["revision"]]
    assert len([mail for mail in audience.mails if verdict["revision"] in mail.body]) == 1
    assert len([chat for chat in audience.chats if verdict["revision"] in chat.body]) == 1


def test_a_finding_before_its_capture_is_kept_and_woken_by_it(play, later, audience):
    finding = finding_of(later, "early")
    play.report(finding)
    (known,) = read_event({"source": FINDING_SOURCE, "detail-type": "GuardDuty Finding", "detail": finding}, "")
    key = finding_key(known)
    state = until(lambda: (state := recall(play.items, key)) and state.judged and state, "it was not judged")
    assert (state.revision, state.untold) == (0, False)
    play.upload_capture("sensor/late.pcap", case2007.capture(later))
    verdict = audience.verdict_on("early")
    assert (verdict["verdict"], verdict["band"], verdict["previous"]) == ("backscatter", "confirmed", None)


def test_a_host_that_really_calls_is_called_connected(play, later, audience):
    play.upload_capture("sensor/call.pcap", case2007.calling_capture(later))
    verdict = audience.verdict_on(play.report(finding_of(later, "call", remote=case2007.CONTROLLER, ours=1042)))
    assert verdict["verdict"] == "connection_established"
    assert audience.mail_of(verdict).subject.startswith("Real connection")


def test_a_newer_update_of_a_finding_with_the_same_verdict_is_no_news(play, later, audience):
    play.upload_capture("sensor/update.pcap", case2007.capture(later))
    finding = finding_of(later, "update")
    audience.verdict_on(play.report(finding))
    play.report({**finding, "updatedAt": "2037-01-01T00:00:00.000Z", "severity": 5})
    time.sleep(0.5)
    play.at_rest()
    audience.hear()
    assert len([told for told in audience.verdicts if told["finding"]["id"] == "update"]) == 1


def test_a_poisoned_object_is_buried_with_its_reason_while_its_batch_mates_succeed(play, later):
    mates = [list(case2007.pairs(later + hour * 3600 * case2007.SECOND)) for hour in range(2)]
    # Under alerts/ no event of S3 reaches the ingest queue: these come in one batch, as sent below.
    objects = [
        play.upload("alerts/unseen/good-1.pcap", pcap(mates[0])),
        play.upload("alerts/unseen/poison.pcap", b"%PDF-1.7 this is no capture"),
        play.upload("alerts/unseen/good-2.pcap", pcap(mates[1])),
    ]
    entries = [
        {"Id": str(at), "MessageBody": object_event(play.bucket, one.key, one.version.removeprefix("etag:"))}
        for at, one in enumerate(objects)
    ]
    play.sqs.send_message_batch(QueueUrl=play.stack["IngestQueue"], Entries=entries)
    buried = play.buried("IngestDeadLetters", "poison.pcap")
    assert buried["reason"] == "no_capture"
    assert "PDF" in buried["explanation"]
    for good in (objects[0], objects[2]):
        until(lambda good=good: is_listed(play.items, good), f"{good.key} was not listed")
    assert not is_listed(play.items, objects[1])


def test_a_capture_over_the_limit_is_buried_unread(play):
    play.upload("sensor/big.pcap", bytes(5_000_000))
    buried = play.buried("IngestDeadLetters", "big.pcap")
    assert buried["reason"] == "too_big"
    assert "5000000 bytes, the limit is 4000000" in buried["explanation"]


def test_an_alert_log_without_an_alert_that_can_be_read_is_buried(play):
    play.upload("alerts/broken.json", b'{"event_type": "alert", "src_ip": ')
    buried = play.buried("CorrelateDeadLetters", "broken.json")
    assert buried["reason"] == "no_finding"
    assert "alerts/broken.json" in buried["explanation"]


def test_an_empty_capture_of_a_quiet_sensor_is_no_trouble(play):
    play.upload("sensor/quiet.pcap", pcap([]))
    time.sleep(0.5)
    play.at_rest()
    answer = play.sqs.receive_message(QueueUrl=play.stack["IngestDeadLetters"], VisibilityTimeout=0)
    assert "quiet.pcap" not in json.dumps(answer.get("Messages", []))


def test_a_tick_of_the_schedule_tells_nothing_twice(play, audience):
    play.at_rest()
    audience.hear()
    before = len(audience.verdicts)
    play.sqs.send_message(QueueUrl=play.stack["CorrelateQueue"], MessageBody=our_event(PATIENCE_TICK, {}))
    time.sleep(0.5)
    play.at_rest()
    audience.hear()
    assert len(audience.verdicts) == before


def test_the_functions_run_what_the_layers_carry(play, cloud):
    # The emulator's Python has our package installed, too; a traceback tells which one runs.
    event = object_event("no bucket at all", "nothing.pcap", "x")
    play.sqs.send_message(QueueUrl=play.stack["IngestQueue"], MessageBody=event)
    text = until(lambda: (text := cloud.log.read_text()) and "no bucket at all" in text and text, "it was not tried")
    files = re.findall(r'File \\"([^"]*/backscatter/cloud/[^"]*)\\"', text)
    assert files
    assert all("/layer_" in file for file in files)
