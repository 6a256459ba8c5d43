"""Writes docs/rules.md from the table of rules, so that the page cannot say anything else than the code does."""

from __future__ import annotations

from pathlib import Path

from backscatter.verdict import caps
from backscatter.verdict.judge import MOST_CONVERSATIONS
from backscatter.verdict.model import Label
from backscatter.verdict.rules import RULES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "rules.md"

HEAD = """# The rules

Made from the table in `backscatter.verdict.rules` by `make docs`; do not edit it here.

*We* and *ours* are the local end, *they* and *theirs* the remote one. A conversation is all flows of one 5-tuple near
the finding, in every scope and view; the rules are tried from the top, and the first that matches decides. A finding
with several conversations takes the most dangerous of their verdicts, in this order: {order}.

| rule | case | verdict | confidence | evidence |
|---|---|---|---|---|
"""

NO_CONVERSATION = (
    "| R18 | no conversation | undetermined | 0 | Nothing captured for the window (`no_capture`); the host was covered "
    "but the remote never appeared (`not_seen`); no pair of addresses (`no_tuple`). |\n"
)

TAIL = """
Bands: *confirmed* from 95, *probable* from 70, *possible* from 50.

## What holds backscatter back

Only backscatter is capped, since it is the one verdict that can hide a real connection. The lowest cap wins.

| what is missing | at most |
|---|---|
| an unbroken capture from the first to the last packet | {possible} |
| both directions of our host, in the scope that shows the conversation | {possible} |
| anybody else's packets in that capture: it may have been filtered | {possible} |
| {reordered} s of capture after the last packet | {probable} |
| another sensor that carried the scope in the last 24 hours covers the time too | {probable} |
| {share:.0%} of the time from the alert's first to its last event | {probable} |
| an estimate of capture loss ({enough} opportunities to notice one) | {probable} |
| if a loss was noticed, certainty (95 %) that it is at most {loss_possible:.0%} | {probable} |
| loss of at most {loss_possible:.0%} (a loss that was noticed counts as one of {enough} at least) | {silent} |
| loss of at most {loss_undetermined:.0%} | undetermined |
| our host is not half-open scanning within five minutes | {possible} |

What speaks for it besides the rule adds points, never past 99 and never across the line to confirmed: a local port that
the flooder juno.c forges, 1024 or 3072 (3 points); one remote that answers at least {flood_hosts} of us from at most
{flood_ports} ports (8); several conversations with it of the same pattern within an hour (5).

R6 to R10 rest on our silence, so without full look-back, both directions and capture afterwards they do not apply at
all: such a conversation is undetermined. Both directions means that one flow of our host is seen both ways, by more
than our SYN+ACKs and RSTs: our broadcasts beside what we receive, or a filter for answers, would hide every SYN. With a
loss that can be measured, silence proves nothing either.

A capture that was filtered for SYN+ACK and RST, as telescopes do it, shows a half-open scan of our own as backscatter
that we refused. Nothing in the packets can tell the two apart. Such a capture holds no acknowledged data, so R4 and R5
stay below confirmed; tell Backscatter to read an unfiltered one.

A SYN+ACK that we refused less than 30 s behind a hole is undetermined, not possible: a piece that is missing may hold
our SYN, and taking pieces away must never make a verdict more harmless. Where capture has just begun, R5 says possible.

Where a finding covers more than {most} conversations, those behind them are undetermined, never harmless.
"""


def page() -> str:
    """The page as text."""
    rows = ""
    for rule in RULES:
        verdict = f"{rule.label}: {rule.why}" if rule.why else rule.label
        rows += f"| {rule.id} | {rule.case} | {verdict} | {rule.confidence} | {rule.evidence} |\n"
    return (
        HEAD.format(order=", ".join(f"`{label}`" for label in Label))
        + rows
        + NO_CONVERSATION
        + TAIL.format(
            possible=caps.POSSIBLE,
            probable=caps.PROBABLE,
            reordered=caps.REORDERED // 10**9,
            share=caps.WINDOW_SHARE,
            enough=caps.ENOUGH_TO_ESTIMATE,
            loss_possible=caps.LOSS_POSSIBLE,
            silent=f"{caps.POSSIBLE}, R6 to R10 undetermined",
            loss_undetermined=caps.LOSS_UNDETERMINED,
            most=MOST_CONVERSATIONS,
            flood_hosts=caps.FLOOD_HOSTS,
            flood_ports=caps.FLOOD_PORTS,
        )
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
