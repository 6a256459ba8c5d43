"""Writes docs/rules.md from the table of rules, so that the page cannot say anything else than the code does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.verdict.scenarios.shown import shown, views_that_contradict_each_other

from backscatter.report.ladder import ladder, ladder_text
from backscatter.verdict import caps
from backscatter.verdict.judge import MOST_CONVERSATIONS
from backscatter.verdict.model import Label
from backscatter.verdict.rules import RULES, Rule
from backscatter.verdict.sessions import CONFLICT, LARGEST_BARE, SESSION_RULES, SessionRule

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.verdict.scenarios.story import Story

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
| our host got no DNS answer with the remote's address in the five minutes before (cut ones say nothing) | {possible} |

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

CASES_HEAD = """
## Each rule's case

One of the scenarios that the judge is tested with (`tests/verdict/scenarios`) for each row of the table, judged by it
and drawn: the packets that the verdict shows as evidence. Times count from the first packet or the last pause. Below
stands which other rule nearly applied, and the one thing that it lacked.
"""

#: What is told of a rule that nearly applied says so in these words.
NEAR = "nearly applied"

#: Rule and case -> the scenario that shows it: the name of its kind, or a story of its own.
CASES: dict[tuple[str, str], str | Callable[[Story], None]] = {
    ("R1", ""): "connected_and_reset_before_data",
    ("R2", "handshake missing"): "midstream_data_both_ways",
    ("R3", ""): "one_half_open_probe",
    ("R3", "answered by another address"): "answered_by_another_address_of_a_load_balancer",
    ("R13", ""): "they_connect",
    ("R14", ""): "synacks_of_many_servers",
    ("R15", ""): "synack_scan_with_one_ack",
    ("R19", "contacted otherwise"): "we_also_contacted_the_victim",
    ("R19", "our packets do not fit"): "words_of_ours_in_the_number_of_refusals",
    ("R19", "asked elsewhere"): "dns_answer_from_another_address_of_the_server",
    ("R8", ""): "victim_unreachable_by_its_router",
    ("R9", ""): "echo_reply",
    ("R10", ""): "dns_answer",
    ("R12", ""): "half_open_scan_of_theirs",
    ("R19", "scopes disagree"): views_that_contradict_each_other,
    ("R4", ""): "refused_again_and_again",
    ("R5", "partial look-back"): "forged_with_little_look_back",
    ("R5", "inside the guard time"): "forged_but_at_the_begin_of_the_capture",
    ("R5", "refused by ICMP"): "refused_with_icmp_by_our_host",
    ("R5", "answered RST+ACK"): "refused_with_rst_and_ack",
    ("R6", "retransmitted"): "unanswered_and_retransmitted",
    ("R6", ""): "unanswered_once",
    ("R7", ""): "closed_port_once",
    ("R17", ""): "only_their_synack_captured",
    ("R16", ""): "reset_of_an_idle_connection_by_their_keep_alive",
}

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
network ACL does, but then our SYN is on record, unless the log holds rejected traffic only.
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
        + CASES_HEAD
        + "".join(map(_case, RULES))
        + SESSIONS.format(
            rows="".join(map(_row, (*SESSION_RULES[:-1], CONFLICT, SESSION_RULES[-1]))),
            bare=LARGEST_BARE[4],
            bare6=LARGEST_BARE[6],
        )
    )


def _case(rule: Rule) -> str:
    """The ladder of a rule's case. Raises ValueError where the scenario does not show the rule."""
    verdict = shown(CASES[rule.id, rule.case])
    if (verdict.rule, verdict.label) != (rule.id, rule.label) or rule.evidence not in verdict.evidence[0].text:
        raise ValueError(f"the case of {rule.id} {rule.case} was judged by {verdict.rule}: {verdict.evidence[0].text}")
    drawn = ladder(verdict)
    if drawn is None:
        raise ValueError(f"the case of {rule.id} {rule.case} has no packets")
    title = f"{rule.id}{f' ({rule.case})' if rule.case else ''}: {rule.label.value.replace('_', ' ')}"
    lines = "\n".join(ladder_text(drawn))
    near = "".join(f"- {text}\n" for text in verdict.judged[0].missing if NEAR in text)
    return f"\n### {title}\n\n{verdict.summary}\n\n```text\n{lines}\n```\n" + (f"\n{near}" if near else "")


def _row(rule: Rule | SessionRule) -> str:
    verdict = f"{rule.label}: {rule.why}" if rule.why else rule.label
    return f"| {rule.id} | {rule.case} | {verdict} | {rule.confidence} | {rule.evidence} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
