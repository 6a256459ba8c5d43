"""A finding becomes a verdict, and news becomes a notice: remember, judge, settle, lease, tell, mark.

Every way in ends in the same walk: a finding that was reported, a finding that a new capture woke, a finding whose
time has come. Any step may be the last of a function that is killed: what is left is taken up when the message comes
again, or by the schedule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from backscatter.cloud.events import (
    ALERT_LOG_BEGUN,
    CAPTURE_LISTED,
    CAPTURES_GATHERED,
    PATIENCE_TICK,
    AlertLogBegun,
    CaptureListed,
    CapturesGathered,
    FindingReported,
    ObjectCreated,
    PatienceTick,
    begun,
    our_event,
)
from backscatter.cloud.evidence import with_evidence
from backscatter.cloud.notify import CHANNELS, tell
from backscatter.cloud.objects import check_size, open_object
from backscatter.cloud.stack import GROUP
from backscatter.errors import FindingError, Hopeless, RequestError, StoreError
from backscatter.finding.recognise import LIMITS, read_event, read_findings
from backscatter.finding.troubles import More, Troubles
from backscatter.finding.unsaid import Unsaid, logged_by
from backscatter.flow.address import Address
from backscatter.flow.lookup import TableScene
from backscatter.flow.window import Window
from backscatter.report.record import verdict_record
from backscatter.store.catalogue import DAY, listed
from backscatter.store.findings import recall
from backscatter.store.pending import (
    Terms,
    gathered,
    known,
    lease,
    mark_heard,
    mark_told,
    overdue,
    put_off,
    remember,
    settle,
    take_up,
    taken,
    waiting_for,
    wakened_by,
)
from backscatter.store.scene import StoredScene, look
from backscatter.verdict.gather import EARLIER
from backscatter.verdict.judge import AFTER, BEFORE, LATER, judge
from backscatter.verdict.model import Effect, Evidence, Why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from backscatter.cloud.events import Event
    from backscatter.cloud.objects import ObjectName
    from backscatter.cloud.stack import Stack
    from backscatter.finding.model import Finding
    from backscatter.store.catalogue import Entry
    from backscatter.store.findings import State
    from backscatter.verdict.model import Verdict

    #: A finding that could not be judged, None where it could not even be read or kept, and why.
    Failure = tuple[State | None, Exception]

#: Bytes of the largest alert log that is read, stored and expanded. It is streamed, but what is left of it when time
#: runs out is read from its beginning again, and that has to get there in the time that a function has.
ALERT_BYTES = 64 * 10**6
EXPANDED = replace(LIMITS, expanded_bytes=256 * 10**6)

#: How often a judge who was overtaken by another judge looks again.
RACES = 5

SECOND = 10**9

#: Captures that one message gathers.
GATHERED = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one finding, for the log. `told` is the notice's revision, "" where there was no news."""

    finding: str
    verdict: str
    told: str


class Correlator:
    """The correlate function's work on one event.

    now      what time it is, ns
    hurry    tells whether too little time is left to begin on another finding
    heard    is called with every outcome
    trouble  is called with what could not be read of an alert log: the first of each kind, then how many more
    """

    def __init__(
        self,
        stack: Stack,
        *,
        now: Callable[[], int],
        hurry: Callable[[], bool],
        heard: Callable[[Outcome], None],
        trouble: Callable[[More], None],
    ) -> None:
        self._stack, self._now, self._hurry, self._heard, self._trouble = stack, now, hurry, heard, trouble
        self._terms = Terms(patience=stack.patience, keep=stack.keep_seconds * SECOND)

    def work(self, event: Event) -> None:
        """Do what an event asks for.

        Raises Gone and Hopeless as `objects` does, Hopeless too where nothing in the event is a finding.
        """
        match event:
            case FindingReported():
                self._findings(read_event(event.event, event.id), event.id)
            case ObjectCreated(name):
                self._alert_log(name, 0)
            case AlertLogBegun(name, done):
                self._alert_log(name, done)
            case CaptureListed():
                self._wake(event)
            case CapturesGathered():
                self._wake_again(event)
            case PatienceTick():
                self._tick()

    def _alert_log(self, name: ObjectName, done: int) -> None:
        """Remember and judge the findings of an alert log but the first `done`; the rest gets a message of its own."""
        stream, reader = open_object(self._stack.s3, name)
        with reader:
            check_size(stream, ALERT_BYTES)
            unsaid = Unsaid(logged_by(name.key, stream.modified))
            rest = self._findings(read_findings(reader, name.url, unsaid, EXPANDED, done), name.url, done)
        if rest is not None:
            self._leave(ALERT_LOG_BEGUN, begun(name, rest))

    def _findings(self, read: Iterable[Finding | FindingError], origin: str, done: int | None = None) -> int | None:
        """Remember the findings of a message, then judge them.

        Those remembered that find no time are due at the next tick. Of an alert log `done` tells how many came before
        these; where time runs out before all are, how many were is returned, else None. An event is short, and always
        remembered whole. Raises the first failure at the end.
        """
        states = []
        first: FindingError | None = None
        troubles = Troubles()
        failures: list[Failure] = []
        rest = None
        for number, finding in enumerate(read, done or 0):
            if done is not None and number > done and self._hurry():
                rest = number
                break
            kept: State | FindingError
            try:
                kept = finding if isinstance(finding, FindingError) else self._remember(finding)
            except FindingError as error:
                kept = error
            except Exception as error:  # noqa: BLE001  # whatever it is: it costs this finding, and is raised below
                failures.append((None, error))
                continue
            if isinstance(kept, FindingError):
                first = first or kept
                if troubles.is_news(kept):
                    self._trouble(More(str(kept), 1))
            else:
                states.append(kept)
        for more in troubles.more():
            self._trouble(more)
        if first and not (states or failures or done or rest):
            raise Hopeless("no_finding", f"{origin}: {first}")
        # A finding that is judged and told came twice; one that is judged and untold waits for who leased it.
        self._each((state for state in states if not state.judged or state.untold), failures)
        # With a message for the rest on its way this one must not come again, or there would be more and more of them.
        # Findings that failed to be judged are due by themselves; what failed to be remembered is not.
        lost = [error for state, error in failures if state is None or rest is None]
        if lost:
            raise lost[0]
        return rest

    def _remember(self, finding: Finding) -> State:
        stack, now = self._stack, self._now()
        finding = stack.addresses.named(finding, now)
        first = now if finding.first_seen is None else finding.first_seen
        last = first if finding.last_seen is None else max(first, finding.last_seen)
        window = Window(max(0, first - BEFORE - EARLIER), last + AFTER + LATER)
        ends = self._hosts(finding)
        return remember(stack.items, stack.key, finding, ends[0], window, now, self._terms, others=ends[1])

    def _hosts(self, finding: Finding) -> tuple[set[Address], set[Address]]:
        """Both ends of all its conversations, under all their names; all as one end where a conversation lacks one."""
        ends: tuple[set[Address], set[Address]] = set(), set()
        for one in finding.tuples:
            for end, known_as in zip((one.a, one.b), ends, strict=True):
                if end.ip:
                    known_as.update(self._stack.settings.names(Address.parse(end.ip), finding.aliases))
        whole = all(one.a.ip and one.b.ip for one in finding.tuples) and not ends[0] & ends[1]
        return ends if whole else (ends[0] | ends[1], set())

    def _wake(self, event: CaptureListed) -> None:
        """Judge the findings that a capture can matter to; what finds no time gets a message of its own."""
        entry = self._entry(event)
        if entry is None:  # a later version of the object took its place, and wakes for itself
            return
        items, now = self._stack.items, self._now()
        after = str(event.detail.get("after", ""))
        woken = wakened_by(items, entry, now)
        if woken.later and not after:
            put_off(items, entry, now, self._terms)
        keys = sorted(key for key in woken.now if key > after)
        self._again(waiting_for(items, entry, keys, now), CAPTURE_LISTED, event.detail)

    def _wake_again(self, event: CapturesGathered) -> None:
        """Judge the findings that gathered captures can hold one end of, each once for all of them."""
        items, now = self._stack.items, self._now()
        after = str(event.detail.get("after", ""))
        keys: set[str] = set()
        for entry in self._entries(event):
            keys.update(wakened_by(items, entry, now).later)
        states = known(items, sorted(key for key in keys if key > after), now)
        # Whoever still waits for a first verdict is looked at by the schedule anyway.
        self._again((state for state in states if state.gist is not None), CAPTURES_GATHERED, event.detail)

    def _again(self, states: Iterable[State], kind: str, detail: Mapping[str, Any]) -> None:
        """Judge findings once more, in the order of their keys; what finds no time gets a message like this one."""
        failures: list[Failure] = []
        waiting = sorted(_but_for(states, failures), key=lambda state: state.key)
        rest = self._each(iter(waiting), failures)
        if rest is None:
            _raise_first(failures)
            return
        # If this message came again, so would the one for the rest: what failed is left to the schedule instead.
        for state, _ in failures:
            current = recall(self._stack.items, state.key) if state else None
            if current:
                take_up(self._stack.items, current, self._now(), self._terms)
        self._leave(kind, {**detail, "after": rest})

    def _tick(self) -> None:
        """Judge the findings whose time has come; what finds no time gets a tick of its own.

        Each is put off before it is judged, so that the schedule gets on even where one kills the function.
        """
        items = self._stack.items
        # Sent and then taken off: who is killed in between lets findings be judged once more than they need.
        while captures := gathered(items, self._now(), GATHERED):
            listed_ones = [[one.capture, one.start] for one in captures]
            self._leave(CAPTURES_GATHERED, {"captures": listed_ones})
            taken(items, captures)
        failures: list[Failure] = []
        due = _but_for(overdue(items, self._now()), failures)
        rest = self._each(due, failures, lambda state: take_up(items, state, self._now(), self._terms))
        if rest is None:
            _raise_first(failures)
        else:  # what failed is due again
            self._leave(PATIENCE_TICK, {})

    def _leave(self, kind: str, detail: Mapping[str, Any]) -> None:
        """Leave work to another invocation."""
        self._stack.sqs.send_message(QueueUrl=self._stack.environment["QUEUE_URL"], MessageBody=our_event(kind, detail))

    def _entry(self, event: CaptureListed) -> Entry | None:
        try:
            capture, start = str(event.detail["capture"]), int(event.detail["start"])
        except (KeyError, TypeError, ValueError) as error:
            raise Hopeless(
                "no_event", f"a capture was listed without its id or start: {event.detail!r:.200}"
            ) from error
        return next(
            (entry for entry in listed(self._stack.items, GROUP, Window(start, start)) if entry.capture == capture),
            None,
        )

    def _entries(self, event: CapturesGathered) -> Iterator[Entry]:
        """The gathered captures that are still listed, day by day."""
        try:
            wanted = {str(capture): int(start) for capture, start in event.detail["captures"]}
        except (KeyError, TypeError, ValueError) as error:
            raise Hopeless(
                "no_event", f"captures were gathered without ids or starts: {event.detail!r:.200}"
            ) from error
        days: dict[int, list[int]] = {}
        for start in wanted.values():
            days.setdefault(start // DAY, []).append(start)
        for starts in days.values():
            for entry in listed(self._stack.items, GROUP, Window(min(starts), max(starts))):
                if wanted.get(entry.capture) == entry.census.start:
                    yield entry

    def _each(
        self,
        states: Iterable[State],
        failures: list[Failure],
        begin: Callable[[State], State | None] = lambda state: state,
    ) -> str | None:
        """Judge and tell, one finding after the other; one that fails costs the others nothing.

        `begin` is called just before a finding is judged, and gives None where it is not to be.
        Returns the key of the last one that was begun where time ran out before all were, else None.
        """
        last = ""
        for state in states:
            if last and self._hurry():
                return last
            last = state.key
            try:
                taken = begin(state)
                if taken is not None:
                    self._one(taken)
            except Exception as error:  # noqa: BLE001  # whatever it is: it costs this finding, and is told
                failures.append((state, error))
        return None

    def _one(self, state: State) -> None:
        """Judge a finding; if that is news, tell it."""
        stack = self._stack
        current: State | None = state
        for _ in range(RACES):
            if current is None:
                return  # expired in between
            verdict = self._verdict(current.finding)
            record = verdict_record(verdict)
            settled = settle(stack.items, current, record, self._now(), self._terms)
            if settled is not None:
                break
            current = recall(stack.items, state.key)
        else:
            return  # others judge it at this very moment, and one of them always gets through
        leased = lease(stack.items, settled, self._now(), self._terms) if settled.untold else None
        if leased is not None:
            previous = leased.turned_from or None
            failed = tell(stack, verdict, record, revision=leased.notice_id, previous=previous, heard=leased.heard)
            if failed:  # who heard it must not hear it again with every try that is made for the others
                mark_heard(stack.items, leased, [channel for channel in CHANNELS if channel not in failed])
                raise next(iter(failed.values()))
            mark_told(stack.items, leased)
        self._heard(Outcome(verdict.finding.id, verdict.label.value, leased.notice_id if leased else ""))

    def _verdict(self, finding: Finding) -> Verdict:
        stack = self._stack
        # Made after the finding was remembered: a capture is either in this scene or finds the finding waiting.
        scene = StoredScene(stack.items, stack.key, GROUP, may_write=True)
        try:
            verdict = look(scene, lambda scene: judge(finding, scene, stack.settings))
        except RequestError as error:  # a window of years, a server too busy: no later capture makes it less
            text = f"The captures were not looked at: {error}."
            return replace(
                judge(finding, TableScene(()), stack.settings),
                why=Why.CONFLICT,
                summary=f"Undetermined: {text[0].lower()}{text[1:]}",
                evidence=(Evidence(Effect.MISSING, text),),
            )
        return with_evidence(stack, scene, verdict)


def _but_for(states: Iterable[State], failures: list[Failure]) -> Iterator[State]:
    """The states; one that cannot be read, which is raised behind all others, is among the failures."""
    try:
        yield from states
    except StoreError as error:
        failures.append((None, error))


def _raise_first(failures: list[Failure]) -> None:
    if failures:
        raise failures[0][1]
