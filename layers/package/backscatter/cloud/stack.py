"""The deployed stack as a function sees it: its environment, its clients, its table and its key."""

from __future__ import annotations

import os
import secrets
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.config import Config

from backscatter.capture.limits import Limits
from backscatter.cloud.addresses import Addresses
from backscatter.cloud.dynamo import DynamoItems
from backscatter.verdict.settings import DEFAULT_HOME, Settings, parse_alias, parse_home

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backscatter.store.items import Items

#: Sensors that are asked together. One stack serves one network; stores of several networks have a group each.
GROUP = "default"

#: Where the deployment's key lies: beside what it protects, since whoever may read the table may read both.
KEY_AT = ("deployment", "key")
KEY_BYTES = 32

MINUTE = 60 * 10**9
DAY_SECONDS = 24 * 3600


class Stack:
    """Everything is made when it is first used, and once: a cold start pays for what its event needs.

    environment   the function's, with the names that stand at the head of its file
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.environment = os.environ if environment is None else environment

    @cached_property
    def _session(self) -> boto3.session.Session:
        return boto3.session.Session()  # a client of another session costs three times as much

    def _client(self, service: str) -> Any:
        # Captures are read by several invocations at once: botocore backs off with jitter, and says when it gives up.
        config = Config(retries={"mode": "standard", "total_max_attempts": 6}, read_timeout=20, connect_timeout=5)
        return self._session.client(service, config=config)  # type: ignore[call-overload]

    @cached_property
    def s3(self) -> Any:
        """Low-level S3 client."""
        return self._client("s3")

    @cached_property
    def sqs(self) -> Any:
        """Low-level SQS client."""
        return self._client("sqs")

    @cached_property
    def sns(self) -> Any:
        """Low-level SNS client."""
        return self._client("sns")

    @cached_property
    def events(self) -> Any:
        """Low-level EventBridge client."""
        return self._client("events")

    @cached_property
    def addresses(self) -> Addresses:
        """Which Elastic IP is which private address."""
        return Addresses(lambda: self._client("ec2"))

    @cached_property
    def items(self) -> Items:
        """The table."""
        return DynamoItems(self._client("dynamodb"), self.environment["TABLE_NAME"])

    @cached_property
    def key(self) -> bytes:
        """The key under which hosts are hashed."""
        return deployment_key(self.items)

    @cached_property
    def limits(self) -> Limits:
        """What a capture may ask of this function."""
        return Limits(expanded_bytes=self.most_bytes)

    @property
    def most_bytes(self) -> int:
        """Bytes of the largest object that is read."""
        return int(self.environment["CAPTURE_MEGABYTES"]) * 10**6

    @property
    def range_bytes(self) -> int:
        """Bytes of a range of a capture that is shared out; one of up to twice as many is taken whole."""
        return int(float(self.environment["RANGE_MEGABYTES"]) * 10**6)

    @property
    def whole_limits(self) -> Limits:
        """What a capture may ask of a function that takes it whole."""
        return Limits(expanded_bytes=min(self.most_bytes, 2 * self.range_bytes))

    @property
    def keep_seconds(self) -> int:
        """How long flows, findings and verdicts are kept."""
        return int(self.environment["FLOW_DAYS"]) * DAY_SECONDS

    @property
    def patience(self) -> int:
        """How long a finding waits for its capture, ns."""
        return int(self.environment["PATIENCE_MINUTES"]) * MINUTE

    @cached_property
    def settings(self) -> Settings:
        """Which addresses are ours. Raises RequestError where a parameter of the stack names none."""
        home = _listed(self.environment["HOME_NETWORKS"])
        aliases = _listed(self.environment["ADDRESS_ALIASES"])
        return Settings(parse_home(home) if home else DEFAULT_HOME, tuple(parse_alias(alias) for alias in aliases))


def deployment_key(items: Items) -> bytes:
    """The deployment's key: made by whoever needs it first, the same for everybody from then on.

    It is a random number in the table itself. Attackers, who choose addresses, cannot read it, and that is all it is
    for: they must not be able to choose addresses that meet in one bucket.
    """
    pk, sk = KEY_AT
    found = items.get_all([KEY_AT])
    if not found:
        items.put_if_absent({"pk": pk, "sk": sk, "key": secrets.token_bytes(KEY_BYTES)})
        found = items.get_all([KEY_AT])
    return cast("bytes", found[0]["key"])


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
