"""Items in DynamoDB, through the low-level client: the resource layer costs more time than the table does.

The table has a partition key `pk` and a sort key `sk`, both strings, and time to live on `expires_at`. Reads are
strongly consistent. Batches that come back in part, and throttling that outlasts botocore's own retries, are tried
again with capped exponential backoff and full jitter.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any

from backscatter.errors import StoreError
from backscatter.store.cost import item_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

#: BatchWriteItem and BatchGetItem take no more items than these. 25 of our items stay far below the 16 MB of a request.
WRITE_BATCH = 25
READ_BATCH = 100

#: Seconds: the first pause at most, and any pause at most; how many calls are made before giving up, within a minute.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 10.0
ATTEMPTS = 12

#: Batches that are on their way at a time.
WRITERS = 4

#: Write units that a partition is asked for: at once (by one batch too), and every second besides. It gives 1,000.
BURST, RATE = 380, 600
#: Partitions that are remembered before it is looked which of them may be forgotten.
_REMEMBERED = 10_000

#: Errors that pass.
_PASSING = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "InternalServerError",
}


class Pace:
    """How long writers have to wait, so that no partition is asked for more than it gives: 1,000 units a second.

    In any second a partition is asked for at most BURST + RATE units, by all writers of this process together.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._free: dict[str, float] = {}  # when a partition has given all that it was asked for, at RATE

    def wait(self, units: Mapping[str, int]) -> float:
        """Seconds to wait before a write of so many units to each of some partitions."""
        now, longest = self._clock(), 0.0
        with self._lock:
            if len(self._free) > _REMEMBERED:
                self._free = {pk: free for pk, free in self._free.items() if free > now}
            for pk, some in units.items():
                free = max(self._free.get(pk, now), now) + some / RATE
                self._free[pk] = free
                longest = max(longest, free - now - BURST / RATE)
        return longest


class DynamoItems:
    """`store.items.Items` over one table.

    client  may be made with parameter validation off: what is sent is built here
    sleep   for tests, as is `clock`: seconds
    """

    def __init__(
        self,
        client: DynamoDBClient,
        table: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._table = table
        self._sleep = sleep
        self._pace = Pace(clock)

    def put_all(self, items: Iterable[Mapping[str, object]]) -> None:
        """Write every item in batches. Raises StoreError when the table will not take some of them.

        While some batches are on their way the next ones are made: items may be worked out as they are asked for.
        Behind the first batch that fails nothing more is sent.
        """
        batches = _batches(items)
        first = next(batches, None)
        if first is None:
            return
        second = next(batches, None)
        if second is None:  # most captures are one batch, which needs no threads
            self._put(first)
            return
        with ThreadPoolExecutor(WRITERS, "writer") as writers:
            waiting: deque[Future[None]] = deque()
            try:
                for batch in itertools.chain((first, second), batches):
                    waiting.append(writers.submit(self._put, batch))
                    if len(waiting) > WRITERS:
                        waiting.popleft().result()
                while waiting:
                    waiting.popleft().result()
            finally:
                for one in waiting:
                    one.cancel()

    def _put(self, batch: list[Mapping[str, object]]) -> None:
        # DynamoDB refuses a batch that has a key twice; the later item is what would have stayed.
        distinct = {(item["pk"], item["sk"]): item for item in batch}
        units: Counter[str] = Counter()
        for (pk, _), item in distinct.items():
            units[str(pk)] += _units(item)
        if pause := self._pace.wait(units):
            self._sleep(pause)
        requests = [{"PutRequest": {"Item": _item(item)}} for item in distinct.values()]
        self._until_done(requests, self._write, "write")

    def get_all(self, keys: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
        """The items of the keys that exist."""
        found: list[dict[str, object]] = []

        def read(wanted: list[Any]) -> list[Any]:
            request = {self._table: {"Keys": wanted, "ConsistentRead": True}}
            response = self._client.batch_get_item(RequestItems=request)  # type: ignore[arg-type]
            found.extend(_plain(item) for item in response["Responses"].get(self._table, []))
            undone = response.get("UnprocessedKeys", {})
            return list(undone[self._table]["Keys"]) if self._table in undone else []

        distinct = [_key(pk, sk) for pk, sk in dict.fromkeys(keys)]
        for at in range(0, len(distinct), READ_BATCH):
            self._until_done(distinct[at : at + READ_BATCH], read, "read")
        return found

    def query(self, pk: str, first: str = "", last: str = "\U0010ffff") -> Iterator[dict[str, object]]:
        """The items of a partition with first <= sk <= last, ordered by sk."""
        return map(_plain, self._pages(pk, first, last))

    def keys(self, pk: str, first: str = "", last: str = "\U0010ffff") -> Iterator[str]:
        """The sort keys of a partition's items with first <= sk <= last, in that order."""
        return (item["sk"]["S"] for item in self._pages(pk, first, last, ProjectionExpression="sk"))

    def _pages(self, pk: str, first: str, last: str, **more: Any) -> Iterator[dict[str, Any]]:
        # DynamoDB takes no empty key value, and a sort key of one space is below all that we use.
        bounds = {":pk": {"S": pk}, ":first": {"S": first or " "}, ":last": {"S": last}}
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :pk AND sk BETWEEN :first AND :last",
            "ExpressionAttributeValues": bounds,
            "ConsistentRead": True,
            **more,
        }
        while True:
            response = self._patiently(lambda: self._client.query(**request))
            yield from response["Items"]
            if "LastEvaluatedKey" not in response:
                return
            request["ExclusiveStartKey"] = response["LastEvaluatedKey"]

    def put_if_absent(self, item: Mapping[str, object]) -> bool:
        """Write the item unless its key exists."""
        return self._put_on(item, ConditionExpression="attribute_not_exists(pk)")

    def replace_if(self, item: Mapping[str, object], attribute: str, expected: int) -> bool:
        """Write the item if the stored one's integer attribute is `expected`."""
        return self._put_on(
            item,
            ConditionExpression="#attribute = :expected",
            ExpressionAttributeNames={"#attribute": attribute},
            ExpressionAttributeValues={":expected": {"N": str(expected)}},
        )

    def delete(self, pk: str, sk: str) -> None:
        """Remove the item; nothing happens where there is none."""
        self._patiently(lambda: self._client.delete_item(TableName=self._table, Key=_key(pk, sk)))

    def _put_on(self, item: Mapping[str, object], **condition: Any) -> bool:
        try:
            self._patiently(lambda: self._client.put_item(TableName=self._table, Item=_item(item), **condition))
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def _write(self, requests: list[Any]) -> list[Any]:
        response = self._client.batch_write_item(RequestItems={self._table: requests})
        return list(response.get("UnprocessedItems", {}).get(self._table, []))

    def _until_done(self, batch: list[Any], call: Callable[[list[Any]], list[Any]], verb: str) -> None:
        """Make the call with what it left undone until nothing is."""
        for attempt in range(ATTEMPTS):
            batch = self._patiently(lambda some=batch: call(some))  # type: ignore[misc]
            if not batch:
                return
            self._pause(attempt)
        raise StoreError(f"table {self._table} did not {verb} {len(batch)} items in {ATTEMPTS} attempts")

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """What the call answers, past throttling."""
        for attempt in range(ATTEMPTS):
            try:
                return call()
            except self._client.exceptions.ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _PASSING or attempt == ATTEMPTS - 1:
                    raise
                self._pause(attempt)
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, attempt: int) -> None:
        # Full jitter: writers that were throttled together do not come back together.
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)
        self._sleep(random.uniform(0, longest))  # noqa: S311  a pause is no secret


def _batches(items: Iterable[Mapping[str, object]]) -> Iterator[list[Mapping[str, object]]]:
    """The items, as many at a time as one request takes, and no more of one partition than it is asked for at once."""
    batch: list[Mapping[str, object]] = []
    units: Counter[str] = Counter()
    for item in items:
        pk, some = str(item["pk"]), _units(item)
        if batch and (len(batch) == WRITE_BATCH or units[pk] + some > BURST):
            yield batch
            batch, units = [], Counter()
        batch.append(item)
        units[pk] += some
    if batch:
        yield batch


def _units(item: Mapping[str, object]) -> int:
    return -(-item_size(item) // 1024)


def _key(pk: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _item(item: Mapping[str, object]) -> dict[str, Any]:
    return {name: _wire(value) for name, value in item.items()}


def _wire(value: object) -> dict[str, Any]:
    """A value as DynamoDB's JSON tells its type. bool stands before int, which it is to Python."""
    match value:
        case str():
            return {"S": value}
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case bytes():
            return {"B": value}
        case None:
            return {"NULL": True}
        case list() | tuple():
            return {"L": [_wire(entry) for entry in value]}
        case dict():
            return {"M": {str(name): _wire(entry) for name, entry in value.items()}}
        case _:
            raise TypeError(f"a table holds no {type(value).__name__}")


def _plain(item: Mapping[str, Any]) -> dict[str, object]:
    return {name: _value(value) for name, value in item.items()}


def _value(value: Mapping[str, Any]) -> object:
    ((kind, content),) = value.items()
    match kind:
        case "S" | "BOOL":
            return content
        case "N":
            return int(content)
        case "B":
            return bytes(content)
        case "NULL":
            return None
        case "L":
            return [_value(entry) for entry in content]
        case "M":
            return {name: _value(entry) for name, entry in content.items()}
        case _:
            raise StoreError(f"the table holds a value of type {kind}")
