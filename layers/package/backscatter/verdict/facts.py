"""What is known of one conversation, put as the questions that the rules ask. Existence counts in every view."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from backscatter.decode.columns import ACK, RST, SYN
from backscatter.flow.table import HAS_SYN, HAS_SYNACK
from backscatter.verdict.conversation import ICMP, ICMP6, ICMP_REPLIES, TCP, UDP
from backscatter.verdict.datagrams import SERVICES, answers_of, asked_by_content

if TYPE_CHECKING:
    from collections.abc import Callable

    from backscatter.verdict.conversation import Conversation, SeenFlow, Side
    from backscatter.verdict.coverage import Coverage
    from backscatter.verdict.surroundings import Surroundings

SECOND = 10**9

#: A SYN of ours may be delivered this much after the SYN+ACK that answers it: load balancers reorder.
REORDERED = 3 * SECOND

#: A kernel refuses a SYN+ACK within milliseconds; this leaves room for what a load balancer shuffles.
AT_ONCE = 3 * SECOND

#: Linux gives a connect up after 127 s (SYNs after 1, 3, 7, 15, 31 and 63 s): a full look-back.
FULL, PARTIAL = 127 * SECOND, 30 * SECOND


@dataclass(frozen=True)
class Facts:
    """One conversation with what surrounds it.

    coverages  of each view that saw it, and of each other sensor that carries one of its scopes
    around     what else the two hosts did
    contacted  whether the local host had another conversation with the remote that it began or took part in
    """

    conversation: Conversation
    coverages: tuple[Coverage, ...]
    around: Surroundings
    contacted: bool = False

    # -- who sent what ------------------------------------------------------------------------------------------------

    @property
    def flows(self) -> tuple[SeenFlow, ...]:
        """Flows of the conversation."""
        return self.conversation.flows

    @property
    def start(self) -> int:
        """Time of the first packet, ns."""
        return self.conversation.start

    @property
    def is_tcp(self) -> bool:
        """Whether it is TCP."""
        return self.conversation.proto == TCP

    def any(self, test: Callable[[SeenFlow], object]) -> bool:
        """Whether any flow of it passes the test."""
        return any(test(flow) for flow in self.flows)

    def total(self, count: Callable[[SeenFlow], int]) -> int:
        """Sum over the flows of the view in which it is largest: views are never summed."""
        by_view: dict[tuple[str, str], int] = {}
        for flow in self.flows:
            by_view[flow.view] = by_view.get(flow.view, 0) + count(flow)
        return max(by_view.values(), default=0)

    @cached_property
    def local_spoke(self) -> bool:
        """Whether the local end sent any packet of it."""
        return self.any(lambda flow: flow.local.packets)

    @cached_property
    def remote_spoke(self) -> bool:
        """Whether the remote end sent any packet of it."""
        return self.any(lambda flow: flow.remote.packets)

    @cached_property
    def local_first(self) -> bool:
        """Whether the first packet seen on the tuple, over all views, was the local end's."""
        flows = (*self.conversation.earlier, *self.flows)
        first = min(flows, key=lambda flow: (flow.start, flow.row), default=None)
        return first is not None and first.local_began

    # -- the local end's question -------------------------------------------------------------------------------------

    @cached_property
    def local_syn(self) -> bool:
        """Whether a SYN of ours is there: in this conversation in any scope, or on its tuple shortly before.

        A SYN with the seq that a SYN+ACK acknowledges is ours at any distance.
        """
        if any(flow.local.has & HAS_SYN for flow in (*self.flows, *self.conversation.earlier)):
            return True
        return self._answered_seqs_of_ours(self.around.our_syns)

    @cached_property
    def syn_elsewhere(self) -> bool:
        """Whether a SYN of ours to anybody else, or of anybody to them, carries the very seq that they answer.

        Behind a load balancer another address may answer than was asked; behind address translation our SYN may be
        captured under another address only. A forger does not know our numbers.
        """
        return self.is_tcp and not self.local_syn and self._answered_seqs_of_ours(lambda *_: self.around.syns_elsewhere)

    def _answered_seqs_of_ours(self, seqs: Callable[[int | None, int | None], frozenset[int]]) -> bool:
        one = self.conversation
        answered = {(ack - 1) % 2**32 for ack in self._acknowledged}
        return bool(answered) and not answered.isdisjoint(seqs(one.local_port, one.remote_port))

    @cached_property
    def local_asked(self) -> bool:
        """Whether the local end began it: a SYN, or for what is not TCP a request or simply the first packet."""
        if self.is_tcp:
            return self.local_syn
        if self.conversation.proto in (ICMP, ICMP6):
            replies = ICMP_REPLIES[self.conversation.proto]
            return self.any(
                lambda flow: (
                    flow.local.packets and not flow.is_error and (flow.local_began != (flow.icmp_type in replies))
                )
            )
        if not self.local_spoke:
            return False
        told = asked_by_content(self.conversation)
        return self.local_first if told is None else told

    @cached_property
    def asker_known(self) -> bool:
        """Whether the packets say who asked, whatever came before the capture: TCP, ICMP and well-known UDP do."""
        return self.conversation.proto in (TCP, ICMP, ICMP6) or asked_by_content(self.conversation) is not None

    @cached_property
    def local_went_on(self) -> bool:
        """Whether the local end sent more than SYNs and RSTs: a pure ACK, data or a FIN."""
        return self.any(lambda flow: flow.local.acks or flow.local.fins or _sent_data(flow.local))

    # -- the remote end's question ------------------------------------------------------------------------------------

    @cached_property
    def remote_asked(self) -> bool:
        """Whether the remote end sent a SYN."""
        return self.any(lambda flow: flow.remote.has & HAS_SYN)

    @cached_property
    def remote_probed(self) -> bool:
        """Whether all that the remote end sent are NULL, FIN or Xmas probes: flags known, without SYN, RST and ACK."""
        return self.remote_spoke and not self.any(
            lambda flow: flow.remote.flags & (SYN | RST | ACK) or flow.remote.opaque
        )

    @cached_property
    def remote_went_on(self) -> bool:
        """Whether the remote end sent a pure ACK, data, or a FIN that acknowledges."""
        return self.any(
            lambda flow: flow.remote.acks or _sent_data(flow.remote) or (flow.remote.fins and flow.remote.flags & ACK)
        )

    @cached_property
    def local_accepted(self) -> bool:
        """Whether the local end sent a SYN+ACK."""
        return self.any(lambda flow: flow.local.has & HAS_SYNACK)

    # -- the remote end's answer --------------------------------------------------------------------------------------

    @cached_property
    def remote_accepted(self) -> bool:
        """Whether the remote end sent a SYN+ACK."""
        return self.any(lambda flow: flow.remote.has & HAS_SYNACK)

    @cached_property
    def remote_finished_handshake(self) -> bool:
        """Whether the remote end sent data or a FIN, or acknowledged more than the SYN+ACK does.

        Where it sent nothing but SYN+ACKs and RSTs, acks that differ are answers to several SYNs, not progress.
        """
        return self.any(
            lambda flow: (
                flow.remote.data
                or flow.remote.fins
                or (flow.remote.ack_beyond > 0 and flow.remote.packets > flow.remote.synacks + flow.remote.rsts)
            )
        ) or self.any(lambda flow: flow.remote.acks and self._accepting - {flow.remote.ack_first})

    @cached_property
    def _acknowledged(self) -> frozenset[int]:
        """The acks of their SYN+ACKs and of their RST+ACKs with seq 0, the first of each flow."""
        return self._accepting | frozenset(flow.remote.rst_ack for flow in self.flows if flow.remote.reset_syns)

    @cached_property
    def _accepting(self) -> frozenset[int]:
        """The acks of their SYN+ACKs, the first of each flow."""
        return frozenset(flow.remote.synack_ack for flow in self.flows if flow.remote.has & HAS_SYNACK)

    @cached_property
    def answers_only(self) -> bool:
        """Whether all that the remote end sent are SYN+ACKs, with RSTs after them at most, and without payload.

        No flooded server sends payload to whom it does not know yet; who hides words in such packets does.
        """
        return self.remote_accepted and not self.any(
            lambda flow: flow.remote.payload or flow.remote.packets != flow.remote.synacks + flow.remote.rsts
        )

    @cached_property
    def answer_first(self) -> bool:
        """Whether it began with the remote end's SYN+ACK (or, reordered, with our answer to it).

        RST+ACKs with seq 0 may come before it: a flooded server whose port was closed for a while answers so, and they
        answer a SYN just as a SYN+ACK does.
        """
        synack = min((flow.remote.synack_time for flow in self.flows if flow.remote.synacks), default=None)
        if synack is None:
            return False
        if any(0 < flow.remote.first < synack and flow.remote.rsts != flow.remote.reset_syns for flow in self.flows):
            return False
        spoke = min((flow.local.first for flow in self.flows if flow.local.packets), default=synack)
        return spoke >= synack or ((self.exact or self.reset_with_ack) and synack - spoke <= REORDERED)

    @cached_property
    def closed_port_answers(self) -> bool:
        """Whether all that the remote end sent are RST+ACKs with seq 0, no payload: a closed port answering SYNs."""
        return self.remote_spoke and not self.any(
            lambda flow: flow.remote.payload or flow.remote.packets != flow.remote.reset_syns
        )

    @cached_property
    def repeated(self) -> bool:
        """Whether the same SYN+ACK came again, a second or more apart: a server waiting for its ACK."""
        if self.any(lambda flow: flow.remote.synack_repeats and flow.remote.last - flow.remote.synack_time >= SECOND):
            return True
        first: dict[tuple[object, ...], int] = {}
        for flow in self.flows:  # ordered by start
            if flow.remote.synacks:
                same = flow.view, flow.remote.synack_seq, flow.remote.synack_ack
                if flow.start - first.setdefault(same, flow.start) >= SECOND:
                    return True
        return False

    # -- our answer ---------------------------------------------------------------------------------------------------

    @cached_property
    def exact(self) -> bool:
        """Whether every packet of ours is a bare RST with the seq that a SYN+ACK of theirs acknowledges, sent at once.

        A host without a socket sends one such RST for each SYN+ACK and nothing more. One that comes late closes a
        connection, and more RSTs than SYN+ACKs, payload or further flags in them are somebody's words.
        """
        return self._exact(syns=False)

    @cached_property
    def exact_but_for_syns(self) -> bool:
        """Whether that is so of all that we sent besides SYNs."""
        return self._exact(syns=True)

    def _exact(self, *, syns: bool) -> bool:
        spoke = [flow for flow in self.flows if flow.local.packets > (flow.local.syns if syns else 0)]
        # Also over all views: two sensors that share the packets may each show one of two RSTs to one SYN+ACK.
        asked = sum(flow.remote.synacks for flow in (*self.flows, *self.conversation.earlier))
        if sum(flow.local.rsts for flow in spoke) > asked:
            return False
        return bool(spoke) and all(
            not flow.local.payload
            and (syns or flow.local.flags == RST)
            and (self._exact_here(flow, flow.local.syns if syns else 0) or self._exact_elsewhere(flow.local))
            for flow in spoke
        )

    def _exact_here(self, flow: SeenFlow, syns: int) -> bool:
        local, remote = flow.local, flow.remote
        if local.packets - syns != local.exact_rsts or local.exact_rsts > remote.synacks:
            return False
        return bool(syns) or _at_once(flow)

    def _exact_elsewhere(self, local: Side) -> bool:
        """Our RST lies in one flow, the SYN+ACK in another: a scope for each direction, or a cut between them.

        The row keeps the numbers of its first RST only, so more than one RST is not proven to fit.
        """
        return local.packets == local.bare_rsts == 1 and any(
            flow.remote.has & HAS_SYNACK
            and flow.remote.synack_ack == local.rst_seq
            and -AT_ONCE <= flow.remote.synack_time - local.first <= REORDERED
            for flow in (*self.flows, *self.conversation.earlier)
        )

    @cached_property
    def reset_with_ack(self) -> bool:
        """Whether every packet of ours is an RST+ACK whose seq fits the SYN+ACK."""
        spoke = [flow for flow in self.flows if flow.local.packets]
        return bool(spoke) and all(
            flow.local.packets == flow.local.rsts <= max(flow.remote.synacks, 1)
            and not flow.local.bare_rsts
            and not flow.local.payload
            and flow.remote.has & HAS_SYNACK
            and flow.local.rst_seq == flow.remote.synack_ack
            and flow.local.rst_ack in (0, flow.remote.synack_seq, (flow.remote.synack_seq + 1) % 2**32)
            and _at_once(flow)
            for flow in spoke
        )

    @property
    def refused_by_icmp(self) -> bool:
        """Whether our side answered with an ICMP error that quotes a packet of theirs."""
        return any(not quote.sent_by_us for quote in self.conversation.quotes)

    @cached_property
    def refused_too_often(self) -> bool:
        """Whether more of our ICMP errors quote their packets than they sent packets: such errors refuse nothing."""
        told: dict[tuple[str, str], int] = {}
        ours = {quote for quote in self.conversation.quotes if not quote.sent_by_us}
        for flow in self.conversation.errors:
            told[flow.view] = told.get(flow.view, 0) + sum(quote.count for quote in flow.quotes if quote in ours)
        return max(told.values(), default=0) > self.total(lambda flow: flow.remote.packets)

    @property
    def told_by_icmp(self) -> bool:
        """Whether somebody's ICMP error quotes a packet of ours on this tuple."""
        return any(quote.sent_by_us for quote in self.conversation.quotes)

    # -- what a stranger's answer looks like without TCP --------------------------------------------------------------

    @cached_property
    def unasked_reply(self) -> bool:
        """Whether it is ICMP replies of the remote end, and we sent nothing on it."""
        replies = ICMP_REPLIES.get(self.conversation.proto, frozenset())
        return self.remote_spoke and not self.local_spoke and not self.any(lambda flow: flow.icmp_type not in replies)

    @cached_property
    def unasked_answer(self) -> bool:
        """Whether it is UDP answers of the remote end (DNS, NTP, a QUIC server), and we sent nothing on it."""
        if self.conversation.proto != UDP or self.local_spoke or not self.remote_spoke:
            return False
        answers = answers_of(self.conversation)
        return not self.any(lambda flow: not flow.remote.speech & answers or flow.remote.speech & ~answers)

    @cached_property
    def error_about_nothing(self) -> bool:
        """Whether ICMP errors quote a packet of ours on a tuple on which we sent nothing.

        A quote of TCP or UDP without its ports names no tuple, so it cannot be said that we sent nothing on it.
        """
        one = self.conversation
        if one.proto in (TCP, UDP) and one.local_port is None:
            return False
        sent = self.local_spoke or any(flow.local.packets for flow in one.earlier)
        return self.told_by_icmp and not sent

    @cached_property
    def request_of_theirs(self) -> bool:
        """Whether the remote end began with something that is no answer: an echo request, or UDP that asks.

        UDP whose payload does not say what it is may belong to a session of ours that began before the capture.
        """
        proto = self.conversation.proto
        if proto in (ICMP, ICMP6):
            return not self.any(lambda flow: flow.is_error or flow.icmp_type in ICMP_REPLIES[proto])
        if proto != UDP or self.spoke_before:
            return False
        if self.remote_service_unread:
            return False
        answers = answers_of(self.conversation, later=True)
        return not self.any(lambda flow: flow.remote.speech & answers) and (
            asked_by_content(self.conversation) is False or self.lookback >= FULL
        )

    @property
    def remote_service_unread(self) -> bool:
        """Whether it comes from a port that answers questions, but nothing of what it says could be read."""
        one = self.conversation
        asks = one.remote_port in SERVICES and one.local_port not in SERVICES
        return asks and not self.any(lambda flow: flow.remote.speech)

    # -- candidates ---------------------------------------------------------------------------------------------------

    @cached_property
    def unasked_synack(self) -> bool:
        """R4 to R6's picture: their SYN+ACK first, nothing of ours but refusals of it, no SYN of ours anywhere."""
        return self.is_tcp and self.answer_first and self.answers_only and not self.local_syn and not self.remote_asked

    @cached_property
    def is_candidate(self) -> bool:
        """Whether it may be backscatter at all, before coverage is looked at."""
        return (
            self.unasked_synack
            or (self.is_tcp and self.closed_port_answers and not self.local_spoke)
            or self.unasked_reply
            or self.unasked_answer
            or self.error_about_nothing
        )

    @cached_property
    def spoke_before(self) -> bool:
        """Whether we sent anything but exact refusals on the tuple in the 15 minutes before."""
        return any(flow.local.packets != flow.local.exact_rsts for flow in self.conversation.earlier)

    @cached_property
    def seen_before(self) -> bool:
        """Whether the tuple had any flow in the day before."""
        one = self.conversation
        return bool(one.earlier) or self.around.ever_before(one.proto, one.local_port, one.remote_port)

    @cached_property
    def asked_elsewhere(self) -> bool:
        """Whether we asked another host, by UDP or ICMP, what this remote may have answered in its stead."""
        one = self.conversation
        return not self.is_tcp and self.around.asked_elsewhere(one.proto, one.local_port, one.remote_port, FULL)

    @cached_property
    def spoke_that_day(self) -> bool:
        """Whether we sent more than exact refusals on the tuple in 15 minutes before, or were connected that day."""
        one = self.conversation
        return self.spoke_before or self.around.spoke_that_day(one.proto, one.local_port, one.remote_port)

    # -- coverage -----------------------------------------------------------------------------------------------------

    @cached_property
    def views(self) -> tuple[tuple[str, str], ...]:
        """The views (sensor, scope) in which it was seen."""
        return tuple(sorted({flow.view for flow in (*self.flows, *self.conversation.errors)}))

    @cached_property
    def coverage(self) -> Coverage | None:
        """The coverage of the view that vouches best: both directions first, then the longest look-back."""
        seen = [one for one in self.coverages if (one.sensor, one.scope) in self.views]
        return max(seen, key=lambda one: (self._both(one), one.lookback(self.start)), default=None)

    def _both(self, coverage: Coverage) -> bool:
        return self.around.both_ways(coverage.sensor, coverage.scope)

    @property
    def lookback(self) -> int:
        """Unbroken capture before the first packet, ns."""
        return self.coverage.lookback(self.start) if self.coverage else 0

    @property
    def behind_a_hole(self) -> bool:
        """Whether the look-back ends at a hole, not at the begin of all capture: a piece that is missing hid a SYN."""
        return self.coverage is not None and any(span.end < self.start for span in self.coverage.spans)

    @cached_property
    def both_ways(self) -> bool:
        """Whether packets from and to the local host are visible in the view that vouches."""
        return self.coverage is not None and self._both(self.coverage)

    @cached_property
    def unbroken(self) -> bool:
        """Whether the vouching view has no hole between the first and the last packet."""
        return self.coverage is not None and self.coverage.has(self.start, self.conversation.end)

    @cached_property
    def captured_after(self) -> int:
        """Unbroken capture after the last packet, ns."""
        span = self.coverage.span_at(self.conversation.end) if self.coverage else None
        return span.end - self.conversation.end if span else 0

    @cached_property
    def seen_freely(self) -> bool:
        """Whether the vouching view shows our host both ways by more than its answers.

        A filter for SYN+ACK and RST, as telescopes use, hides every SYN.
        """
        return self.coverage is not None and self.around.both_ways(
            self.coverage.sensor, self.coverage.scope, freely=True
        )

    @cached_property
    def scopes_disagree(self) -> bool:
        """Whether one view shows our answer and another, in which we are visible, shows their packets without it."""
        answered = {flow.view for flow in self.flows if flow.local.packets}
        silent = {flow.view for flow in self.flows if flow.remote.packets} - answered
        return bool(answered) and any(self.around.directions(*view)[0] for view in silent)


def _at_once(flow: SeenFlow) -> bool:
    """Whether our RSTs came right behind their SYN+ACKs: the last behind their last packet, the first behind the first.

    Where some SYN+ACK went without an answer, the first RST may answer a later one.
    """
    if flow.local.last - flow.remote.last > AT_ONCE:
        return False
    unanswered = flow.remote.synacks > flow.local.packets
    return unanswered or flow.local.first - flow.remote.synack_time <= AT_ONCE


def _sent_data(side: Side) -> bool:
    """Whether a side sent payload outside of its SYNs: fast open puts some into them, wanted or not."""
    return side.data > 0 and side.packets > side.syns + side.synacks + side.rsts
