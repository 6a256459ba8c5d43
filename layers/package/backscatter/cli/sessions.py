"""Session records for `triage`: of each file, what is about the pairs of hosts that alerts name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backscatter.cli.terminal import Meter
from backscatter.errors import FindingError, NoSessions
from backscatter.flow.address import Address
from backscatter.session.log import Sessions
from backscatter.session.read import read_sessions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backscatter.cli.source import Source
    from backscatter.cli.terminal import Speaker
    from backscatter.finding.model import Finding
    from backscatter.verdict.settings import Settings


def sessions_about(
    found: Sequence[Source], alerts: Iterable[Finding], settings: Settings, speaker: Speaker
) -> tuple[Sessions, int]:
    """The session records of files that the alerts may be about, and how many files hold session records at all.

    What cannot be read is told to `speaker`.
    """
    sessions = Sessions(_pairs(alerts, settings))
    wanted = sessions.hosts
    logs = len(found)
    with Meter("reading session records", sum(source.size for source in found)) as meter:
        for source in found:
            with source.open() as stream:
                for record in read_sessions(stream, source.name, wanted, progress=meter.at):
                    if isinstance(record, FindingError):
                        logs -= isinstance(record, NoSessions)
                        speaker.problem(str(record))
                    else:
                        sessions.add(record)
            meter.done(source.size)
    if logs:
        records = "1 session record is" if sessions.count == 1 else f"{sessions.count} session records are"
        skipped = f"; records were skipped {len(sessions.gaps)} times" if sessions.gaps else ""
        speaker.note(f"{records} of hosts that the alerts name{skipped}")
    return sessions, logs


def _pairs(alerts: Iterable[Finding], settings: Settings) -> Iterator[frozenset[Address]]:
    """The pairs of hosts that alerts are about, under all their names."""
    for alert in alerts:
        for one in alert.tuples:
            if one.a.ip is None or one.b.ip is None:
                continue
            names = (settings.names(Address.parse(ip), alert.aliases) for ip in (one.a.ip, one.b.ip))
            here, there = names
            yield from (frozenset((a, b)) for a in here for b in there)


def timed(alerts: Sequence[Finding], sessions: Sessions) -> list[Finding]:
    """The alerts; a question without a time is about all that the session records hold."""
    return [
        replace(alert, first_seen=sessions.first, last_seen=sessions.last)
        if alert.source == "tuple" and alert.first_seen is None
        else alert
        for alert in alerts
    ]
