"""Write docs/cost.md: what ingest, storage and queries cost, from the price list and the figures in `store.prices`.

    python scripts/cost.py            write the page
    python scripts/cost.py --print    print it instead

The figures are those that `scripts/store_bench.py` measures; a new measurement is taken over by hand, with its date.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backscatter.store.prices import (
    DATE,
    DAYS_A_MONTH,
    GIB,
    HOURS_A_DAY,
    INGEST_GB,
    MEASURED,
    MEASURED_ON,
    MILLION,
    PRICES,
    SMALLEST_UNITS,
    SQS_REQUESTS,
    Measured,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cost.md"

DAY = 24 * 3600
#: What is taken to be usual: captures rotate every minute and everything is kept for 30 days.
CAPTURES_A_DAY = 1440
KEPT = 30
#: One item for each flow: its bytes, and its writes with an index entry for either end.
ITEM_BYTES = 300
ITEM_WRITES = 3
#: DynamoDB bills storage with so many bytes more for each item.
ITEM_OVERHEAD = 100
#: Findings of one interface in a day, and what each asks for: items of flows, and entries of the catalogue of a day.
FINDINGS_A_DAY = 100
FLOW_ITEMS_ASKED = 4
ENTRY_UNITS = 1


@dataclass(frozen=True)
class Bill:
    """Dollars for so many packets of one kind of traffic."""

    writes: float
    compute: float
    table: float
    objects: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.writes + self.compute + self.table + self.objects


def price(name: str) -> float:
    """Dollars for one unit."""
    return PRICES[name].each


def kept(size: float, days: float) -> float:
    """Dollars for bytes of the table that are kept for so many days."""
    return size * days / DAYS_A_MONTH * (price("dynamodb_storage") + price("dynamodb_recovery"))


def bill(one: Measured, packets: float, days: float = KEPT, objects_days: float = KEPT) -> Bill:
    """What so many packets of a kind of traffic cost; what every capture costs besides is left to `fixed`."""
    share = packets / one.packets
    return Bill(
        writes=share * one.write_units * price("dynamodb_write"),
        compute=share * one.seconds * INGEST_GB * price("lambda_arm"),
        table=kept(share * (one.bytes + one.items * ITEM_OVERHEAD), days),
        objects=share * one.capture_bytes * objects_days / DAYS_A_MONTH * price("s3_storage"),
    )


def plain(one: Measured, packets: float, days: float = KEPT) -> Bill:
    """The same with one item for each flow and an index entry for either end; its client's CPU is not counted."""
    share = packets / one.packets
    flows = share * one.flows
    return Bill(
        writes=flows * ITEM_WRITES * price("dynamodb_write"),
        compute=share * one.read_seconds * INGEST_GB * price("lambda_arm"),
        table=kept(flows * ITEM_WRITES * (ITEM_BYTES + ITEM_OVERHEAD), days),
        objects=share * one.capture_bytes * days / DAYS_A_MONTH * price("s3_storage"),
    )


def fixed(captures: float) -> float:
    """What captures cost however small they are: put, told of, read; and the smallest write of each."""
    return captures * (
        price("s3_put")
        + price("s3_get")
        + price("eventbridge")
        + SQS_REQUESTS * price("sqs")
        + 2 * price("lambda_request")
        + SMALLEST_UNITS * price("dynamodb_write")
    )


def query() -> float:
    """Dollars for what one finding reads."""
    one = max(MEASURED.values(), key=lambda measured: measured.query_read_units)
    units = FLOW_ITEMS_ASKED * one.query_read_units + CAPTURES_A_DAY * ENTRY_UNITS
    return units * price("dynamodb_read") + price("lambda_request")


def crossing(cost_of_a_packet: float, besides: float) -> float:
    """Packets a second at which a day costs what mirroring the interface costs."""
    mirror = HOURS_A_DAY * price("mirroring")
    return max(0.0, mirror - besides) / cost_of_a_packet / DAY


def money(dollars: float) -> str:
    """Dollars with three figures that mean something."""
    if dollars == 0:
        return "$0"
    return f"${dollars:,.2f}" if dollars >= 100 else f"${dollars:.3g}" if dollars >= 0.001 else f"${dollars:.2g}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown: the first column is words, the others are numbers."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' + '---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def page() -> str:
    """The whole page."""
    besides = fixed(CAPTURES_A_DAY) + FINDINGS_A_DAY * query()
    mirror = HOURS_A_DAY * price("mirroring")
    per_million = {kind: bill(one, MILLION) for kind, one in MEASURED.items()}
    plainly = {kind: plain(one, MILLION) for kind, one in MEASURED.items()}
    designs = [f"{kind}, {how}" for kind in MEASURED for how in ("segments", "one item a flow")]
    prices = [[name.replace("_", " "), f"{one.dollars:g}", _per(one.per) + one.unit] for name, one in PRICES.items()]
    return f"""# What it costs

Written by `scripts/cost.py` from the price list and the figures in `layers/package/backscatter/store/prices.py`; do not
edit it here. Prices: us-east-1, list of {DATE}. **Check them before relying on them.**
Figures: taken by `python scripts/store_bench.py -n 1000000` ({MEASURED_ON}).
Two generated captures stand for two kinds of traffic: `mix` has 17 packets a flow, `backscatter`, a flood's answers,
has 2.3.

## Prices

{table(["what", "dollars", "for"], prices)}

## What was measured

{table(["of 1,000,000 packets", *MEASURED], _measured())}

Both copies of every flow and the catalogue are in the items. CPU is of one core; the function has {INGEST_GB:g} GB,
which is a little more than one core, and is billed for the time that it takes: we take its CPU for its time.

## A million packets

Everything is kept for {KEPT} days. *One item a flow* is the obvious design: an item of {ITEM_BYTES} bytes for each flow
and an index entry for either end, {ITEM_WRITES} writes a flow.

{table(["dollars", *designs], _bills(per_million, plainly))}

A query is one finding's: {FLOW_ITEMS_ASKED} items of flows and a day of the catalogue ({CAPTURES_A_DAY} captures),
strongly consistent: {money(query())}. A million such findings cost {money(query() * MILLION)}.

## A mirrored interface and day

Mirroring itself costs {money(mirror)} a day and interface. The captures (one a minute: put, told of, read, and the
{SMALLEST_UNITS} write units of the smallest) cost {money(fixed(CAPTURES_A_DAY))} a day, {FINDINGS_A_DAY} findings
{money(FINDINGS_A_DAY * query())}; the rest grows with the packets:

{table(["packets a second", *designs], _rates([100, 1000, 10_000], besides))}

It costs less than the mirror that feeds it below this rate of packets, day and night, on one interface:

{table(["packets a second", *designs], [["where the two cross", *_crossings(besides)]])}

## What can be saved

The rate at which a day costs what the mirror costs:

{table(["packets a second", *MEASURED], _ways(besides))}

- **Retention**: `FlowDays` and `CaptureDays` are parameters of the stack. Mirror sessions that truncate packets
  (128 bytes hold all that is decoded) make captures smaller, not the flows.
- **Less of the traffic**: leave interfaces or whole classes of traffic out by mirror filters. Never sample *packets*:
  one SYN that was not mirrored makes a half-open scan of ours look like backscatter. Such losses are noticed, and above
  1 % of them backscatter is *possible* at most.
- **Fewer, longer captures**: what each costs besides its packets is {money(fixed(1) * MILLION)} a million.

Left out: mail, notices and verdicts (some items a finding), logs, alarms, data transfer, the collector that writes the
captures, free tiers and discounts; and of one item a flow the CPU of writing it.
"""


#: What can be left out: name, share of the traffic, days that flows are kept, days that captures are.
WAYS = (
    ("as it is", 1.0, KEPT, KEPT),
    ("flows for 7 days", 1.0, 7, KEPT),
    ("captures for 7 days", 1.0, KEPT, 7),
    ("both for 7 days", 1.0, 7, 7),
    ("half of the traffic mirrored", 0.5, KEPT, KEPT),
    ("both for 7 days, half mirrored", 0.5, 7, 7),
)


def _ways(besides: float) -> list[list[str]]:
    return [
        [name, *(f"{crossing(bill(one, share, days, kept_for).total, besides):,.0f}" for one in MEASURED.values())]
        for name, share, days, kept_for in WAYS
    ]


def _per(count: float) -> str:
    names = {1: "", 1000: "1,000 ", MILLION: "1,000,000 ", GIB: "2^30 "}
    return names[int(count)]


def _measured() -> list[list[str]]:
    facts: list[tuple[str, Callable[[Measured], str]]] = [
        ("flows", lambda one: f"{one.flows:,}"),
        ("bytes of the capture", lambda one: f"{one.capture_bytes:,}"),
        ("items", lambda one: f"{one.items:,}"),
        ("bytes of the items", lambda one: f"{one.bytes:,}"),
        ("write units", lambda one: f"{one.write_units:,}"),
        ("write units a flow", lambda one: f"{one.write_units / one.flows:.3f}"),
        ("CPU s: decode and build flows", lambda one: f"{one.read_seconds:.2f}"),
        ("CPU s: pack, sign and send", lambda one: f"{one.store_seconds:.2f}"),
        ("items read for one pair of hosts", lambda one: str(one.query_items)),
    ]
    return [[name, *(say(one) for one in MEASURED.values())] for name, say in facts]


def _bills(ours: dict[str, Bill], others: dict[str, Bill]) -> list[list[str]]:
    parts = [
        ("writes to DynamoDB", "writes"),
        ("Lambda", "compute"),
        (f"table for {KEPT} days", "table"),
        (f"captures in S3 for {KEPT} days", "objects"),
        ("**all**", "total"),
    ]
    return [
        [name, *(money(getattr(some[kind], part)) for kind in MEASURED for some in (ours, others))]
        for name, part in parts
    ]


def _rates(rates: list[int], besides: float) -> list[list[str]]:
    return [
        [
            f"{rate:,}",
            *(money(how(one, rate * DAY).total + besides) for one in MEASURED.values() for how in (bill, plain)),
        ]
        for rate in rates
    ]


def _crossings(besides: float) -> list[str]:
    return [f"{crossing(how(one, 1).total, besides):,.0f}" for one in MEASURED.values() for how in (bill, plain)]


def main() -> None:
    """Write or print."""
    if "--print" in sys.argv[1:]:
        print(page(), end="")
    else:
        PAGE.write_text(page())


if __name__ == "__main__":
    main()
