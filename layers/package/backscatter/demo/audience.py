"""Who listens to a deployed stack: what it tells by mail, chat and EventBridge lands in queues that can be read."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backscatter.cloud.events import OUR_SOURCE, VERDICT_REACHED
from backscatter.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backscatter.demo.deploy import Stack
    from backscatter.demo.localcloud import LocalCloud


@dataclass(frozen=True, slots=True)
class Letter:
    """What a subscriber of a topic receives."""

    subject: str
    body: str
    attributes: dict[str, str]


class Audience:
    """Queues behind the two topics and behind EventBridge. Everything heard is kept, in the order of arrival.

    mails, chats  Letters
    verdicts      details of the events on the bus
    """

    def __init__(self, cloud: LocalCloud, stack: Stack) -> None:
        self._sqs = cloud.client("sqs")
        self._queues: dict[str, str] = {}
        self.mails: list[Letter] = []
        self.chats: list[Letter] = []
        self.verdicts: list[dict[str, Any]] = []
        sns, events = cloud.client("sns"), cloud.client("events")
        for name, topic in (("mail", stack["MailTopic"]), ("chat", stack["ChatTopic"])):
            sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=self._made(f"{stack.name}-heard-{name}", name))
        rule = f"{stack.name}-heard"
        events.put_rule(Name=rule, EventPattern=json.dumps({"source": [OUR_SOURCE], "detail-type": [VERDICT_REACHED]}))
        events.put_targets(Rule=rule, Targets=[{"Id": "heard", "Arn": self._made(f"{stack.name}-heard-bus", "bus")}])

    def hear(self) -> None:
        """Take in whatever arrived since."""
        self.mails += map(_letter, self._drained("mail"))
        self.chats += map(_letter, self._drained("chat"))
        self.verdicts += [event["detail"] for event in self._drained("bus")]

    def verdict_on(self, finding: str, *, seconds: float = 60.0, after: int = 0) -> dict[str, Any]:
        """The verdict on a finding, by its id, from the `after`-th told of it on; waits for mail and chat of it too.

        Raises RequestError where nothing is heard in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.hear()
            told = [verdict for verdict in self.verdicts if verdict["finding"]["id"] == finding]
            if len(told) > after and self.mail_of(told[-1]) and len(self.chats) >= len(self.mails):
                return told[-1]
            time.sleep(0.1)
        raise RequestError(f"no verdict on finding {finding} was told within {seconds:.0f} s")

    def mail_of(self, verdict: dict[str, Any]) -> Letter | None:
        """The mail that told a verdict, by the revision in it."""
        return next((mail for mail in self.mails if verdict["revision"] in mail.body), None)

    def _made(self, queue: str, name: str) -> str:
        self._queues[name] = self._sqs.create_queue(QueueName=queue)["QueueUrl"]
        answer = self._sqs.get_queue_attributes(QueueUrl=self._queues[name], AttributeNames=["QueueArn"])
        arn: str = answer["Attributes"]["QueueArn"]
        return arn

    def _drained(self, name: str) -> Iterator[dict[str, Any]]:
        queue = self._queues[name]
        while messages := self._sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                yield json.loads(message["Body"])
                self._sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


def _letter(envelope: dict[str, Any]) -> Letter:
    attributes = {name: value["Value"] for name, value in envelope.get("MessageAttributes", {}).items()}
    return Letter(envelope.get("Subject") or "", envelope["Message"], attributes)
