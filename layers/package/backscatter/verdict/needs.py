"""What rules ask for, each fact once: how it is tested, and how a person is told that it is not so.

A rule applies in one or several *ways*. A way is a picture, what kind of conversation it is about, and needs, the facts
that decide. Where the picture is right and exactly one need is not met, the rule nearly applied, and that need says
what was missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscatter.verdict.facts import AT_ONCE, FULL, PARTIAL, REORDERED
from backscatter.verdict.words import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from backscatter.verdict.facts import Facts

    Test = Callable[[Facts], bool]


@dataclass(frozen=True, slots=True)
class Need:
    """One fact. `lacking` says what is so instead, as a clause without a full stop."""

    holds: Test
    lacking: Callable[[Facts], str]


@dataclass(frozen=True, slots=True)
class Way:
    """One way in which a rule applies: everything of `picture` and every need must hold."""

    picture: tuple[Test, ...]
    needs: tuple[Need, ...] = ()

    def fits(self, facts: Facts) -> bool:
        """Whether the rule applies in this way."""
        return all(test(facts) for test in self.picture) and all(need.holds(facts) for need in self.needs)

    def lacking(self, facts: Facts) -> str | None:
        """What it lacks, where that is one thing; else None."""
        if not self.needs or not all(test(facts) for test in self.picture):
            return None
        unmet = [need for need in self.needs if not need.holds(facts)]
        return unmet[0].lacking(facts) if len(unmet) == 1 else None


def _is(test: Test, otherwise: str) -> Need:
    return Need(test, lambda _: otherwise)


# -- what was sent ---------------------------------------------------------------------------------------------------


def _our_syn(facts: Facts) -> str:
    flow = next((flow for flow in (*facts.flows, *facts.conversation.earlier) if flow.local.syns), None)
    if flow is None:
        return "our host sent the SYN that they answer, long before or after"
    return f"our host sent a SYN itself, with seq {flow.local.syn_seq}"


def _more_than_answers(facts: Facts) -> str:
    if facts.any(lambda flow: flow.remote.payload):
        return "what they sent carries payload"
    return "they sent more than SYN+ACKs and RSTs"


def _not_exact(facts: Facts) -> str:
    late = max((flow.local.first - flow.remote.synack_time for flow in facts.flows if flow.local.packets), default=0)
    if facts.any(lambda flow: flow.local.payload):
        return "what we sent carries payload"
    if facts.any(lambda flow: flow.local.packets > flow.local.rsts + flow.local.syns):
        return "we sent more than a RST"
    if facts.any(lambda flow: 0 < flow.remote.synacks < flow.local.rsts):
        return "we sent more RSTs than they sent SYN+ACKs"
    if facts.any(lambda flow: flow.local.exact_rsts) and late > AT_ONCE:
        return f"our RST came {duration(late)} after their SYN+ACK, and a kernel refuses at once"
    return "no bare RST of ours has the seq that their SYN+ACK acknowledges"


NO_SYN_OF_OURS = Need(lambda facts: not facts.local_syn, _our_syn)
NO_SYN_OF_THEIRS = _is(lambda facts: not facts.remote_asked, "they sent a SYN as well")
#: A SYN of ours is told by its own need, so it does not count as having come first here.
SYNACK_FIRST = _is(lambda facts: facts.answer_first or facts.local_syn, "their SYN+ACK was not the first packet")
ANSWERS_ONLY = Need(lambda facts: facts.answers_only, _more_than_answers)
EXACT = Need(lambda facts: facts.exact or (facts.local_syn and facts.exact_but_for_syns), _not_exact)
RESET_WITH_ACK = _is(lambda facts: facts.reset_with_ack, "our RST+ACK does not fit their SYN+ACK")
REFUSED_ONCE_EACH = _is(
    lambda facts: not facts.refused_too_often, "we sent more ICMP errors about their packets than they sent packets"
)
REPEATED = _is(lambda facts: facts.repeated, "their SYN+ACK came once only")
NEVER_BEFORE = _is(lambda facts: not facts.seen_before, "the same ends met before")
NOT_TOLD_BY_ICMP = _is(lambda facts: not facts.told_by_icmp, "an ICMP error quotes a packet of ours to them")
THEY_WERE_SILENT = _is(lambda facts: not facts.remote_spoke, "they sent more than the ICMP error")

WE_WENT_ON = _is(lambda facts: facts.local_went_on, "no ACK, data or FIN of ours followed")
WE_DID_NOT_GO_ON = _is(lambda facts: not facts.local_went_on, "we sent an ACK, data or a FIN")
THEY_WENT_ON = _is(lambda facts: facts.remote_went_on, "no ACK or data of theirs followed")
THEY_SPOKE = _is(lambda facts: facts.remote_spoke, "no answer of theirs is there")
PROGRESS = _is(
    lambda facts: facts.local_went_on or facts.remote_finished_handshake,
    "neither an ACK or data of ours nor data, a FIN or a further ACK of theirs followed",
)
DATA_BOTH_WAYS = _is(
    lambda facts: facts.any(lambda flow: flow.local.data) and facts.any(lambda flow: flow.remote.data),
    "data went one way only",
)
NOTHING_HIDDEN = _is(
    lambda facts: not facts.any(lambda flow: flow.local.payload and flow.local.rsts), "our RST carries payload"
)
VISIBLE = _is(
    lambda facts: facts.local_spoke or facts.refused_by_icmp or facts.both_ways,
    "our host's direction is not visible in that scope, so its silence proves nothing",
)

# -- what the captures can vouch for ---------------------------------------------------------------------------------


def _lookback(needed: int) -> Callable[[Facts], str]:
    def told(facts: Facts) -> str:
        if not facts.lookback:
            return f"no unbroken capture reaches back before the first packet; {duration(needed)} are needed"
        length = duration(facts.lookback)
        if facts.behind_a_hole:
            return f"a hole in the captures ends {length} before the first packet; {duration(needed)} are needed"
        return f"only {length} of unbroken capture lie before the first packet; {duration(needed)} are needed"

    return told


def _if_covered(test: Test, otherwise: str | Callable[[Facts], str]) -> Need:
    """A need of coverage; where there is none at all, that alone is told."""
    lacking = otherwise if callable(otherwise) else lambda _: otherwise
    return Need(lambda facts: facts.coverage is None or test(facts), lacking)


COVERED = _is(lambda facts: facts.coverage is not None, "no capture with a sound clock vouches for that time")
FULL_LOOKBACK = _if_covered(lambda facts: facts.lookback >= FULL, _lookback(FULL))
PARTIAL_LOOKBACK = _if_covered(lambda facts: facts.lookback >= PARTIAL, _lookback(PARTIAL))
NOT_BEHIND_A_HOLE = Need(lambda facts: not facts.behind_a_hole or facts.lookback >= FULL, _lookback(FULL))
SEEN_FREELY = _if_covered(
    lambda facts: facts.seen_freely,
    "no flow of our host is seen both ways there, by more than its answers, so its silence proves nothing",
)
UNBROKEN = _if_covered(lambda facts: facts.unbroken, "a hole lies between its first and its last packet")
CAPTURED_AFTER = _if_covered(
    lambda facts: facts.captured_after >= REORDERED,
    f"the capture ends less than {duration(REORDERED)} after its last packet",
)

#: Silence of ours can be told from blindness.
WATCHED = (COVERED, FULL_LOOKBACK, SEEN_FREELY, UNBROKEN, CAPTURED_AFTER)
#: Their SYN+ACK came, and nothing of ours had asked for it.
UNASKED = (NO_SYN_OF_OURS, NO_SYN_OF_THEIRS, SYNACK_FIRST, ANSWERS_ONLY)
