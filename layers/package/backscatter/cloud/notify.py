"""Telling a verdict: mail and chat by SNS, everything else by EventBridge. All three carry the same revision."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from backscatter.cloud.events import OUR_SOURCE, VERDICT_REACHED
from backscatter.errors import StoreError
from backscatter.report.attributes import attributes
from backscatter.report.chat import chat_message
from backscatter.report.mail import mail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backscatter.cloud.stack import Stack
    from backscatter.verdict.model import Verdict

#: EventBridge takes 256 KiB for an entry; the source and the types need a little of it.
EVENT_BYTES = 250_000


def tell(
    stack: Stack, verdict: Verdict, record: Mapping[str, Any], *, revision: str, previous: str | None = None
) -> None:
    """Publish a verdict.

    record    the verdict as the contract prints it
    revision  names this piece of news: whoever hears it twice (a function was killed in between) can tell by it
    previous  the label that was told before, None where nothing was
    """
    letter = mail(verdict, previous=previous, revision=revision)
    shown = {name: {"DataType": "String", "StringValue": value} for name, value in attributes(verdict).items()}
    stack.sns.publish(
        TopicArn=stack.environment["MAIL_TOPIC"], Subject=letter.subject, Message=letter.body, MessageAttributes=shown
    )
    note = chat_message(verdict, previous=previous, revision=revision)
    stack.sns.publish(
        TopicArn=stack.environment["CHAT_TOPIC"],
        Message=json.dumps(note, ensure_ascii=False),
        MessageAttributes=shown,
    )
    answer = stack.events.put_events(
        Entries=[
            {"Source": OUR_SOURCE, "DetailType": VERDICT_REACHED, "Detail": event_detail(record, revision, previous)}
        ]
    )
    if answer["FailedEntryCount"]:
        raise StoreError(f"EventBridge refused the verdict: {answer['Entries'][0].get('ErrorMessage')}")


def event_detail(record: Mapping[str, Any], revision: str, previous: str | None) -> str:
    """The verdict as an event's detail, without its flows where it would be too large with them."""
    told = {"revision": revision, "previous": previous, **record}
    for cut in ((), ("flows",), ("flows", "evidence")):
        text = json.dumps(told | {name: [] for name in cut}, ensure_ascii=False)
        if len(text.encode()) <= EVENT_BYTES:
            return text
    raise StoreError(f"a verdict of {len(text)} characters without flows and evidence")
