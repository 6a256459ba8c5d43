"""A verdict as a mail by SNS: understood at once by somebody who was just woken up.

SNS takes 256 KiB for body and attributes together, and a subject of at most 99 printable ASCII characters
(https://docs.aws.amazon.com/sns/latest/api/API_Publish.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscatter.report import text
from backscatter.report.advice import ADVICE, turn
from backscatter.report.escape import ascii_line, plain
from backscatter.verdict.words import end_text

if TYPE_CHECKING:
    from backscatter.verdict.model import Verdict

SUBJECT_CHARS = 99

#: What the body may take of SNS's 262144 bytes; the rest is for the attributes.
BODY_BYTES = 250_000


@dataclass(frozen=True, slots=True)
class Mail:
    """A subject, printable ASCII on one line, and a body of plain text."""

    subject: str
    body: str


def mail(verdict: Verdict, *, previous: str | None = None, revision: str = "") -> Mail:
    """The mail that tells a verdict.

    Args:
        verdict: what to tell.
        previous: the label that was told for this finding before, None for none.
        revision: identifies this piece of news, so that one told twice can be known for one.
    """
    opening = [*text.opening(verdict, previous), "", *text.conversations(verdict)]
    closing = text.closing(verdict)
    if revision:
        closing.append("Revision".ljust(12) + plain(revision, 200))
    room = BODY_BYTES - sum(map(_size, (*opening, *closing))) - 200
    return Mail(subject(verdict, previous), "\n".join([*opening, *_fitting(verdict, room), *closing]) + "\n")


def subject(verdict: Verdict, previous: str | None = None) -> str:
    """The verdict, whom it is about, and as much of the alert's title as fits."""
    changed = turn(verdict, previous)
    mark = "CORRECTION: " if changed.startswith("CORRECTION") else "CHANGED: " if changed else ""
    sample = "SAMPLE: " if verdict.finding.sample else ""
    band = f" ({verdict.band})" if verdict.confidence else ""
    ends = f"{end_text(verdict.local, '?')} / {end_text(verdict.remote, '?')}"
    about = f"{ends}, " if verdict.local.ip or verdict.remote.ip else ""
    line = f"{mark}{sample}{ADVICE[verdict.label].headline}{band}: {about}{verdict.finding.title}"
    return ascii_line(line, SUBJECT_CHARS)


def _fitting(verdict: Verdict, room: int) -> list[str]:
    """The evidence as far as it fits into so many bytes; what is cut is said."""
    lines = list(text.evidence(verdict))
    for number, line in enumerate(lines):
        room -= _size(line)
        if room < 0:
            cut = f"{len(lines) - number} more lines of evidence are cut here: a mail by SNS holds 256 KiB."
            return [*lines[:number], cut, ""]
    return lines


def _size(line: str) -> int:
    return len(line.encode()) + 1
