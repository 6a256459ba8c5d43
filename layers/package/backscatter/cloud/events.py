"""What a message in one of our queues is about: told by its shape, as one of six things."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from backscatter.cloud.objects import ObjectName
from backscatter.errors import Hopeless

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Source and detail types of what we send to ourselves.
OUR_SOURCE = "backscatter"
CAPTURE_LISTED = "Capture Listed"
ALERT_LOG_BEGUN = "Alert Log Begun"
PATIENCE_TICK = "Patience Tick"
RANGE_TO_READ = "Range To Read"
PART_TO_STORE = "Part To Store"
CLEANING_TICK = "Cleaning Tick"
CAPTURES_GATHERED = "Captures Gathered"
#: What we tell everybody else, on the default event bus.
VERDICT_REACHED = "Verdict Reached"

_SHOWN = 200


@dataclass(frozen=True, slots=True)
class ObjectCreated:
    """An object was uploaded: a capture in the ingest queue, an alert log in the correlate queue."""

    name: ObjectName


@dataclass(frozen=True, slots=True)
class AlertLogBegun:
    """An alert log whose first `done` findings were remembered before time ran out."""

    name: ObjectName
    done: int


@dataclass(frozen=True, slots=True)
class CaptureListed:
    """A capture is in the catalogue: findings that wait for it can be judged. `detail` is what ingest wrote."""

    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CapturesGathered:
    """Captures that can hold one end of findings, gathered: those are judged once for all of them."""

    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RangeToRead:
    """A range of a capture that is shared out; `told`: where it begins follows from the ranges before it."""

    name: ObjectName
    index: int
    told: bool


@dataclass(frozen=True, slots=True)
class PartToStore:
    """A part of the flows of a capture that was shared out, and of which every range is read."""

    name: ObjectName
    part: int


@dataclass(frozen=True, slots=True)
class CleaningTick:
    """Some minutes went by: what was begun and never finished is taken up again, or taken away."""


@dataclass(frozen=True, slots=True)
class PatienceTick:
    """Some minutes went by: findings whose patience is over are told as they are."""


@dataclass(frozen=True, slots=True)
class FindingReported:
    """Anything else: an event that has to be a finding. `id` is the event's own."""

    id: str
    event: Mapping[str, Any]


Event = (
    ObjectCreated
    | AlertLogBegun
    | CaptureListed
    | CapturesGathered
    | PatienceTick
    | RangeToRead
    | PartToStore
    | CleaningTick
    | FindingReported
)


def read_message(body: str) -> Iterator[Event]:
    """The events of a queue message: EventBridge's one, or those of an S3 notification (none in its test event).

    Raises Hopeless where the message is no JSON object or an object event without its object.
    """
    try:
        event = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Hopeless("no_event", f"the message is no JSON: {body[:_SHOWN]!r}") from error
    if not isinstance(event, dict):
        raise Hopeless("no_event", f"the message is no JSON object: {body[:_SHOWN]!r}")
    if event.get("Event") == "s3:TestEvent":  # S3 sends one when a notification is set up
        return
    if isinstance(event.get("Records"), list):
        for record in event["Records"]:
            yield ObjectCreated(_of_notification(record, body))
        return
    detail = event.get("detail")
    kind = event.get("source"), event.get("detail-type")
    if kind[1] == "Object Created":
        yield ObjectCreated(_of_event(detail, body))
    elif kind == (OUR_SOURCE, CAPTURE_LISTED) and isinstance(detail, dict):
        yield CaptureListed(detail)
    elif kind == (OUR_SOURCE, CAPTURES_GATHERED) and isinstance(detail, dict):
        yield CapturesGathered(detail)
    elif kind == (OUR_SOURCE, ALERT_LOG_BEGUN):
        yield _begun(detail, body)
    elif kind == (OUR_SOURCE, RANGE_TO_READ):
        yield _range(detail, body)
    elif kind == (OUR_SOURCE, PART_TO_STORE):
        yield _part(detail, body)
    elif kind == (OUR_SOURCE, CLEANING_TICK):
        yield CleaningTick()
    elif kind == (OUR_SOURCE, PATIENCE_TICK):
        yield PatienceTick()
    else:
        yield FindingReported(str(event.get("id", "")), event)


def our_event(kind: str, detail: Mapping[str, Any]) -> str:
    """The message by which one of our functions tells another, in EventBridge's shape."""
    return json.dumps({"source": OUR_SOURCE, "detail-type": kind, "detail": detail})


def object_created(name: ObjectName, source: str = OUR_SOURCE) -> str:
    """The message by which S3's events tell of an object, from another source."""
    made = {"key": name.key, "version-id": name.version, "etag": name.etag}
    detail = {"bucket": {"name": name.bucket}, "object": {field: value for field, value in made.items() if value}}
    return json.dumps({"source": source, "detail-type": "Object Created", "detail": detail})


def of_object(name: ObjectName, **more: object) -> dict[str, object]:
    """The detail of an event about an object, and `more`."""
    return {"bucket": name.bucket, "key": name.key, "identity": name.identity, **more}


def begun(name: ObjectName, done: int) -> dict[str, object]:
    """The detail of an alert log that was begun."""
    return {"bucket": name.bucket, "key": name.key, "identity": name.identity, "done": done}


def _begun(detail: Any, body: str) -> AlertLogBegun:
    try:
        bucket, key, identity, done = (detail[name] for name in ("bucket", "key", "identity", "done"))
        return AlertLogBegun(ObjectName.identified(str(bucket), str(key), str(identity)), int(done))
    except (KeyError, TypeError, ValueError) as error:
        raise Hopeless("no_event", f"an alert log without its object: {body[:_SHOWN]!r}") from error


def _range(detail: Any, body: str) -> RangeToRead:
    try:
        return RangeToRead(_identified(detail), int(detail["index"]), bool(detail["told"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Hopeless("no_event", f"a range without its object: {body[:_SHOWN]!r}") from error


def _part(detail: Any, body: str) -> PartToStore:
    try:
        return PartToStore(_identified(detail), int(detail["part"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Hopeless("no_event", f"a part without its object: {body[:_SHOWN]!r}") from error


def _identified(detail: Any) -> ObjectName:
    bucket, key, identity = (detail[name] for name in ("bucket", "key", "identity"))
    return ObjectName.identified(str(bucket), str(key), str(identity))


def _of_event(detail: Any, body: str) -> ObjectName:
    """The object of EventBridge's event, whose keys come as they are."""
    try:
        key, made = detail["object"]["key"], detail["object"]
        return _name(detail["bucket"]["name"], key, made.get("version-id"), made.get("etag"))
    except (KeyError, TypeError, AttributeError) as error:
        raise Hopeless("no_event", f"an object event without its object: {body[:_SHOWN]!r}") from error


def _of_notification(record: Any, body: str) -> ObjectName:
    """The object of an S3 notification, whose keys are URL-encoded."""
    try:
        made = record["s3"]["object"]
        key = unquote_plus(made["key"])
        return _name(record["s3"]["bucket"]["name"], key, made.get("versionId"), made.get("eTag"))
    except (KeyError, TypeError, AttributeError) as error:
        raise Hopeless("no_event", f"an S3 notification without its object: {body[:_SHOWN]!r}") from error


def _name(bucket: str, key: str, version: str | None, etag: str | None) -> ObjectName:
    if not (isinstance(bucket, str) and isinstance(key, str) and bucket and key):
        raise TypeError
    kept = version if version and version != "null" else ""  # "null": uploaded before versioning was on
    return ObjectName(bucket, key, kept, (etag or "").strip('"'))
