"""Verdicts made by hand, so that what is told can be tested without a judge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from backscatter.decode.columns import NOWHERE
from backscatter.finding.model import End, Finding, Tuple
from backscatter.flow.address import Address
from backscatter.flow.table import CONN_STATES, FLOW, HAS_RST, HAS_SYNACK, FlowTable
from backscatter.verdict.model import Effect, Evidence, Label, PacketLine, Verdict, Victim

OURS, THEIRS = "69.143.202.28", "193.109.122.67"
SYNACK_TIME, RST_TIME = 1174413859_731091000, 1174413859_731429000
SECOND_PAIR = 1174421834_204512000
CAPTURE = "s3://captures/edge/2007-03-20-18.pcap"

SYNACK = PacketLine(
    SYNACK_TIME,
    f"IP {THEIRS}.6667 > {OURS}.1024: Flags [S.], seq 4257997451, ack 2934031229, win 2048, length 0",
    CAPTURE,
    24,
)
RST = PacketLine(RST_TIME, f"IP {OURS}.1024 > {THEIRS}.6667: Flags [R], seq 2934031229, win 0, length 0", CAPTURE, 94)
LATER = (
    PacketLine(
        SECOND_PAIR,
        f"IP {THEIRS}.6667 > {OURS}.3072: Flags [S.], seq 381774901, ack 1183429120, win 2048, length 0",
        CAPTURE,
        164,
    ),
    PacketLine(
        SECOND_PAIR + 352_000,
        f"IP {OURS}.3072 > {THEIRS}.6667: Flags [R], seq 1183429120, win 0, length 0",
        CAPTURE,
        234,
    ),
)

FINDING = Finding(
    id="1.204541",
    source="sguil",
    type="BLEEDING-EDGE DROP Known Bot C&C Server Traffic (group 1)",
    title="BLEEDING-EDGE DROP Known Bot C&C Server Traffic (group 1)",
    severity=None,
    first_seen=1174413859 * 10**9,
    last_seen=1174413859 * 10**9,
    count=2,
    tuples=(Tuple("tcp", End(OURS, 1024), End(THEIRS, 6667)),),
    origin="alerts/sguil.txt:1",
)


def flows() -> FlowTable:
    """The one flow of the 2007 pair."""
    rows = np.zeros(1, FLOW)
    row = rows[0]
    theirs, ours = Address.parse(THEIRS), Address.parse(OURS)
    row["version"], row["proto"], row["has_ports"] = 4, 6, 1
    row["src_lo"], row["dst_lo"], row["src_port"], row["dst_port"] = theirs.lo, ours.lo, 6667, 1024
    row["start"], row["end"], row["history"], row["quote"] = SYNACK_TIME, RST_TIME, b"Hr", -1
    row["conn_state"] = CONN_STATES.index("REJ")
    for side, flags in (("src", 18), ("dst", 4)):
        row[f"{side}_packets"], row[f"{side}_bytes"], row[f"{side}_flags"] = 1, 40, flags
        row[f"{side}_places"] = NOWHERE
    row["src_has"], row["src_synack_seq"], row["src_synack_ack"] = HAS_SYNACK, 4257997451, 2934031229
    row["dst_has"], row["dst_rst_seq"] = HAS_RST, 2934031229
    return FlowTable(rows, FlowTable.empty().quotes, sensors=("edge",), pieces=(CAPTURE,))


BACKSCATTER = Verdict(
    finding=FINDING,
    proto="tcp",
    local=End(OURS, 1024),
    remote=End(THEIRS, 6667),
    label=Label.BACKSCATTER,
    why=None,
    confidence=97,
    rule="R4",
    summary=f"{THEIRS}:6667 answered a SYN that {OURS} never sent, and {OURS} refused the answer.",
    victim=Victim(THEIRS, 6667, "tcp"),
    conversations={"backscatter": 2},
    evidence=(
        Evidence(
            Effect.FOR,
            "The conversation begins with a SYN+ACK of the remote; no SYN of ours came in the 15 minutes before it.",
            packets=(SYNACK,),
        ),
        Evidence(
            Effect.FOR,
            "The answer is a bare RST whose seq 2934031229 is the ack of the SYN+ACK: no socket wanted it.",
            packets=(SYNACK, RST),
        ),
        Evidence(Effect.FOR, "A second conversation with the same remote shows the same picture.", packets=LATER),
        Evidence(Effect.AGAINST, "The alert itself also fits a half-open scan by our own host."),
        Evidence(Effect.MISSING, "A lone SYN+ACK probe of a scanner would look the same."),
    ),
    flows=flows(),
    flows_total=2,
)


def told_as(label: Label, **changes: object) -> Verdict:
    """The 2007 verdict with another label: what it is told as, not what it would be."""
    victim = BACKSCATTER.victim if label is Label.BACKSCATTER else None
    return replace(BACKSCATTER, label=label, victim=victim, **changes)


#: What a hostile alert would like to do to whoever reads of it.
HOSTILE = "\x1b[31mred\r\nSubject: forged\u202e <script>alert(1)</script> <!channel> @here *b* `c` http://evil.example/"


def hostile(words: str) -> Verdict:
    """The verdict with the same text wherever an alert or a capture's name brings text in."""
    finding = replace(
        FINDING,
        id=words,
        title=words,
        type=words,
        account=words,
        region=words,
        origin=words,
        severity=words,
        notes=(words,),
    )
    line = replace(SYNACK, text=words, capture=words)
    evidence = (Evidence(Effect.FOR, words, packets=(line,)), Evidence(Effect.MISSING, words))
    return replace(BACKSCATTER, finding=finding, evidence=evidence, summary=words)
