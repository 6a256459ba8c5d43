"""What the two hosts did besides the conversation: scans, other contacts, floods. Read only when a rule asks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from backscatter.decode.columns import DNS_ANSWER, NTP_ANSWER
from backscatter.decode.names import marks
from backscatter.flow.table import HAS_RST, HAS_SYN, HAS_SYNACK
from backscatter.flow.window import Window
from backscatter.verdict.conversation import ICMP, ICMP6, ICMP_ERRORS, ICMP_REPLIES, TCP, UDP, ends_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from backscatter.flow.address import Address
    from backscatter.flow.table import FlowTable
    from backscatter.verdict.scene import Scene

SECOND = 10**9
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

#: R14: this many distinct remotes with unsolicited answers to one host within a minute.
REFLECTORS = 50

#: R15: single SYN+ACKs to this many hosts, or ports of one host, from more source ports than FLOOD_PORTS.
SCANNED = 10

#: A remote answers from few ports where so large a share of its SYN+ACKs comes from FLOOD_PORTS of them.
FEW_PORTS = 0.9

#: LBNL's scan-NG: one remote answering at least this many hosts from at most so many ports is backscatter.
FLOOD_HOSTS, FLOOD_PORTS = 10, 2

#: SYNs to so many different ends that nobody completed look like a scan of ours.
UNCOMPLETED = 10


class Neighbourhood:
    """The flows of two hosts around a window, read from the scene once and only when asked for.

    local, remote: all names of the two hosts.
    """

    def __init__(self, scene: Scene, local: frozenset[Address], remote: frozenset[Address], window: Window) -> None:
        self.scene, self.local, self.remote, self.window = scene, local, remote, window

    @cached_property
    def local_flows(self) -> FlowTable:
        """Flows of the local host, from 15 minutes before the window to 5 minutes after it."""
        return self.scene.flows_of(self.local, Window(self.window.start - 15 * MINUTE, self.window.end + 5 * MINUTE))

    @cached_property
    def remote_flows(self) -> FlowTable:
        """Flows of the remote host, from an hour before the window to an hour after it."""
        return self.scene.flows_of(self.remote, Window(self.window.start - HOUR, self.window.end + HOUR))

    @cached_property
    def local_is_src(self) -> NDArray[np.bool_]:
        """Mask of `local_flows` that the local host began."""
        return ends_at(self.local_flows.rows, "src", self.local)

    @cached_property
    def local_is_dst(self) -> NDArray[np.bool_]:
        """Mask of `local_flows` that others began with the local host."""
        return ends_at(self.local_flows.rows, "dst", self.local)

    def between(self, window: Window) -> FlowTable:
        """Flows between the two hosts."""
        return self.scene.flows_between(self.local, self.remote, window)

    @cached_property
    def day(self) -> FlowTable:
        """Flows between the two hosts, from a day before the window to an hour after it."""
        return self.between(Window(self.window.start - DAY, self.window.end + HOUR))

    @cached_property
    def syns_of_day(self) -> dict[tuple[int, int], set[int]]:
        """Seqs of the SYNs that the local host sent the remote one in `day`, by local and remote port."""
        rows = self.day.rows
        seqs: dict[tuple[int, int], set[int]] = {}
        for us, them in (("src", "dst"), ("dst", "src")):
            asked = ends_at(rows, us, self.local) & (rows["proto"] == TCP) & (rows[f"{us}_has"] & HAS_SYN > 0)
            fields = (f"{us}_port", f"{them}_port", f"{us}_syn_seq")
            for here, there, seq in zip(*(rows[field][asked].tolist() for field in fields), strict=True):
                seqs.setdefault((here, there), set()).add(seq)
        return seqs

    @cached_property
    def syns_elsewhere(self) -> frozenset[int]:
        """Seqs of the SYNs that the local host sent anybody in `local_flows`, or anybody the remote in `remote_flows`.

        The first of each flow. Behind address translation our host's SYN may be captured under another address only.
        """
        rows, seqs = self.local_flows.rows, set[int]()
        for us, ours in (("src", self.local_is_src), ("dst", self.local_is_dst)):
            seqs.update(_syn_seqs(rows[ours], us))
        rows = self.remote_flows.rows
        for asker, asked in (("src", "dst"), ("dst", "src")):
            seqs.update(_syn_seqs(rows[ends_at(rows, asked, self.remote)], asker))
        return frozenset(seqs)


@dataclass(frozen=True)
class Surroundings:
    """What the two hosts did around one conversation, which lasted from `start` to `end` (ns)."""

    hosts: Neighbourhood
    start: int
    end: int

    def _near(self, rows: NDArray[np.void], before: int, after: int) -> NDArray[np.bool_]:
        """Mask of the flows that reach into the time from `before` ahead of the conversation to `after` behind it."""
        mask: NDArray[np.bool_] = (rows["end"] >= self.start - before) & (rows["start"] <= self.end + after)
        return mask

    def directions(self, sensor: str, scope: str) -> tuple[bool, bool]:
        """Whether packets from and to the local host are visible around the conversation in one view."""
        table = self.hosts.local_flows
        rows = table.rows
        here = _in_view(table, sensor, scope) & self._near(rows, 15 * MINUTE, 5 * MINUTE)
        src, dst = here & self.hosts.local_is_src, here & self.hosts.local_is_dst
        sent = bool((rows["src_packets"][src] > 0).any() or (rows["dst_packets"][dst] > 0).any())
        received = bool((rows["dst_packets"][src] > 0).any() or (rows["src_packets"][dst] > 0).any())
        return sent, received

    def both_ways(self, sensor: str, scope: str, *, freely: bool = False) -> bool:
        """Whether one view shows a flow of the local host around the conversation in both directions.

        A broadcast of its own beside what it receives proves nothing: its answers may take another way. `freely`: by
        more than SYN+ACKs and RSTs of its own.
        """
        table = self.hosts.local_flows
        rows = table.rows
        mutual = _in_view(table, sensor, scope) & self._near(rows, 15 * MINUTE, 5 * MINUTE)
        mutual &= (rows["src_packets"] > 0) & (rows["dst_packets"] > 0)
        for us, ours in (("src", self.hosts.local_is_src), ("dst", self.hosts.local_is_dst)):
            answers = rows[f"{us}_synacks"].astype(np.int64) + rows[f"{us}_rsts"] if freely else 0
            if bool((mutual & ours & (rows[f"{us}_packets"] > answers)).any()):
                return True
        return False

    def our_syns(self, local_port: int | None, remote_port: int | None) -> frozenset[int]:
        """Seqs of the SYNs that the local host sent on a tuple, from a day before to an hour after the window."""
        if local_port is None or remote_port is None:
            return frozenset()
        return frozenset(self.hosts.syns_of_day.get((local_port, remote_port), ()))

    @cached_property
    def syns_elsewhere(self) -> frozenset[int]:
        """Seqs of the SYNs that the local host sent anybody, and of those that anybody sent the remote."""
        return self.hosts.syns_elsewhere

    def asked_elsewhere(self, proto: int, local_port: int | None, remote_port: int | None, before: int) -> bool:
        """Whether the local host asked another host what the remote may have answered, at most `before` (ns) ahead.

        UDP: from the same port to the same service. ICMP: any request whose reply this may be.
        """
        rows = self.hosts.local_flows.rows
        near = (rows["proto"] == proto) & self._near(rows, before, 3 * SECOND)
        found = np.zeros(len(rows), bool)
        for us, them, ours in (("src", "dst", self.hosts.local_is_src), ("dst", "src", self.hosts.local_is_dst)):
            asked = near & ours & ~ends_at(rows, them, self.hosts.remote) & (rows[f"{us}_packets"] > 0)
            if proto == UDP:
                asked &= (rows[f"{us}_port"] == local_port) & (rows[f"{them}_port"] == remote_port)
            else:
                replies = np.isin(rows["icmp_type"], list(ICMP_REPLIES[proto]))
                errors = np.isin(rows["icmp_type"], list(ICMP_ERRORS[proto]))
                asked &= ~errors & (replies != (us == "src"))
            found |= asked
        return bool(found.any())

    @cached_property
    def half_open_scan(self) -> bool:
        """Whether the local host is seen half-open scanning within five minutes of the conversation.

        One handshake that it reset instead of completing is enough: with its SYN lost, that is R4's picture.
        """
        rows = self.hosts.local_flows.rows
        near = self.hosts.local_is_src & (rows["proto"] == TCP) & (rows["src_has"] & HAS_SYN > 0)
        near &= self._near(rows, 5 * MINUTE, 5 * MINUTE)
        near &= (rows["src_acks"] == 0) & (rows["src_data"] == 0) & (rows["src_fins"] == 0)
        if bool((near & (rows["dst_has"] & HAS_SYNACK > 0) & (rows["src_rsts"] > 0)).any()):
            return True
        return _distinct(rows[near], "dst_hi", "dst_lo", "dst_port") >= UNCOMPLETED

    @cached_property
    def looked_up(self) -> bool:
        """Whether the local host was told an address of the remote by DNS, in the five minutes before."""
        rows = self.hosts.local_flows.rows
        near = (rows["proto"] == UDP) & (rows["end"] >= self.start - 5 * MINUTE) & (rows["start"] <= self.start)
        found = np.zeros(len(rows), np.bool_)
        for them, ours in (("dst", self.hosts.local_is_src), ("src", self.hosts.local_is_dst)):
            told = near & ours & (rows[f"{them}_speech"] & DNS_ANSWER > 0)
            for asked in (np.uint64(marks(address.hi, address.lo)) for address in self.hosts.remote):
                found |= told & (rows[f"{them}_names"] & asked == asked)
        return bool(found.any())

    @cached_property
    def reflectors(self) -> int:
        """The most distinct remotes that sent the local host unsolicited answers within any 60 s around it."""
        rows = self.hosts.local_flows.rows
        near = self.hosts.local_is_dst & _answers_first(rows) & self._near(rows, MINUTE, MINUTE)
        times = rows["start"][near]
        if len(times) < REFLECTORS:
            return 0
        order = np.argsort(times, kind="stable")
        times = times[order]
        _, who = np.unique(rows[near][["src_hi", "src_lo"]], return_inverse=True)
        who = who[order]
        most = 0
        begin = 0
        counts = np.zeros(int(who.max()) + 1, np.int64)
        distinct = 0
        for i, (time, one) in enumerate(zip(times.tolist(), who.tolist(), strict=True)):
            distinct += counts[one] == 0
            counts[one] += 1
            while times[begin] < time - MINUTE:
                counts[who[begin]] -= 1
                distinct -= counts[who[begin]] == 0
                begin += 1
            most = max(most, int(distinct))
            if most >= REFLECTORS and i:
                break
        return most

    @cached_property
    def askers(self) -> int:
        """How many remotes sent the local host SYNs that it did not answer, or refused, within a minute of it."""
        rows = self.hosts.local_flows.rows
        near = self.hosts.local_is_dst & (rows["proto"] == TCP) & (rows["src_has"] & HAS_SYN > 0)
        near &= self._near(rows, MINUTE, MINUTE) & (rows["src_acks"] == 0) & (rows["src_data"] == 0)
        return _distinct(rows[near], "src_hi", "src_lo")

    @cached_property
    def synack_scan(self) -> int | None:
        """The ack that the remote's single SYN+ACKs to many of us have in common, None where they are no scan."""
        rows = self.hosts.remote_flows.rows
        near = self._near(rows, HOUR, HOUR)
        answers = near & ends_at(rows, "src", self.hosts.remote) & (rows["proto"] == TCP) & (rows["src_synacks"] == 1)
        answers &= rows["dst_has"] & HAS_SYN == 0
        single = rows[answers]
        if len(single) < SCANNED:
            return None
        _, by_port = np.unique(single["src_port"], return_counts=True)
        if np.sort(by_port)[-FLOOD_PORTS:].sum() >= FEW_PORTS * len(single):
            return None
        acks, counts = np.unique(single["src_synack_ack"], return_counts=True)
        common = int(acks[np.argmax(counts)])
        if common != 0 and counts.max() < 0.9 * len(single):
            return None
        same = single[single["src_synack_ack"] == common]
        hosts = _distinct(same, "dst_hi", "dst_lo")
        ends = _distinct(same, "dst_hi", "dst_lo", "dst_port")
        return common if hosts >= SCANNED or ends - hosts + 1 >= SCANNED else None

    @cached_property
    def answered_hosts(self) -> tuple[int, int]:
        """How many hosts the remote sent SYN+ACKs that no SYN asked for, within an hour, and from how many ports."""
        rows = self.hosts.remote_flows.rows
        near = self._near(rows, HOUR, HOUR)
        answers = (
            near
            & ends_at(rows, "src", self.hosts.remote)
            & (rows["src_has"] & HAS_SYNACK > 0)
            & (rows["dst_has"] & HAS_SYN == 0)
        )
        these = rows[answers]
        return _distinct(these, "dst_hi", "dst_lo"), _distinct(these, "src_port")

    @cached_property
    def same_pattern(self) -> int:
        """How many conversations the remote answered first, within an hour, that we refused exactly or not at all."""
        rows = self.hosts.remote_flows.rows
        near = self._near(rows, HOUR, HOUR)
        answers = near & ends_at(rows, "src", self.hosts.remote) & (rows["src_has"] & HAS_SYNACK > 0)
        answers &= (rows["dst_packets"] == rows["dst_exact_rsts"]) & (rows["src_data"] == 0)
        return _distinct(rows[answers], "src_port", "dst_hi", "dst_lo", "dst_port")

    def others_seen(self, sensor: str, scope: str, packets: int, span: Window) -> bool:
        """Whether the view holds packets of anybody else: `packets` is how many it holds in the span.

        A capture of nothing but this pair may have been filtered; it cannot vouch for what it does not show.
        """
        pair = self.hosts.between(span)
        rows = pair.rows[_in_view(pair, sensor, scope)]
        return packets > int(rows["src_packets"].sum() + rows["dst_packets"].sum())

    def ever_before(self, proto: int, local_port: int | None, remote_port: int | None) -> bool:
        """Whether the tuple had any flow in the day before the conversation."""
        return any(bool(there.any()) for _, there in self._of_tuple_before(proto, local_port, remote_port))

    def spoke_that_day(self, proto: int, local_port: int | None, remote_port: int | None) -> bool:
        """Whether the local host took part in a conversation on the tuple in the day before: by more than SYN and RST.

        A SYN with another number than the one that is answered proves nothing after so long.
        """
        rows = self.hosts.day.rows
        for us, there in self._of_tuple_before(proto, local_port, remote_port):
            names = ("acks", "data", "fins", "opaque") if proto == TCP else ("packets",)
            spoke = sum(rows[f"{us}_{name}"].astype(np.int64) for name in names)
            if bool((there & (rows["end"] < self.start) & (spoke > 0)).any()):
                return True
        return False

    def _of_tuple_before(
        self, proto: int, local_port: int | None, remote_port: int | None
    ) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """The side of the local host, and a mask of `day`: flows of the tuple that began before the conversation."""
        rows = self.hosts.day.rows
        before = (rows["proto"] == proto) & (rows["start"] < self.start) & (rows["end"] >= self.start - DAY)
        for us, them in (("src", "dst"), ("dst", "src")):
            ours = ends_at(rows, us, self.hosts.local)
            yield us, before & ours & (rows[f"{us}_port"] == local_port) & (rows[f"{them}_port"] == remote_port)


def _in_view(table: FlowTable, sensor: str, scope: str) -> NDArray[np.bool_]:
    """Mask of the rows of one sensor and scope."""
    if sensor not in table.sensors or scope not in table.scopes:
        return np.zeros(len(table), bool)
    mask: NDArray[np.bool_] = (table.rows["sensor"] == table.sensors.index(sensor)) & (
        table.rows["scope"] == table.scopes.index(scope)
    )
    return mask


def _syn_seqs(rows: NDArray[np.void], side: str) -> list[int]:
    """Seqs of the SYNs that a side of the rows sent, the first of each."""
    seqs: list[int] = rows[f"{side}_syn_seq"][(rows["proto"] == TCP) & (rows[f"{side}_has"] & HAS_SYN > 0)].tolist()
    return seqs


def _distinct(rows: NDArray[np.void], *names: str) -> int:
    """How many different values the named fields take together."""
    return len(np.unique(rows[list(names)])) if len(rows) else 0


def _answers_first(rows: NDArray[np.void]) -> NDArray[np.bool_]:
    """Mask of the flows that begin with an answer nobody here asked for."""
    closed = (rows["src_has"] & HAS_RST > 0) & (rows["src_packets"] == rows["src_reset_syns"])
    tcp = (rows["proto"] == TCP) & ((rows["src_has"] & HAS_SYNACK > 0) | closed) & (rows["src_has"] & HAS_SYN == 0)
    tcp &= rows["dst_has"] & HAS_SYN == 0
    udp = (rows["proto"] == UDP) & (rows["src_speech"] & (DNS_ANSWER | NTP_ANSWER) > 0) & (rows["dst_packets"] == 0)
    mask: NDArray[np.bool_] = tcp | udp
    for proto in (ICMP, ICMP6):
        replies = np.isin(rows["icmp_type"], list(ICMP_REPLIES[proto]))
        mask = mask | ((rows["proto"] == proto) & replies & (rows["dst_packets"] == 0))
    return mask
