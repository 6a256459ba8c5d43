"""Captures that lie in S3 already: found by listing, and handed to the ingest queue as if they were uploaded now.

They are read where they lie. What is in the store is left out, so a backfill that was stopped goes on where it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from backscatter.cloud.events import object_created
from backscatter.cloud.objects import ObjectName
from backscatter.errors import RequestError
from backscatter.store.captures import all_listed
from backscatter.store.catalogue import CaptureObject
from backscatter.store.naming import time_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from backscatter.cloud.stack import Stack

#: Source of the events that we send in S3's place: rules that wait for aws.s3 do not hear them.
SOURCE = "backscatter.backfill"

#: Under this prefix of the stack's own bucket lie alert logs.
ALERTS = "alerts/"

#: Storage classes whose objects have to be restored before they can be read.
ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")

#: SQS takes so many messages at once; so many keys are looked up at once.
_SENT_TOGETHER = 10
_ASKED_TOGETHER = 100

#: Seconds between looks at what is done, and how many looks with an empty queue and no progress end the wait.
PAUSE = 2.0
PATIENCE = 5


@dataclass(frozen=True, slots=True)
class Found:
    """An object of the listing.

    time   when it begins, ns: what its key says, else when it was last modified
    class_ storage class
    """

    name: ObjectName
    size: int
    time: int
    class_: str

    @property
    def source(self) -> CaptureObject:
        """What the store knows it by."""
        return CaptureObject(self.name.bucket, self.name.key, self.name.identity)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be taken in, the oldest first, and how many objects are left out for which reason."""

    todo: tuple[Found, ...]
    listed: int
    left_out: dict[str, int]


def parse_url(url: str) -> tuple[str, str]:
    """Bucket and prefix of s3://bucket/prefix. Raises ValueError."""
    match = re.fullmatch(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?", url, re.DOTALL)
    if match is None:
        raise ValueError(f"{url!r} is no s3://bucket/prefix (a bucket has 3 to 63 of a-z, 0-9, '.' and '-')")
    return match["bucket"], match["prefix"] or ""


def listing(s3: Any, bucket: str, prefix: str) -> Iterator[Found]:
    """The objects under a prefix, each in its latest version, identified as its upload's event identified it.

    Where listing versions is denied the objects are listed without: in a bucket that keeps versions they are then other
    captures than those that came by events. Raises botocore's ClientError.
    """
    try:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
            for one in page.get("Versions", ()):
                if one["IsLatest"]:
                    yield _found(bucket, one, one["VersionId"])
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            raise
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for one in page.get("Contents", ()):
                yield _found(bucket, one, "null")


def _found(bucket: str, one: Any, version: str) -> Found:
    time = time_of(one["Key"])
    modified = int(one["LastModified"].timestamp()) * 10**9
    name = ObjectName(bucket, one["Key"], "" if version == "null" else version, one["ETag"].strip('"'))
    return Found(name, one["Size"], modified if time is None else time, one.get("StorageClass", "STANDARD"))


def choose(stack: Stack, objects: Iterable[Found], since: int | None, until: int | None) -> Choice:
    """What of the objects is to be taken in. Raises StoreError where the store does not answer."""
    left_out: dict[str, int] = {}
    chosen: list[Found] = []
    for one in objects:
        if reason := _unfit(stack, one, since, until):
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            chosen.append(one)
    done: set[CaptureObject] = set()
    for at in range(0, len(chosen), _ASKED_TOGETHER):
        done |= all_listed(stack.items, [one.source for one in chosen[at : at + _ASKED_TOGETHER]])
    todo = sorted((one for one in chosen if one.source not in done), key=lambda one: (one.time, one.name.key))
    return Choice(tuple(todo), len(done), left_out)


def _unfit(stack: Stack, one: Found, since: int | None, until: int | None) -> str:
    if one.size == 0 or one.name.key.endswith("/"):
        return "empty"
    if one.name.bucket == stack.environment["CAPTURE_BUCKET"] and one.name.key.startswith(ALERTS):
        return "alert logs"
    if one.class_ in ARCHIVES:
        return "archived: restore them first"
    if one.size > stack.most_bytes:
        return f"larger than the stack's CaptureMegabytes ({stack.most_bytes // 10**6} MB)"
    if (since is not None and one.time < since) or (until is not None and one.time > until):
        return "other times by their names"
    return ""


def event(name: ObjectName) -> str:
    """The message by which the ingest function hears of an object: S3's event, from another source."""
    return object_created(name, SOURCE)


def send(stack: Stack, found: Sequence[Found]) -> None:
    """Put objects into the ingest queue. Raises RequestError where the queue will not take one."""
    queue = stack.environment["INGEST_QUEUE_URL"]
    for at in range(0, len(found), _SENT_TOGETHER):
        entries = [
            {"Id": str(number), "MessageBody": event(one.name)}
            for number, one in enumerate(found[at : at + _SENT_TOGETHER])
        ]
        failed = stack.sqs.send_message_batch(QueueUrl=queue, Entries=entries).get("Failed", [])
        if failed:
            raise RequestError(f"the ingest queue refuses messages: {failed[0].get('Message') or failed[0]['Code']}")


def take_in(
    stack: Stack,
    todo: Sequence[Found],
    concurrency: int,
    *,
    sleep: Callable[[float], None],
    progress: Callable[[int], None] = lambda _: None,
) -> list[Found]:
    """Have the stack ingest the objects, so many at a time. Those that did not get listed: empty, refused, or late.

    Ends when all are listed, or when the queue is empty and nothing has changed for some looks. `progress` hears how
    many are listed.
    """
    waiting = list(reversed(todo))
    out: dict[CaptureObject, Found] = {}
    given_up: list[Found] = []
    done = quiet = 0
    while waiting or out:
        some = [waiting.pop() for _ in range(min(len(waiting), concurrency - len(out)))]
        send(stack, some)
        out |= {one.source: one for one in some}
        sleep(PAUSE)
        listed: set[CaptureObject] = set()
        sources = list(out)
        for at in range(0, len(sources), _ASKED_TOGETHER):
            listed |= all_listed(stack.items, sources[at : at + _ASKED_TOGETHER])
        for source in listed:
            del out[source]
        done += len(listed)
        progress(done)
        quiet = quiet + 1 if not listed and _is_empty(stack) else 0
        if quiet >= PATIENCE:
            given_up += out.values()
            out, quiet = {}, 0
    return given_up


def _is_empty(stack: Stack) -> bool:
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    answer = stack.sqs.get_queue_attributes(QueueUrl=stack.environment["INGEST_QUEUE_URL"], AttributeNames=list(names))
    return all(int(answer["Attributes"][name]) == 0 for name in names)
