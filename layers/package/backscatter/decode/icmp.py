"""ICMP as conversations: which types answer which, which are errors.

The pairs are those of Zeek and of community id v1 (https://github.com/corelight/community-id-spec), so that our
conversations and theirs are the same.
"""

from __future__ import annotations

from typing import NamedTuple

ICMP, ICMP6 = 1, 58


def _both_ways(pairs: dict[int, int]) -> dict[int, int]:
    return pairs | {answer: question for question, answer in pairs.items()}


#: protocol -> type -> the type that is its counterpart
COUNTERPARTS: dict[int, dict[int, int]] = {
    # echo, router solicitation, timestamp, information, address mask
    ICMP: _both_ways({8: 0, 10: 9, 13: 14, 15: 16, 17: 18}),
    # echo, multicast listener, router, neighbour, node information, home agent discovery
    ICMP6: _both_ways({128: 129, 130: 131, 133: 134, 135: 136, 139: 140, 144: 145}),
}

#: protocol -> types that quote the packet which they are about
ERRORS: dict[int, frozenset[int]] = {
    # unreachable, source quench, redirect, time exceeded, parameter problem
    ICMP: frozenset({3, 4, 5, 11, 12}),
    # unreachable, too big, time exceeded, parameter problem
    ICMP6: frozenset({1, 2, 3, 4}),
}


class PortPair(NamedTuple):
    """What an ICMP message has in the place of ports."""

    src: int
    dst: int
    one_way: bool


def port_pair(proto: int, kind: int, code: int) -> PortPair:
    """The type and its counterpart's; the type and the code where it has none, which is then one-way."""
    counterpart = COUNTERPARTS[proto].get(kind)
    if counterpart is None:
        return PortPair(kind, code, one_way=True)
    return PortPair(kind, counterpart, one_way=False)
