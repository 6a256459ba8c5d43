"""A capture shared out among workers: what each leaves behind, whether their ranges join, and what they add up to.

    plan      written first: what is shared out, and how
    range     one a range: where it began and ended, and where its packets lie (`store.shares`)
    part      one a part: its flows are stored (`store.captures.part_item`)

A range is read by somebody who guesses where its first record begins and what had been said before it. Whoever sees the
records of all ranges walks along them (`joined`): where one goes on exactly as the one before it ended, the guess was
right. Where it does not, the range is read once more by somebody who is told. So the ranges that count are those that a
single reader would have gone through, whoever read them, however often and in whatever order.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.capture.layout import Layout
from backscatter.capture.ranges import guessed_right
from backscatter.capture.reader import Standing
from backscatter.capture.record import Damage
from backscatter.decode.columns import Names
from backscatter.decode.fragments import MOST_FIRSTS, Fragments
from backscatter.errors import StoreError
from backscatter.flow.ranges import RangeTally
from backscatter.store.catalogue import CaptureObject
from backscatter.store.frame import expand, squeeze
from backscatter.store.items import EXPIRES
from backscatter.store.shares import SLOTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from backscatter.flow.ranges import RangeRead

#: Bytes of a record, expanded.
_RECORD_LARGEST = 64 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """How a capture is shared out.

    capture   its id
    source    the object
    size      its bytes
    step      bytes of a range, in the expanded stream
    ranges    how many there are; 0 of a compressed capture, of which nobody knows before it ends
    layout    what its head says (`Layout.to_json`)
    walker    of pcapng: what its head says of the section and its interfaces (`Standing.walker`)
    begun     when, ns
    tries     how often it was taken up again after nothing had happened for long
    """

    capture: str
    source: CaptureObject
    size: int
    step: int
    ranges: int
    layout: Mapping[str, Any]
    walker: Mapping[str, Any] | None
    begun: int
    tries: int = 0

    def until(self, index: int) -> int:
        """The byte of the expanded stream from which on records belong to the next range."""
        last = bool(self.ranges) and index >= self.ranges - 1
        return 1 << 62 if last else (index + 1) * self.step


@dataclass(frozen=True, slots=True)
class RangeRecord:
    """What the reader of a range leaves behind, beside the object in which its packets and its tail lie.

    given     which state it was told to begin in (`State.digest`), "" where it guessed
    begin, first, standing, damage, drops, layout, scopes, tunnels
              as in `flow.ranges.RangeRead`
    counts, lengths
              packets of each slot, and bytes
    object    key of the object with the slots, and the tail behind them
    tail      bytes of the tail
    firsts    how many first fragments are in the tail; `missed` how many later ones lack theirs, -1 for too many
    records   how many records it read
    stopped   why the limit ended it that did, "" for none
    """

    index: int
    given: str
    begin: int | None
    first: int | None
    standing: Standing | None
    damage: tuple[Damage, ...]
    drops: tuple[tuple[int, int, int], ...]
    layout: Mapping[str, Any]
    scopes: tuple[str, ...]
    tunnels: tuple[tuple[str, ...], ...]
    counts: tuple[int, ...]
    lengths: tuple[int, ...]
    object: str
    tail: int
    firsts: int
    missed: int
    records: int
    stopped: str


def record_of(
    read: RangeRead, index: int, given: str, slots: Iterable[tuple[int, bytes]], place: str, tail: int
) -> RangeRecord:
    """The record of a range whose packets were dealt into `slots` and written, with `tail` bytes more, to `place`."""
    sizes = [(count, len(data)) for count, data in slots]
    return RangeRecord(
        index=index,
        given=given,
        begin=read.begin,
        first=read.first,
        standing=read.standing,
        damage=tuple(read.damage),
        drops=tuple((*key, dropped) for key, dropped in read.drops.items()),
        layout=read.layout.to_json(),
        scopes=tuple(read.scopes),
        tunnels=tuple(read.tunnels),
        counts=tuple(count for count, _ in sizes),
        lengths=tuple(length for _, length in sizes),
        object=place,
        tail=tail,
        firsts=len(read.firsts),
        missed=-1 if read.missed is None else len(read.missed),
        records=read.tally.packets,
        stopped="" if read.stopped is None else str(read.stopped),
    )


@dataclass(frozen=True, slots=True)
class Tail:
    """What of a range is too long for its record: what it adds up to, and fragments whose others lie elsewhere."""

    tally: RangeTally
    firsts: list[Any]
    missed: list[Any]

    @classmethod
    def of(cls, read: RangeRead) -> Tail:
        """The tail of a range."""
        missed = [[list(key), time] for key, time in (read.missed or {}).items()]
        return cls(read.tally, list(read.firsts), missed)

    def to_bytes(self) -> bytes:
        """All of it, as bytes."""
        text = json.dumps([self.firsts, self.missed], separators=(",", ":")).encode()
        return squeeze(len(text).to_bytes(4, "little") + text + self.tally.to_bytes())

    @classmethod
    def from_bytes(cls, frame: bytes) -> Tail:
        """What `to_bytes` wrote. Raises StoreError."""
        try:
            data = expand(frame, _RECORD_LARGEST)
            size = 4 + int.from_bytes(data[:4], "little")
            firsts, missed = json.loads(data[4:size])
            return cls(RangeTally.from_bytes(data[size:]), firsts, missed)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"the tail of a range cannot be read: {error!r}") from error


@dataclass(frozen=True, slots=True)
class State:
    """What somebody who reads on behind some ranges has to know: where, and which first fragments were seen."""

    standing: Standing
    firsts: tuple[Any, ...]

    @property
    def digest(self) -> str:
        """A name for it."""
        facts = [dataclasses.asdict(self.standing), self.firsts]
        return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Joined:
    """How far the ranges are known to join.

    ranges  those that count, in order
    state   where they end, if anything is behind it
    missing index of the range that has to be read next, from `state` on; None where all is read
    """

    ranges: tuple[RangeRecord, ...]
    state: State | None
    missing: int | None


def joined(plan: Plan, records: Iterable[RangeRecord], tail_of: Callable[[RangeRecord], Tail]) -> Joined:
    """Walk along the ranges from the first one on, as far as each begins where and how the one before it ended."""
    by_index: dict[int, list[RangeRecord]] = {}
    for record in records:
        by_index.setdefault(record.index, []).append(record)
    chain: list[RangeRecord] = []
    state: State | None = None
    index = 0
    while True:
        found = next((one for one in _by_trust(by_index.get(index, [])) if _fits(plan, state, one, tail_of)), None)
        if found is None:
            return Joined(tuple(chain), state, index)
        chain.append(found)
        if found.standing is None:
            return Joined(tuple(chain), None, None)
        state = state_behind(state, found, found.standing, tail_of)
        index += 1
        # a record may be longer than a range: then nothing of the next one is left
        while plan.ranges and index < plan.ranges and found.standing.at >= plan.until(index):
            index += 1


def _by_trust(records: Sequence[RangeRecord]) -> list[RangeRecord]:
    """Those who guessed before those who were told, so that everybody picks the same."""
    return sorted(records, key=lambda record: record.given)


def _fits(plan: Plan, state: State | None, record: RangeRecord, tail_of: Callable[[RangeRecord], Tail]) -> bool:
    """Whether a range begins where and how the ones before it ended."""
    if state is None:
        return record.index == 0
    if record.given:
        return record.given == state.digest
    if not guessed_right(state.standing, record.begin, record.first, plan.walker):
        return False
    return not (record.missed and state.firsts) or (record.missed > 0 and not _meet(state, tail_of(record)))


def _meet(state: State, tail: Tail) -> bool:
    """Whether a later fragment has its first one in the ranges before."""
    before = Fragments()
    before.remember(state.firsts)
    return before.know({tuple(key): time for key, time in tail.missed})


def state_behind(
    state: State | None, record: RangeRecord, standing: Standing, tail_of: Callable[[RangeRecord], Tail]
) -> State:
    """The state behind a range that ended at `standing`, given the one before it."""
    before = state.firsts if state else ()
    if not record.firsts:
        return State(standing, before)
    known = {tuple(key): (key, time, told) for key, time, told in before}
    for key, time, told in tail_of(record).firsts:
        known.pop(tuple(key), None)
        known[tuple(key)] = key, time, told
    return State(standing, tuple(list(one) for one in list(known.values())[-MOST_FIRSTS:]))


@dataclass(frozen=True, slots=True)
class Whole:
    """What the ranges of a capture add up to, but for its flows. The names are in the order of their first packets."""

    tally: RangeTally
    scopes: tuple[str, ...]
    damage: tuple[Damage, ...]
    dropped: int | None
    layout: Layout


def names_of(ranges: Sequence[RangeRecord]) -> tuple[Names[str], Names[tuple[str, ...]]]:
    """Scopes and tunnels of all ranges, numbered as a single reader would have numbered them."""
    scopes: Names[str] = Names("")
    tunnels: Names[tuple[str, ...]] = Names(())
    for record in ranges:
        for scope in record.scopes:
            scopes.number(scope)
        for stack in record.tunnels:
            tunnels.number(stack)
    return scopes, tunnels


def counts_of(ranges: Sequence[RangeRecord]) -> list[int]:
    """Packets of each slot in all ranges."""
    counts = np.array([record.counts for record in ranges], np.int64).reshape(len(ranges), SLOTS)
    return [int(count) for count in counts.sum(axis=0)]


def whole(plan: Plan, ranges: Sequence[RangeRecord], tail_of: Callable[[RangeRecord], Tail]) -> Whole:
    """What all ranges add up to, given ranges that join."""
    scopes, _ = names_of(ranges)
    tally = RangeTally()
    layout = Layout.from_json({**plan.layout, "interfaces": [], "sections": []})
    drops: dict[tuple[int, int], int] = {}
    for record in ranges:
        numbers = np.array([scopes.number(scope) for scope in record.scopes], np.int64)
        tally.join(tail_of(record).tally, numbers)
        drops.update({(section, interface): dropped for section, interface, dropped in record.drops})
        for section in Layout.from_json(dict(record.layout)).sections:
            if layout.sections and layout.sections[-1].start == section.start:
                layout.sections.pop()  # it goes on here, perhaps with interfaces that were described late
            layout.add(section)
    return Whole(
        tally,
        tuple(scopes.values),
        _damage(ranges),
        sum(drops.values()) if drops else None,
        layout,
    )


def _damage(ranges: Sequence[RangeRecord]) -> tuple[Damage, ...]:
    """The damage of all ranges, with the times of the records on either side where these lie in other ranges."""
    found: list[Damage] = []
    last: int | None = None
    for record in ranges:
        if record.first is not None:
            found = [one if one.before is not None else dataclasses.replace(one, before=record.first) for one in found]
        found += [one if one.after is not None else dataclasses.replace(one, after=last) for one in record.damage]
        if record.standing is not None:
            last = record.standing.last
    return tuple(found)


def job_partition(capture: str) -> str:
    """The partition of the records of a capture that is being shared out."""
    return f"job#{capture}"


def plan_item(plan: Plan, expires_at: int) -> dict[str, object]:
    """The plan as an item."""
    return _item(plan.capture, "plan", dataclasses.asdict(plan), expires_at) | {"tries": plan.tries}


def range_item(plan: Plan, record: RangeRecord, expires_at: int) -> dict[str, object]:
    """The record of a range as an item."""
    facts = dataclasses.asdict(record)
    return _item(plan.capture, range_key(record.index, record.given), facts, expires_at)


def range_key(index: int, given: str) -> str:
    """The sort key of a range's record."""
    return f"range#{index:06d}#{given}"


def read_plan(item: Mapping[str, Any]) -> Plan:
    """The plan that `plan_item` wrote. Raises StoreError."""
    facts = _facts(item)
    try:
        return Plan(**facts | {"source": CaptureObject(**facts["source"])})
    except (KeyError, TypeError) as error:
        raise _damaged(item, error) from error


def read_record(item: Mapping[str, Any]) -> RangeRecord:
    """The record that `range_item` wrote. Raises StoreError."""
    facts = _facts(item)
    try:
        standing = facts["standing"]
        if standing is not None:
            standing = Standing(**standing | {"member": tuple(standing["member"])})
        return RangeRecord(
            **facts
            | {
                "standing": standing,
                "damage": tuple(Damage(**one) for one in facts["damage"]),
                "drops": tuple((int(a), int(b), int(c)) for a, b, c in facts["drops"]),
                "scopes": tuple(facts["scopes"]),
                "tunnels": tuple(tuple(stack) for stack in facts["tunnels"]),
                "counts": tuple(facts["counts"]),
                "lengths": tuple(facts["lengths"]),
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(item, error) from error


def _item(capture: str, sk: str, facts: Mapping[str, Any], expires_at: int) -> dict[str, object]:
    text = json.dumps(facts, separators=(",", ":")).encode()
    return {"pk": job_partition(capture), "sk": sk, "record": squeeze(text), EXPIRES: expires_at}


def _facts(item: Mapping[str, Any]) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(expand(item["record"], _RECORD_LARGEST))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(item, error) from error
    return facts


def _damaged(item: Mapping[str, Any], error: Exception) -> StoreError:
    return StoreError(f"{item.get('pk')} {item.get('sk')}: the record cannot be read: {error!r}")
