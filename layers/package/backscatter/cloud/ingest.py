"""A capture object becomes flows in the table, and the findings that wait for it are woken."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, cast

from backscatter.cloud.events import CAPTURE_LISTED, our_event
from backscatter.cloud.objects import ObjectName, check_size, open_object
from backscatter.cloud.stack import GROUP
from backscatter.errors import Hopeless, LimitExceeded
from backscatter.flow.read import Piece, read_sensor
from backscatter.store.captures import capture_id, find_capture, is_listed, put_capture
from backscatter.store.catalogue import CaptureObject
from backscatter.store.naming import sensor_of

if TYPE_CHECKING:
    from backscatter.cloud.stack import Stack
    from backscatter.errors import CaptureError
    from backscatter.flow.census import Census


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a capture, for the log.

    outcome  "stored"; "listed before" where the event came twice; "empty" where the capture holds no packet, which is
             what a rotating sensor writes when nothing happens: it vouches for no time, so there is nothing to list
    """

    outcome: str
    packets: int = 0
    flows: int = 0
    damaged_bytes: int = 0
    items: int = 0
    write_units: int = 0


def ingest(stack: Stack, name: ObjectName) -> Ingested:
    """Read a capture as a stream, store its flows, list it, and wake the findings that wait.

    Raises Gone where the object was deleted or replaced, Hopeless where it is no capture, too large or forbidden.
    """
    if not name.identity:
        raise Hopeless("no_event", f"{name.url}: the event names neither a version nor an etag")
    if name.key.endswith("/"):
        return Ingested("empty")  # the console makes folders so
    source = CaptureObject(name.bucket, name.key, name.identity)
    if is_listed(stack.items, source):
        # Whoever listed it may have been killed before it could tell so: nobody else would wake those who wait.
        entry = find_capture(stack.items, capture_id(source))
        if entry:
            _wake(stack, source, entry.census)
        return Ingested("listed before")
    stream, reader = open_object(stack.s3, name)
    with reader:
        check_size(stream, stack.most_bytes)
        flows = read_sensor(sensor_of(name.key), [Piece(name.url, lambda: cast("BinaryIO", reader))], stack.limits)
    (piece,) = flows.pieces
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
    )
    _wake(stack, source, census)
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


def _wake(stack: Stack, source: CaptureObject, census: Census) -> None:
    listed = {"capture": capture_id(source), "start": census.start, "piece": census.piece}
    stack.sqs.send_message(
        QueueUrl=stack.environment["CORRELATE_QUEUE_URL"], MessageBody=our_event(CAPTURE_LISTED, listed)
    )


def _hopeless(error: CaptureError) -> Hopeless:
    return Hopeless("too_big" if isinstance(error, LimitExceeded) else "no_capture", str(error))
