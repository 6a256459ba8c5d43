"""What commands do with a deployed store: open it, say what reading it takes, and read it."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import click

from backscatter.cli.terminal import Meter
from backscatter.errors import RequestError
from backscatter.flow.record import rfc3339
from backscatter.flow.table import FlowTable
from backscatter.flow.window import Window

if TYPE_CHECKING:
    from backscatter.cli.terminal import Speaker
    from backscatter.cloud.stack import Stack
    from backscatter.flow.census import Census
    from backscatter.flow.filter import Filter
    from backscatter.store.catalogue import Entry
    from backscatter.store.search import Search

HOUR = 3600 * 10**9
DAY = 24 * HOUR

#: Items that a search reads at most without being told to read more: some 300 MB, and 80,000 read units.
MOST_ITEMS = 5000
#: Flows that a search gives at most: each takes half a KB here.
MOST_FLOWS = 2_000_000

#: On-demand read units, dollars a million: docs/cost.md has the list that this is from.
_DOLLARS_A_MILLION = 0.125

stack_option = click.option(
    "--stack", "stack_name", metavar="NAME", help="Ask the store of this deployed CloudFormation stack instead."
)
most_items_option = click.option(
    "--most-items",
    type=click.IntRange(1),
    default=MOST_ITEMS,
    show_default=True,
    metavar="N",
    help="With --stack: refuse to read more items than this.",
)


def either(captures: tuple[str, ...], stack_name: str | None) -> None:
    """Raises a usage error unless there is one of captures and a stack."""
    if not captures and stack_name is None:
        raise click.UsageError("name captures, or a deployed stack with --stack")
    if captures and stack_name is not None:
        raise click.UsageError("captures and --stack exclude each other")


def window_of(since: int | None, until: int | None, speaker: Speaker) -> Window:
    """The time that is asked for; without a beginning, the 24 hours before its end."""
    end = time.time_ns() if until is None else until
    if since is None:
        since = end - DAY
        speaker.note(f"looking from {rfc3339(since)} on, 24 hours before the end; --since asks for more")
    return Window(since, max(since, end))


def opened(stack_name: str) -> Stack:
    """The stack of a name. boto3 is imported here: no command on files waits for it."""
    from backscatter.cloud.remote import open_stack  # noqa: PLC0415

    return open_stack(stack_name)


def find(stack: Stack, wanted: Filter, speaker: Speaker, most_items: int) -> tuple[Search, FlowTable]:
    """What the store has for a filter, and what was asked of it. Holes are told as problems, gaps as notes."""
    from backscatter.cloud.remote import told  # noqa: PLC0415
    from backscatter.flow.rejoin import rejoined  # noqa: PLC0415
    from backscatter.store.search import read  # noqa: PLC0415

    search = searched(stack, wanted, speaker)
    cost = search.read_units * _DOLLARS_A_MILLION / 1e6
    speaker.note(
        f"{len(search.entries)} captures in the window, {len(search.shares)} of them can hold it: reading "
        f"{search.items} items, at most about {search.read_units} read units (${cost:.4f})"
    )
    if search.items > most_items:
        raise RequestError(
            f"{search.items} items are more than {most_items}: narrow it by --host, --since and --until, "
            "or raise --most-items"
        )
    tables, flows = [], 0
    with told(), Meter("reading the store", search.items, of_bytes=False) as meter:
        for found in read(stack.items, search, meter.at):
            if found.missing:
                speaker.problem(
                    f"{found.entry.census.piece}: {found.missing} items are missing from the store: that its flows "
                    "are not shown proves nothing"
                )
            tables.append(found.table)
            flows += len(found.table)
            if flows > MOST_FLOWS:
                raise RequestError(f"there are more than {MOST_FLOWS} such flows: narrow it")
    _say_gaps(search, speaker)
    return search, rejoined(FlowTable.joined([table for table in tables if len(table)]))


def _say_gaps(search: Search, speaker: Speaker) -> None:
    """Tell where sensors of the window have gaps: flows are put together across captures, but what lies in a gap."""
    from backscatter.verdict.coverage import unbroken  # noqa: PLC0415

    sensors: dict[str, list[Census]] = {}
    for entry in search.entries:
        if entry.census.clock_ok:
            sensors.setdefault(entry.census.sensor, []).append(entry.census)
    for sensor, pieces in sorted(sensors.items()):
        spans = list(unbroken(pieces, pieces[0].start))
        gaps = [(one.end, other.start) for one, other in itertools.pairwise(spans)]
        if gaps:
            start, end = max(gaps, key=lambda gap: gap[1] - gap[0])
            speaker.note(
                f"{sensor or 'captures without a folder'}: {len(gaps)} gaps in the window, the longest from "
                f"{rfc3339(start)} to {rfc3339(end)}; `backscatter captures --timeline` shows all"
            )


def totals(search: Search, table: FlowTable) -> dict[str, Any]:
    """The summary of flows that the store has: as of files, without what only their bytes tell."""
    rows = table.rows
    span = (int(rows["start"].min()), int(rows["end"].max())) if len(rows) else None
    censuses = [entry.census for entry in search.entries]
    return {
        "captures": len(censuses),
        "packets": int(rows["src_packets"].sum() + rows["dst_packets"].sum()),
        "flows": len(rows),
        "first": rfc3339(span[0]) if span else None,
        "last": rfc3339(span[1]) if span else None,
        "non_ip": sum(census.non_ip for census in censuses),
        "undecodable": sum(census.undecodable for census in censuses),
        "damaged_bytes": sum(census.damaged_bytes for census in censuses),
        "seconds": (span[1] - span[0]) / 10**9 if span else 0,
        "read": {"items": search.items, "read_units": search.read_units},
    }


def searched(stack: Stack, wanted: Filter, speaker: Speaker) -> Search:
    """What is to be read for a filter, from the catalogue."""
    from backscatter.cloud.remote import deployed_key, told  # noqa: PLC0415
    from backscatter.cloud.stack import GROUP  # noqa: PLC0415
    from backscatter.store.search import plan  # noqa: PLC0415

    window = window_of(wanted.since, wanted.until, speaker)
    with told():
        # Without a key nothing was ever stored: any key finds nothing.
        key = deployed_key(stack.items) or bytes(32)
        search = plan(stack.items, key, GROUP, wanted, window)
    if not search.entries:
        speaker.note(f"no capture of {rfc3339(window.start)} to {rfc3339(window.end)} is in the catalogue")
    return search


def entries_of(stack: Stack, since: int | None, until: int | None, speaker: Speaker) -> tuple[Entry, ...]:
    """The captures that the catalogue lists in a window."""
    from backscatter.flow.filter import Filter  # noqa: PLC0415

    return searched(stack, Filter(since=since, until=until), speaker).entries
