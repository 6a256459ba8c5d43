"""The table of rules. Evaluated from the top; the first that matches decides.

A rule is data: its id, the label, the confidence, the ways in which it applies, and one sentence of reason. Several
rows may share an id where confidence depends on the case. Ids are cited by tests, messages and documents. `{local}`,
`{remote}` and `{lookback}` in a reason are filled in by the judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscatter.verdict import needs
from backscatter.verdict.facts import FULL
from backscatter.verdict.model import Label, Why
from backscatter.verdict.needs import Way
from backscatter.verdict.surroundings import REFLECTORS

if TYPE_CHECKING:
    from backscatter.verdict.facts import Facts


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `evidence` says in words what `ways` test; `case` tells rows of one id apart."""

    id: str
    label: Label
    confidence: int
    evidence: str
    reason: str
    ways: tuple[Way, ...]
    case: str = ""
    why: Why | None = None

    def matches(self, facts: Facts) -> bool:
        """Whether it applies."""
        return any(way.fits(facts) for way in self.ways)

    def lacking(self, facts: Facts) -> str | None:
        """What it lacks where it nearly applies, that is, where one way lacks one thing; else None."""
        return next((text for way in self.ways if (text := way.lacking(facts)) is not None), None)


# -- pictures --------------------------------------------------------------------------------------------------------


def _tcp(facts: Facts) -> bool:
    return facts.is_tcp


def _not_tcp(facts: Facts) -> bool:
    return not facts.is_tcp


def _exchange(facts: Facts) -> bool:
    """Not TCP, and packets in both directions."""
    return not facts.is_tcp and facts.local_spoke and facts.remote_spoke


def _asked(facts: Facts) -> bool:
    return facts.local_asked


def _not_asked(facts: Facts) -> bool:
    return not facts.local_asked


def _nobody_began(facts: Facts) -> bool:
    """No SYN of anybody and no SYN+ACK of ours."""
    return not (facts.local_syn or facts.remote_asked or facts.local_accepted)


def _accepted(facts: Facts) -> bool:
    """Their SYN+ACK is there, and none of ours."""
    return facts.is_tcp and facts.remote_accepted and not facts.local_accepted


def _answered(facts: Facts) -> bool:
    """Their SYN+ACK, and something of ours that is more than a SYN."""
    return _accepted(facts) and facts.any(lambda flow: flow.local.packets > flow.local.syns)


def _silent(facts: Facts) -> bool:
    """Nothing of ours but SYNs at most."""
    return not facts.any(lambda flow: flow.local.packets > flow.local.syns)


def _unasked_answer(facts: Facts) -> bool:
    return facts.is_candidate and not facts.error_about_nothing


def _rst_fits_nothing(facts: Facts) -> bool:
    return facts.unasked_synack and facts.local_spoke and not (facts.exact or facts.reset_with_ack)


def _one_sided(facts: Facts) -> bool:
    """The capture shows one direction of our host only, in every view that saw the conversation."""
    return not any(facts.around.both_ways(*view) for view in facts.views)


def _scanned(facts: Facts) -> bool:
    ack = facts.around.synack_scan if facts.unasked_synack else None
    return ack is not None and facts.any(lambda flow: flow.remote.synacks == 1 and flow.remote.synack_ack == ack)


RULES: tuple[Rule, ...] = (
    Rule(
        "R1",
        Label.CONNECTION_ESTABLISHED,
        95,
        "Our SYN, then our ACK or data (the SYN+ACK need not be visible); UDP and ICMP: our request and an answer.",
        "{local} opened this conversation with {remote} itself and went on with it.",
        (
            Way((_tcp, _asked), (needs.WE_WENT_ON,)),
            Way((_not_tcp, _asked), (needs.THEY_SPOKE,)),
        ),
    ),
    Rule(
        "R2",
        Label.CONNECTION_ESTABLISHED,
        75,
        "The handshake was not captured, but their SYN+ACK was followed by our ACK or data, or by their data, FIN or a "
        "further ACK; or data went both ways.",
        "The beginning was not captured, but {local} and {remote} had a real conversation.",
        (
            Way((_accepted, lambda facts: not facts.remote_asked), (needs.PROGRESS,)),
            Way(
                (_tcp, _nobody_began, lambda facts: facts.local_went_on and facts.remote_went_on),
                (needs.DATA_BOTH_WAYS,),
            ),
            # Unless the payloads say it, who asked cannot be told where capture does not reach back to the beginning.
            Way((_exchange, lambda facts: not facts.asker_known and facts.lookback < FULL)),
        ),
        case="handshake missing",
    ),
    Rule(
        "R3",
        Label.CONNECTION_ATTEMPTED,
        90,
        "Our SYN or request, then a RST, an ICMP error, nothing, or our own RST after the SYN+ACK (half-open scan).",
        "{local} tried to reach {remote}; nothing came of it.",
        (Way((_asked,)),),
    ),
    Rule(
        "R3",
        Label.CONNECTION_ATTEMPTED,
        75,
        "Their SYN+ACK or RST+ACK acknowledges the very seq of a SYN that we sent to another address or port, or that "
        "another address sent to them.",
        "{remote} answered a SYN that {local} sent to or from another address, as happens where addresses are "
        "translated or load is balanced.",
        (Way((lambda facts: facts.syn_elsewhere,)),),
        case="answered by another address",
    ),
    Rule(
        "R13",
        Label.INBOUND_CONNECTION,
        90,
        "Their SYN, our SYN+ACK, and their ACK or data, or more of ours than the SYN+ACK; or their request and our "
        "answer.",
        "{remote} connected to {local}, and {local} accepted.",
        (
            Way((_tcp, lambda facts: facts.local_accepted), (needs.WE_WENT_ON,)),
            Way((_tcp, lambda facts: facts.remote_asked or facts.local_accepted), (needs.THEY_WENT_ON,)),
            Way((_exchange,)),
        ),
    ),
    Rule(
        "R14",
        Label.REFLECTION_TARGET,
        80,
        f"At least {REFLECTORS} distinct remotes send unsolicited answers to one of our hosts within 60 s.",
        "{local} is being flooded with answers of many hosts that it never asked: a reflection attack on us.",
        (Way((_unasked_answer, lambda facts: facts.around.reflectors >= REFLECTORS)),),
    ),
    Rule(
        "R15",
        Label.SYNACK_SCAN,
        75,
        "One remote sends single SYN+ACKs with one constant ack, or 0, to at least 10 of us or 10 ports of one of us, "
        "from more than 2 source ports.",
        "{remote} sends lone SYN+ACKs with the same acknowledgement to many of our addresses: a scan, not an answer.",
        (Way((_scanned,)),),
    ),
    Rule(
        "R19",
        Label.UNDETERMINED,
        0,
        "The alerted packets look like backscatter, but we also contacted that remote otherwise in the window.",
        "The packets look like backscatter, but {local} also contacted {remote} otherwise at that time.",
        (Way((lambda facts: facts.is_candidate and facts.contacted,)),),
        case="contacted otherwise",
        why=Why.CONFLICT,
    ),
    Rule(
        "R19",
        Label.UNDETERMINED,
        0,
        "A RST of ours fits no SYN+ACK of theirs or came late, or we sent something else on the tuple in the 15 "
        "minutes before, or were in a connection on it that day.",
        "{local} sent packets to {remote} that are no exact answer to its SYN+ACKs.",
        (Way((_rst_fits_nothing,)), Way((lambda facts: facts.is_candidate and facts.spoke_that_day,))),
        case="our packets do not fit",
        why=Why.CONFLICT,
    ),
    Rule(
        "R19",
        Label.UNDETERMINED,
        0,
        "Without TCP's numbers: we asked another host what this one may have answered, in the 127 s before.",
        "The packets look like backscatter, but {local} asked another address what {remote} may have answered.",
        (Way((lambda facts: facts.is_candidate and not facts.error_about_nothing and facts.asked_elsewhere,)),),
        case="asked elsewhere",
        why=Why.CONFLICT,
    ),
    Rule(
        "R8",
        Label.BACKSCATTER,
        80,
        "An ICMP error quotes a packet of ours that we never sent; full look-back.",
        "An ICMP error quotes a packet from {local} to {remote} that {local} never sent.",
        (Way((lambda facts: facts.error_about_nothing,), (needs.THEY_WERE_SILENT, *needs.WATCHED)),),
    ),
    Rule(
        "R9",
        Label.BACKSCATTER,
        65,
        "An ICMP echo, timestamp, information or mask reply without a request; full look-back.",
        "{remote} replied to an ICMP request that {local} never sent.",
        (Way((lambda facts: facts.unasked_reply,), needs.WATCHED),),
    ),
    Rule(
        "R10",
        Label.BACKSCATTER,
        60,
        "A UDP answer first (DNS, NTP, QUIC server) without a request; full look-back.",
        "{remote} answered a UDP request that {local} never sent.",
        (Way((lambda facts: facts.unasked_answer,), (needs.NOT_TOLD_BY_ICMP, *needs.WATCHED)),),
    ),
    Rule(
        "R12",
        Label.INBOUND_SCAN,
        85,
        "Their SYN, NULL, FIN or Xmas probe, echo request, or UDP that is no answer, unsolicited; we answered RST, an "
        "ICMP error, nothing, or a SYN+ACK that they never completed; our direction is otherwise visible.",
        "{remote} probed {local}, and no connection came of it.",
        (
            # A pure ACK of ours to a SYN of theirs is a challenge (RFC 5961): the tuple carries a connection.
            Way(
                (_tcp, lambda facts: facts.remote_asked or facts.remote_probed),
                (needs.WE_DID_NOT_GO_ON, needs.NOTHING_HIDDEN, needs.VISIBLE),
            ),
            Way(
                (_not_tcp, lambda facts: facts.remote_spoke and not facts.local_spoke and facts.request_of_theirs),
                (needs.VISIBLE,),
            ),
        ),
    ),
    Rule(
        "R19",
        Label.UNDETERMINED,
        0,
        "One scope shows our answer, another in which we are visible shows their packets without it.",
        "Two views of this conversation contradict each other.",
        (Way((lambda facts: facts.is_candidate and facts.scopes_disagree,)),),
        case="scopes disagree",
        why=Why.CONFLICT,
    ),
    Rule(
        "R4",
        Label.BACKSCATTER,
        97,
        "Their SYN+ACK first, answered exactly, no payload, no SYN of ours, full look-back.",
        "{remote} answered a SYN that {local} never sent, and {local} refused the answer: somebody forged its address.",
        (Way((_answered,), (*needs.UNASKED, needs.EXACT, needs.FULL_LOOKBACK)),),
    ),
    Rule(
        "R5",
        Label.BACKSCATTER,
        85,
        "As R4, with a look-back of 30 s to 127 s that no hole ends.",
        "{remote} answered a SYN that {local} did not send in the {lookback} that were captured before, and {local} "
        "refused the answer.",
        (Way((_answered,), (*needs.UNASKED, needs.EXACT, needs.NOT_BEHIND_A_HOLE, needs.PARTIAL_LOOKBACK)),),
        case="partial look-back",
    ),
    Rule(
        "R5",
        Label.BACKSCATTER,
        60,
        "As R4, inside the guard time: less than 30 s of capture before it, and no hole ends that time.",
        "{remote} sent a SYN+ACK that {local} refused, but only {lookback} of capture lie before it.",
        (Way((_answered,), (*needs.UNASKED, needs.EXACT, needs.NOT_BEHIND_A_HOLE)),),
        case="inside the guard time",
    ),
    Rule(
        "R5",
        Label.BACKSCATTER,
        85,
        "As R4, but we answered with an ICMP unreachable that quotes the SYN+ACK; full look-back.",
        "{remote} answered a SYN that {local} never sent, and our side refused the answer with an ICMP error.",
        (
            Way(
                (_accepted, _silent, lambda facts: facts.refused_by_icmp),
                (*needs.UNASKED, needs.REFUSED_ONCE_EACH, *needs.WATCHED),
            ),
        ),
        case="refused by ICMP",
    ),
    Rule(
        "R5",
        Label.BACKSCATTER,
        60,
        "As R4, but we answered RST+ACK.",
        "{remote} sent a SYN+ACK that nobody here asked for, and {local} answered RST+ACK.",
        (
            Way(
                (_answered, lambda facts: not facts.exact),
                (*needs.UNASKED, needs.RESET_WITH_ACK, needs.NOT_BEHIND_A_HOLE, needs.PARTIAL_LOOKBACK),
            ),
        ),
        case="answered RST+ACK",
    ),
    Rule(
        "R6",
        Label.BACKSCATTER,
        85,
        "Their SYN+ACK first and again with the same seq, no answer and no SYN of ours, full look-back and coverage.",
        "{remote} answered, and answered again, a SYN that {local} never sent; {local} stayed silent.",
        (
            Way(
                (_accepted, _silent, lambda facts: not facts.refused_by_icmp),
                (*needs.UNASKED, needs.REPEATED, *needs.WATCHED),
            ),
        ),
        case="retransmitted",
    ),
    Rule(
        "R6",
        Label.BACKSCATTER,
        75,
        "Their SYN+ACK first, no answer and no SYN of ours, full look-back and coverage.",
        "{remote} answered a SYN that {local} never sent; {local} stayed silent.",
        (Way((_accepted, _silent, lambda facts: not facts.refused_by_icmp), (*needs.UNASKED, *needs.WATCHED)),),
    ),
    Rule(
        "R7",
        Label.BACKSCATTER,
        70,
        "Their RST+ACK with seq 0 first, no packet of ours, no earlier conversation of the tuple, full look-back.",
        "A closed port of {remote} refused a SYN that {local} never sent.",
        (
            Way(
                (_tcp, _silent, lambda facts: facts.closed_port_answers),
                (needs.NO_SYN_OF_OURS, needs.NEVER_BEFORE, *needs.WATCHED),
            ),
        ),
    ),
    Rule(
        "R17",
        Label.UNDETERMINED,
        0,
        "Only one direction of our host is visible in that scope.",
        "Only one direction of {local} was captured, so its silence proves nothing.",
        (Way((_one_sided,)),),
        why=Why.ASYMMETRIC,
    ),
    Rule(
        "R16",
        Label.UNDETERMINED,
        0,
        "It begins with data, a lone ACK or FIN, a bare RST of theirs, or a SYN+ACK inside the guard time that is not "
        "answered; or no other rule fits it.",
        "The capture begins in the middle of what happened between {local} and {remote}.",
        (Way(()),),
        why=Why.MIDSTREAM,
    ),
)

#: Decided without a conversation: nothing captured, not seen, or no addresses.
R18 = "R18"
