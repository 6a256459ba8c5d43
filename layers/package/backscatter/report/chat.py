"""A verdict as a custom notification of Amazon Q Developer in chat applications (Slack, Microsoft Teams).

Schema: https://docs.aws.amazon.com/chatbot/latest/adminguide/custom-notifs.html. A message of any other shape is
dropped there without a word, so the shape is spelled out here in full.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from backscatter.report import text
from backscatter.report.advice import ADVICE, meaning, steps, turn
from backscatter.report.escape import chat, chat_code, plain
from backscatter.verdict.model import Effect
from backscatter.verdict.words import end_text

if TYPE_CHECKING:
    from backscatter.verdict.model import Verdict

TITLE_CHARS, DESCRIPTION_CHARS, STEP_CHARS, SUMMARY_CHARS, CONTEXT_CHARS = 250, 8000, 500, 500, 500
_MOST_EVIDENCE, _MOST_PACKETS = 8, 6

_MARKS = {Effect.FOR: "for", Effect.AGAINST: "against", Effect.MISSING: "missing"}


def chat_message(verdict: Verdict, *, previous: str | None = None, revision: str = "") -> dict[str, Any]:
    """The notification that tells a verdict; see `mail` for the arguments."""
    finding = verdict.finding
    context = {
        "verdict": verdict.label.value,
        "band": verdict.band,
        "rule": verdict.rule or "",
        "source": finding.source,
        "findingId": finding.id,
        "findingType": finding.type,
        "account": finding.account,
        "region": finding.region,
        "revision": revision,
    }
    ends = [end for end in (verdict.local, verdict.remote) if end.ip]
    return {
        "version": "1.0",
        "source": "custom",
        "content": {
            "textType": "client-markdown",
            "title": chat(_title(verdict, previous), TITLE_CHARS),
            "description": _description(verdict, previous),
            "nextSteps": [chat(step, STEP_CHARS) for step in steps(verdict)],
            "keywords": [verdict.label.value, *([verdict.band] if verdict.confidence else []), finding.source],
        },
        "metadata": {
            "threadId": thread_id(verdict),
            "summary": chat(f"{ADVICE[verdict.label].headline}: {verdict.summary}", SUMMARY_CHARS),
            "eventType": "backscatter-verdict",
            "relatedResources": [end_text(end) for end in ends],
            "additionalContext": {
                name: plain(value, CONTEXT_CHARS) for name, value in context.items() if value.strip()
            },
        },
    }


def thread_id(verdict: Verdict) -> str:
    """One thread for one remote, remote port and verdict: a flood with many alerts is one conversation in the chat.

    A finding without a remote is a thread of its own.
    """
    key = [verdict.label.value, verdict.remote.ip or verdict.finding.id, str(verdict.remote.port)]
    return hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]


def _title(verdict: Verdict, previous: str | None) -> str:
    mark = "CORRECTION, no longer backscatter: " if turn(verdict, previous).startswith("CORRECTION") else ""
    sample = "SAMPLE: " if verdict.finding.sample else ""
    band = f", {verdict.band}" if verdict.confidence else ""
    return (
        f"{mark}{sample}{ADVICE[verdict.label].headline}{band}: "
        f"{end_text(verdict.local)} and {end_text(verdict.remote)}"
    )


def _description(verdict: Verdict, previous: str | None) -> str:
    """Markdown, whole lines only, within the bound."""
    finding = verdict.finding
    lines = [f"*{chat(turn(verdict, previous))}*"] if turn(verdict, previous) else []
    lines += [
        f"*Alert* {chat_code(finding.title, 500)} ({chat(finding.source)}, {text.window_text(finding)})",
        f"*Verdict* {meaning(verdict)}",
        f"*Why* {chat(verdict.summary)}",
    ]
    if counts := text.counts_text(verdict):
        lines.append(f"*Counted* {chat(counts)}")
    if verdict.victim:
        port = "" if verdict.victim.port is None else f" port {verdict.victim.port}"
        lines.append(f"*Victim* {chat_code(verdict.victim.ip)}{port} {verdict.victim.proto}")
    for piece in verdict.evidence[:_MOST_EVIDENCE]:
        lines.append(f"- {_MARKS[piece.effect]}: {chat(piece.text, 500)}")
        lines += [chat_code(f"{text.clock_text(line.time)} {line.text}", 300) for line in piece.packets[:_MOST_PACKETS]]
    if len(verdict.evidence) > _MOST_EVIDENCE:
        lines.append(
            f"{len(verdict.evidence) - _MOST_EVIDENCE} more pieces of evidence are in the mail and the record."
        )
    kept: list[str] = []
    room = DESCRIPTION_CHARS - 100
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            kept.append("The rest is cut: see the mail or the record.")
            break
        kept.append(line)
    return "\n".join(kept)
