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
    from collections.abc import Collection, Mapping

    from backscatter.cloud.stack import Stack
    from backscatter.verdict.model import Verdict

#: How verdicts are told, in this order.
CHANNELS = ("mail", "chat", "bus")

#: EventBridge takes 256 KiB for an entry; the source and the types need a little of it.
EVENT_BYTES = 250_000


def tell(
    stack: Stack,
    verdict: Verdict,
    record: Mapping[str, Any],
    *,
    revision: str,
    previous: str | None = None,
    heard: Collection[str] = (),
) -> dict[str, Exception]:
    """Publish a verdict on every channel. Returns those that did not take it, and why: one costs the others nothing.

    record    the verdict as the contract prints it
    revision  names this piece of news: whoever hears it twice (a function was killed in between) can tell by it
    previous  the label that was told before, None where nothing was
    heard     channels that took it before, and are left alone
    """
    shown = {name: {"DataType": "String", "StringValue": value} for name, value in attributes(verdict).items()}

    def by_mail() -> None:
        letter = mail(verdict, previous=previous, revision=revision)
        topic = stack.environment["MAIL_TOPIC"]
        stack.sns.publish(TopicArn=topic, Subject=letter.subject, Message=letter.body, MessageAttributes=shown)

    def by_chat() -> None:
        note = json.dumps(chat_message(verdict, previous=previous, revision=revision), ensure_ascii=False)
        stack.sns.publish(TopicArn=stack.environment["CHAT_TOPIC"], Message=note, MessageAttributes=shown)

    def by_bus() -> None:
        detail = event_detail(record, revision, previous)
        answer = stack.events.put_events(
            Entries=[{"Source": OUR_SOURCE, "DetailType": VERDICT_REACHED, "Detail": detail}]
        )
        if answer["FailedEntryCount"]:
            raise StoreError(f"EventBridge refused the verdict: {answer['Entries'][0].get('ErrorMessage')}")

    failed: dict[str, Exception] = {}
    for channel, publish in zip(CHANNELS, (by_mail, by_chat, by_bus), strict=True):
        if channel not in heard:
            try:
                publish()
            except Exception as error:  # noqa: BLE001  # whatever it is: it costs this channel, and is told
                failed[channel] = error
    return failed


def event_detail(record: Mapping[str, Any], revision: str, previous: str | None) -> str:
    """The verdict as an event's detail, without its flows where it would be too large with them."""
    told = {"revision": revision, "previous": previous, **record}
    for cut in ((), ("flows",), ("flows", "evidence")):
        text = json.dumps(told | {name: [] for name in cut}, ensure_ascii=False)
        if len(text.encode()) <= EVENT_BYTES:
            return text
    raise StoreError(f"a verdict of {len(text)} characters without flows and evidence")
