"""One message of a batch: worked off, put off, or buried, so that it costs its batch mates nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit, single_metric

from backscatter.cloud.events import read_message
from backscatter.errors import BackscatterError, Gone, Hopeless

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools import Logger
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from backscatter.cloud.events import Event
    from backscatter.cloud.stack import Stack

#: With less time than this no message is begun: it would be cut off in the middle and be nobody's.
LEAST_MILLISECONDS = 30_000

#: SQS takes 256 KiB for body and attributes; the reason gets this many characters of it.
_REASON_CHARS = 1000
_BODY_BYTES = 250_000


class NotNow(BackscatterError):
    """Too little of the function's time is left to begin; the message goes back to the queue."""


def in_a_hurry(context: LambdaContext) -> bool:
    """Whether too little of the function's time is left to begin on anything."""
    return context.get_remaining_time_in_millis() < LEAST_MILLISECONDS


def work_off(
    record: SQSRecord, context: LambdaContext, stack: Stack, logger: Logger, work: Callable[[Event], None]
) -> None:
    """Do the work of one message. What can never succeed goes to the dead-letter queue with its reason, at once.

    Raises whatever may pass by itself: then the message is delivered again, after five times to the dead-letter queue.
    """
    if in_a_hurry(context):
        logger.info("Put off: too little time is left", message_id=record.message_id)
        # Visible again at once: it has waited for nothing, and the next invocation has all the time.
        stack.sqs.change_message_visibility(
            QueueUrl=stack.environment["QUEUE_URL"], ReceiptHandle=record.receipt_handle, VisibilityTimeout=0
        )
        raise NotNow(f"{record.message_id} was put off: too little time is left")
    hopeless: Hopeless | None = None
    try:
        for event in list(read_message(record.body)):
            try:
                work(event)
            except Gone as gone:  # it costs no other object of the message
                logger.warning(str(gone), message_id=record.message_id)
                count("ObjectsGone")
            except Hopeless as error:
                hopeless = error
    except Hopeless as error:
        hopeless = error
    except Exception:
        logger.exception("Failed; the message will be delivered again", message_id=record.message_id)
        raise
    if hopeless:
        logger.error(str(hopeless), reason=hopeless.reason, message_id=record.message_id)
        bury(stack, record.body, hopeless)
        count("Hopeless", reason=hopeless.reason)


def bury(stack: Stack, body: str, hopeless: Hopeless) -> None:
    """Put a message into the dead-letter queue with the reason as attributes, for the person who looks there."""
    attributes = {"reason": hopeless.reason, "explanation": str(hopeless)[:_REASON_CHARS]}
    stack.sqs.send_message(
        QueueUrl=stack.environment["DEAD_LETTERS_URL"],
        MessageBody=body.encode()[:_BODY_BYTES].decode(errors="ignore") or "(empty)",
        MessageAttributes={name: _text(value) for name, value in attributes.items()},
    )


def count(metric: str, value: float = 1, **dimensions: str) -> None:
    """Count something in CloudWatch, by the log (embedded metric format)."""
    with single_metric(name=metric, unit=MetricUnit.Count, value=value) as one:
        for name, text in dimensions.items():
            one.add_dimension(name=name, value=text)


def _text(value: str) -> Any:
    # SQS takes the characters that XML 1.0 takes, and no empty value.
    allowed = "".join(character if character.isprintable() else " " for character in value)
    return {"DataType": "String", "StringValue": allowed or "unknown"}
