"""`backscatter floods`: who was flooded in our name, as far as the answers that came to us tell."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backscatter.cli import options, remote
from backscatter.cli.local import read_captures
from backscatter.cli.main import examples
from backscatter.cli.source import sources
from backscatter.cli.table import Column, print_table
from backscatter.cli.terminal import Speaker
from backscatter.flood.answers import unsolicited
from backscatter.flood.floods import floods_of
from backscatter.flood.vouch import DOUBTS, Doubt
from backscatter.flow.filter import Filter
from backscatter.report.floods import (
    DOUBT_WORDS,
    estimate_text,
    flood_detail,
    flood_record,
    ports_text,
    short,
    sparkline,
)
from backscatter.report.text import moment_text
from backscatter.verdict.judge import BEFORE

if TYPE_CHECKING:
    from backscatter.flood.answers import Answers
    from backscatter.flood.floods import Flood, Floods

#: Columns of the map on a terminal.
MAP = 24

COLUMNS = (
    Column("VICTIM"),
    Column("PROTO"),
    Column("PORTS"),
    Column("FIRST"),
    Column("LAST"),
    Column("OURS", right=True),
    Column("ANSWERS", right=True),
    Column("PER MINUTE", right=True),
    Column("FLOOD", right=True),
    Column("SIGNS"),
    Column("MAP"),
)


@click.command(
    short_help="Gather backscatter by the victims of its floods.",
    epilog=examples(
        "backscatter floods capture.pcap --home 192.0.2.0/24",
        "backscatter floods telescope-*.pcap.gz --unproven --report pages",
        "backscatter floods --stack backscatter --since 2026-11-22T00:00:00Z",
    ),
)
@options.captures_or_stack
@remote.stack_option
@remote.most_items_option
@click.option(
    "--home",
    callback=options.checked(options.read_network),
    metavar="CIDR",
    multiple=True,
    help="Addresses that are ours, all of them in view; repeatable. Default: whoever was answered.",
)
@click.option(
    "--victim",
    "victims",
    callback=options.checked(options.read_network),
    metavar="ADDRESS|CIDR",
    multiple=True,
    help="Only floods of these victims; repeatable.",
)
@click.option(
    "--since",
    callback=options.checked(options.read_moment),
    metavar="T",
    help="Only answers from T on: RFC 3339 or epoch seconds. With --stack: 24 hours before the end.",
)
@click.option("--until", callback=options.checked(options.read_moment), metavar="T", help="Only answers up to T.")
@click.option(
    "--unproven",
    is_flag=True,
    help="Count answers too that captures cannot vouch for, as where no host of ours ever speaks.",
)
@options.as_json
@click.option("--report", metavar="DIR", help="Write an HTML page of the floods into DIR.")
def floods(
    captures: tuple[str, ...],
    stack_name: str | None,
    most_items: int,
    home: tuple[options.Network, ...],
    victims: tuple[options.Network, ...],
    since: int | None,
    until: int | None,
    report: str | None,
    *,
    unproven: bool,
    as_json: bool,
) -> None:
    """Say who was flooded with packets that bore our addresses, by the answers that came to us unasked.

    ANSWERS are without retransmissions. OURS is how many of our addresses were hit; where --home is given, answers to
    others are left out. FLOOD is what they mean at the victim, if the forged sources were random, with its 95 %
    interval: answers a second times 2^32 / n, n being the size of --home, else the addresses that were hit. MAP is the
    time from the first answer of all to the last.

    Whatever may be part of a real conversation is not counted; what captures cannot vouch for, only with --unproven.
    With --stack, the captures of a deployed store are looked at, and a quarter of an hour before what is asked for.
    """
    remote.either(captures, stack_name)
    options.check_order(since, until)
    speaker = Speaker()
    if stack_name is not None:
        answers = _stored(stack_name, home, since, until, speaker, most_items)
    else:
        with contextlib.ExitStack() as stack:
            read = read_captures(sources(captures, speaker, stack), speaker)
        answers = unsolicited(read.table(), list(read.censuses), home)
    if since is not None:
        answers = answers.select(answers.start >= since)
    if until is not None:
        answers = answers.select(answers.start <= until)
    found = _of(floods_of(answers, home, unproven=unproven), victims)
    if not unproven:
        _tell_unproven(answers, speaker)
    if report is not None:
        _write_page(Path(report), found, speaker)
    if not found.floods:
        speaker.note("no floods")
    if as_json:
        for flood in found.floods:
            click.echo(json.dumps(flood_record(flood, found)))
    elif len(found.floods) == 1:
        for line in flood_detail(found.floods[0], found):
            click.echo(line)
    elif found.floods:
        print_table(COLUMNS, [_row(flood) for flood in found.floods])
    click.get_current_context().exit(speaker.exit_code)


def _stored(
    stack_name: str,
    home: tuple[options.Network, ...],
    since: int | None,
    until: int | None,
    speaker: Speaker,
    most_items: int,
) -> Answers:
    """The answers that a deployed store has, with what was there shortly before: a question of ours, say.

    Where items are missing from the store, what they held may contradict anything: nothing is proven then.
    """
    window = remote.window_of(since, until, speaker)
    wanted = Filter(since=max(window.start - BEFORE, 0), until=window.end)
    search, table = remote.find(remote.opened(stack_name), wanted, speaker, most_items)
    answers = unsolicited(table, [entry.census for entry in search.entries], home)
    if speaker.problems:
        answers.doubt[:] |= Doubt.LOSS
    return answers.select(answers.start >= window.start)


def _of(found: Floods, victims: tuple[options.Network, ...]) -> Floods:
    """The floods of some victims; of all where none are named."""
    if not victims:
        return found
    kept = [flood for flood in found.floods if any(ip_address(flood.victim.packed) in one for one in victims)]
    return replace(found, floods=tuple(kept))


def _tell_unproven(answers: Answers, speaker: Speaker) -> None:
    """Say how much looks the same and is not counted, and what is missing most."""
    doubts = answers.doubt[answers.doubt > 0]
    if len(doubts):
        counts = {name: int((doubts & int(doubt) > 0).sum()) for doubt, name in DOUBTS.items()}
        reasons = "; ".join(f"{DOUBT_WORDS[name]} ({count})" for name, count in counts.items() if count)
        speaker.note(
            f"{len(doubts)} conversations more look like backscatter and are not proven: {reasons}. "
            "--unproven counts them"
        )


def _row(flood: Flood) -> tuple[str, ...]:
    return (
        str(flood.victim),
        flood.proto,
        ports_text(flood),
        moment_text(flood.first).removesuffix(" UTC"),
        moment_text(flood.last).removesuffix(" UTC"),
        str(flood.addresses),
        str(flood.answers),
        "" if flood.rate is None else short(flood.rate * 60),
        estimate_text(flood.estimate),
        _signs(flood),
        sparkline(flood.bins, MAP),
    )


def _signs(flood: Flood) -> str:
    """Marks and labels; who reaches all of Corsaro's thresholds at once reaches each of them."""
    labels = flood.signs.labels
    if "corsaro" in labels:
        labels = tuple(label for label in labels if not label.startswith("corsaro_"))
    return " ".join((*flood.signs.tools, *labels))


def _write_page(folder: Path, found: Floods, speaker: Speaker) -> None:
    from backscatter.report.floodpage import floods_page  # noqa: PLC0415 - the template engine is slow to start

    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "floods.html"
    page.write_text(floods_page(found), encoding="utf-8")
    speaker.note(f"1 page written to {page}")
