"""What things cost: one list of prices, one of what was measured, and sums of both.

Prices are those of the region us-east-1 as they are publicly listed. Nobody keeps this list up to date but whoever
changes it here: hold it against the bill before relying on it. `scripts/cost.py` writes docs/cost.md from it,
`backscatter ingest --dry-run` estimates by it.
"""

from __future__ import annotations

from dataclasses import dataclass

#: When the list was made.
DATE = "2025, not held against a bill since"

MILLION = 10**6
GB = 10**9
GIB = 1 << 30
HOURS_A_DAY = 24
DAYS_A_MONTH = 30.4


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars for so many units of something."""

    dollars: float
    per: float
    unit: str

    @property
    def each(self) -> float:
        """Dollars for one unit."""
        return self.dollars / self.per


PRICES = {
    "dynamodb_write": Price(0.625, MILLION, "write request units, on demand"),
    "dynamodb_read": Price(0.125, MILLION, "read request units, on demand"),
    "dynamodb_storage": Price(0.25, GIB, "bytes of table kept for a month"),
    "dynamodb_recovery": Price(0.20, GIB, "bytes of table with point-in-time recovery for a month"),
    "lambda_arm": Price(0.0000133334, 1, "GB-seconds, arm64"),
    "lambda_request": Price(0.20, MILLION, "invocations"),
    "s3_put": Price(0.005, 1000, "PUT and LIST requests"),
    "s3_get": Price(0.0004, 1000, "GET requests"),
    "s3_storage": Price(0.023, GIB, "bytes of objects kept for a month"),
    "sqs": Price(0.40, MILLION, "requests"),
    "eventbridge": Price(1.00, MILLION, "S3 events"),
    "mirroring": Price(0.015, 1, "hours of one mirrored interface"),
}

#: GB of memory of the ingest function, as template.yaml gives it: the price of its seconds.
INGEST_GB = 2.0
#: SQS requests that one capture takes: sent, received, deleted, and the news of it the same.
SQS_REQUESTS = 6


@dataclass(frozen=True, slots=True)
class Measured:
    """What `scripts/store_bench.py` measured of one capture; CPU seconds are of one core of the machine it ran on."""

    packets: int
    capture_bytes: int
    flows: int
    items: int
    bytes: int
    write_units: int
    read_seconds: float
    store_seconds: float
    query_items: int
    query_read_units: int

    @property
    def seconds(self) -> float:
        """CPU of the whole ingest."""
        return self.read_seconds + self.store_seconds


#: When and how: `python scripts/store_bench.py -n 1000000`.
MEASURED_ON = "2026-11-23, 2 shared cores, Python 3.11"
MEASURED = {
    "backscatter": Measured(1000000, 74755112, 440000, 343, 18370039, 18117, 0.898, 0.914, 1, 11),
    "mix": Measured(1000000, 104102031, 60000, 84, 4912066, 4836, 0.419, 0.175, 1, 18),
}

#: Write units of a capture of a few flows, and CPU seconds: what many small captures cost however small they are.
SMALLEST_UNITS = 4
SMALLEST_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Estimate:
    """What taking in captures costs, from the measured capture that is cheapest by the byte to the dearest."""

    write_units: tuple[int, int]
    gets: int
    lists: int
    sqs_requests: int
    gb_seconds: tuple[float, float]
    dollars: tuple[float, float]


def estimate(captures: int, size: int, listed: int) -> Estimate:
    """What ingesting `captures` objects of `size` bytes in all costs, found by listing `listed` objects."""
    units = _between(
        captures * SMALLEST_UNITS, [one.write_units * size / one.capture_bytes for one in MEASURED.values()]
    )
    seconds = _between(
        captures * SMALLEST_SECONDS, [one.seconds * size / one.capture_bytes for one in MEASURED.values()]
    )
    gb_seconds = (seconds[0] * INGEST_GB, seconds[1] * INGEST_GB)
    lists = -(-listed // 1000) if listed else 1
    fixed = (
        captures * (PRICES["s3_get"].each + PRICES["lambda_request"].each + SQS_REQUESTS * PRICES["sqs"].each)
        + lists * PRICES["s3_put"].each
    )
    low, high = (
        fixed + units[i] * PRICES["dynamodb_write"].each + gb_seconds[i] * PRICES["lambda_arm"].each for i in (0, 1)
    )
    return Estimate(
        (round(units[0]), round(units[1])), captures, lists, captures * SQS_REQUESTS, gb_seconds, (low, high)
    )


def _between(least: float, ways: list[float]) -> tuple[float, float]:
    return max(least, min(ways)), max(least, *ways)
