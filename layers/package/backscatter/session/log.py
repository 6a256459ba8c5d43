"""The session records at hand: those of the pairs of hosts that findings name, and how far they reach for each host."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from backscatter.session.model import Gap

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backscatter.flow.address import Address
    from backscatter.flow.window import Window
    from backscatter.session.model import Session

#: How finely it is kept where a host's records are, in ns; records of VPC Flow Logs are sums over 1 to 10 minutes.
STEP = 5 * 60 * 10**9

#: Records of one pair that are kept; of the rest it is known how many there were.
MOST = 10_000
#: Stretches of skipped records that are kept; with more of them a log vouches for nothing.
MOST_GAPS = 10_000
#: Steps that a record covers; no source keeps one open that long.
_MOST_STEPS = 300


class Sessions:
    """Records by pair of hosts.

    pairs  the pairs that matter, in either order; records of others only tell where their hosts are seen
    """

    def __init__(self, pairs: Iterable[frozenset[Address]]) -> None:
        self._pairs: dict[frozenset[Address], list[Session]] = {pair: [] for pair in pairs}
        self._left_out: dict[frozenset[Address], int] = defaultdict(int)
        self._hosts = {host for pair in self._pairs for host in pair}
        self._sending: dict[Address, set[int]] = defaultdict(set)
        self._seen: dict[Address, set[int]] = defaultdict(set)
        self.gaps: list[Gap] = []
        self.count = 0
        self.first: int | None = None
        self.last: int | None = None

    @property
    def hosts(self) -> frozenset[bytes]:
        """The hosts that records are wanted of, as text in bytes."""
        return frozenset(str(host).encode() for host in self._hosts)

    def add(self, record: Session | Gap) -> None:
        """Take a record."""
        if isinstance(record, Gap):
            if len(self.gaps) <= MOST_GAPS:
                self.gaps.append(record)
            return
        self.count += 1
        self.first = record.start if self.first is None else min(self.first, record.start)
        self.last = record.end if self.last is None else max(self.last, record.end)
        named = {(record.src, record.dst), record.others or (record.src, record.dst)}
        begin = record.start // STEP
        steps = range(begin, min(record.end // STEP, begin + _MOST_STEPS) + 1)
        for src, dst in named:
            if record.action != "REJECT":
                for host, sent in ((src, record.forth), (dst, record.back)):
                    if host in self._hosts and sent is not None and sent.packets:
                        self._sending[host].update(steps)
            for host in (src, dst):
                if host in self._hosts:
                    self._seen[host].update(steps)
            pair = frozenset((src, dst))
            if pair in self._pairs:
                if len(self._pairs[pair]) < MOST:
                    self._pairs[pair].append(record)
                else:
                    self._left_out[pair] += 1

    def between(self, ones: Iterable[Address], others: Iterable[Address], window: Window) -> tuple[list[Session], int]:
        """Records in the window between one of `ones` and one of `others`; how many more there were, at any time."""
        others = list(others)
        found: dict[str, Session] = {}
        more = 0
        for one in ones:
            for other in others:
                pair = frozenset((one, other))
                more += self._left_out.get(pair, 0)
                for record in self._pairs.get(pair, ()):
                    if record.start <= window.end and record.end >= window.start:
                        found[record.place] = record
        return sorted(found.values(), key=lambda record: (record.start, record.end, record.place)), more

    def sends(self, hosts: Iterable[Address], window: Window) -> bool:
        """Whether anything that one of the hosts sent, and nobody rejected, was recorded in the window."""
        return any(not self._sending.get(host, _NONE).isdisjoint(_steps(window)) for host in hosts)

    def covers(self, hosts: Iterable[Address], window: Window, before: int) -> bool:
        """Whether records of one of the hosts stand in the window and before a time, and no log skipped any in it."""
        skipped = any(gap.start <= window.end and gap.end >= window.start for gap in self.gaps)
        if skipped or len(self.gaps) > MOST_GAPS:
            return False
        steps = range(window.start // STEP, before // STEP)  # the step of the time itself may be of what comes after it
        return any(not self._seen.get(host, _NONE).isdisjoint(steps) for host in hosts)


_NONE: frozenset[int] = frozenset()


def _steps(window: Window) -> range:
    return range(window.start // STEP, window.end // STEP + 1)
