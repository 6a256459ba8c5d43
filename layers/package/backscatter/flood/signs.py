"""What floods look like: Corsaro's thresholds, scan-NG's rule, and marks that flooding tools leave in their packets.

Labels are no gates: a network of 256 addresses sees one packet in 16 million, and a flood that reaches thresholds made
for a telescope of 2^24 addresses would be the largest of all time.

Sources
- Corsaro's rsdos plug-in (https://www.caida.org/catalog/software/corsaro/): 25 packets, 60 s, 30 packets a minute;
  a flood ends after 300 s of silence.
- LBNL's scan-NG for Zeek: one remote answering at least 10 local hosts from at most 2 ports is backscatter.
- juno.c: ports 1024 and 3072 (J. Kristoff, NANOG, 27 June 2010): sport = 1024 + (random() & 2048).
- Scapy's TCP layer: source port 20 and sequence number 0 where a program sets none (scapy/layers/inet.py).
- A constant sequence number, a constant source port, numbers below 65536: programs that leave a field at what it was,
  or fill 32 bits with 16 bits of random numbers; ours. Chance makes such a mark once in 2^16 at best, so two agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backscatter.flood.moments import moments
from backscatter.flood.tuples import numbered
from backscatter.flow.runs import run_starts
from backscatter.verdict.caps import JUNO_PORTS
from backscatter.verdict.conversation import TCP
from backscatter.verdict.surroundings import FLOOD_HOSTS, FLOOD_PORTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.flood.answers import Answers
    from backscatter.flow.runs import Ints

SECOND = 10**9

#: Corsaro's thresholds.
PACKETS, DURATION, PER_MINUTE, SILENCE = 25, 60 * SECOND, 30, 300 * SECOND

#: A mark of a tool is told from so many conversations on.
ENOUGH = 2
#: One value that says little by itself, such as any port at all, is told from so many on.
MANY = 5


@dataclass(frozen=True, slots=True)
class Signs:
    """Labels by thresholds, marks of tools, and the TTLs at which answers came (None where nothing tells)."""

    labels: tuple[str, ...]
    tools: tuple[str, ...]
    ttl_low: int | None
    ttl_high: int | None


def signs(answers: Answers, order: Ints, flood: Ints) -> list[Signs]:
    """The signs of each flood. `order` sorts the conversations by flood and start; `flood` is each one's then."""
    floods = int(flood.max()) + 1
    begin = np.flatnonzero(run_starts(flood))
    seq, our_port, victim_port = answers.seq[order], answers.our_port[order], answers.victim_port[order]
    count = np.diff(np.append(begin, len(flood)))

    def least(column: Ints) -> Ints:
        lowest: Ints = np.minimum.reduceat(column, begin)
        return lowest

    def most(column: Ints) -> Ints:
        highest: Ints = np.maximum.reduceat(column, begin)
        return highest

    def same(column: Ints, lowest: int = 0) -> NDArray[np.bool_]:
        low = least(column)
        alike: NDArray[np.bool_] = (low == most(column)) & (low >= lowest)
        return alike

    tcp = answers.proto[order][begin] == TCP
    juno = np.minimum.reduceat(np.isin(our_port, list(JUNO_PORTS)), begin) & tcp
    tools = {
        "juno.c": juno & (count >= ENOUGH),
        "scapy": same(seq) & (least(seq) == 0) & same(our_port) & (least(our_port) == 20) & (count >= ENOUGH),
        "constant_seq": same(seq) & (count >= ENOUGH),
        "constant_port": same(our_port, 1) & (count >= MANY),
        "seq_below_65536": (least(seq) >= 0) & (most(seq) < 1 << 16) & (count >= ENOUGH) & ~same(seq),
    }
    hosts, ports = _kinds(flood, answers.ours_hi[order], answers.ours_lo[order]), _kinds(flood, victim_port)
    labels = {**_corsaro(answers, order, flood, floods), "scan_ng": (hosts >= FLOOD_HOSTS) & (ports <= FLOOD_PORTS)}
    low, high = answers.ttl_low[order], answers.ttl_high[order]
    lowest = least(np.where(low > 0, low, 1 << 8))
    highest = most(high)
    return [
        Signs(
            tuple(name for name, holds in labels.items() if holds[number]),
            tuple(name for name, holds in tools.items() if holds[number]),
            int(lowest[number]) if highest[number] else None,
            int(highest[number]) or None,
        )
        for number in range(floods)
    ]


def _kinds(flood: Ints, *columns: NDArray[np.uint64] | Ints) -> Ints:
    """How many different values each flood has."""
    kinds = np.unique(numbered(flood, *columns), return_index=True)[1]
    return np.bincount(flood[kinds], minlength=int(flood.max()) + 1)


def _corsaro(answers: Answers, order: Ints, flood: Ints, floods: int) -> dict[str, NDArray[np.bool_]]:
    """Which of Corsaro's thresholds each flood reaches, and whether one stretch of it without a pause reaches all."""
    of_flood = np.empty(len(answers), np.int64)
    of_flood[order] = flood
    time, weight, event = moments(answers, answers.event_packets)
    which = of_flood[answers.event_of[event]]
    by_time = np.lexsort((time, which))
    time, weight, which = time[by_time], weight[by_time], which[by_time]
    new = run_starts(which)
    new[1:] |= np.diff(time) > SILENCE
    begin = np.flatnonzero(new)
    vector = np.cumsum(new) - 1
    packets = np.add.reduceat(weight, begin)
    ends = np.append(begin[1:], len(time)) - 1
    duration = time[ends] - time[begin]
    # Packets of the 60 s from each moment on: a vector's number and its time fit one integer, in ms.
    key = vector << 36 | (time - time[begin][vector]) // 10**6
    behind = np.searchsorted(key, key + 60_000)
    before = np.concatenate(([0.0], np.cumsum(weight)))
    busiest = np.maximum.reduceat(before[behind] - before[:-1], begin)
    reached = {
        "corsaro_packets": packets >= PACKETS,
        "corsaro_duration": duration >= DURATION,
        "corsaro_rate": busiest >= PER_MINUTE,
    }
    reached["corsaro"] = np.logical_and.reduce(list(reached.values()))
    found = {}
    for name, holds in reached.items():
        found[name] = np.zeros(floods, bool)
        found[name][which[begin][holds]] = True
    return found
