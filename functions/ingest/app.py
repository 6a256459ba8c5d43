"""A capture object becomes flows. Triggered by IngestQueue, whose messages tell of new objects.

Environment:
    TABLE_NAME           flows, catalogue, findings and verdicts
    FLOW_DAYS            days that they are kept
    CAPTURE_MEGABYTES    largest capture that is read
    RANGE_MEGABYTES      share of a capture that one invocation reads; one of up to twice as many is taken whole
    WORK_BUCKET          takes the packets of shared-out captures on their way to their flows
    QUEUE_URL            IngestQueue: what finds no time left goes back to it at once; takes ranges and parts
    CORRELATE_QUEUE_URL  is told of every capture that was listed
    DEAD_LETTERS_URL     takes what can never be read, with the reason
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

from backscatter.cloud.batch import bury, count, in_a_hurry, work_off
from backscatter.cloud.events import CleaningTick, Event, ObjectCreated, PartToStore, RangeToRead, object_created
from backscatter.cloud.ingest import ingest, ingest_part, ingest_range, sweep
from backscatter.cloud.stack import Stack
from backscatter.errors import Hopeless

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from backscatter.cloud.objects import ObjectName

logger = Logger()
stack = Stack()
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def take(record: SQSRecord, lambda_context: LambdaContext) -> None:
    """Ingest the captures that one message tells of."""
    work_off(record, lambda_context, stack, logger, lambda event: work(event, lambda: in_a_hurry(lambda_context)))


def work(event: Event, hurry: Callable[[], bool]) -> None:
    """Ingest one capture, or a share of one, or clean up."""
    match event:
        case ObjectCreated(name):
            done = ingest(stack, name)
        case RangeToRead(name, index, told):
            done = ingest_range(stack, name, index, told=told, hurry=hurry)
        case PartToStore(name, part):
            done = ingest_part(stack, name, part)
        case CleaningTick():
            logger.info("Cleaned", **asdict(sweep(stack, time.time_ns(), give_up)))
            return
        case _:
            raise Hopeless("no_event", "the ingest queue takes events of new objects only")
    logger.info("Capture %s", done.outcome, capture=name.url, **asdict(done))
    if done.outcome == "stored":
        count("CapturesStored")
        count("FlowsStored", done.flows)


def give_up(name: ObjectName) -> None:
    """Tell people of a capture that nobody could finish."""
    hopeless = Hopeless("abandoned", f"{name.url} was begun and never finished; what was stored of it is taken away")
    logger.error(str(hopeless), reason=hopeless.reason)
    bury(stack, object_created(name), hopeless)
    count("Hopeless", reason=hopeless.reason)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Take a batch of messages; answer which of them are to be delivered again."""
    return process_partial_response(event=event, record_handler=take, processor=processor, context=context)
