"""What session records say of a finding: a second table of rules, for what others counted where nobody captured.

Records have no sequence numbers and sum flags up, so nothing is confirmed by them. A record of a real connection wins
over anything more harmless that captures show; records make backscatter only where nothing was captured.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from backscatter.decode.columns import ACK, RST, SYN
from backscatter.flow.address import Address
from backscatter.flow.protocol import proto_name, proto_number
from backscatter.flow.record import flag_letters, rfc3339
from backscatter.flow.window import Window
from backscatter.verdict.conversation import TCP
from backscatter.verdict.facts import FULL
from backscatter.verdict.gather import Wanted
from backscatter.verdict.judge import AFTER, BEFORE, CONTACT, DANGER, by_danger
from backscatter.verdict.model import Effect, Evidence, Label, Verdict, Victim, Why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backscatter.session.log import Sessions
    from backscatter.session.model import Sent, Session
    from backscatter.verdict.settings import Settings

#: Bytes of the largest SYN, SYN+ACK or RST (IP header and 40 bytes of TCP options), by IP version.
LARGEST_BARE = {4: 80, 6: 100}

#: What the host itself sent must be on record within this time (ns) of a conversation, or its silence says nothing.
NEAR = 3600 * 10**9

#: Packets each way from which on a conversation with unknown flags is no exchange of SYN+ACK and RST, given payload.
BULK = 3

#: SYN+ACKs that a Linux server sends at most: the first and five retransmissions.
ANSWERS = 6

#: Records that are shown as evidence.
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Part:
    """What one end sent in one record; `began` where the record says that this end was first."""

    record: Session
    sent: Sent
    began: bool

    @property
    def flags(self) -> int:
        """Its flags; 0 where they are unknown."""
        return self.sent.flags or 0

    @property
    def asked(self) -> bool:
        """Whether a SYN without ACK is among what it sent.

        Sums are ambiguous: SYN and ACK may be one SYN+ACK, several, or a SYN and ACKs behind it. VPC Flow Logs tell SYN
        from SYN+ACK. Elsewhere whoever began, and sent more than one packet, is taken to have asked.
        """
        if not self.flags & SYN:
            return False
        if self.sent.hidden or not self.flags & ACK:
            return not self.flags & ACK
        return self.began and self.sent.packets > 1

    @property
    def answered(self) -> bool:
        """Whether a SYN+ACK may be among what it sent."""
        return self.flags & (SYN | ACK) == SYN | ACK

    @property
    def bare(self) -> bool:
        """Whether all of it may be SYNs, SYN+ACKs and RSTs."""
        known = self.sent.flags is not None and not self.flags & ~(SYN | ACK | RST) and self.flags & (SYN | RST)
        return bool(known) and self.sent.bytes <= self.sent.packets * LARGEST_BARE[self.record.src.version]

    @property
    def went_on(self) -> bool:
        """Whether it sent data, a FIN, or an ACK that is part of no SYN+ACK and no RST."""
        return self.sent.flags is not None and not self.bare


@dataclass(frozen=True)
class Talk:
    """The records of one 5-tuple near a finding, from the local end.

    covered  whether records of our host stand before and behind it, none were skipped, and what it sends is on record
    """

    proto: int
    local_port: int | None
    remote_port: int | None
    ours: tuple[Part, ...]
    theirs: tuple[Part, ...]
    covered: bool

    @property
    def is_tcp(self) -> bool:
        """Whether it is TCP."""
        return self.proto == TCP

    @property
    def records(self) -> list[Session]:
        """Its records, each once, by time."""
        found = {part.record.place: part.record for part in (*self.ours, *self.theirs)}
        return sorted(found.values(), key=lambda record: (record.start, record.place))

    @cached_property
    def accepted(self) -> tuple[Part, ...]:
        """What of theirs nothing rejected."""
        return tuple(part for part in self.theirs if part.record.action != "REJECT")

    @property
    def rejected(self) -> bool:
        """Whether everything of theirs was rejected."""
        return bool(self.theirs) and not self.accepted

    @property
    def unknown(self) -> bool:
        """Whether flags of anything are unknown."""
        return any(part.sent.flags is None for part in (*self.ours, *self.theirs))

    @cached_property
    def local_asked(self) -> bool:
        """Whether our host sent a SYN; for what is not TCP, whether it spoke, and not behind them for all we know."""
        if self.is_tcp:
            return any(part.asked for part in self.ours)
        if any(part.began for part in self.theirs) or not self.ours:
            return False
        theirs = min((part.record.start for part in self.theirs), default=None)
        return theirs is None or min(part.record.start for part in self.ours) <= theirs

    @property
    def remote_asked(self) -> bool:
        """Whether they sent a SYN."""
        return any(part.asked for part in self.theirs)

    @property
    def local_went_on(self) -> bool:
        """Whether our host sent more than SYNs, SYN+ACKs and RSTs."""
        return any(part.went_on for part in self.ours)

    @property
    def remote_went_on(self) -> bool:
        """Whether they sent more than SYNs, SYN+ACKs and RSTs, and nothing rejected it."""
        return any(part.went_on for part in self.accepted)

    @property
    def bulk(self) -> bool:
        """Whether so much went both ways that it carried data, whatever the flags."""

        def carries(parts: tuple[Part, ...]) -> bool:
            return any(
                part.sent.packets >= BULK
                and part.sent.bytes > part.sent.packets * LARGEST_BARE[part.record.src.version]
                for part in parts
            )

        return carries(self.ours) and carries(self.accepted)

    @property
    def half_open(self) -> bool:
        """Whether our host reset what it had asked for, and sent nothing else."""
        return any(part.flags & RST for part in self.ours) and all(
            part.bare and not (part.flags & ACK and part.flags & SYN) for part in self.ours
        )

    @property
    def answers(self) -> bool:
        """Whether all of theirs are SYN+ACKs, with RSTs at most.

        Where they passed, so few that a server which waits for its ACK may have sent them: more may be ACKs.
        """
        few = self.rejected or all(part.sent.packets <= ANSWERS for part in self.theirs)
        return bool(self.theirs) and few and all(part.bare and part.answered for part in self.theirs)

    @property
    def refused(self) -> bool:
        """Whether all of ours are RSTs without ACK, as far as the record tells."""
        return bool(self.ours) and all(part.sent.flags == RST and part.bare for part in self.ours)


@dataclass(frozen=True, slots=True)
class SessionRule:
    """One row, as `verdict.rules.Rule` has them."""

    id: str
    label: Label
    confidence: int
    evidence: str
    reason: str
    matches: Callable[[Talk], bool]
    case: str = ""
    why: Why | None = None


def _established(talk: Talk) -> bool:
    if not talk.is_tcp:
        return talk.local_asked and bool(talk.accepted)
    return (
        talk.local_asked
        and not talk.half_open
        and (any(part.answered for part in talk.accepted) or talk.remote_went_on or talk.local_went_on)
    )


def _inbound(talk: Talk) -> bool:
    if not talk.is_tcp:
        return bool(talk.ours) and bool(talk.accepted)
    asked = [part for part in talk.accepted if part.asked]
    if not asked or not any(part.answered for part in talk.ours):
        return False
    return talk.local_went_on or talk.remote_went_on or any(part.sent.packets > 1 for part in asked)


def _real(talk: Talk) -> bool:
    if not talk.is_tcp:
        return False
    answered = any(part.answered for part in talk.accepted)
    went_on = talk.local_went_on, talk.remote_went_on
    return talk.bulk or all(went_on) or (answered and any(went_on))


def _refused_before_us(talk: Talk) -> bool:
    return talk.is_tcp and not talk.unknown and not talk.ours and talk.rejected and talk.answers


def _unasked(talk: Talk) -> bool:
    return talk.is_tcp and not talk.unknown and talk.answers and talk.covered and not talk.rejected


def _scan(talk: Talk) -> bool:
    if not talk.is_tcp:
        return not talk.ours and talk.rejected and talk.covered
    # With ACKs among theirs it may as well be what a server of ours sends, seen from one side.
    probes = all(part.bare and part.flags & SYN and not part.flags & ACK for part in talk.theirs)
    return not talk.unknown and bool(talk.theirs) and probes and not talk.local_went_on


#: Evaluated from the top; the first that matches decides. Ids stand beside those of the rules for packets.
SESSION_RULES: tuple[SessionRule, ...] = (
    SessionRule(
        "S1",
        Label.CONNECTION_ESTABLISHED,
        85,
        "Our SYN or request, and an answer that nothing rejected, or more of ours.",
        "Session records show that {local} opened this conversation with {remote} itself.",
        _established,
    ),
    SessionRule(
        "S2",
        Label.INBOUND_CONNECTION,
        85,
        "Their SYN and our SYN+ACK, and more of either; or their request and our answer.",
        "Session records show that {remote} connected to {local}.",
        _inbound,
    ),
    SessionRule(
        "S3",
        Label.CONNECTION_ESTABLISHED,
        75,
        "Their SYN+ACK and then ACKs, data or FINs of either; or such of both; or 3 packets and more each way with "
        "data in them. Nothing rejected theirs.",
        "Session records show a real conversation between {local} and {remote}.",
        _real,
        case="handshake not recorded",
    ),
    SessionRule(
        "S4",
        Label.CONNECTION_ATTEMPTED,
        85,
        "Our SYN or request, and no answer, a rejected one, or our own RST after it.",
        "Session records show that {local} tried to reach {remote}; nothing came of it.",
        lambda talk: talk.local_asked,
    ),
    SessionRule(
        "S5",
        Label.BACKSCATTER,
        75,
        "All that they sent are SYN+ACKs, all of them rejected before our host; nothing of ours on the tuple, though "
        "what our host sends is on record before, behind and near it.",
        "{remote} answered a SYN that {local} never sent; the security group rejected the answer.",
        lambda talk: _refused_before_us(talk) and talk.covered,
    ),
    SessionRule(
        "S6",
        Label.BACKSCATTER,
        65,  # records do not tell a refusal at once from a late one, nor a SYN whose record was lost from none
        "All that they sent are SYN+ACKs, all that we sent are RSTs; what our host sends is on record before, behind "
        "and near it.",
        "{remote} answered a SYN of which nothing is on record, and {local} refused the answer.",
        lambda talk: _unasked(talk) and talk.refused,
        case="refused",
    ),
    SessionRule(
        "S6",
        Label.BACKSCATTER,
        55,
        "As before, and nothing of ours.",
        "{remote} answered a SYN of which nothing is on record; {local} stayed silent.",
        lambda talk: _unasked(talk) and not talk.ours,
        case="silent",
    ),
    SessionRule(
        "S7",
        Label.INBOUND_SCAN,
        70,
        "Their SYN, and no more of ours than a SYN+ACK or RSTs; what is not TCP: all rejected, and nothing of ours.",
        "Session records show that {remote} probed {local}, and no connection came of it.",
        _scan,
    ),
    SessionRule(
        "S8",
        Label.UNDETERMINED,
        0,
        "As S5, but what our host sends is not on record around it. A log of rejected traffic only hides our SYN, and "
        "network ACLs reject answers to it as well.",
        "{remote} sent SYN+ACKs that were rejected; what {local} sent is not on record.",
        _refused_before_us,
        case="log of rejections",
        why=Why.ASYMMETRIC,
    ),
    SessionRule(
        "S8",
        Label.UNDETERMINED,
        0,
        "Flags are unknown (00 with packets, no column tcp-flags), or their sum allows several readings.",
        "Session records hold this conversation, but not what its flags were in which order.",
        lambda _: True,
        why=Why.MIDSTREAM,
    ),
)

#: What says that our host took part.
REAL = CONTACT | {Label.INBOUND_CONNECTION}

#: Where captures leave a finding for these reasons, records may say anything of it: nobody saw packets.
UNSEEN = frozenset({Why.NO_CAPTURE, Why.NOT_SEEN})


def with_sessions(verdict: Verdict, sessions: Sessions, settings: Settings) -> Verdict:
    """The verdict on a finding with what session records add to it; the same one where they hold nothing of it.

    Where they show our host taking part and captures do not, they count; where nothing was captured, they count too.
    Else they stand in the evidence.
    """
    told = _told(verdict, sessions, settings)
    if told is None:
        return verdict
    unseen = verdict.why in UNSEEN
    if unseen:
        text = "No packets were captured; session records tell neither sequence numbers nor an order."
        return replace(told, evidence=(*told.evidence, Evidence(Effect.MISSING, text), *verdict.evidence))
    if told.label in REAL and verdict.label not in REAL:
        said = verdict.label.value.replace("_", " ")
        against = Evidence(Effect.AGAINST, f"Captures alone would have said {said} ({verdict.rule}).")
        return replace(told, flows=verdict.flows, flows_total=verdict.flows_total, evidence=(*told.evidence, against))
    effect = Effect.AGAINST
    if told.label is Label.UNDETERMINED:
        effect = Effect.MISSING
    elif told.label is verdict.label or (told.label in REAL and verdict.label in REAL):
        effect = Effect.FOR
    return replace(verdict, evidence=(*verdict.evidence, *(replace(piece, effect=effect) for piece in told.evidence)))


def _told(verdict: Verdict, sessions: Sessions, settings: Settings) -> Verdict | None:
    """What session records alone say of the finding; None where they hold nothing of it.

    Where neither end is known to be ours, or both are, each in turn is taken for it: the more dangerous reading counts.
    """
    finding = verdict.finding
    if not finding.is_network or finding.first_seen is None or finding.last_seen is None:
        return None
    window = Window(finding.first_seen - BEFORE, max(finding.first_seen, finding.last_seen) + AFTER)
    read = []
    for one in dict.fromkeys(finding.tuples):
        if one.a.ip is None or one.b.ip is None:
            continue
        names = {end: settings.names(Address.parse(end.ip or ""), finding.aliases) for end in (one.a, one.b)}
        home = {end: any(settings.is_home(name) for name in names[end]) for end in names}
        ways = [(one.a, one.b), (one.b, one.a)]
        if home[one.a] != home[one.b]:
            ways = [way for way in ways if home[way[0]]]
        elif one.resource is not None:
            ways = ways[:1] if one.resource == "a" else ways[1:]
        for local, remote in ways:
            wanted = Wanted(proto_number(one.proto) if one.proto else None, local.port, remote.port)
            judged = _judged(sessions, names[local], names[remote], wanted, window)
            if judged:
                read.append(_verdict(replace(verdict, proto=one.proto, local=local, remote=remote), judged))
    return min(read, key=lambda one: (DANGER[one.label], -one.confidence), default=None)


#: A conversation, the rule that decided it, and the label that it got.
Judged = tuple[Talk, SessionRule]


def _judged(
    sessions: Sessions, local: frozenset[Address], remote: frozenset[Address], wanted: Wanted, window: Window
) -> list[Judged]:
    """The conversations that are meant, each with its rule; backscatter beside real contact is a conflict."""
    records, more = sessions.between(local, remote, window)
    talks = _talks(records, sessions, local)
    judged = [(talk, next(rule for rule in SESSION_RULES if rule.matches(talk))) for talk in talks]
    contact = any(rule.label in CONTACT for _, rule in judged)
    if contact or more:
        judged = [(talk, CONFLICT if rule.label is Label.BACKSCATTER else rule) for talk, rule in judged]
    return [(talk, rule) for talk, rule in judged if wanted.has((talk.proto, talk.local_port, talk.remote_port))]


CONFLICT = SessionRule(
    "S9",
    Label.UNDETERMINED,
    0,
    "As S5 or S6, but session records also show contact of our host with that remote in the window, or hold more of "
    "the two than were read.",
    "The records look like backscatter, but {local} was otherwise in contact with {remote}.",
    lambda _: False,
    why=Why.CONFLICT,
)


def _talks(records: list[Session], sessions: Sessions, local: frozenset[Address]) -> Iterator[Talk]:
    """Records gathered by 5-tuple, seen from the local end."""
    parts: dict[tuple[int, int | None, int | None], tuple[list[Part], list[Part]]] = defaultdict(lambda: ([], []))
    for record in records:
        from_us = record.src in local or (record.others is not None and record.others[0] in local)
        ports = (record.sport, record.dport) if from_us else (record.dport, record.sport)
        ours, theirs = parts[(record.proto, *ports)]
        first, second = (ours, theirs) if from_us else (theirs, ours)
        if record.forth.packets:
            first.append(Part(record, record.forth, record.began))
        if record.back is not None and record.back.packets:
            second.append(Part(record, record.back, began=False))
    for (proto, local_port, remote_port), (ours, theirs) in parts.items():
        both = [part.record for part in (*ours, *theirs)]
        if not both:
            continue
        start, end = min(record.start for record in both), max(record.end for record in both)
        near = Window(start - NEAR, end + NEAR)
        covered = sessions.covers(local, near, before=start - FULL) and sessions.sends(local, near)
        yield Talk(proto, local_port, remote_port, tuple(ours), tuple(theirs), covered)


def _verdict(verdict: Verdict, judged: list[Judged]) -> Verdict:
    """The verdict of records alone, in the shape of `verdict`: the most dangerous conversation decides."""
    worst = min(DANGER[rule.label] for _, rule in judged)
    harmless = worst > DANGER[Label.UNDETERMINED]
    talk, rule = min(
        ((talk, rule) for talk, rule in judged if DANGER[rule.label] == worst),
        key=lambda one: one[1].confidence if harmless else -one[1].confidence,
    )
    ends = {"local": verdict.local.ip, "remote": verdict.remote.ip}
    reason = rule.reason.format(**ends)
    evidence = [Evidence(Effect.FOR, f"{rule.id}: {rule.evidence}")]
    evidence += [Evidence(Effect.FOR, line_of(record)) for record in talk.records[:SHOWN]]
    if len(talk.records) > SHOWN:
        evidence.append(Evidence(Effect.FOR, f"{len(talk.records) - SHOWN} more session records of it"))
    undetermined = rule.label is Label.UNDETERMINED
    victim = None
    if rule.label is Label.BACKSCATTER:
        victim = Victim(str(verdict.remote.ip), talk.remote_port, proto_name(talk.proto))
    return replace(
        verdict,
        label=rule.label,
        why=rule.why,
        confidence=rule.confidence,
        rule=rule.id,
        summary=f"Undetermined: {reason[0].lower()}{reason[1:]}" if undetermined else reason,
        victim=victim,
        conversations=by_danger(Counter(rule.label.value for _, rule in judged)),
        evidence=tuple(evidence),
    )


def line_of(record: Session) -> str:
    """A record on one line: who sent whom how much, with which flags, when, and where it stands."""
    ports = [end if port is None else f"{end}:{port}" for end, port in _ends(record)]
    parts = [f"{ports[0]} > {ports[1]}: {_amount(record.forth)}"]
    if record.back is not None:
        parts.append(f"back: {_amount(record.back)}")
    if record.action:
        parts.append(record.action)
    times = f"{rfc3339(record.start)[:19]}Z to {rfc3339(record.end)[:19]}Z"
    return f"{record.source}: {proto_name(record.proto)} {', '.join(parts)}, {times} ({record.place})"


def _ends(record: Session) -> Iterator[tuple[str, int | None]]:
    for end, port in ((record.src, record.sport), (record.dst, record.dport)):
        yield (f"[{end}]" if end.version == 6 and port is not None else str(end)), port


def _amount(sent: Sent) -> str:
    flags = "flags unknown" if sent.flags is None else f"flags {flag_letters(sent.flags) or 'none of SYN, FIN, RST'}"
    return f"{sent.packets} packets, {sent.bytes} bytes, {flags}" if sent.packets else "nothing"
