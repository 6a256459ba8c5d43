"""A verdict in plain words: the terminal's detail view and the body of the mail are made of these lines."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from backscatter.flow.record import rfc3339
from backscatter.report.advice import ADVICE, meaning, steps, turn
from backscatter.report.escape import plain, unlinked
from backscatter.verdict.model import Effect, Label
from backscatter.verdict.words import end_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backscatter.finding.model import Finding
    from backscatter.verdict.model import PacketLine, Told, Verdict

WIDTH = 78
_LABEL = 12

#: Evidence and packets of one piece of evidence that are shown; what is left out is counted.
MOST_EVIDENCE, MOST_PACKETS = 40, 20

EFFECTS = {
    Effect.FOR: "What speaks for it",
    Effect.AGAINST: "What speaks against it",
    Effect.MISSING: "What is missing",
}


def moment_text(time: int) -> str:
    """A time to the second, for people: 2007-03-20 18:04:19 UTC."""
    return rfc3339(time)[:19].replace("T", " ") + " UTC"


def clock_text(time: int) -> str:
    """A packet's time with all its digits: 2007-03-20 18:04:19.731091000."""
    return rfc3339(time)[:-1].replace("T", " ")


def window_text(finding: Finding) -> str:
    """When the alert says that it happened."""
    if finding.first_seen is None:
        return "at a time that the alert does not tell"
    first = moment_text(finding.first_seen)
    if finding.last_seen is None or moment_text(finding.last_seen) == first:
        return first
    return f"{first} to {moment_text(finding.last_seen)}"


def certainty_text(verdict: Verdict) -> str:
    """The band, the confidence and the rule; "" where a verdict has none."""
    if not verdict.confidence:
        return f"by rule {verdict.rule}" if verdict.rule else ""
    rule = f", rule {verdict.rule}" if verdict.rule else ""
    return f"{verdict.band}, {verdict.confidence} of 99{rule}"


def headline(verdict: Verdict) -> str:
    """The verdict on one line: `BACKSCATTER (confirmed, 97 of 99, rule R4)`."""
    why = f", {verdict.why.value.replace('_', ' ')}" if verdict.why else ""
    certainty = certainty_text(verdict)
    return ADVICE[verdict.label].headline.upper() + why + (f" ({certainty})" if certainty else "")


def counts_text(verdict: Verdict) -> str:
    """How many conversations got which verdict; "" where it is one."""
    total = sum(verdict.conversations.values())
    if total < 2:
        return ""
    told = [f"{count} {str(label).replace('_', ' ')}" for label, count in verdict.conversations.items()]
    if len(told) == 1:
        return f"{total} conversations, all of them {told[0].partition(' ')[2]}"
    return f"{total} conversations: {', '.join(told)}; the most dangerous decides"


def detail(verdict: Verdict, previous: str | None = None) -> list[str]:
    """The whole verdict as lines of plain text, safe for a terminal.

    Args:
        verdict: what to tell.
        previous: the label that was told for this finding before, None for none.
    """
    return [*opening(verdict, previous), "", *conversations(verdict), *evidence(verdict), *closing(verdict)]


def opening(verdict: Verdict, previous: str | None = None) -> list[str]:
    """What, verdict, why, victim, what to do."""
    finding = verdict.finding
    change = turn(verdict, previous)
    lines = [*_wrapped(change), ""] if change else []
    lines += [headline(verdict), ""]
    told = f"told by {finding.source.replace('_', ' ')}, {window_text(finding)}"
    if finding.severity is not None:
        told += f", severity {plain(str(finding.severity), 60)}"
    if finding.count > 1:
        told += f", counted {finding.count} times"
    lines += [*entry("Alert", unlinked(finding.title, 500)), *entry("", told)]
    if finding.sample:
        lines += entry("", "The source marks this finding as a made-up SAMPLE.")
    proto = f"{verdict.proto} " if verdict.proto else ""
    lines += entry("Between", f"{proto}{end_text(verdict.local)} (ours) and {end_text(verdict.remote)}")
    lines += entry("Verdict", meaning(verdict))
    lines += entry("Why", unlinked(verdict.summary))
    if counts := counts_text(verdict):
        lines += entry("Counted", counts)
    if verdict.victim:
        port = "" if verdict.victim.port is None else f":{verdict.victim.port}"
        address = f"[{verdict.victim.ip}]" if ":" in verdict.victim.ip else verdict.victim.ip
        lines += entry("Victim", f"{address}{port} ({verdict.victim.proto}): the forged packets were sent to it")
    for number, step in enumerate(steps(verdict), 1):
        lines += entry("What to do" if number == 1 else "", f"{number}. {step}", hang=3)
    return lines


def evidence(verdict: Verdict) -> Iterator[str]:
    """The evidence with its packets, by effect; each effect a paragraph, an empty line behind it."""
    shown = verdict.evidence[:MOST_EVIDENCE]
    for effect, title in EFFECTS.items():
        pieces = [piece for piece in shown if piece.effect is effect]
        if not pieces:
            continue
        yield title
        for piece in pieces:
            yield from textwrap.wrap(unlinked(piece.text), WIDTH, initial_indent="  - ", subsequent_indent="    ")
            for line in piece.packets[:MOST_PACKETS]:
                yield from packet_lines(line)
            if len(piece.packets) > MOST_PACKETS:
                yield f"      and {len(piece.packets) - MOST_PACKETS} more packets"
        yield ""
    if len(verdict.evidence) > len(shown):
        yield from (f"{len(verdict.evidence) - len(shown)} more pieces of evidence are in the verdict's record.", "")


def conversations(verdict: Verdict) -> list[str]:
    """The conversations of a finding that covers several, each with its own verdict, most dangerous first."""
    total = sum(verdict.conversations.values())
    if total < 2 or not verdict.judged:
        return []
    lines = ["Conversations, the most dangerous first"]
    for one in verdict.judged:
        lines += textwrap.wrap(told_text(one), WIDTH, initial_indent="  - ", subsequent_indent="    ")
    if total > len(verdict.judged):
        lines.append(f"    and {total - len(verdict.judged)} more")
    return [*lines, ""]


def told_text(one: Told) -> str:
    """The verdict on one of several conversations, on one line."""
    why = f", {one.why.value.replace('_', ' ')}" if one.why else ""
    sure = f", {one.confidence} of 99" if one.confidence else ""
    packets = "1 packet" if one.packets == 1 else f"{one.packets} packets"
    return (
        f"{moment_text(one.start)} {one.proto} {end_text(one.local)} and {end_text(one.remote)}, {packets}: "
        f"{one.label.value.replace('_', ' ')}{why} ({one.rule}{sure})"
    )


def packet_lines(line: PacketLine) -> Iterator[str]:
    """A packet, and where to find it."""
    yield f"      {clock_text(line.time)}  {plain(line.text, 400)}"
    yield f"        in {plain(line.capture, 300)}, byte {line.offset}"


def closing(verdict: Verdict) -> list[str]:
    """What identifies the finding and its verdict."""
    finding = verdict.finding
    lines = [
        *entry("Finding", plain(finding.id, 300)),
        *entry("Type", plain(finding.type, 300)),
        *entry("Where", plain(" ".join(part for part in (finding.account, finding.region) if part), 300)),
        *entry("Original", plain(finding.origin, 300)),
        *entry("Its packet", plain(_packet_of(finding), 300)),
    ]
    for note in finding.notes[:10]:
        lines += entry("Note", plain(note, 300))
    if verdict.label is not Label.NOT_APPLICABLE:
        lines += entry("Flows", f"{verdict.flows_total} of these conversations")
    return lines


def _packet_of(finding: Finding) -> str:
    """Where the source says that the alert's packet is, and in what tunnel it came; "" where it says nothing."""
    number = f"number {finding.pcap_cnt}" if finding.pcap_cnt else ""
    place = " of ".join(part for part in (number, finding.capture_file) if part)
    tunnel = finding.tunnel
    within = f"came through {tunnel.proto or 'a'} {end_text(tunnel.a)} > {end_text(tunnel.b)}" if tunnel else ""
    return ", ".join(part for part in (place, within) if part)


def entry(label: str, text: str, hang: int = 0) -> list[str]:
    """A labelled paragraph; nothing where there is no text."""
    if not text:
        return []
    first, rest = label.ljust(_LABEL), " " * (_LABEL + hang)
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH)
