"""Fragments: ports stand in the first one only, so it is remembered for those that follow, and they wait for it.

First fragments are remembered across blocks. A later one that came before its first is put right if both are in one
block; of blocks before, the columns were handed out: who holds some of them back (`Early`) is told what they are now.
Overlapping fragments are told as they came; hosts disagree on what they mean, and nobody but an attacker sends them.
"""

from __future__ import annotations

from collections import OrderedDict
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from backscatter.decode.columns import FRAGMENT, HAS_PORTS, ONE_WAY
from backscatter.decode.transport import later_fragment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from backscatter.decode.ip import Ip
    from backscatter.decode.transport import Row

#: First fragments remembered, and for how long (ns): hosts wait no longer either (RFC 8200).
MOST_FIRSTS = 16384
LIFETIME = 60 * 10**9

#: Fragments of one block that wait for their first, and those that are held back.
MOST_WAITING = 16384

#: Columns that later fragments have from the first, beside traits and protocol.
TOLD: tuple[str, ...] = ("src_port", "dst_port", "icmp_type", "icmp_code")

Key = tuple[str, int, int, int, int]


class _Waiting(NamedTuple):
    packet: int
    ip: Ip
    time: int


def _key(scope: str, ip: Ip) -> Key:
    # in IPv6 the fragment header names what follows it, which is the payload's protocol only by chance
    return scope, ip.src, ip.dst, ip.ident, ip.proto if ip.version == 4 else -1


def _columns(ip: Ip, told: Row) -> Row:
    """The columns of a later fragment of a packet whose first fragment was read as `told`."""
    traits = told.get("traits", 0) | FRAGMENT
    proto = told.get("proto", ip.proto)
    return told | {"traits": traits, "proto": proto} | later_fragment(ip, proto, traits)


class Fragments:
    """First fragments seen lately, by scope, addresses, identification and (IPv4) protocol, and who waits for one.

    missed  later fragments whose first had not been seen: time by key; `missed_more` if there were too many to tell
    """

    def __init__(self) -> None:
        self.missed: dict[Key, int] = {}
        self.missed_more = False
        self._firsts: OrderedDict[Key, tuple[int, Row]] = OrderedDict()
        self._waiting: dict[Key, list[_Waiting]] = {}
        self._count = 0
        self._late: list[tuple[int, Row]] = []
        self._left: dict[Key, list[_Waiting]] = {}  # those that waited in vain in the block before
        self._held: dict[Key, list[_Waiting]] = {}  # and those of them that somebody holds back
        self._answered: list[tuple[int, Row]] = []

    def remembered(self) -> list[list[Any]]:
        """The first fragments, the oldest first, as plain JSON."""
        return [[list(key), time, told] for key, (time, told) in self._firsts.items()]

    def remember(self, firsts: Iterable[Sequence[Any]]) -> None:
        """First fragments that another decoder saw before, as `remembered` told them."""
        for (scope, src, dst, ident, proto), time, told in firsts:
            key = str(scope), int(src), int(dst), int(ident), int(proto)
            self._know(key, int(time), {str(name): int(value) for name, value in told.items()})

    def know(self, missed: Mapping[Key, int]) -> bool:
        """Whether any later fragment that another decoder missed the first of may have it here.

        Of each key only one time is told, and another of the same may be nearer: so times are not asked.
        """
        return any(key in self._firsts for key in missed)

    def first(self, scope: str, ip: Ip, row: Row, time: int) -> None:
        """Remembers what the first fragment told, also for those of its block that came before it."""
        told: Row = {name: row[name] for name in TOLD if name in row}
        told["traits"] = row.get("traits", 0) & (HAS_PORTS | ONE_WAY)
        told["proto"] = ip.proto
        self._know(_key(scope, ip), time, told)

    def _know(self, key: Key, time: int, told: Row) -> None:
        self._firsts[key] = (time, told)
        self._firsts.move_to_end(key)
        if len(self._firsts) > MOST_FIRSTS:
            self._firsts.popitem(last=False)
        for waiting, answered in ((self._waiting, self._late), (self._held, self._answered)):
            for early in waiting.pop(key, ()):
                if abs(time - early.time) <= LIFETIME:
                    answered.append((early.packet, _columns(early.ip, told)))

    def later(self, scope: str, ip: Ip, time: int, index: int) -> Row:
        """The columns of a later fragment, the packet `index` of its block; without ports if its first was not seen."""
        key = _key(scope, ip)
        seen, told = self._firsts.get(key, (0, None))
        if told is not None and abs(time - seen) <= LIFETIME:
            return _columns(ip, told)
        if len(self.missed) < MOST_WAITING:
            self.missed.setdefault(key, time)
        else:
            self.missed_more = True
        if self._count < MOST_WAITING:
            self._count += 1
            self._waiting.setdefault(key, []).append(_Waiting(index, ip, time))
        return _columns(ip, {})

    def late(self) -> list[tuple[int, Row]]:
        """(index, columns) of the block's fragments whose first came behind them. Ends the block."""
        late, self._left = self._late, self._waiting
        self._late, self._waiting, self._count = [], {}, 0
        return late

    def hold(self, since: int) -> tuple[list[int], list[int]]:
        """Who waits on for its first one, now that a block has ended: those that are not earlier than `since` (ns).

        Returns:
            of those that were held before, the numbers of those that stay; and indices in the block of those that are
            new. From now on they go by their number in both lists together. The others are not waited for any more.
        """
        stay, new = (
            sorted(
                ((early.packet, key, early) for key, some in waiting.items() for early in some if early.time >= since),
                key=itemgetter(0),
            )
            for waiting in (self._held, self._left)
        )
        new = new[-MOST_WAITING:]
        stay = stay[len(stay) + len(new) - MOST_WAITING :] if len(stay) + len(new) > MOST_WAITING else stay
        self._held, self._left, self._answered = {}, {}, []
        for number, (_, key, early) in enumerate((*stay, *new)):
            self._held.setdefault(key, []).append(early._replace(packet=number))
        return [number for number, *_ in stay], [index for index, *_ in new]

    def answered(self) -> list[tuple[int, Row]]:
        """(number, columns) of the fragments held whose first was seen since."""
        return self._answered
