"""The walk: finding -> conversations -> facts -> rule -> verdict. Pure: same inputs, same verdict, byte for byte."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from backscatter.finding.model import End
from backscatter.flow.address import Address
from backscatter.flow.protocol import proto_name, proto_number
from backscatter.flow.table import FlowTable
from backscatter.flow.window import Window
from backscatter.verdict.caps import WINDOW_SHARE, Boost, Cap, weighed
from backscatter.verdict.coverage import coverage_of, share_seen
from backscatter.verdict.explain import clock_evidence, evidence_of, hint, near_misses, summary_of, victim_of
from backscatter.verdict.facts import Facts
from backscatter.verdict.gather import EARLIER, Gathered, Wanted, gather
from backscatter.verdict.model import Effect, Evidence, Label, Told, Verdict, Why
from backscatter.verdict.rules import R18, RULES, Rule
from backscatter.verdict.surroundings import Neighbourhood, Surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backscatter.finding.model import Finding, Tuple
    from backscatter.verdict.conversation import Conversation, SeenFlow
    from backscatter.verdict.scene import Scene
    from backscatter.verdict.settings import Settings

SECOND = 10**9

#: A finding means its conversations from 15 minutes before first_seen to 60 s after last_seen.
BEFORE, AFTER = 15 * 60 * SECOND, 60 * SECOND

#: Captures are asked for their coverage, and for flows that go on with a conversation, so far behind the window.
LATER = 5 * 60 * SECOND

#: Conversations that a verdict lists with their own verdicts, at most.
MOST_TOLD = 30

#: Flows that a verdict carries at most.
MOST_FLOWS = 100

#: Conversations and leads judged for one finding at most; the rest are counted as undetermined, never as benign.
MOST_CONVERSATIONS, MOST_LEADS = 20_000, 200

#: The most dangerous first.
DANGER = {label: rank for rank, label in enumerate(Label)}

#: One bare RST of ours in so many conversations with a remote may have lost the SYN+ACK that it refused.
STRAYS = 50

#: Labels that say that our host took part: with one of these elsewhere, backscatter is a conflict (R19).
CONTACT = frozenset({Label.CONNECTION_ESTABLISHED, Label.CONNECTION_ATTEMPTED})


@dataclass(frozen=True, slots=True)
class Judged:
    """One conversation with the rule that decided it."""

    facts: Facts
    rule: Rule
    label: Label
    why: Why | None
    confidence: int
    caps: tuple[Cap, ...]
    boosts: tuple[Boost, ...]


#: Conversations judged, each with the names of its remote.
Judgements = list[tuple[frozenset[Address], Judged]]


@dataclass(frozen=True, slots=True)
class Ends:
    """A tuple with its ends told apart."""

    proto: str | None
    local: End
    remote: End


def judge(finding: Finding, scene: Scene, settings: Settings) -> Verdict:
    """The verdict on a finding: the most dangerous of its conversations decides.

    Raises nothing on purpose: what cannot be judged is `undetermined`, and says why.
    """
    first = finding.tuples[0] if finding.tuples else None
    ends = next(_told_apart(first, finding, settings)) if first else Ends(None, End(), End())
    if not finding.is_network:
        return Verdict(
            finding,
            None,
            End(),
            End(),
            Label.NOT_APPLICABLE,
            None,
            0,
            None,
            "This finding is about no network conversation.",
        )
    verdicts = [
        min((_judge_tuple(finding, told, scene, settings) for told in _told_apart(one, finding, settings)), key=_danger)
        for one in dict.fromkeys(finding.tuples)
    ]
    if not verdicts:
        return _without(finding, ends, Why.NO_TUPLE, "The finding names no pair of addresses.")
    worst = min(verdicts, key=_danger)
    if len(verdicts) == 1:
        return worst
    counts: Counter[str] = Counter()
    for verdict in verdicts:
        counts.update(verdict.conversations)
    judged = sorted((one for verdict in verdicts for one in verdict.judged), key=_told_first)[:MOST_TOLD]
    return replace(worst, conversations=by_danger(counts), judged=tuple(judged))


def _told_first(one: Told) -> tuple[int, int, int]:
    """Sorts the most dangerous first, then the earliest."""
    return DANGER[one.label], one.start, one.end


def _danger(verdict: Verdict) -> tuple[int, int]:
    """Sorts the most dangerous first."""
    return DANGER[verdict.label], -verdict.confidence


def _told_apart(one: Tuple, finding: Finding, settings: Settings) -> Iterator[Ends]:
    """Which end is ours: the one in `home`; if both or neither, the finding's resource; else each in turn."""
    forth, back = Ends(one.proto, one.a, one.b), Ends(one.proto, one.b, one.a)
    home_a, home_b = (_is_home(end, finding, settings) for end in (one.a, one.b))
    if home_a != home_b:
        yield forth if home_a else back
    elif one.resource is not None:
        yield forth if one.resource == "a" else back
    else:
        yield forth
        yield back


def _is_home(end: End, finding: Finding, settings: Settings) -> bool:
    if end.ip is None:
        return False
    return any(settings.is_home(name) for name in settings.names(Address.parse(end.ip), finding.aliases))


def _judge_tuple(finding: Finding, ends: Ends, scene: Scene, settings: Settings) -> Verdict:
    if ends.local.ip is None or ends.remote.ip is None:
        return _without(finding, ends, Why.NO_TUPLE, "The finding does not name both addresses.")
    local = settings.names(Address.parse(ends.local.ip), finding.aliases)
    remote = settings.names(Address.parse(ends.remote.ip), finding.aliases)
    if finding.first_seen is None or finding.last_seen is None:
        return _without(finding, ends, Why.NO_CAPTURE, "The finding has no time, so no capture can be chosen.")
    own = Window(finding.first_seen, max(finding.first_seen, finding.last_seen))
    window = Window(own.start - BEFORE, own.end + AFTER)
    proto = proto_number(ends.proto) if ends.proto else None
    wanted = Wanted(proto, ends.local.port, ends.remote.port)
    bench = Bench(scene, local, remote, window, own)
    judged = bench.judged(wanted)
    if finding.vlan:
        judged = _in_vlan(judged, finding.vlan) or judged
    if not judged:
        return _nothing(finding, ends, bench)
    return _verdict(finding, ends, judged, bench)


class Bench:
    """Judges the conversations of two hosts. Reads each thing from the scene once."""

    def __init__(
        self, scene: Scene, local: frozenset[Address], remote: frozenset[Address], window: Window, own: Window
    ) -> None:
        self.scene, self.local, self.remote, self.window, self.own = scene, local, remote, window, own
        # A conversation may go on behind the window that it reaches into, and so must what vouches for it.
        self.censuses = scene.censuses(Window(window.start - EARLIER, window.end + LATER))
        self._tables: dict[frozenset[Address], FlowTable] = {}
        self._hosts: dict[frozenset[Address], Neighbourhood] = {}
        self._gathered: dict[tuple[frozenset[Address], Wanted], Gathered] = {}
        self._contacted: dict[frozenset[Address], bool] = {}
        self.left_out = 0  # conversations too many to be judged

    def table(self, remote: frozenset[Address]) -> FlowTable:
        """All flows between the local host and a remote around the window."""
        if remote not in self._tables:
            around = Window(self.window.start - EARLIER, self.window.end + LATER)
            self._tables[remote] = self.scene.flows_between(self.local, remote, around)
        return self._tables[remote]

    def gathered(self, remote: frozenset[Address], wanted: Wanted) -> Gathered:
        """The conversations with a remote that are meant."""
        key = remote, wanted
        if key not in self._gathered:
            self._gathered[key] = gather(self.table(remote), self.local, remote, wanted, self.window)
        return self._gathered[key]

    def judged(self, wanted: Wanted) -> Judgements:
        """Every conversation that is meant, and those that ICMP errors from the remote speak of, each judged."""
        found = self.gathered(self.remote, wanted)
        self.left_out = max(len(found.conversations) - MOST_CONVERSATIONS, 0) + max(len(found.leads) - MOST_LEADS, 0)
        pairs: list[tuple[frozenset[Address], Conversation]] = [
            (self.remote, conversation) for conversation in found.conversations[:MOST_CONVERSATIONS]
        ]
        for lead in found.leads[:MOST_LEADS]:
            there = frozenset({lead.remote})
            pairs += [(there, one) for one in self.gathered(there, lead.wanted).conversations]
        judged = [(remote, self._judge(conversation, remote)) for remote, conversation in pairs]
        if any(one.label is Label.BACKSCATTER for _, one in judged):
            judged = [
                (remote, self._judge(one.facts.conversation, remote, contacted=True))
                if one.label is Label.BACKSCATTER and self._contacts(remote)
                else (remote, one)
                for remote, one in judged
            ]
        return judged

    def _contacts(self, remote: frozenset[Address]) -> bool:
        """Whether the local host began or took part in any conversation of the pair in the window.

        What is backscatter is none of these, so it need not be told apart from itself.
        """
        if remote not in self._contacted:
            others = [self._facts(one, remote) for one in self.gathered(remote, Wanted()).conversations]
            strays = sum(_strayed(facts) for facts in others)
            self._contacted[remote] = strays > max(1, len(others) // STRAYS) or any(map(_took_part, others))
        return self._contacted[remote]

    def _facts(self, conversation: Conversation, remote: frozenset[Address], *, contacted: bool = False) -> Facts:
        hosts = self._hosts.setdefault(remote, Neighbourhood(self.scene, self.local, remote, self.window))
        around = Surroundings(hosts, conversation.start, conversation.end)
        scopes = sorted({flow.view[1] for flow in (*conversation.flows, *conversation.errors)})
        span = Window(conversation.start - BEFORE, conversation.end + AFTER)
        coverages = tuple(one for scope in scopes for one in coverage_of(self.censuses, scope, span))
        return Facts(conversation, coverages, around, contacted)

    def _judge(self, conversation: Conversation, remote: frozenset[Address], *, contacted: bool = False) -> Judged:
        facts = self._facts(conversation, remote, contacted=contacted)
        rule = next(rule for rule in RULES if rule.matches(facts))
        confidence, caps, boosts = weighed(rule, facts, self.own)
        undone = next((cap for cap in caps if cap.limit == 0), None)
        if undone is not None:
            return Judged(facts, RULES[-1], Label.UNDETERMINED, undone.why, 0, caps, ())
        return Judged(facts, rule, rule.label, rule.why, confidence, caps, boosts)


def _took_part(facts: Facts) -> bool:
    """Whether the local end began it, or went on in it where nothing shows that they did: an idle session, say.

    What it sent to nobody's question counts too, and what cannot be read of what it sent.
    """
    if facts.local_went_on and not facts.local_accepted:
        return True
    alone = facts.local_spoke and not facts.remote_spoke
    if (alone and not _strayed(facts)) or facts.any(lambda flow: flow.local.opaque):
        return True
    return any(rule.matches(facts) for rule in RULES if rule.label in CONTACT)


def _strayed(facts: Facts) -> bool:
    """Whether all of it is one bare RST of ours: the SYN+ACK that it refuses was lost, or there never was one."""
    return facts.is_tcp and not facts.remote_spoke and facts.total(_strays) == 1 and not facts.any(_says_more)


def _strays(flow: SeenFlow) -> int:
    return flow.local.bare_rsts


def _says_more(flow: SeenFlow) -> bool:
    return flow.local.packets != flow.local.bare_rsts or flow.local.payload > 0


def _in_vlan(judged: Judgements, vlan: tuple[int, ...]) -> Judgements:
    """Those seen in the scope that the alert's VLAN tags name."""
    scope = "vlan:" + ".".join(map(str, vlan))
    return [(remote, one) for remote, one in judged if any(view[1] == scope for view in one.facts.views)]


def _verdict(finding: Finding, ends: Ends, judged: Judgements, bench: Bench) -> Verdict:
    """The finding's verdict from those of its conversations."""
    worst = min(DANGER[one.label] for _, one in judged)
    if bench.left_out and worst > DANGER[Label.UNDETERMINED]:
        text = f"It covers {len(judged) + bench.left_out} conversations, more than are judged for one finding."
        undecided = _without(finding, ends, Why.CONFLICT, text, rule=RULES[-1].id)
        flows, total = _flows(judged, bench)
        return replace(undecided, conversations=_counted(judged, bench), flows=flows, flows_total=total)
    deciding = [one for _, one in judged if DANGER[one.label] == worst]
    # Of dangerous verdicts the surest speaks for all; of harmless ones the least sure, since all of them are claimed.
    harmless = worst > DANGER[Label.UNDETERMINED]
    decided = min(deciding, key=lambda one: one.confidence if harmless else -one.confidence)
    counts = _counted(judged, bench)
    evidence = (
        *evidence_of(decided.facts, decided.rule, decided.caps, decided.boosts),
        *clock_evidence(decided.facts, finding),
    )
    if len(judged) > 1:
        told = ", ".join(f"{count} {label}" for label, count in counts.items())
        text = f"This finding covers {sum(counts.values())} conversations: {told}. The most dangerous decides."
        evidence = (*evidence, Evidence(Effect.FOR, text))
    flows, total = _flows(judged, bench)
    return Verdict(
        finding=finding,
        proto=ends.proto,
        local=ends.local,
        remote=ends.remote,
        label=decided.label,
        why=decided.why,
        confidence=decided.confidence,
        rule=decided.rule.id,
        summary=summary_of(
            decided.facts, decided.rule, decided.caps, ends.local, _spoken_of(decided.facts, ends, bench)
        ),
        victim=victim_of(decided.facts) if decided.label is Label.BACKSCATTER else None,
        conversations=counts,
        evidence=evidence,
        flows=flows,
        flows_total=total,
        judged=_told(judged),
    )


def _spoken_of(facts: Facts, ends: Ends, bench: Bench) -> End:
    """The remote end as the alert names it, or the third host that an ICMP error of its remote speaks of."""
    of = facts.conversation
    return ends.remote if of.remote in bench.remote else End(str(of.remote), of.remote_port)


def _told(judged: Judgements) -> tuple[Told, ...]:
    """The conversations with their verdicts, the most dangerous first, so many as a person reads."""
    ordered = sorted(
        judged, key=lambda pair: (DANGER[pair[1].label], pair[1].facts.start, pair[1].facts.conversation.rows)
    )
    told = []
    for _, one in ordered[:MOST_TOLD]:
        facts, of = one.facts, one.facts.conversation
        told.append(
            Told(
                one.label,
                one.why,
                one.confidence,
                one.rule.id,
                proto_name(of.proto),
                End(str(of.local), of.local_port),
                End(str(of.remote), of.remote_port),
                of.start,
                of.end,
                facts.total(lambda flow: flow.local.packets + flow.remote.packets),
                (*(cap.missing for cap in one.caps), *near_misses(facts, one.rule)),
            )
        )
    return tuple(told)


def _counted(judged: Judgements, bench: Bench) -> dict[str, int]:
    """How many conversations got which label; those that were too many are undetermined."""
    counts = Counter(one.label.value for _, one in judged)
    counts[Label.UNDETERMINED.value] += bench.left_out
    return by_danger(counts)


def _flows(judged: Judgements, bench: Bench) -> tuple[FlowTable, int]:
    """The flows of the conversations, most dangerous first, at most MOST_FLOWS; and how many there are."""
    rows: dict[tuple[frozenset[Address], int], None] = {}
    for remote, one in sorted(judged, key=lambda pair: (DANGER[pair[1].label], pair[1].facts.start)):
        for row in one.facts.conversation.rows:
            rows[remote, row] = None
    shown: dict[frozenset[Address], list[int]] = {}
    for remote, row in list(rows)[:MOST_FLOWS]:
        shown.setdefault(remote, []).append(row)
    tables = [bench.table(remote).select(np.array(some, np.int64)) for remote, some in shown.items()]
    return tables[0] if len(tables) == 1 else FlowTable.joined(tables), len(rows)


def by_danger(counts: Counter[str]) -> dict[str, int]:
    """Counts of labels, the most dangerous first."""
    return {label.value: counts[label.value] for label in Label if counts[label.value]}


def _nothing(finding: Finding, ends: Ends, bench: Bench) -> Verdict:
    """R18: no conversation was found. Either nobody captured the time, or the remote never appeared in it."""
    near = bench.scene.flows_of(bench.local, bench.window)
    scopes = sorted({near.scopes[number] for number in set(near.rows["scope"].tolist())})
    coverages = [one for scope in scopes for one in coverage_of(bench.censuses, scope, bench.window)]
    if len(near) and share_seen(coverages, bench.own) >= WINDOW_SHARE:
        text = (
            f"{ends.local.ip} was captured at that time, but no conversation with {ends.remote.ip} that fits the alert."
        )
        return _without(finding, ends, Why.NOT_SEEN, text)
    return _without(finding, ends, Why.NO_CAPTURE, f"Nothing was captured of {ends.local.ip} at the time of the alert.")


def _without(finding: Finding, ends: Ends, why: Why, text: str, rule: str = R18) -> Verdict:
    """A verdict that no conversation stands behind."""
    evidence = [Evidence(Effect.MISSING, text)]
    shown = hint(finding, ends.local) if why in (Why.NO_CAPTURE, Why.NOT_SEEN) else None
    if shown is not None:
        evidence.append(Evidence(Effect.FOR, shown))
    return Verdict(
        finding=finding,
        proto=ends.proto,
        local=ends.local,
        remote=ends.remote,
        label=Label.UNDETERMINED,
        why=why,
        confidence=0,
        rule=rule,
        summary=f"Undetermined: {text[0].lower() if text.startswith(('The ', 'Nothing ')) else text[0]}{text[1:]}",
        evidence=tuple(evidence),
    )
