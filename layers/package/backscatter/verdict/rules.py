"""The table of rules. Evaluated from the top; the first that matches decides.

A rule is data: its id, the label, the confidence, when it matches, and one sentence of reason. Several rows may share
an id where confidence depends on the case. Ids are cited by tests, messages and documents. `{local}`, `{remote}` and
`{lookback}` in a reason are filled in by the judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscatter.verdict.conversation import TCP
from backscatter.verdict.facts import FULL, PARTIAL
from backscatter.verdict.model import Label, Why
from backscatter.verdict.surroundings import REFLECTORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from backscatter.verdict.facts import Facts


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `evidence` says in words what `matches` tests; `case` tells rows of one id apart."""

    id: str
    label: Label
    confidence: int
    evidence: str
    reason: str
    matches: Callable[[Facts], bool]
    case: str = ""
    why: Why | None = None


def _exchange(facts: Facts) -> bool:
    """Not TCP, and packets in both directions."""
    return not facts.is_tcp and facts.local_spoke and facts.remote_spoke


def _established(facts: Facts) -> bool:
    return facts.local_asked and (facts.local_went_on if facts.is_tcp else facts.remote_spoke)


def _handshake_missing(facts: Facts) -> bool:
    if not facts.is_tcp:
        # Unless the payloads say it, who asked cannot be told where the capture does not reach back to the beginning.
        return _exchange(facts) and not facts.asker_known and facts.lookback < FULL
    if facts.remote_asked or facts.local_accepted:
        return False
    if facts.remote_accepted and (facts.local_went_on or facts.remote_finished_handshake):
        return True
    return facts.local_went_on and facts.remote_went_on and _data_both_ways(facts)


def _data_both_ways(facts: Facts) -> bool:
    return facts.any(lambda flow: flow.local.data) and facts.any(lambda flow: flow.remote.data)


def _accepted(facts: Facts) -> bool:
    if not facts.is_tcp:
        return _exchange(facts)
    if facts.local_accepted and facts.local_went_on:
        return True
    return (facts.remote_asked or facts.local_accepted) and facts.remote_went_on


def _probe(facts: Facts) -> bool:
    if not (facts.local_spoke or facts.refused_by_icmp or facts.both_ways):
        return False
    if facts.is_tcp:
        # A pure ACK of ours to a SYN of theirs is a challenge (RFC 5961): the tuple carries a connection.
        return (facts.remote_asked or facts.remote_probed) and not facts.local_went_on
    return facts.remote_spoke and not facts.local_spoke and facts.request_of_theirs


def _refused(facts: Facts) -> bool:
    return facts.unasked_synack and facts.exact


def _unanswered(facts: Facts) -> bool:
    return facts.unasked_synack and not facts.local_spoke and not facts.refused_by_icmp


def _rst_fits_nothing(facts: Facts) -> bool:
    return facts.unasked_synack and facts.local_spoke and not (facts.exact or facts.reset_with_ack)


def _closed_port(facts: Facts) -> bool:
    if not (facts.is_tcp and facts.closed_port_answers and not facts.local_spoke and facts.full):
        return False
    one = facts.conversation
    day = 24 * 3600 * 10**9
    return not one.earlier and not facts.around.ever_before(TCP, one.local_port, one.remote_port, facts.start - day)


def _one_sided(facts: Facts) -> bool:
    """The capture shows one direction of our host only, in every view that saw the conversation."""
    return not any(facts.around.both_ways(*view) for view in facts.views)


RULES: tuple[Rule, ...] = (
    Rule(
        "R1",
        Label.CONNECTION_ESTABLISHED,
        95,
        "Our SYN, then our ACK or data (the SYN+ACK need not be visible); UDP and ICMP: our request and an answer.",
        "{local} opened this conversation with {remote} itself and went on with it.",
        _established,
    ),
    Rule(
        "R2",
        Label.CONNECTION_ESTABLISHED,
        75,
        "The handshake was not captured, but their SYN+ACK was followed by our ACK or data, or by their data, FIN or a "
        "further ACK; or data went both ways.",
        "The beginning was not captured, but {local} and {remote} had a real conversation.",
        _handshake_missing,
        case="handshake missing",
    ),
    Rule(
        "R3",
        Label.CONNECTION_ATTEMPTED,
        90,
        "Our SYN or request, then a RST, an ICMP error, nothing, or our own RST after the SYN+ACK (half-open scan).",
        "{local} tried to reach {remote}; nothing came of it.",
        lambda facts: facts.local_asked,
    ),
    Rule(
        "R13",
        Label.INBOUND_CONNECTION,
        90,
        "Their SYN, our SYN+ACK, and their ACK or data, or more of ours than the SYN+ACK; or their request and our "
        "answer.",
        "{remote} connected to {local}, and {local} accepted.",
        _accepted,
    ),
    Rule(
        "R14",
        Label.REFLECTION_TARGET,
        80,
        f"At least {REFLECTORS} distinct remotes send unsolicited answers to one of our hosts within 60 s.",
        "{local} is being flooded with answers of many hosts that it never asked: a reflection attack on us.",
        lambda facts: facts.is_candidate and not facts.error_about_nothing and facts.around.reflectors >= REFLECTORS,
    ),
    Rule(
        "R15",
        Label.SYNACK_SCAN,
        75,
        "One remote sends single SYN+ACKs with one constant ack, or 0, to at least 10 of us or 10 ports of one of us, "
        "from more than 2 source ports.",
        "{remote} sends lone SYN+ACKs with the same acknowledgement to many of our addresses: a scan, not an answer.",
        lambda facts: (
            facts.unasked_synack
            and (ack := facts.around.synack_scan) is not None
            and facts.any(lambda flow: flow.remote.synacks == 1 and flow.remote.synack_ack == ack)
        ),
    ),
    Rule(
        "R19",
        Label.UNDETERMINED,
        0,
        "The alerted packets look like backscatter, but we also contacted that remote otherwise in the window.",
        "The packets look like backscatter, but {local} also contacted {remote} otherwise at that time.",
        lambda facts: facts.is_candidate and facts.contacted,
        case="contacted otherwise",
        why=Why.CONFLICT,
    ),
    Rule(
        "R19",
        Label.UNDETERMINED,
        0,
        "A RST of ours fits no SYN+ACK of theirs, or we sent something else on the tuple in the 15 minutes before.",
        "{local} sent packets to {remote} that are no exact answer to its SYN+ACKs.",
        lambda facts: _rst_fits_nothing(facts) or (facts.is_candidate and facts.spoke_before),
        case="our packets do not fit",
        why=Why.CONFLICT,
    ),
    Rule(
        "R8",
        Label.BACKSCATTER,
        80,
        "An ICMP error quotes a packet of ours that we never sent; full look-back.",
        "An ICMP error quotes a packet from {local} to {remote} that {local} never sent.",
        lambda facts: facts.error_about_nothing and not facts.remote_spoke and facts.full,
    ),
    Rule(
        "R9",
        Label.BACKSCATTER,
        65,
        "An ICMP echo, timestamp, information or mask reply without a request; full look-back.",
        "{remote} replied to an ICMP request that {local} never sent.",
        lambda facts: facts.unasked_reply and facts.full,
    ),
    Rule(
        "R10",
        Label.BACKSCATTER,
        60,
        "A UDP answer first (DNS, NTP, QUIC server) without a request; full look-back.",
        "{remote} answered a UDP request that {local} never sent.",
        lambda facts: facts.unasked_answer and not facts.told_by_icmp and facts.full,
    ),
    Rule(
        "R12",
        Label.INBOUND_SCAN,
        85,
        "Their SYN, NULL, FIN or Xmas probe, echo request, or UDP that is no answer, unsolicited; we answered RST, an "
        "ICMP error, nothing, or a SYN+ACK that they never completed; our direction is otherwise visible.",
        "{remote} probed {local}, and no connection came of it.",
        _probe,
    ),
    Rule(
        "R19",
        Label.UNDETERMINED,
        0,
        "One scope shows our answer, another in which we are visible shows their packets without it.",
        "Two views of this conversation contradict each other.",
        lambda facts: facts.is_candidate and facts.scopes_disagree,
        case="scopes disagree",
        why=Why.CONFLICT,
    ),
    Rule(
        "R4",
        Label.BACKSCATTER,
        97,
        "Their SYN+ACK first, answered exactly, no payload, no SYN of ours, full look-back.",
        "{remote} answered a SYN that {local} never sent, and {local} refused the answer: somebody forged its address.",
        lambda facts: _refused(facts) and facts.lookback >= FULL,
    ),
    Rule(
        "R5",
        Label.BACKSCATTER,
        85,
        "As R4, with a look-back of 30 s to 127 s.",
        "{remote} answered a SYN that {local} did not send in the {lookback} that were captured before, and {local} "
        "refused the answer.",
        lambda facts: _refused(facts) and facts.lookback >= PARTIAL,
        case="partial look-back",
    ),
    Rule(
        "R5",
        Label.BACKSCATTER,
        60,
        "As R4, inside the guard time: less than 30 s of capture before it, and no hole ends that time.",
        "{remote} sent a SYN+ACK that {local} refused, but only {lookback} of capture lie before it.",
        lambda facts: _refused(facts) and not facts.behind_a_hole,
        case="inside the guard time",
    ),
    Rule(
        "R5",
        Label.BACKSCATTER,
        85,
        "As R4, but we answered with an ICMP unreachable that quotes the SYN+ACK; full look-back.",
        "{remote} answered a SYN that {local} never sent, and our side refused the answer with an ICMP error.",
        lambda facts: facts.unasked_synack and not facts.local_spoke and facts.refused_by_icmp and facts.full,
        case="refused by ICMP",
    ),
    Rule(
        "R5",
        Label.BACKSCATTER,
        60,
        "As R4, but we answered RST+ACK.",
        "{remote} sent a SYN+ACK that nobody here asked for, and {local} answered RST+ACK.",
        lambda facts: facts.unasked_synack and facts.reset_with_ack and facts.lookback >= PARTIAL,
        case="answered RST+ACK",
    ),
    Rule(
        "R6",
        Label.BACKSCATTER,
        85,
        "Their SYN+ACK first and again with the same seq, no answer and no SYN of ours, full look-back and coverage.",
        "{remote} answered, and answered again, a SYN that {local} never sent; {local} stayed silent.",
        lambda facts: _unanswered(facts) and facts.repeated and facts.full,
        case="retransmitted",
    ),
    Rule(
        "R6",
        Label.BACKSCATTER,
        75,
        "Their SYN+ACK first, no answer and no SYN of ours, full look-back and coverage.",
        "{remote} answered a SYN that {local} never sent; {local} stayed silent.",
        lambda facts: _unanswered(facts) and facts.full,
    ),
    Rule(
        "R7",
        Label.BACKSCATTER,
        70,
        "Their RST+ACK with seq 0 first, no packet of ours, no earlier conversation of the tuple, full look-back.",
        "A closed port of {remote} refused a SYN that {local} never sent.",
        _closed_port,
    ),
    Rule(
        "R17",
        Label.UNDETERMINED,
        0,
        "Only one direction of our host is visible in that scope.",
        "Only one direction of {local} was captured, so its silence proves nothing.",
        _one_sided,
        why=Why.ASYMMETRIC,
    ),
    Rule(
        "R16",
        Label.UNDETERMINED,
        0,
        "It begins with data, a lone ACK or FIN, a bare RST of theirs, or a SYN+ACK inside the guard time that is not "
        "answered; or no other rule fits it.",
        "The capture begins in the middle of what happened between {local} and {remote}.",
        lambda _: True,
        why=Why.MIDSTREAM,
    ),
)

#: Decided without a conversation: nothing captured, not seen, or no addresses.
R18 = "R18"
