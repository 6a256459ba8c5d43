"""Flows that a few passes find in order: the long way says the same of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.flow.made import packets

from backscatter.flow import build
from backscatter.flow.build import build_flows, portions
from backscatter.flow.conversation import conversations
from backscatter.flow.halves import Halves
from backscatter.flow.orderly import orderly
from backscatter.flow.sides import first_acks

NUMBERS = [0, 1, 1000, 2**31 - 1, 2**32 - 2]
#: more than four of the longest are more than sequence numbers can count
LENGTHS = [0, 0, 1, 100, 1460, 2**30 - 1]

a_segment = st.fixed_dictionaries(
    {
        "way": st.sampled_from([0, 1]),
        "flags": st.sampled_from([16, 16, 16, 24, 24, 2, 18, 17, 4, 20]),
        "payload": st.sampled_from(LENGTHS),
        "beyond": st.sampled_from([0] * 12 + [1, -1, 2**20]),  # of what the other side has sent, that it acknowledges
        "fate": st.sampled_from(["captured"] * 12 + ["lost", "twice", "late"]),
        "ttl": st.sampled_from([64, 64, 64, 63]),
    }
)
a_conversation = st.tuples(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS), st.lists(a_segment, max_size=12))


def captured(conversations_):
    """What a tap saw of some conversations."""
    rows = []
    for number, (ours, theirs, segments) in enumerate(conversations_):
        following, seen = [ours, theirs], []
        for segment in segments:
            way, flags = segment["way"], segment["flags"]
            row = {name: segment[name] for name in ("way", "flags", "payload", "ttl")} | {"aport": 2000 + number}
            row |= {"seq": following[way] % 2**32, "ack": (following[1 - way] + segment["beyond"]) % 2**32}
            following[way] += segment["payload"] + (flags & 1) + (flags >> 1 & 1) if not flags & 4 else 0
            copies = {"captured": 1, "lost": 0, "twice": 2, "late": 1}[segment["fate"]]
            seen[len(seen) - (segment["fate"] == "late") :] = [row] * copies + seen[
                len(seen) - (segment["fate"] == "late") :
            ]
        rows += seen
    return packets([row | {"t": 0.001 * n, "place": 24 + 100 * n} for n, row in enumerate(rows)])


@settings(max_examples=400, deadline=None)
@given(st.lists(a_conversation, min_size=1, max_size=6))
def test_the_long_way_says_the_same_of_flows_in_order(several):
    table = captured(several)
    short = build_flows(table, ("",), ((),)).rows
    kept = build.orderly

    def nothing_in_order(*arguments):
        found = kept(*arguments)
        return found._replace(flows=np.zeros_like(found.flows))

    build.orderly = nothing_in_order
    try:
        long = build_flows(table, ("",), ((),)).rows
    finally:
        build.orderly = kept
    for name in short.dtype.names:
        assert short[name].tolist() == long[name].tolist(), name


def in_order(several):
    table = captured(several)
    ((_, _, shape),) = portions(conversations(table))
    halves = Halves(table, shape)
    return orderly(halves, *first_acks(halves)).flows.tolist()


def segment(way, payload, beyond=0):
    return {"way": way, "flags": 16, "payload": payload, "beyond": beyond, "fate": "captured", "ttl": 64}


def test_an_ack_of_one_byte_too_many_is_seen_also_where_many_bytes_were_sent_before():
    large = (0, 0, [segment(0, 2**30 - 1), segment(1, 10), segment(0, 0)])
    too_much = (0, 0, [segment(1, 10), segment(0, 2**30 - 1), segment(0, 0, beyond=1)])
    assert in_order([large]) == [True]
    assert in_order([too_much]) == [False]
    # sums over all conversations run over 32 bits in the fifth
    assert in_order([large] * 4 + [too_much])[4] is False
