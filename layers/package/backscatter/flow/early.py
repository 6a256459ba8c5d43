"""Fragments that came before their first one, where a block of the capture ends between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from backscatter.decode.columns import Packets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backscatter.decode.fragments import Fragments

#: How long (ns) a fragment waits for its first one. Hosts send all of a packet's at once, some the last one first; and
#: what is held back comes late by no more than flows allow for.
PATIENCE = 10**9

_NONE = Packets.empty(0)


class Early:
    """Holds fragments back until their first one was decoded, or packets are PATIENCE later."""

    def __init__(self, fragments: Fragments) -> None:
        self._fragments = fragments
        self._held = Packets.empty(0)

    def __len__(self) -> int:
        return len(self._held)

    def through(self, packets: Packets) -> Packets:
        """The packets of the block that was just decoded, without those that wait, and with those that did."""
        return self.past(int(packets["time"].max()), packets) if len(packets) else packets

    def past(self, latest: int, packets: Packets = _NONE) -> Packets:
        """Those that waited and do no longer, since packets have come to a time (ns)."""
        held = self._told()
        stay, wait = self._fragments.hold(latest - PATIENCE)
        if not wait and not len(held):
            return packets
        self._held = Packets.joined([held.only(np.array(stay, np.int64)), packets.only(np.array(wait, np.int64))])
        return Packets.joined([_without(held, stay), _without(packets, wait)])

    def rest(self) -> Packets:
        """Those that are held, of which none is then."""
        held, self._held = self._told(), Packets.empty(0)
        return held

    def _told(self) -> Packets:
        """Those that are held, with what their first ones told since."""
        if len(self._held):
            for number, columns in self._fragments.answered():
                for name, value in columns.items():
                    self._held.columns[name][number] = value
        return self._held


def _without(packets: Packets, some: Sequence[int]) -> Packets:
    others = np.ones(len(packets), np.bool_)
    others[list(some)] = False
    return packets.only(np.flatnonzero(others))
