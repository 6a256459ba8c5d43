"""A finding becomes a verdict, and news becomes a notice: remember, judge, settle, lease, tell, mark.

Every way in ends in the same walk: a finding that was reported, a finding that a new capture woke, a finding whose
time has come. Any step may be the last of a function that is killed: what is left is taken up when the message comes
again, or by the schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscatter.cloud.events import (
    CAPTURE_LISTED,
    CaptureListed,
    FindingReported,
    ObjectCreated,
    PatienceTick,
    our_event,
)
from backscatter.cloud.evidence import with_evidence
from backscatter.cloud.notify import tell
from backscatter.cloud.objects import read_whole
from backscatter.cloud.stack import GROUP
from backscatter.errors import FindingError, Hopeless
from backscatter.finding.recognise import read_event, read_findings
from backscatter.flow.address import Address
from backscatter.report.record import verdict_record
from backscatter.store.catalogue import listed
from backscatter.store.findings import recall
from backscatter.store.pending import Terms, lease, mark_told, overdue, remember, settle, waiting_for
from backscatter.store.scene import StoredScene, look
from backscatter.verdict.gather import EARLIER
from backscatter.verdict.judge import AFTER, BEFORE, judge
from backscatter.verdict.scene import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from backscatter.cloud.events import Event
    from backscatter.cloud.stack import Stack
    from backscatter.finding.model import Finding
    from backscatter.store.catalogue import Entry
    from backscatter.store.findings import State
    from backscatter.verdict.model import Verdict

#: Bytes of the largest alert log that is read: it is held as a whole.
ALERT_BYTES = 64 * 10**6

#: How often a judge who was overtaken by another judge looks again.
RACES = 5

SECOND = 10**9


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
    trouble  is called with every line of an alert log that could not be read
    """

    def __init__(
        self,
        stack: Stack,
        *,
        now: Callable[[], int],
        hurry: Callable[[], bool],
        heard: Callable[[Outcome], None],
        trouble: Callable[[FindingError], None],
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
                data = read_whole(self._stack.s3, name, ALERT_BYTES)
                self._findings(read_findings(data, name.url), name.url)
            case CaptureListed():
                self._wake(event)
            case PatienceTick():
                self._each(overdue(self._stack.items, self._now()))

    def _findings(self, read: Iterable[Finding | FindingError], origin: str) -> None:
        """Remember all findings of a message, then judge them. What finds no time is due at the next tick."""
        states, errors = [], []
        for finding in read:
            try:
                if isinstance(finding, FindingError):
                    raise finding
                states.append(self._remember(finding))
            except FindingError as error:
                errors.append(error)
                self._trouble(error)
        if errors and not states:
            raise Hopeless("no_finding", f"{origin}: {errors[0]}")
        # A finding that is judged and told came twice; one that is judged and untold waits for who leased it.
        self._each(state for state in states if not state.judged or state.untold)

    def _remember(self, finding: Finding) -> State:
        stack, now = self._stack, self._now()
        first = now if finding.first_seen is None else finding.first_seen
        last = first if finding.last_seen is None else max(first, finding.last_seen)
        window = Window(max(0, first - BEFORE - EARLIER), last + AFTER)
        return remember(stack.items, stack.key, finding, self._hosts(finding), window, now, self._terms)

    def _hosts(self, finding: Finding) -> set[Address]:
        """Both ends of all its conversations, under all their names."""
        named = {end.ip for one in finding.tuples for end in (one.a, one.b) if end.ip}
        return {name for ip in named for name in self._stack.settings.names(Address.parse(ip), finding.aliases)}

    def _wake(self, event: CaptureListed) -> None:
        """Judge the findings that a capture can matter to; what finds no time gets a message of its own."""
        entry = self._entry(event)
        if entry is None:  # a later version of the object took its place, and wakes for itself
            return
        after = str(event.detail.get("after", ""))
        waiting = sorted(waiting_for(self._stack.items, entry, self._now()), key=lambda state: state.key)
        rest = self._each(state for state in waiting if state.key > after)
        if rest is not None:
            again = {**event.detail, "after": rest}
            self._stack.sqs.send_message(
                QueueUrl=self._stack.environment["QUEUE_URL"], MessageBody=our_event(CAPTURE_LISTED, again)
            )

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

    def _each(self, states: Iterable[State]) -> str | None:
        """Judge and tell, one finding after the other; one that fails costs the others nothing.

        Returns the key of the last one that was begun where time ran out before all were, else None. Raises the first
        failure at the end.
        """
        failures: list[Exception] = []
        last = ""
        for state in states:
            if last and self._hurry():
                return last
            last = state.key
            try:
                self._one(state)
            except Exception as error:  # noqa: BLE001  # whatever it is: it costs this finding, and is raised below
                failures.append(error)
        if failures:
            raise failures[0]
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
            tell(stack, verdict, record, revision=leased.notice_id, previous=leased.turned_from or None)
            mark_told(stack.items, leased)
        self._heard(Outcome(verdict.finding.id, verdict.label.value, leased.notice_id if leased else ""))

    def _verdict(self, finding: Finding) -> Verdict:
        stack = self._stack
        # Made after the finding was remembered: a capture is either in this scene or finds the finding waiting.
        scene = StoredScene(stack.items, stack.key, GROUP)
        verdict = look(scene, lambda scene: judge(finding, scene, stack.settings))
        return with_evidence(stack, scene, verdict)
