"""What may be done to a capture without changing its verdict, and what must change it in one direction only.

A pause between two pieces of one sensor that is longer than 2 s and ten times their median gap is a hole, by the rules
of coverage: rotation is drawn at random here, but over traffic without such a pause. An encapsulation of its own for each
direction shows half of the host in each scope, which is another capture and not another form of the same. And what a
piece that is missing may have held is our SYN as far back as a connect lasts, 127 s: contact with the remote that lies
further back may be forgotten with it, since a hole far behind cannot make every verdict on a quiet host open.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.verdict.scenarios import world
from tests.verdict.scenarios.story import KINDS, Story, Truth
from tests.verdict.scenarios.trial import asked, small_blocks
from tests.verdict.scenarios.world import ENCAPSULATIONS, SECOND, World, captured, seen_by, sensors_of

from backscatter.decode.columns import PLACE_BITS
from backscatter.demo.wire import tcp
from backscatter.flow.lookup import TableScene
from backscatter.verdict.judge import judge
from backscatter.verdict.model import Label
from backscatter.verdict.settings import Settings

PLAIN = World(4, "none", "much", "one", 0, 65535, 0, 0)

kinds = st.sampled_from(sorted(KINDS))
seeds = st.integers(0, 2**20)
forged = st.sampled_from(sorted(name for name, kind in KINDS.items() if kind.truth is Truth.BACKSCATTER))


@pytest.fixture(autouse=True)
def _small():
    with small_blocks():
        yield


def story_of(name: str, seed: int, version: int = 4) -> Story:
    story = Story(random.Random(seed), version)
    KINDS[name].tell(story)
    return story


def said(verdict):
    """What must be the same: everything but names, times and places."""
    victim = verdict.victim and (verdict.victim.port, verdict.victim.proto)
    return verdict.label, verdict.why, verdict.rule, verdict.confidence, victim, dict(verdict.conversations)


def judged(story: Story, seed: int, conditions: World = PLAIN, *, finding=None, scene: TableScene | None = None):
    finding = finding or asked(story.with_chance(seed), conditions.alert)
    return judge(finding, scene or captured(story, conditions, random.Random(seed)), Settings())


@given(kinds, seeds, st.lists(st.floats(1, 639), max_size=8))
@settings(max_examples=40, deadline=None)
def test_rotation_changes_nothing(name, seed, cuts):
    story = story_of(name, seed)
    assume(story.filtered is None)
    packets = seen_by(story, PLAIN, random.Random(seed))
    cut = TableScene(sensors_of({"one": packets}, sorted(cuts), PLAIN))
    assert said(judged(story, seed, scene=cut)) == said(judged(story, seed))


@given(kinds, seeds, st.sampled_from(sorted(set(ENCAPSULATIONS) - {"none", "a vlan for each direction"})))
@settings(max_examples=40, deadline=None)
def test_encapsulation_changes_nothing(name, seed, encapsulation):
    story = story_of(name, seed)
    assert said(judged(story, seed, replace(PLAIN, encapsulation=encapsulation))) == said(judged(story, seed))


@given(kinds, seeds, st.integers(-(10**9), 10**8))
@settings(max_examples=40, deadline=None)
def test_a_shift_of_time_changes_nothing(name, seed, shift):
    story = story_of(name, seed)
    plain = judged(story, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "EPOCH", world.EPOCH + shift * SECOND)
        finding = asked(story.with_chance(seed), PLAIN.alert)
        scene = captured(story, PLAIN, random.Random(seed))
    moved = replace(
        finding, first_seen=finding.first_seen + shift * SECOND, last_seen=finding.last_seen + shift * SECOND
    )
    assert said(judged(story, seed, finding=moved, scene=scene)) == said(plain)


def renamed(table, new):
    """A flow table with other addresses: every address of `new` replaced, in flows and quotes, IPv4."""
    rows, quotes = table.rows.copy(), table.quotes.copy()
    for some in (rows, quotes):
        for side in ("src_lo", "dst_lo"):
            values = some[side].copy()
            for old, other in new.items():
                some[side][values == old] = other
    return replace(table, rows=rows, quotes=quotes)


@given(kinds, seeds, st.integers(0, 2**20))
@settings(max_examples=40, deadline=None)
def test_other_addresses_change_nothing(name, seed, number):
    story = story_of(name, seed)
    ours, theirs = 10 << 24 | 5, 198 << 24 | 51 << 16 | 100 << 8 | 9
    new = {ours: 10 << 24 | 9 << 16 | number & 0xFFFF, theirs: 203 << 24 | (number & 0x3FFFFF)}
    names = {old: ".".join(str(one >> shift & 255) for shift in (24, 16, 8, 0)) for old, one in new.items()}
    finding = asked(story.with_chance(seed), PLAIN.alert)
    swap = {story.local: names[ours], story.remote: names[theirs]}
    tuples = tuple(
        replace(
            one, a=replace(one.a, ip=swap.get(one.a.ip, one.a.ip)), b=replace(one.b, ip=swap.get(one.b.ip, one.b.ip))
        )
        for one in finding.tuples
    )
    flows = sensors_of({"one": seen_by(story, PLAIN, random.Random(seed))}, [], PLAIN)
    scene = TableScene([replace(one, table=renamed(one.table, new)) for one in flows])
    plain = judged(story, seed, finding=finding)
    assert said(judged(story, seed, finding=replace(finding, tuples=tuples), scene=scene)) == said(plain)


def danger(verdict) -> tuple[bool, int]:
    """How much a verdict says that it is backscatter: whether at all, and how surely."""
    return verdict.label is Label.BACKSCATTER, verdict.confidence if verdict.label is Label.BACKSCATTER else 0


@given(kinds, seeds, st.floats(1, 600), st.floats(2.5, 300))
@settings(max_examples=80, deadline=None)
def test_taking_a_piece_out_of_the_middle_never_raises_backscatter(name, seed, begin, length):
    story = story_of(name, seed)
    packets = sorted(seen_by(story, PLAIN, random.Random(seed)), key=lambda packet: packet.time)
    end = min(begin + length, packets[-1].time - 1)
    left = [packet for packet in packets if not begin <= packet.time < end]
    cut = TableScene(sensors_of({"one": left}, [begin, end], PLAIN))
    whole, holed = judged(story, seed), judged(story, seed, scene=cut)
    # What these rules rest on may be further back than anybody waits for an answer, or later than the seconds that
    # packets may change places in: there it is not missed.
    assume(not (whole.rule in ("R3", "R14", "R19") and (end < story.at - 127 or begin > story.at + 3)))
    # Genuine ones never become backscatter; true ones never become surer than they were.
    assert danger(holed) <= danger(whole), (whole.rule, holed.rule, holed.confidence)


@given(forged, seeds, st.floats(1, 639), st.sampled_from([4, 6]))
@settings(max_examples=60, deadline=None)
def test_a_syn_of_ours_with_the_acknowledged_seq_always_removes_backscatter(name, seed, time, version):
    story = story_of(name, seed, version)
    conditions = replace(PLAIN, version=version)
    synacks = [packet for packet in story.packets if _is_synack(packet.data)]
    if not synacks:
        return
    deciding = [one for one in synacks if _ports(one.data) == (story.service, story.port)] or synacks
    for one in deciding:
        seq = (_ack(one.data) - 1) % 2**32
        local, remote = _ports(one.data)[1], _ports(one.data)[0]
        story.add(time, tcp(story.local, local, story.remote, remote, "S", seq=seq), outward=True)
    verdict = judged(story, seed, conditions)
    assert verdict.label is not Label.BACKSCATTER


def _head(data: bytes) -> int:
    return 20 if data[0] >> 4 == 4 else 40


def _is_synack(data: bytes) -> bool:
    head = _head(data)
    proto = data[9] if head == 20 else data[6]
    return proto == 6 and data[head + 13] & 0x17 == 0x12


def _ports(data: bytes) -> tuple[int, int]:
    head = _head(data)
    return int.from_bytes(data[head : head + 2], "big"), int.from_bytes(data[head + 2 : head + 4], "big")


def _ack(data: bytes) -> int:
    head = _head(data)
    return int.from_bytes(data[head + 8 : head + 12], "big")


def test_places_of_packets_say_which_piece_holds_them():
    """Rotation is real here: the flows of a cut capture point into several pieces."""
    story = story_of("whole_connection", 1)
    (flows,) = sensors_of({"one": seen_by(story, PLAIN, random.Random(1))}, [400.5, 401.5], PLAIN)
    assert len(set((flows.table.rows["src_places"][:, 0] >> PLACE_BITS).tolist())) > 1
