"""Unsolicited answers: the conversations that look like backscatter, and whether captures vouch for it.

The tests are the judge's (`verdict.facts`), put on columns for all flows at once. An answer came first, and the end
that it came to sent nothing but exact refusals of it: one flow of the 5-tuple that says otherwise, in any view at any
time, and the tuple is none. What is left is *proven* where the captures would have shown the question, had there been
one; else `Doubt` says what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from backscatter.decode.columns import DNS_ANSWER, NTP_ANSWER, QUIC_INITIAL, QUIC_LONG, RST
from backscatter.flood.tuples import TUPLE, among, distinct, numbered, tuples
from backscatter.flood.vouch import Doubt, doubts
from backscatter.flow.runs import run_starts
from backscatter.flow.table import HAS_SYN
from backscatter.verdict.conversation import ICMP, ICMP6, ICMP_ERRORS, ICMP_REPLIES, TCP, UDP
from backscatter.verdict.datagrams import QUIC_PORT
from backscatter.verdict.facts import AT_ONCE, REORDERED
from backscatter.verdict.judge import AFTER, BEFORE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from numpy.typing import NDArray

    from backscatter.flood.tuples import Tuples
    from backscatter.flow.census import Census
    from backscatter.flow.runs import Bools, Ints
    from backscatter.flow.table import FlowTable

    Rows = NDArray[np.void]
    Columns = dict[str, NDArray[Any]]


MILLISECOND = 10**6

#: Times in ms since 1970 take so many bits until 2109.
TIME_BITS = 42


class Kind(IntEnum):
    """What the answer was; for a SYN+ACK, what became of it."""

    REFUSED = 0  # a SYN+ACK that our host refused exactly
    SILENT = 1  # a SYN+ACK that our host did not answer
    CLOSED = 2  # RST+ACK with seq 0: a closed port answering a SYN
    ICMP_ERROR = 3  # an ICMP error that quotes a packet which we never sent
    ICMP_REPLY = 4
    UDP_ANSWER = 5


@dataclass(frozen=True, slots=True)
class Answers:
    """Conversations of unsolicited answers, one entry each, in no order; and the flows that they consist of.

    version, victim_hi, victim_lo, ours_hi, ours_lo  the address that was flooded, and the one of ours that was forged
    proto         of the packet that was answered
    victim_port, our_port  -1 where there is none
    kind, doubt   Kind, and bits of Doubt: 0 where captures vouch for it
    packets       answers as they were seen, retransmissions too, in the view that shows most of them
    answers       without retransmissions: how many forged packets they answer
    start, end    ns
    seq           sequence number of the first forged packet as its answer tells it, -1 for none
    ttl_low, ttl_high  TTLs at which answers came; 0 where errors came in their place

    event_*: of each flow that counts, its conversation, its first and last time (ns), packets and answers
    """

    version: NDArray[np.uint8]
    victim_hi: NDArray[np.uint64]
    victim_lo: NDArray[np.uint64]
    ours_hi: NDArray[np.uint64]
    ours_lo: NDArray[np.uint64]
    proto: NDArray[np.uint8]
    victim_port: Ints
    our_port: Ints
    kind: Ints
    doubt: Ints
    packets: Ints
    answers: Ints
    start: Ints
    end: Ints
    seq: Ints
    ttl_low: Ints
    ttl_high: Ints
    event_of: Ints
    event_first: Ints
    event_last: Ints
    event_packets: Ints
    event_answers: Ints

    def __len__(self) -> int:
        return len(self.version)

    def select(self, which: Bools) -> Answers:
        """The conversations of a mask, with their events."""
        kept = which[self.event_of]
        columns = {
            field.name: getattr(self, field.name)[kept if field.name.startswith("event_") else which]
            for field in fields(self)
        }
        columns["event_of"] = (np.cumsum(which) - 1)[columns["event_of"]]
        return Answers(**columns)


def unsolicited(
    table: FlowTable, censuses: Collection[Census], home: Sequence[IPv4Network | IPv6Network] = ()
) -> Answers:
    """The unsolicited answers among flows. `censuses` say what the captures cover.

    home  the networks that are ours: answers to others are left out; empty for whoever was answered
    """
    rows, quotes = table.rows, table.quotes
    by_src, by_dst = _answered_by(rows, "src", "dst"), _answered_by(rows, "dst", "src")
    found, about = by_src | by_dst, _about_nothing(table)
    victims = distinct(np.concatenate((rows["src_lo"][by_src], rows["dst_lo"][by_dst], quotes["dst_lo"][about])))
    near = np.arange(
        len(rows)
    )  # what may speak of the victims; where most of all does, looking costs more than it saves
    if np.count_nonzero(found) < len(rows) // 4:
        near = np.flatnonzero(among(rows["src_lo"], victims) | among(rows["dst_lo"], victims))
    here, quoted = tuples([{name: some[name][at] for name in TUPLE} for some, at in ((rows, near), (quotes, about))])
    known = np.zeros(int(max(here.key.max(initial=-1), quoted.key.max(initial=-1))) + 1, bool)
    known[here.key] = True
    alone = ~known[quoted.key]  # nothing at all was seen of the packet that they quote
    of_flows, fits = _of_flows(rows, near, here, found[near], by_dst[near])
    contacts = _contacts(rows, near, here, fits)
    parts = (of_flows, _of_quotes(table, about, quoted, alone))
    events = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    contact = contacts.reach(events["our_end"], events["first"], events["last"])
    contact |= _told_by_icmp(rows, near, here, events)
    events["doubt"] |= np.where(contact, Doubt.CONTACT, 0)
    ours = _within(events["version"], events["ours_hi"], events["ours_lo"], home)
    events = {name: column[ours] for name, column in events.items()}
    answers, view = _gathered(events)
    answers.doubt[:] |= doubts(
        table, censuses, found, answers, refused=answers.kind == Kind.REFUSED, sensor=view[0], scope=view[1]
    )
    return answers


def _answered_by(rows: Rows, a: str, o: str) -> Bools:
    """Mask of the flows in which side `a` answers what side `o` is not seen to ask, and `o` refuses it at most."""
    mask = np.zeros(len(rows), bool)
    index = np.flatnonzero((rows["proto"] == TCP) & (rows[f"{o}_packets"] == rows[f"{o}_rsts"]))
    flow = {
        name: rows[name][index]
        for side in (a, o)
        for name in (f"{side}_{field}" for field in ("packets", "rsts", "has", "first", "payload", "synacks"))
    }
    payload = flow[f"{a}_payload"] + flow[f"{o}_payload"]  # somebody's words, on either side
    packets, rsts = flow[f"{a}_packets"], flow[f"{a}_rsts"]
    calm = (packets > 0) & (((flow[f"{a}_has"] | flow[f"{o}_has"]) & HAS_SYN) == 0) & (payload == 0)
    reset_syns, time = rows[f"{a}_reset_syns"][index], rows[f"{a}_synack_time"][index]
    synack = (flow[f"{a}_synacks"] > 0) & (packets == flow[f"{a}_synacks"] + rsts)
    # What may come before the SYN+ACK: RSTs of a port that was closed for a while; our refusal, if it was reordered.
    synack &= (flow[f"{a}_first"] >= time) | (rsts == reset_syns)
    if a == "dst":
        synack &= time - flow[f"{o}_first"] <= REORDERED
    closed = (packets == reset_syns) & (flow[f"{o}_packets"] == 0)
    mask[index] = calm & (synack | closed)
    if a == "src":
        mask |= _datagrams(rows)
    return mask


def _datagrams(rows: Rows) -> Bools:
    """Mask of the flows that are answers without TCP, and nothing else."""
    mask = np.zeros(len(rows), bool)
    index = np.flatnonzero((rows["proto"] != TCP) & (rows["dst_packets"] == 0))
    proto, kind, speech = (rows[name][index] for name in ("proto", "icmp_type", "src_speech"))
    quic = (rows["src_port"][index] == QUIC_PORT) & (rows["dst_port"][index] != QUIC_PORT)
    said = DNS_ANSWER | NTP_ANSWER | np.where(quic, QUIC_LONG | QUIC_INITIAL, 0)
    answers = (proto == UDP) & (speech & said > 0) & (speech & ~said == 0)
    for icmp in (ICMP, ICMP6):
        answers |= (proto == icmp) & np.isin(kind, list(ICMP_REPLIES[icmp]))
    mask[index] = answers
    return mask


def _about_nothing(table: FlowTable) -> Ints:
    """The quotes of packets whose source is the host that is told of them; those without their ports tell no tuple."""
    rows, quotes = table.rows, table.quotes
    told = {name: rows[name][quotes["flow"]] for name in ("dst_hi", "dst_lo", "version")}
    to_sender = (quotes["src_hi"] == told["dst_hi"]) & (quotes["src_lo"] == told["dst_lo"])
    to_sender &= quotes["version"] == told["version"]
    return np.flatnonzero(to_sender & (quotes["has_ports"] > 0))


def _is_error(rows: Rows, index: Ints) -> Bools:
    proto, kind = rows["proto"][index], rows["icmp_type"][index]
    mask: Bools = np.zeros(len(index), bool)
    for icmp in (ICMP, ICMP6):
        mask |= (proto == icmp) & np.isin(kind, list(ICMP_ERRORS[icmp]))
    return mask


@dataclass(frozen=True, slots=True)
class _Contacts:
    """When ends of pairs sent the other one more than refusals and ICMP errors.

    key     the end and when it began, ascending; times in ms, so that both fit one integer
    latest  when all had ended that this end began up to there
    """

    key: Ints
    latest: Ints

    def reach(self, end: Ints, first: Ints, last: Ints) -> Bools:
        """Whether the end was in contact from BEFORE ahead of a conversation (ns) to AFTER behind it."""
        if not len(self.key):
            return np.zeros(len(end), bool)
        at = np.searchsorted(self.key, _keyed(end, (last + AFTER) // MILLISECOND + 1), side="right") - 1
        found = self.key[at] >> TIME_BITS == end
        reached: Bools = (at >= 0) & found & (self.latest[at] >= (first - BEFORE) // MILLISECOND)
        return reached


def _keyed(end: Ints, milliseconds: Ints) -> Ints:
    return end << TIME_BITS | np.clip(milliseconds, 0, (1 << TIME_BITS) - 1)


def _contacts(rows: Rows, near: Ints, here: Tuples, fits: Bools) -> _Contacts:
    """When our hosts were in contact with those that answered, besides refusing them. `fits`: a RST that does so."""
    error = _is_error(rows, near)
    loose = (rows["proto"][near] == TCP) & (rows["src_rsts"][near] > 0) & (rows["dst_packets"][near] == 0) & ~fits
    keys, lasts = [], []
    for side, end in (("src", here.src_end), ("dst", here.dst_end)):
        resets = np.where(rows["proto"][near] == TCP, rows[f"{side}_rsts"][near], 0)
        talks = rows[f"{side}_packets"][near] > resets
        spoke = np.flatnonzero((talks | loose if side == "src" else talks) & ~error)
        keys.append(_keyed(end[spoke], rows["start"][near[spoke]] // MILLISECOND))
        lasts.append(np.clip(rows["end"][near[spoke]] // MILLISECOND, 0, (1 << TIME_BITS) - 1))
    key, last = np.concatenate(keys), np.concatenate(lasts)
    order = np.argsort(key, kind="stable")
    key, last = key[order], last[order]
    # Running maximum within each end: the end's number stands above the time.
    latest = np.maximum.accumulate(_keyed(key >> TIME_BITS, last)) & ((1 << TIME_BITS) - 1) if len(key) else last
    return _Contacts(key, latest)


def _told_by_icmp(rows: Rows, near: Ints, here: Tuples, events: Columns) -> Bools:
    """Whether our host sent more ICMP errors than it heard answers: then these refuse nothing, but tell something."""
    error = np.flatnonzero(_is_error(rows, near))
    ends = int(max(here.pair.max(initial=0), (events["our_end"] >> 1).max(initial=0))) * 2 + 2
    told = np.bincount(here.src_end[error], rows["src_packets"][near[error]], ends)
    heard = np.bincount(events["our_end"], events["packets"], ends)
    more: Bools = (told > heard)[events["our_end"]]
    return more


def _of_flows(rows: Rows, near: Ints, here: Tuples, found: Bools, by_dst: Bools) -> tuple[Columns, Bools]:
    """What flows that answer count for, one entry each: those of tuples that nothing contradicts.

    Also which rows are RSTs of ours that refuse the answer which another row shows.

    near, here  the rows that may speak of these tuples, and their tuples; `found` which of them answer, `by_dst` with
    the side that did not begin
    """
    keys = int(here.key.max()) + 1 if len(near) else 0
    victim_low = here.src_low ^ by_dst  # of the rows that answer
    low, high = np.zeros(keys, bool), np.zeros(keys, bool)
    low[here.key[found & victim_low]] = True
    high[here.key[found & ~victim_low]] = True
    false = low & high  # both answer: then neither is an answer

    answer = here.key[found]
    side = _sides(rows, near[found], by_dst[found])
    synack = side["a_synacks"] > 0
    accepted = _Accepted(answer[synack], {name: column[synack] for name, column in side.items()})

    # A flow of RSTs alone is the victim's giving up, or our refusal of a SYN+ACK that another flow shows.
    first = {name: rows[name][near] for name in ("proto", "src_packets", "src_rsts", "dst_packets", "src_bare_rsts")}
    resets = (first["proto"] == TCP) & (first["src_packets"] == first["src_rsts"]) & (first["dst_packets"] == 0)
    of_victim = here.src_low == low[here.key]
    fits = np.zeros(len(near), bool)
    single = np.flatnonzero(resets & (first["src_packets"] == 1) & (first["src_bare_rsts"] == 1))
    rst = {name: rows[f"src_{name}"][near[single]] for name in ("rst_seq", "rst_ack", "first", "flags", "payload")}
    fits[single] = accepted.refused_by(here.key[single], rst)
    false[here.key[~found & ~(resets & (of_victim | fits))]] = True

    silent = side["o_packets"] == 0
    exact = (side["o_packets"] == side["o_exact_rsts"]) & (side["o_exact_rsts"] <= side["a_synacks"])
    exact &= (side["o_flags"] == RST) & _at_once(side)
    lone = np.flatnonzero(~exact & (side["o_packets"] == 1) & (side["o_bare_rsts"] == 1))
    exact[lone] = accepted.refused_by(
        answer[lone], {name.removeprefix("o_"): side[name][lone] for name in side if name.startswith("o_")}
    )
    with_ack = (side["o_bare_rsts"] == 0) & (side["o_packets"] <= np.maximum(side["a_synacks"], 1))
    with_ack &= side["o_rst_seq"] == side["a_synack_ack"]
    false[answer[~(silent | exact | with_ack)]] = True

    refused = np.zeros(keys, bool)
    refused[answer[~silent]] = True
    refused[here.key[~found & resets & ~of_victim & fits]] = True
    tcp = side["proto"] == TCP
    # Retransmissions dropped: what is left of this flow if its first answer was told by another already.
    more = np.where(synack, side["a_synacks"] - side["a_synack_repeats"] - 1, side["a_packets"] - 1)
    number = np.where(synack, side["a_synack_ack"], side["a_rst_ack"])
    entries: Columns = {
        **{name: side[name] for name in ("version", "victim_hi", "victim_lo", "ours_hi", "ours_lo", "proto")},
        "victim_port": np.where(side["ported"], side["a_port"], -1),
        "our_port": np.where(side["ported"], side["o_port"], -1),
        "kind": np.select(
            [synack & refused[answer], synack, tcp, side["proto"] == UDP],
            [Kind.REFUSED, Kind.SILENT, Kind.CLOSED, Kind.UDP_ANSWER],
            Kind.ICMP_REPLY,
        ),
        "doubt": np.where(tcp & ~silent & ~exact, Doubt.RESET, 0),
        "packets": side["a_packets"],
        "more": np.maximum(more, 0),
        "told": np.where(synack, side["a_synack_seq"], 0),
        "number": np.where(tcp, number, -1),
        "first": side["a_first"],
        "last": side["a_last"],
        "seq": np.where(tcp, (number - 1) % 2**32, -1),
        "ttl_low": side["a_ttl_low"],
        "ttl_high": side["a_ttl_high"],
        "sensor": side["sensor"],
        "scope": side["scope"],
        "key": answer,
        "our_end": here.pair[found] * 2 + ~victim_low[found],
    }
    true = ~false[answer]
    return {name: column[true] for name, column in entries.items()}, fits


class _Accepted:
    """SYN+ACKs by conversation and number: which lone RSTs of ours refuse one of them that another flow shows."""

    def __init__(self, key: Ints, side: Columns) -> None:
        code = _with(key, side["a_synack_ack"])
        order = np.lexsort((side["a_synack_time"], code))
        first = run_starts(code[order])
        self._code = code[order][first]
        self._seq, self._time = side["a_synack_seq"][order][first], side["a_synack_time"][order][first]
        self._last = np.maximum.reduceat(side["a_last"][order], np.flatnonzero(first)) if len(order) else order

    def refused_by(self, key: Ints, rst: Columns) -> Bools:
        """Whether a bare RST has the number of a SYN+ACK, and came at once (`Facts.exact`)."""
        if not len(self._code) or not len(key):
            return np.zeros(len(key), bool)
        code = _with(key, rst["rst_seq"])
        at = np.minimum(np.searchsorted(self._code, code), len(self._code) - 1)
        fits = (self._code[at] == code) & (rst["flags"] == RST) & (rst["payload"] == 0)
        seq, ack = self._seq[at], rst["rst_ack"].astype(np.int64)
        fits &= (ack == 0) | (ack == seq) | (ack == (seq + 1) % 2**32)
        fits &= self._time[at] - rst["first"] <= REORDERED
        known: Bools = fits & (rst["first"] - self._last[at] <= AT_ONCE)
        return known


def _at_once(side: Columns) -> Bools:
    """Whether our RSTs came right behind their SYN+ACKs, as a host without a socket sends them."""
    unanswered = side["a_synacks"] > side["o_packets"]
    first = unanswered | (side["o_first"] - side["a_synack_time"] <= AT_ONCE)
    at_once: Bools = first & (side["o_last"] - side["a_last"] <= AT_ONCE)
    return at_once


_ANSWERED = (
    *("synacks", "synack_seq", "synack_ack", "synack_time", "synack_repeats", "reset_syns", "rst_ack"),
    *("first", "last", "ttl_low", "ttl_high", "packets", "port"),
)
_REFUSED = (*("packets", "exact_rsts", "bare_rsts", "rst_seq", "rst_ack", "flags", "payload", "first", "last", "port"),)


def _sides(rows: Rows, index: Ints, by_dst: Bools) -> Columns:
    """Columns of flows: `a_` and `victim_` of the end that answered, `o_` and `ours_` of the other one."""

    def column(name: str, swapped: Bools) -> NDArray[Any]:
        if swapped.any() and not swapped.all():
            values = np.where(swapped, rows[f"dst_{name}"][index], rows[f"src_{name}"][index])
        else:  # as nearly always: one gathering from a wide table instead of two
            values = rows[f"{'dst' if swapped.any() else 'src'}_{name}"][index]
        return values if name in ("hi", "lo") else values.astype(np.int64)

    side: Columns = {f"a_{name}": column(name, by_dst) for name in _ANSWERED}
    side |= {f"o_{name}": column(name, ~by_dst) for name in _REFUSED}
    for part in ("hi", "lo"):
        side[f"victim_{part}"], side[f"ours_{part}"] = column(part, by_dst), column(part, ~by_dst)
    side |= {name: rows[name][index] for name in ("version", "proto", "sensor", "scope")}
    side["ported"] = (rows["has_ports"][index] > 0) & ~np.isin(side["proto"], (ICMP, ICMP6))
    return side


def _of_quotes(table: FlowTable, about: Ints, quoted: Tuples, alone: Bools) -> Columns:
    """What quotes of packets that nobody sent count for, one entry each, as `_of_flows`."""
    quotes = table.quotes[about[alone]]
    flows = table.rows
    count = len(quotes)
    none = np.full(count, -1, np.int64)
    ported = ~np.isin(quotes["proto"], (ICMP, ICMP6))
    packets = quotes["count"].astype(np.int64)
    tcp = quotes["proto"] == TCP
    return {
        "version": quotes["version"],
        "victim_hi": quotes["dst_hi"],
        "victim_lo": quotes["dst_lo"],
        "ours_hi": quotes["src_hi"],
        "ours_lo": quotes["src_lo"],
        "proto": quotes["proto"],
        "victim_port": np.where(ported, quotes["dst_port"], none),
        "our_port": np.where(ported, quotes["src_port"], none),
        "kind": np.full(count, Kind.ICMP_ERROR, np.int64),
        "doubt": np.zeros(count, np.int64),
        "packets": packets,
        "more": packets - 1,
        "told": np.zeros(count, np.int64),
        "number": none,
        "first": quotes["time"],
        "last": np.where(packets > 1, np.maximum(flows["src_last"][quotes["flow"]], quotes["time"]), quotes["time"]),
        "seq": np.where(tcp & (quotes["seq"] > 0), quotes["seq"], none),
        "ttl_low": np.zeros(count, np.int64),
        "ttl_high": np.zeros(count, np.int64),
        "sensor": flows["sensor"][quotes["flow"]],
        "scope": flows["scope"][quotes["flow"]],
        "key": quoted.key[alone],
        "our_end": quoted.src_end[alone],
    }


def _with(key: Ints, number: NDArray[Any]) -> Ints:
    """A conversation and a 32-bit number in one."""
    return key << 32 | number.astype(np.int64)


def _gathered(events: Columns) -> tuple[Answers, tuple[Ints, Ints]]:
    """Conversations of what counts: each by the view that shows most packets of it, since views are never summed.

    Also the view (sensor and scope) of each conversation.
    """
    view = numbered(events["sensor"], events["scope"])
    views = int(view.max(initial=0)) + 1
    code = numbered(events["key"] * views + view)
    seen = np.bincount(code, events["packets"]) if len(code) else np.zeros(0)
    order = np.lexsort((events["first"], view, -seen[code], events["key"]))
    head = run_starts(events["key"][order])
    best = view[order][head][np.cumsum(head) - 1] if len(order) else view
    order = order[view[order] == best]
    events = {name: column[order] for name, column in events.items()}

    head = run_starts(events["key"])
    begin, of = np.flatnonzero(head), np.cumsum(head) - 1
    tcp = events["number"] >= 0
    same = numbered(of, events["told"], np.where(tcp, events["number"], np.arange(len(of)) + 2**32))
    fresh = np.zeros(len(of), np.int64)
    fresh[np.unique(same, return_index=True)[1]] = 1
    answers = fresh + events["more"]

    def reduced(how: np.ufunc, name: str) -> Ints:
        column = events[name].astype(np.int64)
        result: Ints = how.reduceat(column, begin) if len(begin) else column
        return result

    firsts = ("version", "victim_hi", "victim_lo", "ours_hi", "ours_lo", "proto", "victim_port", "our_port", "seq")
    columns = {name: events[name][begin] for name in firsts}
    columns["answers"] = np.add.reduceat(answers, begin) if len(begin) else answers
    whole = Answers(
        **columns,
        kind=reduced(np.minimum, "kind"),
        doubt=reduced(np.bitwise_or, "doubt"),
        packets=reduced(np.add, "packets"),
        start=reduced(np.minimum, "first"),
        end=reduced(np.maximum, "last"),
        ttl_low=reduced(np.minimum, "ttl_low"),
        ttl_high=reduced(np.maximum, "ttl_high"),
        event_of=of,
        event_first=events["first"],
        event_last=events["last"],
        event_packets=events["packets"].astype(np.int64),
        event_answers=answers,
    )
    return whole, (events["sensor"][begin].astype(np.int64), events["scope"][begin].astype(np.int64))


def _within(
    version: NDArray[Any], hi: NDArray[np.uint64], lo: NDArray[np.uint64], home: Sequence[IPv4Network | IPv6Network]
) -> Bools:
    """Mask of the addresses that lie in one of the networks; all of them where there is none."""
    mask = np.full(len(version), not home)
    for network in home:
        first, last = int(network.network_address), int(network.broadcast_address)
        low, high = (first >> 64, first & 2**64 - 1), (last >> 64, last & 2**64 - 1)
        inside = version == network.version
        for part, (one, other) in zip((hi, lo), zip(low, high, strict=True), strict=True):
            inside &= (part >= np.uint64(one)) & (part <= np.uint64(other))
        mask |= inside
    return mask
