"""Conversations that are alike: working them out once gives what working out each gives."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.flow.made import packets

from backscatter.decode.columns import HAS_PORTS, NO_FLAGS
from backscatter.flow import build
from backscatter.flow.alike import alike
from backscatter.flow.build import build_flows, portions
from backscatter.flow.conversation import conversations
from backscatter.flow.halves import Halves

NUMBERS = [0, 1, 2, 7, 100, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]

a_packet = st.fixed_dictionaries(
    {
        "way": st.sampled_from([0, 0, 1]),
        "flags": st.sampled_from([2, 18, 18, 16, 16, 24, 17, 4, 4, 20, 0, 3, 6, 5, 255]),
        "seq": st.sampled_from(NUMBERS),
        "ack": st.sampled_from(NUMBERS),
        "payload": st.sampled_from([0, 0, 0, 1, 1460]),
        "window": st.sampled_from([0, 1000]),
        "traits": st.sampled_from([HAS_PORTS, HAS_PORTS, HAS_PORTS | NO_FLAGS]),
        "after": st.sampled_from([0.001, 0.001, 1, 2.9, 3, 3.1]),
    }
)
#: a few stories, each told by several hosts whose numbers begin elsewhere
stories = st.lists(st.lists(a_packet, min_size=1, max_size=6), min_size=1, max_size=4)
tellers = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(NUMBERS), st.sampled_from(NUMBERS)), min_size=2, max_size=12
)


def told(plots, hosts):
    rows = []
    for number, (which, ours, theirs) in enumerate(hosts):
        time = number * 0.01
        for packet in plots[which % len(plots)]:
            time += packet["after"]
            base = (ours, theirs) if packet["way"] == 0 else (theirs, ours)
            rows.append(
                {name: value for name, value in packet.items() if name != "after"}
                | {
                    "aport": 2000 + number,
                    "t": time,
                    "seq": (packet["seq"] + base[0]) % 2**32,
                    "ack": (packet["ack"] + base[1]) % 2**32,
                }
            )
    return packets([row | {"place": 24 + 100 * n} for n, row in enumerate(rows)])


@settings(max_examples=300, deadline=None)
@given(stories, tellers)
def test_what_is_worked_out_once_is_what_is_worked_out_of_each(plots, hosts):
    table = told(plots, hosts)
    once = build_flows(table, ("",), ((),)).rows
    kept, build.alike = build.alike, lambda _: None
    try:
        each = build_flows(table, ("",), ((),)).rows
    finally:
        build.alike = kept
    for name in once.dtype.names:
        assert once[name].tolist() == each[name].tolist(), name


def halves(table):
    ((_, _, shape),) = portions(conversations(table))
    return Halves(table, shape)


def test_answers_of_one_kind_are_worked_out_once():
    table = told([[{"way": 0, "flags": 18, "seq": 5, "ack": 9, "after": 1}]], [(0, n, 7 * n) for n in range(50)])
    found = alike(halves(table))
    assert found.few.tolist() == [True] + [False] * 49
    assert not found.like.any()


def test_nothing_is_taken_for_alike_that_only_looks_so():
    answer = {"way": 0, "flags": 18, "seq": 5, "ack": 9, "after": 1}
    others = [
        answer | {"flags": 16},
        answer | {"payload": 1},
        answer | {"window": 0},
        answer | {"traits": HAS_PORTS | NO_FLAGS},
    ]
    found = alike(halves(told([[answer], *([one] for one in others)], [(n % 5, 1, 2) for n in range(20)])))
    assert sorted(found.like.tolist()) == sorted([0, 1, 2, 3, 4] * 4)


def test_long_conversations_are_not_looked_at():
    story = [{"way": n % 2, "flags": 16, "seq": n, "ack": n, "after": 0.1} for n in range(5)]
    assert alike(halves(told([story], [(0, n, n) for n in range(9)]))) is None
