"""A capture object becomes flows. Triggered by IngestQueue, whose messages tell of new objects.

Environment:
    TABLE_NAME           flows, catalogue, findings and verdicts
    FLOW_DAYS            days that they are kept
    CAPTURE_MEGABYTES    largest capture that is read
    QUEUE_URL            IngestQueue: what finds no time left goes back to it at once
    CORRELATE_QUEUE_URL  is told of every capture that was listed
    DEAD_LETTERS_URL     takes what can never be read, with the reason
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

from backscatter.cloud.batch import count, work_off
from backscatter.cloud.events import Event, ObjectCreated
from backscatter.cloud.ingest import ingest
from backscatter.cloud.stack import Stack
from backscatter.errors import Hopeless

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger()
stack = Stack()
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def take(record: SQSRecord, lambda_context: LambdaContext) -> None:
    """Ingest the captures that one message tells of."""
    work_off(record, lambda_context, stack, logger, work)


def work(event: Event) -> None:
    """Ingest one capture."""
    if not isinstance(event, ObjectCreated):
        raise Hopeless("no_event", "the ingest queue takes events of new objects only")
    done = ingest(stack, event.name)
    logger.info("Capture %s", done.outcome, capture=event.name.url, **asdict(done))
    if done.outcome == "stored":
        count("CapturesStored")
        count("FlowsStored", done.flows)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Take a batch of messages; answer which of them are to be delivered again."""
    return process_partial_response(event=event, record_handler=take, processor=processor, context=context)
