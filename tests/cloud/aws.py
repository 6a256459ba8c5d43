"""The resources of the template on moto, as far as the functions touch them, and what was told and buried there."""

import json
from contextlib import contextmanager

import boto3
from moto import mock_aws

from backscatter.cloud.correlate import Correlator
from backscatter.cloud.events import read_message
from backscatter.cloud.ingest import ingest
from backscatter.cloud.objects import ObjectName
from backscatter.cloud.stack import Stack
from backscatter.demo import case2007

BUCKET = "captures"
WORK = "work"


class Killed(BaseException):
    """The function is killed here."""


class Deployed:
    """A stack on moto. `stack` is what the functions get; `alive` counts down the AWS calls until the next kill."""

    def __init__(self, monkeypatch, **environment):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        session = boto3.session.Session()
        self.s3, self.sqs, self.sns = (session.client(name) for name in ("s3", "sqs", "sns"))
        session.client("dynamodb").create_table(
            TableName="table",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
        for bucket in (BUCKET, WORK):
            self.s3.create_bucket(Bucket=bucket)
        self.queues = {}
        queue = {name: self._queue(name) for name in ("ingest", "correlate", "dead", "mail", "chat")}
        topic = {name: self._topic(name) for name in ("mail", "chat")}
        self.environment = {
            "TABLE_NAME": "table",
            "FLOW_DAYS": "30",
            "CAPTURE_MEGABYTES": "4",
            "RANGE_MEGABYTES": "64",
            "WORK_BUCKET": WORK,
            "PATIENCE_MINUTES": "30",
            "HOME_NETWORKS": f"{case2007.OURS}/32",
            "ADDRESS_ALIASES": "",
            "QUEUE_URL": queue["correlate"],
            "CORRELATE_QUEUE_URL": queue["correlate"],
            "DEAD_LETTERS_URL": queue["dead"],
            "MAIL_TOPIC": topic["mail"],
            "CHAT_TOPIC": topic["chat"],
            **environment,
        }
        self.alive = None
        self.outcomes = []
        self.troubles = []
        self.now = case2007.END
        self.hurried = lambda: False
        self.stack = Stack(self.environment)
        self.stack._session.events.register("before-call", self._count_down)

    def _count_down(self, **_):
        if self.alive is not None:
            self.alive -= 1
            if self.alive < 0:
                self.alive = None
                raise Killed

    def upload(self, key, body):
        etag = self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)["ETag"].strip('"')
        return ObjectName(BUCKET, key, etag=etag)

    def ingest(self, key, body):
        return ingest(self.stack, self.upload(key, body))

    def correlate(self, event):
        correlator = Correlator(
            self.stack,
            now=lambda: self.now,
            hurry=self.hurried,
            heard=self.outcomes.append,
            trouble=self.troubles.append,
        )
        for one in read_message(event if isinstance(event, str) else json.dumps(event)):
            correlator.work(one)

    def report(self, finding):
        self.correlate({"source": "aws.guardduty", "detail-type": "GuardDuty Finding", "id": "e", "detail": finding})

    def wake(self):
        """Work off what stands in the correlate queue."""
        for body in self.messages("correlate"):
            self.correlate(body)

    def messages(self, queue):
        """The messages of a queue, which are taken out."""
        bodies = []
        while found := self.sqs.receive_message(QueueUrl=self.queues[queue], MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                bodies.append(message["Body"])
                self.sqs.delete_message(QueueUrl=self.queues[queue], ReceiptHandle=message["ReceiptHandle"])
        return bodies

    def mails(self):
        """Subject and text of the mails told since the last time."""
        return [(mail["Subject"], mail["Message"]) for mail in map(json.loads, self.messages("mail"))]

    def _queue(self, name):
        self.queues[name] = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        return self.queues[name]

    def _topic(self, name):
        topic = self.sns.create_topic(Name=name)["TopicArn"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.queues[name], AttributeNames=["QueueArn"])
        self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=attributes["Attributes"]["QueueArn"])
        return topic


@contextmanager
def deployed(monkeypatch, **environment):
    """A stack of its own."""
    with mock_aws():
        yield Deployed(monkeypatch, **environment)
