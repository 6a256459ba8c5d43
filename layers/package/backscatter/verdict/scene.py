"""What a judge looks at: the flows around a finding, and what the captures can vouch for. Pure data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backscatter.flow.address import Address
    from backscatter.flow.census import Census
    from backscatter.flow.table import FlowTable
    from backscatter.flow.window import Window


class Scene(Protocol):
    """Where a judge finds flows. The laptop holds them in memory; in the cloud they are read from segments.

    Flows of different sensors are different rows (views) that are never summed. A row is returned when it overlaps
    the window, whole. Rows that time-outs or rotation cut apart come as they are: the judge joins them.
    """

    def flows_of(self, hosts: Iterable[Address], window: Window) -> FlowTable:
        """Every flow in the window that has one of the hosts at either end, or that quotes a packet sent by one."""
        ...

    def flows_between(self, ones: Iterable[Address], others: Iterable[Address], window: Window) -> FlowTable:
        """Every flow in the window between one of `ones` and one of `others`, and errors that quote such a packet."""
        ...

    def censuses(self, window: Window) -> list[Census]:
        """The captures that overlap the window or the 24 hours before its end, of every sensor.

        Also of those that fell silent before the window: a judge must know that they carried the scope.
        """
        ...
