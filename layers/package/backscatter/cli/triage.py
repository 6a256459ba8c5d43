"""`backscatter triage`: alerts judged by the captures at hand, with no cloud."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import click

from backscatter.cli import options
from backscatter.cli.evidence import with_evidence
from backscatter.cli.local import Captures, read_captures
from backscatter.cli.main import Failure, examples
from backscatter.cli.sessions import sessions_about, timed
from backscatter.cli.source import STDIN, sources
from backscatter.cli.table import Column, print_table
from backscatter.cli.terminal import Meter, Speaker
from backscatter.errors import FindingError
from backscatter.finding.model import Finding
from backscatter.finding.recognise import read_findings
from backscatter.finding.snort_csv import columns_from
from backscatter.finding.troubles import Troubles
from backscatter.finding.unsaid import Unsaid
from backscatter.flow.address import Address
from backscatter.report.record import verdict_record
from backscatter.report.text import detail, headline
from backscatter.verdict.judge import judge
from backscatter.verdict.model import Label, Verdict
from backscatter.verdict.sessions import with_sessions
from backscatter.verdict.settings import DEFAULT_HOME, Settings, parse_alias
from backscatter.verdict.words import end_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from backscatter.cli.source import Source
    from backscatter.finding.model import Tuple

#: How much each label should worry the reader.
COLOURS = {
    Label.CONNECTION_ESTABLISHED: "red",
    Label.CONNECTION_ATTEMPTED: "red",
    Label.INBOUND_CONNECTION: "red",
    Label.REFLECTION_TARGET: "red",
    Label.UNDETERMINED: "yellow",
    Label.SYNACK_SCAN: "magenta",
    Label.INBOUND_SCAN: "magenta",
    Label.BACKSCATTER: "green",
    Label.NOT_APPLICABLE: "blue",
}

COLUMNS = (
    Column("VERDICT", style=lambda cell: COLOURS[Label(cell.partition(":")[0])]),
    Column("CONFIDENCE"),
    Column("RULE"),
    Column("LOCAL"),
    Column("REMOTE"),
    Column("COUNT", right=True),
    Column("SUMMARY", wraps=True),
)


@click.command(
    short_help="Judge alerts by the captures at hand.",
    epilog=examples(
        "backscatter triage capture.pcap --findings eve.json --home 192.0.2.0/24",
        "backscatter triage *.pcap.gz --findings guardduty.json --alias 203.0.113.7=10.0.0.5 --report pages",
        "backscatter triage --sessions vpcflow.log.gz --findings guardduty.json",
        "backscatter triage capture.pcap --tuple 'tcp 10.0.0.5:1024 > 192.0.2.1:6667' --at 2007-03-20T18:04:19Z",
    ),
)
@click.argument("captures", metavar="[CAPTURE...]", nargs=-1)
@click.option("--findings", metavar="FILE", multiple=True, help="Alerts to judge, format told by content; repeatable.")
@click.option(
    "--sessions",
    metavar="FILE",
    multiple=True,
    help="Session records where nothing was captured: VPC Flow Logs, or EVE's flow and netflow events; repeatable.",
)
@click.option(
    "--home",
    callback=options.checked(options.read_network),
    metavar="CIDR",
    multiple=True,
    help="Addresses that are ours; repeatable. Default: private, shared, link-local and unique-local ranges.",
)
@click.option(
    "--alias",
    "aliases",
    callback=options.checked(parse_alias),
    metavar="PUBLIC=PRIVATE",
    multiple=True,
    help="A translated address; repeatable.",
)
@click.option(
    "--tuple",
    "conversation",
    callback=options.checked(options.read_tuple),
    metavar="TUPLE",
    help="Judge one conversation: 'tcp 10.0.0.5:1024 > 192.0.2.1:6667'.",
)
@click.option(
    "--at",
    callback=options.checked(options.read_moment),
    metavar="TIME",
    help="With --tuple: when; default all of the captures.",
)
@click.option(
    "--alert-zone",
    "zone",
    callback=options.checked(options.read_zone),
    metavar="ZONE",
    help="Of alerts whose times name no zone: +02:00, or a name such as Europe/Berlin. Default: UTC.",
)
@click.option(
    "--csv-columns",
    "columns",
    callback=options.checked(columns_from),
    metavar="NAMES",
    help="Columns of Snort's CSV that has no header, separated by commas, as they are configured there.",
)
@options.as_json
@click.option("--report", metavar="DIR", help="Write an HTML page per verdict into DIR.")
def triage(
    captures: tuple[str, ...],
    findings: tuple[str, ...],
    sessions: tuple[str, ...],
    home: tuple[options.Network, ...],
    aliases: tuple[tuple[str, str], ...],
    conversation: Tuple | None,
    at: int | None,
    zone: tzinfo | None,
    columns: tuple[str, ...] | None,
    report: str | None,
    *,
    as_json: bool,
) -> None:
    """Say of each alert whether it is backscatter or real, with the evidence for it.

    Alerts are told in input order, duplicates (same id and update) once. With --json, one object per alert.

    Captures prove. Session records have no sequence numbers, so what stands on them alone is probable at most; a real
    connection that they show counts whatever captures show. One of the two is needed.
    """
    if not captures and not sessions:
        raise click.UsageError("Missing argument '[CAPTURE...]': name captures, or session records by --sessions")
    if bool(findings) == (conversation is not None):
        raise click.UsageError("one of --findings and --tuple is needed, and not both")
    if at is not None and conversation is None:
        raise click.UsageError("--at says when the conversation of --tuple was; findings say so themselves")
    if [*captures, *findings, *sessions].count(STDIN) > 1:
        raise click.UsageError(f"stdin ({STDIN}) is read once: it holds the capture or the findings")
    speaker = Speaker()
    with contextlib.ExitStack() as stack:
        read = read_captures(sources(captures, speaker, stack), speaker) if captures else Captures({}, ())
        if conversation is not None:
            alerts = [_finding_of(conversation, at, read)]
        else:
            unsaid = Unsaid(zone=zone or UTC, columns=columns or ())
            alerts = _alerts(sources(findings, speaker, stack), read, unsaid, speaker)
        scene, settings = read.scene(), Settings(home or DEFAULT_HOME, aliases)
        _ask_for_home(alerts, settings, speaker)
        if sessions:
            records, logs = sessions_about(sources(sessions, speaker, stack), alerts, settings, speaker)
            if not logs and not captures:
                raise Failure("no session records could be read")
            alerts = timed(alerts, records)
        verdicts = [judge(alert, scene, settings) for alert in alerts]
        if sessions:
            verdicts = [with_sessions(verdict, records, settings) for verdict in verdicts]
        verdicts = with_evidence(verdicts, read.files, speaker)
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


def _alerts(found: Sequence[Source], read: Captures, unsaid: Unsaid, speaker: Speaker) -> list[Finding]:
    """The alerts of all files, each once. Raises Failure where there were only unreadable ones."""
    alerts: dict[tuple[str, str, str], Finding] = {}
    troubles = Troubles()
    with Meter("reading alerts", sum(source.size for source in found)) as meter:
        for source in found:
            with source.open() as stream:
                for finding in read_findings(stream, source.name, replace(unsaid, span=read.span)):
                    meter.at(stream.tell())
                    if not isinstance(finding, FindingError):
                        # Where the original stands is told; kept here, all of them would be the file.
                        kept = replace(finding, original="")
                        alerts.setdefault((finding.source, finding.id, finding.updated), kept)
                    elif troubles.is_news(finding):
                        speaker.problem(str(finding))
            meter.done(source.size)
            for more in troubles.more():
                speaker.problem(more.text)
    if not alerts:
        if troubles.count or not found:
            raise Failure("no finding could be read")
        speaker.note("no findings: nothing to judge")
    return list(alerts.values())


def _ask_for_home(alerts: Sequence[Finding], settings: Settings, speaker: Speaker) -> None:
    """Say of how many alerts no end is known to be ours: each end in turn is taken for it, which seldom decides."""
    strange = sum(not _names_ours(alert, settings) for alert in alerts)
    if strange:
        count = "1 alert has" if strange == 1 else f"{strange} alerts have"
        speaker.note(f"{count} no end that is ours by --home (the private networks by default): name yours")


def _names_ours(alert: Finding, settings: Settings) -> bool:
    """Whether the alert tells an end as ours, or has none at all."""
    ends = [end.ip for one in alert.tuples for end in (one.a, one.b) if end.ip is not None]
    return (
        not ends
        or any(one.resource is not None for one in alert.tuples)
        or any(settings.is_home(name) for ip in ends for name in settings.names(Address.parse(ip), alert.aliases))
    )


def _finding_of(conversation: Tuple, at: int | None, read: Captures) -> Finding:
    """The person's own question as a finding: about the moment given, or all that the captures hold."""
    first, last = (read.span or (None, None)) if at is None else (at, at)
    text = f"{conversation.proto} {end_text(conversation.a)} > {end_text(conversation.b)}"
    return Finding(
        id=f"tuple:{text}",
        source="tuple",
        type="tuple",
        title=text,
        severity=None,
        first_seen=first,
        last_seen=last,
        tuples=(conversation,),
        origin="--tuple",
        original=text,
    )


def _row(verdict: Verdict) -> tuple[str, ...]:
    return (
        f"{verdict.label}: {verdict.why}" if verdict.why else str(verdict.label),
        f"{verdict.confidence} {verdict.band}",
        verdict.rule or "",
        end_text(verdict.local),
        end_text(verdict.remote),
        str(verdict.finding.count),
        verdict.summary,
    )


def _print_detail(verdict: Verdict) -> None:
    """Everything about one verdict; on a terminal its headline in the colour of the table."""
    head = headline(verdict)
    for line in detail(verdict):
        if line == head and sys.stdout.isatty():
            click.secho(line, fg=COLOURS[verdict.label], bold=True)
        else:
            click.echo(line)


def _write_pages(folder: Path, verdicts: Sequence[Verdict], speaker: Speaker) -> None:
    """One HTML page per verdict."""
    from backscatter.report.page import page, page_name  # noqa: PLC0415 - the template engine is slow to start

    folder.mkdir(parents=True, exist_ok=True)
    for verdict in verdicts:
        (folder / page_name(verdict)).write_text(page(verdict), encoding="utf-8")
    pages = "1 page" if len(verdicts) == 1 else f"{len(verdicts)} pages"
    speaker.note(f"{pages} written to {folder}")
