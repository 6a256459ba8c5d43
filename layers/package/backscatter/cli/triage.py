"""`backscatter triage`: alerts judged by the captures at hand, with no cloud."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backscatter.cli import options
from backscatter.cli.evidence import read_evidence
from backscatter.cli.local import read_captures
from backscatter.cli.main import Failure
from backscatter.cli.source import sources
from backscatter.cli.table import Column, print_table
from backscatter.cli.terminal import Speaker
from backscatter.errors import FindingError
from backscatter.finding.model import End, Finding
from backscatter.finding.recognise import read_findings
from backscatter.report.record import verdict_record
from backscatter.verdict.judge import judge
from backscatter.verdict.model import Label, Verdict
from backscatter.verdict.settings import DEFAULT_HOME, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backscatter.cli.local import Captures
    from backscatter.cli.source import Source
    from backscatter.finding.model import Tuple

#: How much each label should worry the reader.
STYLES = {
    Label.CONNECTION_ESTABLISHED: "bold red",
    Label.CONNECTION_ATTEMPTED: "bold red",
    Label.INBOUND_CONNECTION: "red",
    Label.REFLECTION_TARGET: "red",
    Label.UNDETERMINED: "yellow",
    Label.SYNACK_SCAN: "magenta",
    Label.INBOUND_SCAN: "magenta",
    Label.BACKSCATTER: "green",
    Label.NOT_APPLICABLE: "dim",
}

COLUMNS = (
    Column("VERDICT", style=lambda cell: STYLES[Label(cell.partition(":")[0])]),
    Column("CONFIDENCE"),
    Column("RULE"),
    Column("LOCAL"),
    Column("REMOTE"),
    Column("COUNT", right=True),
    Column("SUMMARY", wraps=True),
)


@click.command(short_help="Judge alerts by the captures at hand.")
@options.captures
@click.option("--findings", metavar="FILE", multiple=True, help="Alerts to judge, format told by content; repeatable.")
@click.option(
    "--home",
    type=options.NETWORK,
    metavar="CIDR",
    multiple=True,
    help="Addresses that are ours; repeatable. Default: private, shared, link-local and unique-local ranges.",
)
@click.option("--alias", "aliases", type=options.ALIAS, multiple=True, help="A translated address; repeatable.")
@click.option(
    "--tuple", "conversation", type=options.TUPLE, help="Judge one conversation: 'tcp 10.0.0.5:1024 > 192.0.2.1:6667'."
)
@click.option("--at", type=options.TIME, metavar="TIME", help="With --tuple: when; default all of the captures.")
@options.as_json
@click.option("--report", metavar="DIR", help="Write an HTML page per verdict into DIR.")
def triage(
    captures: tuple[str, ...],
    findings: tuple[str, ...],
    home: tuple[options.Network, ...],
    aliases: tuple[tuple[str, str], ...],
    conversation: Tuple | None,
    at: int | None,
    report: str | None,
    *,
    as_json: bool,
) -> None:
    """Say of each alert whether it is backscatter or real, with the evidence for it.

    Alerts are told in input order, duplicates (same id and update) once. With --json, one object per alert.

    \b
    Examples:
      backscatter triage capture.pcap --findings eve.json --home 192.0.2.0/24
      backscatter triage *.pcap.gz --findings guardduty.json --alias 203.0.113.7=10.0.0.5 --report pages
      backscatter triage capture.pcap --tuple 'tcp 10.0.0.5:1024 > 192.0.2.1:6667' --at 2007-03-20T18:04:19Z
    """
    if bool(findings) == (conversation is not None):
        raise click.UsageError("one of --findings and --tuple is needed, and not both")
    if at is not None and conversation is None:
        raise click.UsageError("--at says when the conversation of --tuple was; findings say so themselves")
    speaker = Speaker()
    with contextlib.ExitStack() as stack:
        read = read_captures(sources(captures, speaker, stack), speaker)
        if conversation is not None:
            alerts = [_finding_of(conversation, at, read)]
        else:
            alerts = _alerts(sources(findings, speaker, stack), read, speaker)
        scene, settings = read.scene(), Settings(home or DEFAULT_HOME, aliases)
        verdicts = [judge(alert, scene, settings) for alert in alerts]
        verdicts = _with_packets(verdicts, read, speaker)
    if report is not None:
        _write_pages(Path(report), verdicts, speaker)
    if as_json:
        for verdict in verdicts:
            click.echo(json.dumps(verdict_record(verdict)))
    elif len(verdicts) == 1:
        _print_detail(verdicts[0])
    elif verdicts:
        print_table(COLUMNS, [_row(verdict) for verdict in verdicts])
    click.get_current_context().exit(speaker.exit_code)


def _alerts(found: Sequence[Source], read: Captures, speaker: Speaker) -> list[Finding]:
    """The alerts of all files, each once. Raises Failure where there were only unreadable ones."""
    year = None if read.first is None else datetime.fromtimestamp(read.first // 10**9, UTC).year
    alerts: dict[tuple[str, str, str], Finding] = {}
    for finding in _read_alerts(found, year):
        if isinstance(finding, FindingError):
            speaker.problem(str(finding))
        else:
            alerts.setdefault((finding.source, finding.id, finding.updated), finding)
    if not alerts:
        if speaker.problems or not found:
            raise Failure("no finding could be read")
        speaker.note("no findings: nothing to judge")
    return list(alerts.values())


def _read_alerts(found: Sequence[Source], year: int | None) -> Iterator[Finding | FindingError]:
    for source in found:
        with source.open() as stream:
            yield from read_findings(stream.read(), source.name, year=year)


def _finding_of(conversation: Tuple, at: int | None, read: Captures) -> Finding:
    """The person's own question as a finding: about the moment given, or all that the captures hold."""
    text = _conversation(conversation.proto, conversation.a, conversation.b)
    return Finding(
        id=f"tuple:{text}",
        source="tuple",
        type="tuple",
        title=text,
        severity=None,
        first_seen=read.first if at is None else at,
        last_seen=read.last if at is None else at,
        tuples=(conversation,),
        origin="--tuple",
        original=text,
    )


def _with_packets(verdicts: Sequence[Verdict], read: Captures, speaker: Speaker) -> list[Verdict]:
    lines = read_evidence(verdicts, read.files, speaker)
    return [with_packets(verdict, lines) for verdict in verdicts]


def _row(verdict: Verdict) -> tuple[str, ...]:
    return (
        f"{verdict.label}: {verdict.why}" if verdict.why else str(verdict.label),
        f"{verdict.confidence} {verdict.band}",
        verdict.rule or "",
        _end(verdict.local),
        _end(verdict.remote),
        str(verdict.finding.count),
        verdict.summary,
    )
