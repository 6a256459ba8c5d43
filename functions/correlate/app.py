"""Findings are joined to flows and packets, judged and told. Triggered by CorrelateQueue.

Its messages are GuardDuty findings, alert logs in S3, captures that were listed, and the ticks of the schedule.

Environment:
    TABLE_NAME           flows, catalogue, findings and verdicts
    FLOW_DAYS            days that they are kept
    CAPTURE_MEGABYTES    largest compressed capture that is read for evidence
    MAIL_TOPIC           hears verdicts as text
    CHAT_TOPIC           hears verdicts as custom notifications of Amazon Q Developer in chat applications
    QUEUE_URL            CorrelateQueue: takes what this function leaves for another invocation
    DEAD_LETTERS_URL     takes what can never be judged, with the reason
    HOME_NETWORKS        our networks, separated by commas; empty for the private ranges
    ADDRESS_ALIASES      PUBLIC=PRIVATE, separated by commas
    PATIENCE_MINUTES     how long a finding waits for its capture
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

from backscatter.cloud.batch import count, in_a_hurry, work_off
from backscatter.cloud.correlate import Correlator, Outcome
from backscatter.cloud.stack import Stack

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from backscatter.finding.troubles import More

logger = Logger()
stack = Stack()
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def take(record: SQSRecord, lambda_context: LambdaContext) -> None:
    """Judge and tell the findings that one message is about."""
    correlator = Correlator(
        stack, now=time.time_ns, hurry=lambda: in_a_hurry(lambda_context), heard=heard, trouble=trouble
    )
    work_off(record, lambda_context, stack, logger, correlator.work)


def heard(outcome: Outcome) -> None:
    """Log what became of a finding, and count what was told."""
    logger.info("Judged", finding=outcome.finding, verdict=outcome.verdict, told=outcome.told)
    if outcome.told:
        count("VerdictsTold", verdict=outcome.verdict)


def trouble(more: More) -> None:
    """Log alerts that could not be read, and count them."""
    logger.warning(more.text)
    count("FindingsUnreadable", more.errors)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Take a batch of messages; answer which of them are to be delivered again."""
    return process_partial_response(event=event, record_handler=take, processor=processor, context=context)
