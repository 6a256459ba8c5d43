"""A capture object becomes flows in the table, and the findings that wait for it are woken."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, cast

from backscatter.cloud.events import CAPTURE_LISTED, our_event
from backscatter.cloud.large import Job, declaring
from backscatter.cloud.objects import ObjectName, check_size, open_object
from backscatter.cloud.stack import GROUP
from backscatter.errors import Gone, Hopeless, LimitExceeded
from backscatter.flow.read import Piece, read_sensor
from backscatter.store.captures import capture_id, find_capture, is_listed, put_capture
from backscatter.store.catalogue import CaptureObject
from backscatter.store.cleaning import clean
from backscatter.store.naming import sensor_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from backscatter.cloud.large import Listed
    from backscatter.cloud.stack import Stack
    from backscatter.errors import CaptureError
    from backscatter.flow.read import PieceRead
    from backscatter.store.cleaning import Cleaned, Intent


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a capture, for the log.

    outcome  "stored"; "listed before" where the event came twice; "empty" where the capture holds no packet, which is
             what a rotating sensor writes when nothing happens: it vouches for no time, so there is nothing to list;
             "shared out", "range read", "part stored" on the way of a capture that no one function can take
    """

    outcome: str
    packets: int = 0
    flows: int = 0
    damaged_bytes: int = 0
    items: int = 0
    write_units: int = 0


def ingest(stack: Stack, name: ObjectName) -> Ingested:
    """Read a capture as a stream, store its flows, list it, and wake the findings that wait.

    One that is too large for that is shared out instead: the rest happens in other messages (`cloud.large`). Raises
    Gone where the object was deleted or replaced, Hopeless where it is no capture, too large or forbidden.
    """
    if not name.identity:
        raise Hopeless("no_event", f"{name.url}: the event names neither a version nor an etag")
    if name.key.endswith("/"):
        return Ingested("empty")  # the console makes folders so
    source = CaptureObject(name.bucket, name.key, name.identity)
    if is_listed(stack.items, source):
        return _listed_before(stack, name, source)
    stream, reader = open_object(stack.s3, name)
    with reader:
        check_size(stream, stack.most_bytes)
        if stream.size > stack.whole_limits.expanded_bytes:
            return _share_out(stack, name, source)
        flows = read_sensor(
            sensor_of(name.key), [Piece(name.url, lambda: cast("BinaryIO", reader))], stack.whole_limits
        )
    (piece,) = flows.pieces
    if piece.error and _expands_further(stack, piece):
        return _share_out(stack, name, source)
    if piece.error and not flows.censuses:
        raise _hopeless(piece.error)
    if not flows.censuses:
        return Ingested("empty", damaged_bytes=sum(damage.length for damage in piece.damage))
    (census,) = flows.censuses
    source = replace(source, modified=stream.modified)
    assert piece.layout is not None
    stored = put_capture(
        stack.items,
        stack.key,
        flows.table,
        census,
        source,
        group=GROUP,
        layout=piece.layout.to_json(),
        expires_at=int(time.time()) + stack.keep_seconds,
        declare=declaring(stack, source),
    )
    _wake(stack, source, census.start, census.piece)
    if piece.error:  # what came before the limit is kept; that there is more must not go unheard
        raise _hopeless(piece.error)
    return Ingested(
        "stored",
        census.packets,
        len(flows.table),
        census.damaged_bytes,
        stored.cost["items"],
        stored.cost["write_units"],
    )


def ingest_range(
    stack: Stack, name: ObjectName, index: int, *, told: bool, hurry: Callable[[], bool] = lambda: False
) -> Ingested:
    """Read a range of a capture that is shared out. Raises as `ingest` does."""
    source = CaptureObject(name.bucket, name.key, name.identity)
    if is_listed(stack.items, source):
        return _listed_before(stack, name, source)
    job = Job(stack, name, source, hurry)
    return _finished(stack, source, job, job.read(index, told=told), "range read")


def ingest_part(stack: Stack, name: ObjectName, part: int) -> Ingested:
    """Store a part of the flows of a capture that was shared out. Raises as `ingest` does."""
    source = CaptureObject(name.bucket, name.key, name.identity)
    if is_listed(stack.items, source):
        return _listed_before(stack, name, source)
    job = Job(stack, name, source)
    return _finished(stack, source, job, job.store(part), "part stored")


def sweep(stack: Stack, now: int, forsaken: Callable[[ObjectName], None]) -> Cleaned:
    """Take up again, or take away, what was begun hours ago and never finished. `forsaken` hears of the latter."""
    return clean(stack.items, now, _Owner(stack, now, forsaken))


class _Owner:
    """Implements `store.cleaning.Owner`."""

    def __init__(self, stack: Stack, now: int, forsaken: Callable[[ObjectName], None]) -> None:
        self._stack, self._now, self._forsaken = stack, now, forsaken

    def revive(self, intent: Intent) -> bool:
        return self._is_there(intent) and self._job(intent).revive(self._now)

    def forsake(self, intent: Intent) -> None:
        self._job(intent).tidy()
        if self._is_there(intent):  # of one that was deleted nobody expects anything
            self._forsaken(self._name(intent))

    def _is_there(self, intent: Intent) -> bool:
        try:
            open_object(self._stack.s3, self._name(intent))[1].close()
        except Gone:
            return False
        except Hopeless:
            pass  # it is there, and may not be read: people are to hear of that
        return True

    def finish(self, intent: Intent) -> None:
        _listed_before(self._stack, self._name(intent), intent.source)

    def _name(self, intent: Intent) -> ObjectName:
        return ObjectName.identified(intent.source.bucket, intent.source.key, intent.source.version)

    def _job(self, intent: Intent) -> Job:
        return Job(self._stack, self._name(intent), intent.source)


def _share_out(stack: Stack, name: ObjectName, source: CaptureObject) -> Ingested:
    job = Job(stack, name, source)
    return _finished(stack, source, job, job.begin(time.time_ns()), "shared out")


def _finished(stack: Stack, source: CaptureObject, job: Job, listed: Listed | None, otherwise: str) -> Ingested:
    """What became of a capture that is shared out: it may just have been listed."""
    if listed is None:
        return Ingested(otherwise)
    if listed.packets:
        _wake(stack, source, listed.start, listed.piece)
    stopped = job.stopped()
    job.tidy()
    if stopped:
        raise Hopeless("too_big", stopped)
    return Ingested("stored" if listed.packets else "empty", listed.packets, listed.flows, listed.damaged_bytes)


def _listed_before(stack: Stack, name: ObjectName, source: CaptureObject) -> Ingested:
    # Whoever listed it may have been killed before it could tell so: nobody else would wake those who wait.
    entry = find_capture(stack.items, capture_id(source))
    if entry:
        _wake(stack, source, entry.census.start, entry.census.piece)
        if entry.parts:
            Job(stack, name, source).tidy()
    return Ingested("listed before")


def _expands_further(stack: Stack, piece: PieceRead) -> bool:
    """Whether the capture was cut where one function's share of it ended, and may go on."""
    return (
        isinstance(piece.error, LimitExceeded)
        and piece.expanded >= stack.whole_limits.expanded_bytes
        and stack.whole_limits.expanded_bytes < stack.most_bytes
    )


def _wake(stack: Stack, source: CaptureObject, start: int, piece: str) -> None:
    listed = {"capture": capture_id(source), "start": start, "piece": piece}
    stack.sqs.send_message(
        QueueUrl=stack.environment["CORRELATE_QUEUE_URL"], MessageBody=our_event(CAPTURE_LISTED, listed)
    )


def _hopeless(error: CaptureError) -> Hopeless:
    return Hopeless("too_big" if isinstance(error, LimitExceeded) else "no_capture", str(error))
