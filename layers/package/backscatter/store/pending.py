"""A finding's way through the store: remembered, judged, judged again when captures come, told once.

It is remembered *before* it is judged, and a capture is listed before it asks who waits: whichever came second finds
the other, so no wake-up is lost. A judge writes its verdict on condition of the state that it read. News is told under
a lease and then marked; whoever is killed in between leaves the finding due, and the notice is repeated with the same
id.

A capture that can hold both ends of a finding's conversations wakes it at once. One that can hold one end only, as
every capture of a busy host can, may change what is known of the host but not what the two said to each other: such
captures are gathered for a while, and each finding is judged once for all of them.

Times are ns since 1970-01-01 UTC; `now` comes from the caller, there is no clock in here.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backscatter.errors import StoreError
from backscatter.finding.serial import finding_text
from backscatter.flow.window import Window
from backscatter.store.catalogue import HOUR, SECOND
from backscatter.store.findings import (
    State,
    due_item,
    due_key,
    finding_item,
    finding_key,
    forget,
    recall,
    recall_all,
    revised,
    state_item,
    text_hash,
    verdict_item,
    verdict_text,
    waiting_items,
    waiting_partitions,
)
from backscatter.store.hosts import HostHash
from backscatter.store.items import EXPIRES
from backscatter.store.news import gist, is_news

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from backscatter.finding.model import Finding
    from backscatter.flow.address import Address
    from backscatter.store.catalogue import Entry
    from backscatter.store.items import Items

MINUTE = 60 * SECOND

#: Findings that are fetched together.
_TOGETHER = 100
#: Hosts of a finding that captures are held against; a finding of more is woken by every capture of its window.
_MOST_HOSTS = 64
#: An entry of the schedule is written ahead of the state that names it. No function runs this long (ns).
_SURELY_DEAD = 5 * MINUTE
#: How often a lost race for the lock is run again, where the outcome does not depend on who wins.
_RACES = 10
#: The longest that a finding which fails again and again is put off (ns).
_LONGEST_PAUSE = 6 * HOUR
_OUTLIVES_AN_UPDATE = ("lock", "revision", "told", "gist", "turned_from", "lease_until", "patience_until", "heard")


@dataclass(frozen=True, slots=True)
class Terms:
    """How long things are waited for, ns.

    patience  before an undetermined first verdict is told
    look      between two looks at a finding whose capture is missing
    lease     in which a notice is published; above the time that a function may run
    gather    captures that can hold one end only are gathered for so long
    open      how long after the finding (or after its arrival) captures may still change its verdict
    keep      how long findings and verdicts are kept
    """

    patience: int = 30 * MINUTE
    look: int = 5 * MINUTE
    lease: int = 3 * MINUTE
    gather: int = 15 * MINUTE
    open: int = 24 * HOUR
    keep: int = 90 * 24 * HOUR


TERMS = Terms()


class Woken(NamedTuple):
    """Keys of the findings that a capture matters to: at once, and when others like it were gathered."""

    now: list[str]
    later: list[str]


class PutOff(NamedTuple):
    """A capture that some findings are to be judged again for, at `time` (ns); `start` is its first packet's."""

    time: int
    capture: str
    start: int


def remember(
    items: Items,
    key: bytes,
    finding: Finding,
    hosts: Iterable[Address],
    window: Window,
    now: int,
    terms: Terms = TERMS,
    others: Iterable[Address] = (),
) -> State:
    """Keep a finding as pending, unless this or a newer update of it is known: then that is returned.

    key     the deployment's
    hosts   whom it is about; captures that cannot hold any of them do not wake it. Empty for any capture
    window  in which captures matter to it, with what a judge looks back
    others  the hosts at the other end, where `hosts` are those at one: captures that can hold one end only wait a while

    `State.judged` is "" until the finding, or this update of it, is judged. Raises FindingError where it is too large.
    """
    one = list(dict.fromkeys(hosts))
    wanted = [*one, *dict.fromkeys(others)]
    hashes = HostHash(key).addresses(wanted) if 0 < len(wanted) <= _MOST_HOSTS else np.zeros(0, np.uint64)
    seen = finding.last_seen if finding.last_seen is not None else now
    text = finding_text(finding)
    fresh = State(
        key=finding_key(finding),
        finding=finding,
        text=text_hash(text),
        hosts=tuple(int(host) for host in hashes),
        window=window,
        lock=1,
        judged="",
        revision=0,
        told=0,
        gist=None,
        turned_from="",
        lease_until=0,
        due=now + min(terms.look, terms.patience),
        patience_until=now + terms.patience,
        final_at=max(now, seen) + terms.open,
        expires_at=(max(now, seen) + terms.keep) // SECOND,
        ends=len(one) if len(hashes) > len(one) else 0,
    )
    for _ in range(_RACES):
        known = recall(items, fresh.key)
        if known and finding.updated <= known.finding.updated:
            return known
        state = fresh
        if known:
            # What was told stays told, and updates that come every few minutes do not stretch the patience.
            lasting = {name: getattr(known, name) for name in _OUTLIVES_AN_UPDATE}
            state = revised(dataclasses.replace(fresh, **lasting))
        # The state comes last: until it is there, whoever finds the rest finds nothing and leaves it alone.
        items.put_all([finding_item(state, text), *waiting_items(state), due_item(state)])
        if known is None:
            written = items.put_if_absent(state_item(state))
        else:
            written = items.replace_if(state_item(state), "lock", known.lock)
        if written:
            if known and known.due not in (0, state.due):
                items.delete(*due_key(known))
            return state
        if known is None:
            forget(items, fresh.key, now)  # else it is somebody else's, just written
    raise _contended(fresh.key)


def settle(items: Items, state: State, record: Mapping[str, Any], now: int, terms: Terms = TERMS) -> State | None:
    """Keep a verdict (`report.record.verdict_record`) that was reached with this state in hand.

    Returns the new state: `untold` where there is news to tell. None where somebody else wrote in between: then recall
    the finding and judge it again.
    """
    text = verdict_text(record)
    news = is_news(state.gist, record, patient=now < state.patience_until)
    after = revised(state, judged=text_hash(text), tries=state.tries if state.untold else 0)
    if news:
        turned_from = str(state.gist["verdict"]) if state.gist else ""
        after = revised(
            state,
            judged=after.judged,
            revision=state.revision + 1,
            gist=gist(record),
            turned_from=turned_from,
            heard=(),
            tries=0,
        )
    after = dataclasses.replace(after, due=_next_look(after, now, terms))
    if dataclasses.replace(after, lock=state.lock) == state:
        return state
    later = [due_item(after)] if after.due else []
    items.put_all([verdict_item(after, record, text), *later])
    if not items.replace_if(state_item(after), "lock", state.lock):
        return None
    if state.due not in (0, after.due):
        items.delete(*due_key(state))
    return after


def wakened_by(items: Items, entry: Entry, now: int) -> Woken:
    """The findings that a newly listed capture can matter to: it overlaps their window and can hold their hosts.

    Findings stay open to captures until `State.final_at`, judged and told or not. A capture whose clock is off is held
    against the hour of its first packet.
    """
    span = _span(entry)
    now_keys: dict[str, None] = {}
    later: dict[str, None] = {}
    for partition in waiting_partitions(span):
        for key, both in _admitted(entry, items.query(partition), span, now):
            (now_keys if both else later)[key] = None
    return Woken(list(now_keys), [key for key in later if key not in now_keys])


def waiting_for(items: Items, entry: Entry, keys: Sequence[str], now: int) -> Iterator[State]:
    """The states of findings that a capture wakes. Raises StoreError for one that cannot be read, behind all others."""
    span = _span(entry)
    for state in _known(items, keys):
        if now < state.final_at and _overlap(state.window, span):
            yield state


def known(items: Items, keys: Sequence[str], now: int) -> Iterator[State]:
    """The states of those findings that are still open. Raises StoreError as `waiting_for` does."""
    return (state for state in _known(items, keys) if now < state.final_at)


def _known(items: Items, keys: Sequence[str]) -> Iterator[State]:
    damaged = []
    for some in _batches(keys):
        try:
            yield from recall_all(items, some)
        except StoreError as error:
            damaged.append(error)
    if damaged:
        raise damaged[0]


def put_off(items: Items, entry: Entry, now: int, terms: Terms = TERMS) -> None:
    """Keep a capture that findings are to be judged again for, once captures like it were gathered."""
    time = (now // terms.gather + 1) * terms.gather
    items.put_all(
        [
            {
                "pk": "later",
                "sk": f"{time:020d}#{entry.capture}",
                "start": entry.census.start,
                EXPIRES: (time + terms.open) // SECOND,
            }
        ]
    )


def gathered(items: Items, now: int, most: int) -> list[PutOff]:
    """The captures that were put off and whose time has come, at most so many, the longest put off first."""
    found = itertools.islice(items.query("later", "", f"{now:020d}#~"), most)
    return [
        PutOff(int(time), capture, int(str(item["start"])))
        for item in found
        for time, _, capture in [str(item["sk"]).partition("#")]
    ]


def taken(items: Items, some: Iterable[PutOff]) -> None:
    """The captures are somebody's: they are put off no more."""
    for one in some:
        items.delete("later", f"{one.time:020d}#{one.capture}")


def _span(entry: Entry) -> Window:
    census = entry.census
    return Window(census.start, census.end if census.clock_ok else census.start)


def overdue(items: Items, now: int, most: int = 1000) -> Iterator[State]:
    """The findings whose time has come, the longest overdue first.

    Their capture may be there, their patience may be over, or their notice was not told. Raises StoreError for one
    that cannot be read, behind all others.
    """
    keys = [str(item["sk"]) for item in itertools.islice(items.query("due", "", f"{now:020d}#~"), most)]
    damaged = []
    for some in _batches(keys):
        known: dict[str, State] = {}
        whole = True
        try:
            for state in recall_all(items, [key.partition("#")[2] for key in some]):
                known[state.key] = state
        except StoreError as error:
            damaged.append(error)
            whole = False
        for key in some:
            time, _, name = key.partition("#")
            if name in known and known[name].due == int(time):
                yield known[name]
            elif whole and int(time) < now - _SURELY_DEAD:
                items.delete("due", key)  # left behind by somebody who was killed, or by an update
    if damaged:
        raise damaged[0]


def take_up(items: Items, state: State, now: int, terms: Terms = TERMS) -> State | None:
    """Put off an overdue finding that is about to be judged, or None where somebody else wrote in between.

    A finding that costs its judge all time or memory must not stand first in the schedule again: all that come behind
    it would be kept from their turn for good. One that goes on failing is put off twice as long each time.
    """
    after = revised(state, due=max(now, state.lease_until) + _pause(state, terms), tries=state.tries + 1)
    items.put_all([due_item(after)])
    if not items.replace_if(state_item(after), "lock", state.lock):
        return None
    items.delete(*due_key(state))
    return after


def lease(items: Items, state: State, now: int, terms: Terms = TERMS) -> State | None:
    """Take it upon oneself to tell the news of this state. None where it is told, another's, or no longer the news."""
    current = recall(items, state.key)
    if current is None or not current.untold or current.revision != state.revision or now < current.lease_until:
        return None
    leased = revised(current, lease_until=now + terms.lease)
    return leased if items.replace_if(state_item(leased), "lock", current.lock) else None


def mark_heard(items: Items, state: State, channels: Iterable[str]) -> None:
    """Some channels took the news of this state and others did not: the next try leaves these alone."""
    for _ in range(_RACES):
        current = recall(items, state.key)
        if current is None or current.revision != state.revision:
            return
        heard = tuple(dict.fromkeys((*current.heard, *channels)))
        if items.replace_if(state_item(revised(current, heard=heard)), "lock", current.lock):
            return
    raise _contended(state.key)


def mark_told(items: Items, state: State) -> State:
    """The notice of this state's revision went out. Raises StoreError where the finding is gone or never at rest."""
    for _ in range(_RACES):
        current = recall(items, state.key)
        if current is None:
            raise StoreError(f"finding {state.key} is gone")
        told = max(current.told, state.revision)
        done = told >= current.revision
        after = revised(current, told=told, lease_until=0, tries=0, due=0 if done else current.due)
        if items.replace_if(state_item(after), "lock", current.lock):
            if current.due and not after.due:
                items.delete(*due_key(current))
            return after
    raise _contended(state.key)


def _pause(state: State, terms: Terms) -> int:
    """How long it is put off (ns): from the second time on that nothing came of it, twice as long each time."""
    return min(terms.lease << max(min(state.tries, 16) - 1, 0), _LONGEST_PAUSE)


def _next_look(state: State, now: int, terms: Terms) -> int:
    """When a finding is to be looked at again if no capture wakes it."""
    if state.untold:
        return max(now, state.lease_until) + _pause(state, terms)
    if state.gist is None:
        return min(now + terms.look, max(now, state.patience_until))
    return 0


def _admitted(entry: Entry, waiting: Iterable[Mapping[str, Any]], span: Window, now: int) -> Iterator[tuple[str, bool]]:
    """The keys of those who wait for such a capture, and whether it can hold both their ends.

    One probe of the filter serves them all.
    """
    open_ones = [item for item in waiting if item[EXPIRES] * SECOND > now and _overlap(Window(*item["window"]), span)]
    hosts = [int(host, 16) for item in open_ones for host in item["hosts"]]
    held = iter(entry.hosts.holds(np.array(hosts, np.uint64)).tolist())
    for item in open_ones:
        answers = [next(held) for _ in item["hosts"]]
        if any(answers) or not answers:
            ends = item.get("ends", 0)
            yield str(item["sk"]), not ends or (any(answers[:ends]) and any(answers[ends:]))


def _overlap(one: Window, other: Window) -> bool:
    return one.start <= other.end and other.start <= one.end


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(keys), _TOGETHER):
        yield keys[at : at + _TOGETHER]


def _contended(key: str) -> StoreError:
    return StoreError(f"finding {key}: somebody else wrote {_RACES} times in between; try again")
