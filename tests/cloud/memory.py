"""What the ingest function touches of AWS, in memory: as fast as it takes to try every order and every kill."""

import datetime as dt
import hashlib
import io
import re
import time

from botocore.exceptions import ClientError
from tests.cloud.aws import BUCKET, WORK, Killed

from backscatter.cloud.objects import ObjectName
from backscatter.cloud.stack import Stack
from backscatter.store.memory import MemoryItems


def refused(status, code):
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


class Body(io.BytesIO):
    def iter_chunks(self, size):
        while piece := self.read(size):
            yield piece


class Objects:
    """S3 without versions."""

    def __init__(self, called):
        self._called, self.objects, self.asked = called, {}, []

    def put_object(self, *, Bucket, Key, Body):  # noqa: N803
        self._called("s3:PutObject")
        self.objects[Bucket, Key] = bytes(Body), time.time()
        return {"ETag": f'"{hashlib.sha256(Body).hexdigest()}"'}

    def delete_object(self, *, Bucket, Key):  # noqa: N803
        self._called("s3:DeleteObject")
        self.objects.pop((Bucket, Key), None)

    def get_object(self, *, Bucket, Key, Range="", IfMatch=""):  # noqa: N803
        self._called("s3:GetObject")
        self.asked.append((Bucket, Key, Range))
        if (Bucket, Key) not in self.objects:
            raise refused(404, "NoSuchKey")
        data, modified = self.objects[Bucket, Key]
        etag = hashlib.sha256(data).hexdigest()
        if IfMatch not in ("", etag):
            raise refused(412, "PreconditionFailed")
        begin, end = 0, len(data)
        if Range:
            first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", Range).groups()
            begin, end = int(first), int(last) + 1 if last else len(data)
            if begin >= len(data):
                raise refused(416, "InvalidRange")
        data = data[begin:end]
        when = dt.datetime.fromtimestamp(int(modified), dt.UTC)
        return {"Body": Body(data), "ContentLength": len(data), "ETag": f'"{etag}"', "LastModified": when}


class Queues:
    """SQS, to which messages are sent."""

    def __init__(self, called):
        self._called, self.sent, self.attributes = called, {}, []

    def send_message(self, *, QueueUrl, MessageBody, MessageAttributes=None):  # noqa: N803
        self._called("sqs:SendMessage")
        self.sent.setdefault(QueueUrl, []).append(MessageBody)
        if MessageAttributes:
            self.attributes.append({name: value["StringValue"] for name, value in MessageAttributes.items()})


class Items(MemoryItems):
    """A table in which every item that is written is a call, so that a kill leaves half a batch behind."""

    def __init__(self, called):
        super().__init__()
        self._called = called

    def put_all(self, items):
        for item in items:
            self._called("write")
            super().put_all([item])

    def get_all(self, keys):
        self._called("read")
        return super().get_all(keys)

    def query(self, pk, first="", last="\U0010ffff"):
        self._called("read")
        return super().query(pk, first, last)

    def put_if_absent(self, item):
        self._called("write")
        return super().put_if_absent(item)

    def replace_if(self, item, attribute, expected):
        self._called("write")
        return super().replace_if(item, attribute, expected)

    def delete(self, pk, sk):
        self._called("write")
        super().delete(pk, sk)


class InMemory:
    """A stack in memory. `alive` counts down the calls until the next kill, as in `tests.cloud.aws.Deployed`."""

    def __init__(self, **environment):
        self.environment = {
            "TABLE_NAME": "table",
            "FLOW_DAYS": "30",
            "CAPTURE_MEGABYTES": "4",
            "RANGE_MEGABYTES": "64",
            "WORK_BUCKET": WORK,
            "QUEUE_URL": "ingest",
            "CORRELATE_QUEUE_URL": "correlate",
            "DEAD_LETTERS_URL": "dead",
            **environment,
        }
        self.alive = None
        self.stack = Stack(self.environment)
        self.s3, self.sqs, self.items = (kind(self._count_down) for kind in (Objects, Queues, Items))
        self.stack.__dict__ |= {"s3": self.s3, "sqs": self.sqs, "items": self.items}

    def _count_down(self, _):
        if self.alive is not None:
            self.alive -= 1
            if self.alive < 0:
                self.alive = None
                raise Killed

    def upload(self, key, body):
        alive, self.alive = self.alive, None
        etag = self.s3.put_object(Bucket=BUCKET, Key=key, Body=body)["ETag"].strip('"')
        self.alive = alive
        return ObjectName(BUCKET, key, etag=etag)

    def messages(self, queue):
        """The messages of a queue, which are taken out."""
        return self.sqs.sent.pop(queue, [])

    def everything(self):
        """The items of the table, but for intents and for when items expire."""
        found = {key: dict(item) for key, item in self.items.items.items() if key[0] != "intents"}
        for item in found.values():
            item.pop("expires_at", None)
        return found
