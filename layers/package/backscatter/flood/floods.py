"""The floods behind unsolicited answers: what one victim answered in one protocol, how much, and marks of the tool.

A flood is estimated from the answers that came to us: of packets forged with random sources out of 2^32, our n
addresses draw n / 2^32, so r answers a second mean r * 2^32 / n packets a second at the victim, at least (Moore,
Voelker and Savage, "Inferring Internet Denial-of-Service Activity", 2001). Nothing loops over conversations.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import collapse_addresses
from typing import TYPE_CHECKING

import numpy as np

from backscatter.flood.answers import Kind
from backscatter.flood.moments import moments
from backscatter.flood.poisson import interval
from backscatter.flood.signs import Signs, signs
from backscatter.flood.tuples import numbered
from backscatter.flood.vouch import DOUBTS
from backscatter.flow.address import Address
from backscatter.flow.protocol import proto_name
from backscatter.flow.runs import run_starts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network, IPv6Network

    from numpy.typing import NDArray

    from backscatter.flood.answers import Answers
    from backscatter.flow.runs import Ints

SECOND = 10**9

#: Stretches that the time from the first answer of all to the last is cut into.
BINS = 48

#: Addresses of ours that are named, and ports of the victim.
EXAMPLES, PORTS = 10, 10


@dataclass(frozen=True, slots=True)
class Estimate:
    """Packets a second at the victim, with the 95 % interval."""

    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Flood:
    """What one victim answered in one protocol. Times in ns.

    ports          of the victim, with how many answers came from each, most first, at most PORTS; () where it has none
    ports_total    how many there were
    addresses      how many of ours were hit; `examples` of them
    conversations  how many there were, by kind of answer
    packets        answers as they were seen; `answers` without retransmissions
    rate           answers a second from the first to the last; None where that is no time
    estimate       of the flood; None for IPv6, of which nobody forges random sources, and without a rate
    unproven       how many conversations with this victim look the same and are not proven, by what is missing
    bins           answers in each stretch of `Floods.bin_size` from `Floods.first` on
    """

    victim: Address
    proto: str
    ports: tuple[tuple[int, int], ...]
    ports_total: int
    first: int
    last: int
    addresses: int
    examples: tuple[Address, ...]
    conversations: dict[str, int]
    packets: int
    answers: int
    rate: float | None
    estimate: Estimate | None
    unproven: dict[str, int]
    signs: Signs
    bins: tuple[int, ...]

    @property
    def seconds(self) -> float:
        """From the first answer to the last."""
        return (self.last - self.first) / SECOND


@dataclass(frozen=True, slots=True)
class Floods:
    """All floods, the one with most answers first.

    in_view   n: how many IPv4 addresses of ours share what is drawn; `from_home`: the size of the networks named as
              ours, else of the addresses that any flood hit
    first     time of the first answer, `bin_size` ns of each stretch on the map
    unproven  whether answers that are not proven count as well
    """

    floods: tuple[Flood, ...]
    in_view: int
    from_home: bool
    first: int
    bin_size: int
    unproven: bool = False


def floods_of(answers: Answers, home: Sequence[IPv4Network | IPv6Network] = (), *, unproven: bool = False) -> Floods:
    """The floods behind answers: of those that are proven, or of all.

    home  the networks that are ours, if they were named
    """
    doubted = _doubted(answers)
    if not unproven:
        answers, doubted = answers.select(answers.doubt == 0), doubted[answers.doubt == 0]
    in_view = _in_view(answers, home)
    if not len(answers):
        return Floods((), in_view, bool(home), 0, SECOND)
    flood = _flood_of(answers)
    order = np.lexsort((answers.start, flood))
    flood = flood[order]
    begin = np.flatnonzero(run_starts(flood))
    first, last = int(answers.start.min()), int(answers.end.max())
    bin_size = max(-(-(last - first + 1) // BINS), 1)
    bins = _bins(answers, order, flood, first, bin_size)
    of_each = _Parts(answers, order, begin)
    told = signs(answers, order, flood)
    ports = _ports(answers, order, flood)
    hit = _hit(answers, order, flood)
    kinds = np.zeros((len(begin), len(Kind)), np.int64)
    np.add.at(kinds, (flood, answers.kind[order]), 1)
    floods = []
    for number, at in enumerate(order[begin].tolist()):
        version = int(answers.version[at])
        span = of_each.first[number], of_each.last[number]
        count = of_each.answers[number]
        seconds = (span[1] - span[0]) / SECOND
        floods.append(
            Flood(
                victim=Address(version, int(answers.victim_hi[at]), int(answers.victim_lo[at])),
                proto=proto_name(int(answers.proto[at])),
                ports=ports[0][number],
                ports_total=ports[1][number],
                first=span[0],
                last=span[1],
                addresses=hit[0][number],
                examples=hit[1][number],
                conversations={kind.name.lower(): int(kinds[number, kind]) for kind in Kind if kinds[number, kind]},
                packets=of_each.packets[number],
                answers=count,
                rate=count / seconds if seconds else None,
                estimate=_estimate(count, seconds, in_view) if version == 4 else None,
                unproven={
                    name: int(doubted[at, column]) for column, name in enumerate(DOUBTS.values()) if doubted[at, column]
                },
                signs=told[number],
                bins=tuple(bins[number].tolist()),
            )
        )
    floods.sort(key=lambda one: (-one.answers, one.victim, one.proto))
    return Floods(tuple(floods), in_view, bool(home), first, bin_size, unproven)


class _Parts:
    """Sums of each flood, as lists."""

    def __init__(self, answers: Answers, order: Ints, begin: Ints) -> None:
        self.answers: list[int] = np.add.reduceat(answers.answers[order], begin).tolist()
        self.packets: list[int] = np.add.reduceat(answers.packets[order], begin).tolist()
        self.first: list[int] = np.minimum.reduceat(answers.start[order], begin).tolist()
        self.last: list[int] = np.maximum.reduceat(_last_answer(answers)[order], begin).tolist()


def _last_answer(answers: Answers) -> Ints:
    """When the last answer of each conversation came that is no retransmission: of one answer, when it came."""
    last = answers.start.copy()
    several = answers.event_answers > 1
    time = np.where(several, answers.event_last, answers.event_first)
    np.maximum.at(last, answers.event_of, np.where(answers.event_answers > 0, time, 0))
    return last


def _doubted(answers: Answers) -> NDArray[np.int64]:
    """For each conversation, how many of its flood have each doubt, in the order of DOUBTS."""
    if not len(answers):
        return np.zeros((0, len(DOUBTS)), np.int64)
    flood = _flood_of(answers)
    counts = [np.bincount(flood, answers.doubt & int(doubt) > 0).astype(np.int64) for doubt in DOUBTS]
    return np.stack(counts, axis=1)[flood]


def _flood_of(answers: Answers) -> Ints:
    return numbered(answers.version, answers.victim_hi, answers.victim_lo, answers.proto)


def _in_view(answers: Answers, home: Sequence[IPv4Network | IPv6Network]) -> int:
    if home:
        four = [network for network in home if network.version == 4]
        return sum(network.num_addresses for network in collapse_addresses(four))
    return len(np.unique(answers.ours_lo[answers.version == 4]))


def _estimate(count: int, seconds: float, in_view: int) -> Estimate | None:
    if not seconds or not in_view:
        return None
    scale = 2**32 / in_view / seconds
    low, high = interval(count)
    return Estimate(count * scale, low * scale, high * scale)


def _bins(answers: Answers, order: Ints, flood: Ints, first: int, bin_size: int) -> NDArray[np.int64]:
    """Answers of each flood in each stretch of time; those of one flow are spread evenly between its ends."""
    of_flood = np.empty(len(answers), np.int64)
    of_flood[order] = flood
    time, weight, event = moments(answers, answers.event_answers)
    cell = of_flood[answers.event_of[event]] * BINS + np.minimum((time - first) // bin_size, BINS - 1)
    counts = np.bincount(cell, weight, (int(flood.max()) + 1) * BINS)
    return np.rint(counts).astype(np.int64).reshape(-1, BINS)


def _ports(answers: Answers, order: Ints, flood: Ints) -> tuple[list[tuple[tuple[int, int], ...]], list[int]]:
    """Ports of each flood's victim with their answers, most first; and how many ports there are."""
    floods = int(flood.max()) + 1
    known = answers.victim_port[order] >= 0
    code = flood[known] << 16 | answers.victim_port[order][known]
    kinds, index = np.unique(code, return_inverse=True)
    weight = np.bincount(index, answers.answers[order][known], len(kinds)).astype(np.int64)
    return _best(kinds >> 16, kinds & 0xFFFF, weight, floods)


def _best(flood: Ints, value: Ints, weight: Ints, floods: int) -> tuple[list[tuple[tuple[int, int], ...]], list[int]]:
    """The values of most weight of each flood, and how many values each has."""
    totals = np.bincount(flood, minlength=floods)
    order = np.lexsort((value, -weight, flood))
    begin = np.cumsum(totals) - totals
    rank = np.arange(len(order)) - begin[flood[order]]
    some = order[rank < PORTS]
    best: list[list[tuple[int, int]]] = [[] for _ in range(floods)]
    for number, one, count in zip(flood[some].tolist(), value[some].tolist(), weight[some].tolist(), strict=True):
        best[number].append((one, count))
    return [tuple(one) for one in best], totals.tolist()


def _hit(answers: Answers, order: Ints, flood: Ints) -> tuple[list[int], list[tuple[Address, ...]]]:
    """How many addresses of ours each flood hit, and the lowest of them."""
    floods = int(flood.max()) + 1
    hi, lo = answers.ours_hi[order], answers.ours_lo[order]
    by_address = np.lexsort((lo, hi, flood))
    flood, hi, lo = flood[by_address], hi[by_address], lo[by_address]
    new = run_starts(flood) | run_starts(hi) | run_starts(lo)
    flood, hi, lo, version = flood[new], hi[new], lo[new], answers.version[order][by_address][new]
    totals = np.bincount(flood, minlength=floods)
    rank = np.arange(len(flood)) - (np.cumsum(totals) - totals)[flood]
    some = rank < EXAMPLES
    found: list[list[Address]] = [[] for _ in range(floods)]
    columns = (column[some].tolist() for column in (flood, version, hi, lo))
    for number, *address in zip(*columns, strict=True):
        found[number].append(Address(*address))
    return totals.tolist(), [tuple(one) for one in found]
