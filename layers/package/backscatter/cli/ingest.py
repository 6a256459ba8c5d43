"""`backscatter ingest`: captures that lie in S3 already are taken into a deployed store, where they lie."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any

import click

from backscatter.cli import options, remote
from backscatter.cli.main import examples
from backscatter.cli.table import Column, print_table
from backscatter.cli.terminal import Meter, Speaker
from backscatter.flow.filter import parse_time
from backscatter.store.prices import DATE, MEASURED_ON, estimate

if TYPE_CHECKING:
    from backscatter.cloud.backfill import Choice
    from backscatter.cloud.stack import Stack

#: Captures that did not get listed, named one by one.
NAMED = 20


def _url(text: str) -> tuple[str, str]:
    from backscatter.cloud.backfill import parse_url  # noqa: PLC0415 - boto3 is not for the other commands

    return parse_url(text)


@click.command(
    short_help="Take captures that lie in S3 already into a deployed store.",
    epilog=examples(
        "backscatter ingest s3://captures/packet-captures/ --stack backscatter --dry-run",
        "backscatter ingest s3://captures/tap/ --stack backscatter --since 2026-11-01T00:00:00Z --concurrency 5",
    ),
)
@click.argument("where", metavar="s3://BUCKET/PREFIX", callback=options.checked(_url))
@click.option("--stack", "stack_name", metavar="NAME", required=True, help="The deployed CloudFormation stack.")
@click.option(
    "--since", callback=options.checked(parse_time), metavar="T", help="Captures named after times from T on."
)
@click.option("--until", callback=options.checked(parse_time), metavar="T", help="Captures named after times up to T.")
@click.option("--dry-run", is_flag=True, help="Say what it would do and cost, and do nothing.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    metavar="N",
    help="Captures in the ingest queue at a time.",
)
@options.as_json
def ingest(
    where: tuple[str, str],
    *,
    stack_name: str,
    since: int | None,
    until: int | None,
    dry_run: bool,
    concurrency: int,
    as_json: bool,
) -> None:
    """Take captures that lie in S3 already into a deployed store. They stay where they are.

    What the store has is left out: a run that was stopped is gone on with by the same command. The functions of the
    stack do the work; this command hands them the keys, so many at a time, and waits. Times are those of the keys
    (packet-captures/i-0abc/2026-11-22-18-00.pcap), or else when an object was last modified. Captures in other buckets
    than the stack's own need its parameter ExistingBucket.
    """
    from backscatter.cloud.backfill import choose, listing, take_in  # noqa: PLC0415
    from backscatter.cloud.remote import told  # noqa: PLC0415

    options.check_order(since, until)
    speaker, stack = Speaker(), remote.opened(stack_name)
    bucket, prefix = where
    _may_read(stack, stack_name, bucket)
    with told():
        choice = choose(stack, listing(stack.s3, bucket, prefix), since, until)
    for reason, count in choice.left_out.items():
        speaker.note(f"{count} objects are left out: {reason}")
    plan = _plan(choice)
    if dry_run:
        _print(plan, as_json=as_json)
        return
    begun = time.monotonic()
    with told(), Meter("ingesting captures", len(choice.todo), of_bytes=False) as meter:
        missing = take_in(stack, choice.todo, concurrency, sleep=time.sleep, progress=meter.at)
    for one in missing[:NAMED]:
        speaker.problem(f"{one.name.url}: was not listed: it holds no packets, or the dead-letter queue says why")
    if len(missing) > NAMED:
        speaker.problem(f"and {len(missing) - NAMED} more")
    done = {
        "listed_before": choice.listed,
        "ingested": len(choice.todo) - len(missing),
        "not_listed": len(missing),
        "bytes": sum(one.size for one in choice.todo) - sum(one.size for one in missing),
        "seconds": round(time.monotonic() - begun, 1),
    }
    _print(done, as_json=as_json)
    click.get_current_context().exit(speaker.exit_code)


def _may_read(stack: Stack, stack_name: str, bucket: str) -> None:
    allowed = {stack.environment["CAPTURE_BUCKET"], stack.environment.get("EXISTING_BUCKET", "")}
    if bucket not in allowed:
        raise click.UsageError(
            f"stack {stack_name} may not read bucket {bucket}: deploy it with the parameter ExistingBucket={bucket}"
        )


def _plan(choice: Choice) -> dict[str, Any]:
    size = sum(one.size for one in choice.todo)
    cost = estimate(len(choice.todo), size, len(choice.todo) + choice.listed + sum(choice.left_out.values()))
    return {
        "objects": len(choice.todo),
        "bytes": size,
        "listed_before": choice.listed,
        "left_out": choice.left_out,
        **{name: value for name, value in dataclasses.asdict(cost).items() if name != "dollars"},
        "dollars": [round(dollars, 6) for dollars in cost.dollars],
        "prices": DATE,
        "measured": MEASURED_ON,
    }


def _print(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts))
    else:
        print_table((Column("OF"), Column("TOTAL")), [(name, _shown(value)) for name, value in facts.items()])


def _shown(value: object) -> str:
    if isinstance(value, tuple | list):
        return " to ".join(_shown(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{count} {reason}" for reason, count in value.items()) or "0"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
