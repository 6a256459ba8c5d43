"""A finding's way through the store: remembered, judged, judged again when captures come, told once.

It is remembered *before* it is judged, and a capture is listed before it asks who waits: whichever came second finds
the other, so no wake-up is lost. A judge writes its verdict on condition of the state that it read. News is told under
a lease and then marked; whoever is killed in between leaves the finding due, and the notice is repeated with the same
id.

Times are ns since 1970-01-01 UTC; `now` comes from the caller, there is no clock in here.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
_OUTLIVES_AN_UPDATE = ("lock", "revision", "told", "gist", "turned_from", "lease_until", "patience_until", "heard")


@dataclass(frozen=True, slots=True)
class Terms:
    """How long things are waited for, ns.

    patience  before an undetermined first verdict is told
    look      between two looks at a finding whose capture is missing
    lease     in which a notice is published; above the time that a function may run
    open      how long after the finding (or after its arrival) captures may still change its verdict
    keep      how long findings and verdicts are kept
    """

    patience: int = 30 * MINUTE
    look: int = 5 * MINUTE
    lease: int = 3 * MINUTE
    open: int = 24 * HOUR
    keep: int = 90 * 24 * HOUR


TERMS = Terms()


def remember(
    items: Items,
    key: bytes,
    finding: Finding,
    hosts: Iterable[Address],
    window: Window,
    now: int,
    terms: Terms = TERMS,
) -> State:
    """Keep a finding as pending, unless this or a newer update of it is known: then that is returned.

    key     the deployment's
    hosts   whom it is about; captures that cannot hold any of them do not wake it. Empty for any capture
    window  in which captures matter to it, with what a judge looks back

    `State.judged` is "" until the finding, or this update of it, is judged. Raises FindingError where it is too large.
    """
    wanted = list(dict.fromkeys(hosts))
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
    after = revised(state, judged=text_hash(text))
    if news:
        turned_from = str(state.gist["verdict"]) if state.gist else ""
        after = revised(
            state,
            judged=after.judged,
            revision=state.revision + 1,
            gist=gist(record),
            turned_from=turned_from,
            heard=(),
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


def waiting_for(items: Items, entry: Entry, now: int) -> Iterator[State]:
    """The findings that a newly listed capture can matter to: it overlaps their window and can hold one of their hosts.

    Findings stay open to captures until `State.final_at`, judged and told or not. A capture whose clock is off is held
    against the hour of its first packet. Raises StoreError for one that cannot be read, behind all others.
    """
    census = entry.census
    span = Window(census.start, census.end if census.clock_ok else census.start)
    woken: dict[str, None] = {}
    for partition in waiting_partitions(span):
        woken.update(dict.fromkeys(_admitted(entry, items.query(partition), span, now)))
    damaged = []
    for keys in _batches(list(woken)):
        try:
            for state in recall_all(items, keys):
                if now < state.final_at and _overlap(state.window, span):
                    yield state
        except StoreError as error:
            damaged.append(error)
    if damaged:
        raise damaged[0]


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
    it would be kept from their turn for good.
    """
    after = revised(state, due=max(now, state.lease_until) + terms.lease)
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
        after = revised(current, told=told, lease_until=0, due=0 if done else current.due)
        if items.replace_if(state_item(after), "lock", current.lock):
            if current.due and not after.due:
                items.delete(*due_key(current))
            return after
    raise _contended(state.key)


def _next_look(state: State, now: int, terms: Terms) -> int:
    """When a finding is to be looked at again if no capture wakes it."""
    if state.untold:
        return max(now, state.lease_until) + terms.lease
    if state.gist is None:
        return min(now + terms.look, max(now, state.patience_until))
    return 0


def _admitted(entry: Entry, waiting: Iterable[Mapping[str, Any]], span: Window, now: int) -> Iterator[str]:
    """The keys of those who wait for such a capture. One probe of the filter serves them all."""
    open_ones = [item for item in waiting if item[EXPIRES] * SECOND > now and _overlap(Window(*item["window"]), span)]
    hosts = [int(host, 16) for item in open_ones for host in item["hosts"]]
    held = iter(entry.hosts.holds(np.array(hosts, np.uint64)).tolist())
    for item in open_ones:
        answers = [next(held) for _ in item["hosts"]]
        if any(answers) or not answers:
            yield str(item["sk"])


def _overlap(one: Window, other: Window) -> bool:
    return one.start <= other.end and other.start <= one.end


def _batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(keys), _TOGETHER):
        yield keys[at : at + _TOGETHER]


def _contended(key: str) -> StoreError:
    return StoreError(f"finding {key}: somebody else wrote {_RACES} times in between; try again")
