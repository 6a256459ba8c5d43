"""The words: what a rule saw, what speaks against it, what is missing, for a person who has to act on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backscatter.decode.columns import ACK, RST, SYN
from backscatter.flow.protocol import proto_name
from backscatter.verdict.conversation import ICMP, ICMP6
from backscatter.verdict.facts import FULL
from backscatter.verdict.model import Effect, Evidence, Label, Victim
from backscatter.verdict.rules import RULES
from backscatter.verdict.surroundings import REFLECTORS
from backscatter.verdict.words import SECOND, duration, end_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backscatter.finding.model import End, Finding
    from backscatter.verdict.caps import Boost, Cap
    from backscatter.verdict.conversation import Place, SeenFlow
    from backscatter.verdict.facts import Facts
    from backscatter.verdict.rules import Rule

#: Clocks of alert and capture that differ by so much (ns) are told to differ: alerts are told to the second.
CLOCKS_DIFFER = 2 * SECOND

#: Packets that one piece of evidence points at, at most.
MOST_PACKETS = 8


def summary_of(facts: Facts, rule: Rule, caps: Sequence[Cap], local: End, remote: End) -> str:
    """One sentence for a person."""
    undone = next((cap for cap in caps if cap.limit == 0), None)
    if undone is not None:
        return f"Undetermined: {undone.missing}"
    text = rule.reason.format(local=end_text(local), remote=end_text(remote), lookback=duration(facts.lookback))
    if rule.label is Label.UNDETERMINED:
        return f"Undetermined: {text}"
    return text


def victim_of(facts: Facts) -> Victim:
    """Whom the forged packets were sent to: the remote end, for ICMP errors the destination they quote."""
    one = facts.conversation
    port = None if one.proto in (ICMP, ICMP6) else one.remote_port
    return Victim(str(one.remote), port, proto_name(one.proto))


def evidence_of(facts: Facts, rule: Rule, caps: Iterable[Cap], boosts: Iterable[Boost]) -> tuple[Evidence, ...]:
    """Everything that the verdict on one conversation stands on, in the order in which a person would check it."""
    return (
        Evidence(Effect.FOR, f"{rule.id}: {rule.evidence}", packets_of(facts)),
        *(Evidence(Effect.FOR, text) for text in _observations(facts)),
        *(Evidence(Effect.FOR, boost.text) for boost in boosts),
        *_against(facts, rule),
        *(Evidence(Effect.MISSING, cap.missing) for cap in caps),
        *(Evidence(Effect.MISSING, text) for text in _missing(facts, rule)),
        *(Evidence(Effect.MISSING, text) for text in near_misses(facts, rule)),
    )


def near_misses(facts: Facts, rule: Rule) -> tuple[str, ...]:
    """One sentence for each other verdict that nearly came out: the first rule for it that lacked one thing, and what.

    What would have said the same, less surely, is left out. Where nothing could be decided, a rule that fits the
    conversation but not what surrounds it is told too.
    """
    told: dict[Label, str] = {}
    for other in RULES:
        if other.label in told or (other.label is rule.label and other.confidence <= rule.confidence):
            continue
        name = f"{other.id} ({other.label.value.replace('_', ' ')}, {other.confidence})"
        lacking = other.lacking(facts)
        if lacking is not None:
            told[other.label] = f"{name} nearly applied, but {lacking}."
        elif rule.label is Label.UNDETERMINED and other.label is Label.BACKSCATTER and other.matches(facts):
            told[other.label] = f"{name} fits the conversation itself, but not what surrounds it."
    return tuple(told.values())


def packets_of(facts: Facts) -> tuple[Place, ...]:
    """The first packets of both sides of every flow, and of the errors that speak of it, in the order of the flows."""
    places: dict[Place, None] = {}
    for flow in (*facts.conversation.earlier, *facts.flows):
        for place in _merged(flow):
            places[place] = None
    for quote in facts.conversation.quotes:
        places[quote.place] = None
    return tuple(places)[:MOST_PACKETS]


def _merged(flow: SeenFlow) -> tuple[Place, ...]:
    """The places that a flow keeps; places of one capture are in the order of its packets."""
    return tuple(sorted({*flow.local.places[:4], *flow.remote.places[:4]}))


def _observations(facts: Facts) -> Iterator[str]:
    """What was seen, in numbers."""
    synack = next((flow for flow in facts.flows if flow.remote.synacks), None)
    if facts.is_tcp and synack is not None and facts.unasked_synack:
        numbers = synack.remote
        yield (
            f"The remote's SYN+ACK came first: seq {numbers.synack_seq}, ack {numbers.synack_ack}."
            + (f" It was sent {numbers.synacks} times." if numbers.synacks > 1 else "")
        )
        if facts.exact and synack.local.bare_rsts:
            wait = synack.local.first - numbers.synack_time
            yield (
                f"Our RST carries seq {synack.local.rst_seq}, which is the SYN+ACK's ack"
                + (f", and came {duration(wait)} after it" if wait >= 0 else "")
                + ": it answers exactly that packet, and no socket of ours wanted it."
            )
    if facts.coverage is not None and facts.is_candidate:
        full = " (a full connect timeout is 127 s)" if facts.lookback >= FULL else ""
        yield (
            f"Capture without a gap reaches {duration(facts.lookback)} back before the first packet{full}; no SYN or "
            "request of ours is in it."
        )
        loss = facts.coverage.loss
        if loss.rate is not None:
            yield f"Estimated capture loss: {loss.rate:.2%} of {loss.opportunities} opportunities to notice one."
    if facts.is_tcp and facts.remote_asked and not facts.local_went_on and facts.around.askers >= REFLECTORS:
        yield (
            f"{facts.around.askers} hosts knocked within a minute, and none of them went on: a flood at us with forged "
            "senders looks like this, and then the remote did nothing; it may be a victim of ours."
        )
    if facts.any(lambda flow: flow.local.has & 1) and facts.is_tcp:
        asked = next(flow for flow in facts.flows if flow.local.has & 1)
        yield f"Our SYN has seq {asked.local.syn_seq}."


def _against(facts: Facts, rule: Rule) -> Iterator[Evidence]:
    """What speaks against the verdict."""
    if rule.label is Label.BACKSCATTER and facts.is_tcp and facts.total(lambda flow: flow.remote.rsts):
        yield Evidence(Effect.AGAINST, "The remote also sent RST, as a server does that gave up waiting.")
    if rule.label is Label.UNDETERMINED and facts.unasked_synack:
        yield Evidence(Effect.AGAINST, "On its own, the conversation has the picture of backscatter.")


def _missing(facts: Facts, rule: Rule) -> Iterator[str]:
    """What would have made it surer."""
    if rule.label is Label.BACKSCATTER and facts.total(lambda flow: flow.remote.packets) == 1 and facts.unasked_synack:
        yield "Any sign that the remote was really flooded: one lone SYN+ACK may also be a scanner's probe."


def clock_evidence(facts: Facts, finding: Finding) -> Iterator[Evidence]:
    """That the clocks of alert and capture differ, where the alert's own packet was captured at another time.

    It is told and used for nothing: a packet is looked for by its numbers, never moved to where it would fit.
    """
    told = [time for time in (finding.first_seen, finding.last_seen) if time is not None]
    captured = _captured_at(facts, finding)
    if captured is None or not told:
        return
    offset = min((captured - time for time in told), key=abs)
    if abs(offset) >= CLOCKS_DIFFER:
        side = "behind" if offset > 0 else "ahead of"
        yield Evidence(
            Effect.FOR,
            f"The packet that the alert itself shows was captured {duration(abs(offset))} "
            f"{'after' if offset > 0 else 'before'} the alert's time: its clock runs {side} the capture's. Nothing was "
            "decided by that.",
        )


def _captured_at(facts: Facts, finding: Finding) -> int | None:
    """When the packet that the alert shows was captured (ns), by its flags and sequence number; None for not found."""
    packet = finding.packet
    if packet is None or packet.flags is None or not packet.seq:
        return None
    kind = packet.flags & (SYN | ACK | RST)
    times = []
    for side in (side for flow in facts.flows for side in (flow.local, flow.remote)):
        if kind & RST and side.rsts and side.rst_seq == packet.seq and side.packets == side.rsts:
            times.append(side.first)
        elif kind == SYN | ACK and side.synacks and (side.synack_seq, side.synack_ack) == (packet.seq, packet.ack):
            times.append(side.synack_time)
        elif kind == SYN and side.syns and side.syn_seq == packet.seq:
            times.append(side.syn_time)
    return min(times, default=None)


def hint(finding: Finding, local: End) -> str | None:
    """What the alert's own header allows to say where nothing was captured (RFC 9293, 3.10.7); never a verdict."""
    packet = finding.packet
    if packet is None or packet.flags is None or not finding.tuples:
        return None
    ours = finding.tuples[0].a == local  # alerts that show a packet name its sender first
    kind = packet.flags & (SYN | ACK | RST)
    if kind == RST and packet.seq and ours:
        return (
            f"The alert's own packet is a bare RST with seq {packet.seq}. That fits backscatter (the answer to a "
            "SYN+ACK that no socket wanted) and also a half-open scan by our own host: the packets before it decide."
        )
    if kind == RST | ACK and packet.seq == 0:
        if ours:
            return (
                "The alert's own packet is a RST+ACK of ours with seq 0: what a closed port answers to a SYN. That "
                "fits a scan of us."
            )
        return (
            "The alert's own packet is a RST+ACK of theirs with seq 0: a closed port of theirs answered a SYN"
            + (f" with seq {(packet.ack - 1) % 2**32}" if packet.ack else "")
            + ". That fits backscatter and also a connect of our own host: whether it sent that SYN decides."
        )
    if kind == RST | ACK:
        return "The alert's own packet is a RST+ACK with a seq: the abort of a real connection looks like this."
    if kind == SYN | ACK and not ours:
        return (
            "The alert's own packet is a SYN+ACK of theirs. That fits backscatter and also the answer to a connect of "
            "our own host: whether it sent a SYN decides."
        )
    if kind == SYN:
        return f"The alert's own packet is a SYN: {'our host' if ours else 'the remote'} tried to connect."
    return None
