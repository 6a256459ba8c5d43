"""Writes docs/rules.md from the table of rules, so that the page cannot say anything else than the code does."""

from __future__ import annotations

from pathlib import Path

from backscatter.verdict import caps
from backscatter.verdict.judge import MOST_CONVERSATIONS
from backscatter.verdict.model import Label
from backscatter.verdict.rules import RULES, Rule
from backscatter.verdict.sessions import CONFLICT, LARGEST_BARE, SESSION_RULES, SessionRule

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

A SYN+ACK that we refused less than 127 s behind a hole is undetermined, neither probable nor possible: a piece that is
missing may hold our SYN, and taking pieces away must never make a verdict more harmless. Where capture has just begun,
R5 says possible. What a hole further back may hide is another contact with that remote (R19).

Where a finding covers more than {most} conversations, those behind them are undetermined, never harmless.
"""

SESSIONS = """
## Session records

`triage --sessions` reads what others counted where nobody captured: VPC Flow Logs, and the `flow` and `netflow` events
of Suricata and AWS Network Firewall. They have no sequence numbers and sum flags up, so they have a table of their own,
in `backscatter.verdict.sessions`, and nothing on it is confirmed. Where no packets were captured of a finding, it
decides. Where some were, a record that shows our host taking part in a connection counts more than anything harmless
that the captures show; every other record is told in the evidence and changes nothing.

| rule | case | verdict | confidence | evidence |
|---|---|---|---|---|
{rows}
Flags of `00` with packets, and a flow log without the column `tcp-flags`, are unknown, not absent. VPC Flow Logs tell
SYN, FIN, RST and SYN+ACK apart and hide every other ACK, so a size beyond bare headers ({bare} bytes a packet, {bare6}
for IPv6) counts as data. A security group keeps track of connections: it does not reject the answer to a SYN of ours. A
network ACL does, but then our SYN is on record.
"""


def page() -> str:
    """The page as text."""
    rows = "".join(map(_row, RULES))
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
        + SESSIONS.format(
            rows="".join(map(_row, (*SESSION_RULES[:-1], CONFLICT, SESSION_RULES[-1]))),
            bare=LARGEST_BARE[4],
            bare6=LARGEST_BARE[6],
        )
    )


def _row(rule: Rule | SessionRule) -> str:
    verdict = f"{rule.label}: {rule.why}" if rule.why else rule.label
    return f"| {rule.id} | {rule.case} | {verdict} | {rule.confidence} | {rule.evidence} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
