"""`backscatter flows`: the conversations of captures, as a table, as JSON lines, or in sum."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from backscatter.cli import options, remote
from backscatter.cli.local import read_captures
from backscatter.cli.main import examples
from backscatter.cli.source import sources
from backscatter.cli.sums import Sums
from backscatter.cli.table import Column, print_table
from backscatter.cli.terminal import Speaker
from backscatter.finding.model import End
from backscatter.flow.builder import in_order
from backscatter.flow.record import flow_records
from backscatter.flow.table import FlowTable
from backscatter.verdict.words import end_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backscatter.cli.local import Captures
    from backscatter.cli.source import Source
    from backscatter.flow.columns import Built, FlowColumns
    from backscatter.flow.filter import Filter

COLUMNS = (
    Column("START"),
    Column("PROTO"),
    Column("SRC"),
    Column("DST"),
    Column("PACKETS", right=True),
    Column("BYTES", right=True),
    Column("FLAGS"),
    Column("HISTORY"),
    Column("STATE"),
    Column("SCOPE"),
)


@click.command(
    short_help="Print the flows of captures.",
    epilog=examples(
        "backscatter flows capture.pcap --host 193.109.122.67 --proto tcp",
        "backscatter flows capture.pcap --summary --json",
        "backscatter flows --stack backscatter --host 10.0.0.5 --since 2026-11-22T00:00:00Z",
    ),
)
@options.captures_or_stack
@remote.stack_option
@remote.most_items_option
@options.filters
@click.option("--summary", is_flag=True, help="Totals instead of flows.")
@options.as_json
def flows(
    captures: tuple[str, ...],
    *,
    stack_name: str | None,
    most_items: int,
    summary: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Print the flows of captures, or of a deployed store, ordered by start.

    SRC is whoever sent the first packet that was seen. PACKETS, BYTES and FLAGS are what SRC sent / what DST sent.
    Files that follow each other in time are pieces of one sensor; files that overlap are different views of the
    network, which are never summed; SENSOR tells them apart.

    Filters repeat as OR, different filters join as AND. With --summary, `packets`, `flows`, `first`, `last` and
    `seconds` are of what the filters leave; all else, and everything where nothing is filtered, is of the whole files.

    With --stack the catalogue of the store tells which captures can hold what is asked for, and only these are read;
    without --since, those of the last 24 hours. What is missing from the store is said on stderr: exit code 1.
    """
    remote.either(captures, stack_name)
    wanted, speaker = options.chosen_filter(**chosen), Speaker()
    if stack_name is not None:
        search, table = remote.find(remote.opened(stack_name), wanted, speaker, most_items)
        if summary:
            _print_totals(remote.totals(search, table), as_json=as_json)
        else:
            _print_flows(table, as_json=as_json)
        click.get_current_context().exit(speaker.exit_code)
    with contextlib.ExitStack() as stack:
        found = sources(captures, speaker, stack)
        if summary:
            sums = Sums(wanted)
            _print_totals(sums.totals(read_captures(found, speaker, sums)), as_json=as_json)
        else:
            _print_flows(_wanted_of(found, wanted, speaker), as_json=as_json)
    click.get_current_context().exit(speaker.exit_code)


def _wanted_of(found: Sequence[Source], wanted: Filter, speaker: Speaker) -> FlowTable:
    """The flows of the files that a filter leaves; the others go as soon as they are over."""
    if wanted.is_empty:
        return read_captures(found, speaker).table()
    kept = _Kept(wanted)
    return kept.table(read_captures(found, speaker, kept))


class _Kept:
    """The flows that a filter leaves."""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted
        self._kept: dict[str, list[Built]] = {}

    def part(self, flows: FlowColumns, _parts: int) -> Built:
        """Those of some flows."""
        kept = flows.select(np.flatnonzero(self._wanted.flows(flows)))
        return kept.rows, kept.quotes

    def add(self, sensor: str, part: Built) -> None:
        """Keep them."""
        self._kept.setdefault(sensor, []).append(part)

    def table(self, read: Captures) -> FlowTable:
        """All of them, ordered by start."""
        tables = []
        for sensor in read.sensors:
            table = sensor.table
            if kept := self._kept.get(sensor.sensor):  # nothing comes of a capture without flows
                rows, quotes = in_order(kept)
                table = replace(table, rows=rows, quotes=quotes)
            tables.append(table)
        return FlowTable.joined(tables)


def _print_flows(kept: FlowTable, *, as_json: bool) -> None:
    if as_json:
        for record in flow_records(kept):
            click.echo(json.dumps(record))
        return
    views = (Column("SENSOR"),) if len(kept.sensors) > 1 else ()
    print_table((*COLUMNS, *views), [_row(record) for record in flow_records(kept)])


def _print_totals(totals: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(totals))
    else:
        print_table((Column("OF"), Column("TOTAL")), [(name, _shown(value)) for name, value in totals.items()])


def _row(flow: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        flow["start"].replace("T", " ").removesuffix("Z"),
        flow["proto"],
        end_text(End(flow["src_ip"], flow["src_port"])),
        end_text(End(flow["dst_ip"], flow["dst_port"])),
        f"{flow['src_packets']}/{flow['dst_packets']}",
        f"{flow['src_bytes']}/{flow['dst_bytes']}",
        _flags(flow),
        flow["history"] or "",
        flow["conn_state"] or "",
        flow["scope"],
        *((flow["sensor"],) if "sensor" in flow else ()),
    )


def _flags(flow: Mapping[str, Any]) -> str:
    """TCP flags each way; for ICMP, what stands in their place: type and code of the first packet."""
    if flow["icmp_type"] is not None:
        return f"type {flow['icmp_type']} code {flow['icmp_code']}"
    if flow["src_flags"] is None:
        return ""
    return f"{flow['src_flags'] or '-'}/{flow['dst_flags'] or '-'}"


def _shown(value: object) -> str:
    """A total for a person; the parts of one that has parts side by side."""
    if isinstance(value, dict):
        parts = ", ".join(f"{part} {name.replace('_', ' ')}" for name, part in value.items() if name != "estimated")
        return f"about {parts}" if value.get("estimated") else parts
    return "-" if value is None else str(value)
