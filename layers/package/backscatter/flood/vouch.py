"""What captures can vouch for: that the question to an unsolicited answer would have been seen, had there been one."""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.flood.tuples import among, distinct, numbered
from backscatter.flow.table import HAS_SYN, HAS_SYNACK
from backscatter.flow.window import Window
from backscatter.verdict.caps import LOSS_POSSIBLE, LOSS_UNDETERMINED
from backscatter.verdict.conversation import ICMP, ICMP6, ICMP_ERRORS, ICMP_REPLIES, TCP, UDP
from backscatter.verdict.coverage import coverage_of
from backscatter.verdict.facts import FULL, PARTIAL, REORDERED
from backscatter.verdict.surroundings import FLOOD_PORTS, REFLECTORS, SCANNED, UNCOMPLETED

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from backscatter.flood.answers import Answers
    from backscatter.flow.census import Census
    from backscatter.flow.runs import Bools, Ints
    from backscatter.flow.table import FlowTable
    from backscatter.verdict.coverage import Coverage

SECOND = 10**9
MINUTE, HOUR = 60 * SECOND, 3600 * SECOND

#: Coverage is asked for in steps: it looks back a day from the end of the window that it is asked for.
STEP = 12 * HOUR


class Doubt(IntFlag):
    """Why a conversation that looks like backscatter is not proven to be it."""

    LOOKBACK = 1  # too little unbroken capture before it, or none after it
    ONE_WAY = 2  # the view does not show the host in both directions, or nothing but answers at all
    CONTACT = 4  # the host was in contact with that remote otherwise
    SCAN = 8  # the host was scanning half-open at the time: one lost SYN of its scan looks the same
    LOSS = 16  # the capture lost packets
    REFLECTION = 32  # many remotes answer that one host at a time: an attack on us
    RESET = 64  # refused by RST+ACK, not exactly
    PROBE = 128  # one of many single SYN+ACKs with the same ack: a scan of us
    ELSEWHERE = 256  # the host asked another one what this one may have answered


#: A doubt in the words of the record.
DOUBTS = {
    Doubt.LOOKBACK: "look_back",
    Doubt.ONE_WAY: "one_way",
    Doubt.CONTACT: "contact",
    Doubt.SCAN: "own_scan",
    Doubt.LOSS: "loss",
    Doubt.REFLECTION: "reflection",
    Doubt.RESET: "reset_with_ack",
    Doubt.PROBE: "synack_scan",
    Doubt.ELSEWHERE: "asked_elsewhere",
}


def doubts(
    table: FlowTable,
    censuses: Collection[Census],
    found: Bools,
    answers: Answers,
    *,
    refused: Bools,
    sensor: Ints,
    scope: Ints,
) -> Ints:
    """Bits of Doubt for each conversation.

    found          mask of the flows that answer
    refused        whether our host refused the answer exactly, which proves that the view shows it
    sensor, scope  the view of each conversation, as the table numbers them
    """
    if not len(answers):
        return np.zeros(0, np.int64)
    scopes = len(table.scopes)
    flows = table.rows["sensor"].astype(np.int64) * scopes + table.rows["scope"]
    view = sensor * scopes + scope
    talking = _talking(table.rows)
    more = talking["src"] | talking["dst"]
    only_answers = ~among(view, distinct(flows[more & ~found]))
    unseen = ~_seen_both_ways(table.rows, flows, talking, answers, view)
    bits: Ints = np.where(np.where(refused, only_answers, unseen), Doubt.ONE_WAY, 0).astype(np.int64)
    bits |= _uncovered(table, censuses, answers, refused, sensor, scope)
    bits |= np.where(_scanning(table.rows, answers), Doubt.SCAN, 0)
    bits |= np.where(_reflected(answers), Doubt.REFLECTION, 0)
    bits |= np.where(_probes(answers), Doubt.PROBE, 0)
    bits |= np.where(_asked_elsewhere(table.rows, answers), Doubt.ELSEWHERE, 0)
    return bits


def _talking(rows: NDArray[np.void]) -> dict[str, Bools]:
    """Of each side, the flows in which it sent more than SYN+ACKs and RSTs."""
    talking = {}
    for side in ("src", "dst"):
        answers = rows[f"{side}_synacks"].astype(np.int64) + rows[f"{side}_rsts"]
        talking[side] = rows[f"{side}_packets"] > answers
    return talking


def _seen_both_ways(
    rows: NDArray[np.void], flows: Ints, talking: dict[str, Bools], answers: Answers, view: Ints
) -> Bools:
    """Whether the view shows our host talking, and being talked to, in one flow (`Surroundings.both_ways`)."""
    mutual = (rows["src_packets"] > 0) & (rows["dst_packets"] > 0)
    ours = distinct(answers.ours_lo)
    if not mutual.any():
        return np.zeros(len(answers), bool)
    columns: list[list[NDArray[Any]]] = [[view], [answers.version], [answers.ours_hi], [answers.ours_lo]]
    for side in ("src", "dst"):
        index = np.flatnonzero(mutual & talking[side])
        index = index[among(rows[f"{side}_lo"][index], ours)]
        seen = (flows, rows["version"], rows[f"{side}_hi"], rows[f"{side}_lo"])
        for column, values in zip(columns, seen, strict=True):
            column.append(values[index])
    codes = numbered(*(np.concatenate(column) for column in columns))
    return among(codes[: len(view)], distinct(codes[len(view) :]))


def _uncovered(
    table: FlowTable, censuses: Collection[Census], answers: Answers, refused: Bools, sensor: Ints, scope: Ints
) -> Ints:
    """Doubts by coverage: of each view, in steps of time."""
    bits = np.full(len(answers), int(Doubt.LOOKBACK), np.int64)
    steps = answers.start // STEP
    code = numbered(scope, steps)
    order = np.argsort(code, kind="stable")
    for some in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        step = int(steps[some[0]])
        near = coverage_of(censuses, table.scopes[int(scope[some[0]])], Window(step * STEP, (step + 1) * STEP))
        for coverage in near:
            if coverage.sensor not in table.sensors:
                continue
            here = some[sensor[some] == table.sensors.index(coverage.sensor)]
            bits[here] = _judged(coverage, answers.start[here], answers.end[here], refused[here])
    return bits


def _judged(coverage: Coverage, start: Ints, end: Ints, refused: Bools) -> Ints:
    """Doubts of conversations that one view shows."""
    begins = np.array([span.start for span in coverage.spans], np.int64)
    ends = np.array([span.end for span in coverage.spans], np.int64)
    bits = np.full(len(start), int(Doubt.LOOKBACK), np.int64)
    if len(begins):
        span = np.maximum(np.searchsorted(begins, start, side="right") - 1, 0)
        inside = (begins[span] <= start) & (end <= ends[span])
        lookback = start - begins[span]
        full = lookback >= FULL
        partial = (lookback >= PARTIAL) & (span == 0)  # behind a hole, a piece that is missing may hold our SYN
        enough = np.where(refused, full | partial, full & (ends[span] - end >= REORDERED))
        bits[inside & enough] = 0
    lost = coverage.loss.rate or 0.0
    bits[(lost > LOSS_UNDETERMINED) | ((lost > LOSS_POSSIBLE) & ~refused)] |= Doubt.LOSS
    return bits


def _scanning(rows: NDArray[np.void], answers: Answers) -> Bools:
    """Whether our host scanned half-open within about five minutes (`Surroundings.half_open_scan`)."""
    ours = distinct(answers.ours_lo)
    asked = (rows["proto"] == TCP) & (rows["src_has"] & HAS_SYN > 0) & (rows["src_acks"] == 0)
    index = np.flatnonzero(asked & (rows["src_data"] == 0) & (rows["src_fins"] == 0))
    index = index[among(rows["src_lo"][index], ours)]
    if not len(index):
        return np.zeros(len(answers), bool)
    cut_off = (rows["dst_has"][index] & HAS_SYNACK > 0) & (rows["src_rsts"][index] > 0)
    host = numbered(
        np.concatenate((answers.version, rows["version"][index])),
        np.concatenate((answers.ours_hi, rows["src_hi"][index])),
        np.concatenate((answers.ours_lo, rows["src_lo"][index])),
    )
    mine, theirs = host[: len(answers)], host[len(answers) :]
    # In bins of five minutes; a scan across a border has half of what it needs on one side of it at least.
    begin = int(min(answers.start.min(), rows["start"][index].min(initial=answers.start.min()))) // (5 * MINUTE) - 1
    bin_of = rows["start"][index] // (5 * MINUTE) - begin
    bins = int(max(bin_of.max(initial=0), (answers.end.max() // (5 * MINUTE)) - begin)) + 2
    where = theirs * bins + bin_of
    kinds, which = np.unique(where, return_inverse=True)
    weight = np.bincount(which, np.where(cut_off, UNCOMPLETED, 1), len(kinds))
    scans = kinds[weight >= UNCOMPLETED // 2]
    at = mine * bins + answers.start // (5 * MINUTE) - begin
    return among(at, scans) | among(at - 1, scans) | among(at + 1, scans)


def _asked_elsewhere(rows: NDArray[np.void], answers: Answers) -> Bools:
    """Whether our host asked somebody else what this remote answered: hosts behind load balancers do that.

    TCP: any SYN of the host with the number that is answered. UDP: from the same port to the same service; ICMP: any
    request; both of them at any time, since they have no numbers (`Facts.syn_elsewhere`, `Facts.asked_elsewhere`).
    """
    ours = distinct(answers.ours_lo)
    asked: list[tuple[NDArray[Any], ...]] = []
    for us, them in (("src", "dst"), ("dst", "src")):
        proto, kind = rows["proto"], rows["icmp_type"]
        icmp = np.isin(proto, (ICMP, ICMP6)) & (rows[f"{us}_packets"] > 0)
        for one in (ICMP, ICMP6):
            some = proto == one
            icmp[some & np.isin(kind, list(ICMP_ERRORS[one]))] = False
            icmp[some & (np.isin(kind, list(ICMP_REPLIES[one])) == (us == "src"))] = False
        syn = (proto == TCP) & (rows[f"{us}_has"] & HAS_SYN > 0)
        udp = (proto == UDP) & (rows[f"{us}_packets"] > 0)
        index = np.flatnonzero(syn | udp | icmp)
        index = index[among(rows[f"{us}_lo"][index], ours)]
        some = rows[index]
        number = np.where(some["proto"] == TCP, some[f"{us}_syn_seq"], 0).astype(np.int64)
        ports = some[f"{us}_port"].astype(np.int64) << 16 | some[f"{them}_port"]
        number = np.where(some["proto"] == UDP, ports, number)
        asked.append((some["version"], some[f"{us}_hi"], some[f"{us}_lo"], some["proto"], number))
    number = np.where(answers.proto == TCP, answers.seq, 0)
    number = np.where(answers.proto == UDP, answers.our_port << 16 | answers.victim_port, number)
    columns = [(answers.version, answers.ours_hi, answers.ours_lo, answers.proto, number), *asked]
    code = numbered(*(np.concatenate(column) for column in zip(*columns, strict=True)))
    return among(code[: len(answers)], distinct(code[len(answers) :]))


def _reflected(answers: Answers) -> Bools:
    """Whether REFLECTORS distinct remotes answered that one of our hosts within a minute of it (R14).

    In steps of 15 s, a window of five steps holds every minute that touches its middle.
    """
    step = 15 * SECOND
    ours = numbered(answers.version, answers.ours_hi, answers.ours_lo)
    victim = numbered(answers.version, answers.victim_hi, answers.victim_lo)
    result = np.zeros(len(answers), bool)
    pairs, first = np.unique(ours * (int(victim.max()) + 1) + victim, return_index=True)
    remotes = np.bincount(ours[first], minlength=int(ours.max()) + 1)
    index = np.flatnonzero(remotes[ours] >= REFLECTORS)
    if not len(index):
        return result
    at = answers.start[index] // step
    at -= at.min() - 5
    steps = int(at.max()) + 6
    _, pair = np.unique(
        np.searchsorted(pairs, ours[index] * (int(victim.max()) + 1) + victim[index]), return_inverse=True
    )
    host = ours[index]
    cells = distinct(np.concatenate([pair * steps + at + shift for shift in range(5)]))
    owner = np.zeros(int(pair.max()) + 1, np.int64)
    owner[pair] = host
    windows, counts = np.unique(owner[cells // steps] * steps + cells % steps, return_counts=True)
    crowded = windows[counts >= REFLECTORS]
    for shift in range(5):
        result[index] |= among(host * steps + at + shift, crowded)
    return result


def _probes(answers: Answers) -> Bools:
    """Whether it is one of the single SYN+ACKs with a constant ack, or 0, that one remote scans us with (R15)."""
    index = np.flatnonzero((answers.proto == TCP) & (answers.seq >= 0) & (answers.packets == 1))
    result = np.zeros(len(answers), bool)
    if not len(index):
        return result
    remote = numbered(answers.version[index], answers.victim_hi[index], answers.victim_lo[index])
    host = numbered(answers.version[index], answers.ours_hi[index], answers.ours_lo[index])
    group = numbered(remote, answers.seq[index])
    _, first, count = np.unique(group, return_index=True, return_counts=True)
    share = count / np.bincount(remote)[remote[first]]
    ports = _kinds_in(remote, answers.victim_port[index])[remote[first]]
    hosts, ends = _kinds_in(group, host), _kinds_in(group, host, answers.our_port[index])
    scan = (share >= 0.9) | (answers.seq[index][first] == 2**32 - 1)
    scan &= (ports > FLOOD_PORTS) & ((hosts >= SCANNED) | (ends - hosts + 1 >= SCANNED))
    result[index] = scan[group]
    return result


def _kinds_in(group: Ints, *columns: Ints) -> Ints:
    """How many different values each group has."""
    kinds = np.unique(numbered(group, *columns), return_index=True)[1]
    counts: Ints = np.bincount(group[kinds], minlength=int(group.max()) + 1)
    return counts
