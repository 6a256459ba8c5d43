"""What the captures can vouch for: only where nothing was missed does "we saw no SYN" mean anything.

Coverage is of a *scope*, by every sensor that carried it in the last 24 hours. A sensor covers a scope from the scope's
first packet on, as long as its pieces follow each other without a hole and none of them is damaged there.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from backscatter.flow.census import SLICE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backscatter.flow.census import Census, ScopeCensus
    from backscatter.flow.window import Window

SECOND = 10**9
DAY = 24 * 3600 * SECOND

#: A hole between pieces of one sensor is longer than this, and than ten times the median time between packets.
SHORTEST_HOLE = 2 * SECOND
MEDIANS_IN_A_HOLE = 10

#: Fewer opportunities than this to notice a loss give no estimate of it.
ENOUGH_TO_ESTIMATE = 50

#: With so many and no loss among them, it is 95 % sure that less than one per cent was lost.
ENOUGH_FOR_ONE_PER_CENT = 300


@dataclass(frozen=True, slots=True)
class Span:
    """Unbroken capture by one sensor, ns, both ends included."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Loss:
    """How much of the traffic the capture missed: `rate` from 0 to 1, None where there is too little to tell."""

    opportunities: int
    lost: int
    dropped: int
    packets: int

    @property
    def rate(self) -> float | None:
        """The worse of what the traffic shows and what the sensor says.

        With few opportunities no loss proves nothing, but a loss that was noticed is one all the same: it counts as
        one of so many as make an estimate.
        """
        said = self.dropped / (self.dropped + self.packets) if self.dropped else 0.0
        shown = self.lost / max(self.opportunities, ENOUGH_TO_ESTIMATE)
        if self.opportunities < ENOUGH_TO_ESTIMATE:
            return max(said, shown) or None
        return max(said, shown)

    @property
    def at_most(self) -> float:
        """What the loss hardly exceeds, given what was noticed: the upper end of Wilson's interval, 95 % sure."""
        n, z = max(self.opportunities, ENOUGH_TO_ESTIMATE), 1.645
        share = min(self.lost / n, 1.0)
        middle, reach = share + z * z / (2 * n), z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return (middle + reach) / (1 + z * z / n)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one sensor saw of one scope around a conversation. All times ns.

    sensor, scope  which view
    spans          unbroken capture of the scope, in order
    packets        of the scope in all these spans
    loss           estimate over the pieces around the conversation
    """

    sensor: str
    scope: str
    spans: tuple[Span, ...]
    packets: int
    loss: Loss

    def span_at(self, time: int) -> Span | None:
        """The unbroken span that holds a time."""
        return next((span for span in self.spans if span.start <= time <= span.end), None)

    def lookback(self, time: int) -> int:
        """Length of the unbroken capture before a time; 0 where the time itself is not covered."""
        span = self.span_at(time)
        return time - span.start if span else 0

    def has(self, start: int, end: int) -> bool:
        """Whether one span holds both times and all between."""
        span = self.span_at(start)
        return span is not None and end <= span.end


def coverage_of(censuses: Iterable[Census], scope: str, around: Window) -> tuple[Coverage, ...]:
    """The coverage of a scope by each sensor that carried it in the 24 hours before the end of the window.

    Captures with an implausible clock prove nothing and are left out.
    """
    by_sensor: dict[str, list[Census]] = {}
    for census in censuses:
        if census.clock_ok and census.packets and around.end - DAY <= census.end:
            by_sensor.setdefault(census.sensor, []).append(census)
    found = []
    for sensor, pieces in sorted(by_sensor.items()):
        carried = [census.scopes[scope].first for census in pieces if scope in census.scopes]
        if not carried or min(carried) > around.end:
            continue
        spans = unbroken(sorted(pieces, key=lambda census: (census.start, census.end, census.piece)), min(carried))
        packets = sum(census.scopes[scope].packets for census in pieces if scope in census.scopes)
        found.append(Coverage(sensor, scope, tuple(spans), packets, _loss(pieces, scope, around)))
    return tuple(found)


def share_seen(coverages: Sequence[Coverage], window: Window) -> float:
    """The share (0 to 1) of a window that at least one of the sensors covered. An instant is covered or not."""
    spans = sorted((span.start, span.end) for coverage in coverages for span in coverage.spans)
    if window.end <= window.start:
        near = any(start - SHORTEST_HOLE <= window.start <= end + SHORTEST_HOLE for start, end in spans)
        return 1.0 if near else 0.0
    seen, reached = 0, window.start
    for start, end in spans:
        first, last = max(start, reached), min(end, window.end)
        if last > first:
            seen += last - first
            reached = last
    return seen / (window.end - window.start)


def unbroken(pieces: Sequence[Census], carried: int) -> Iterator[Span]:
    """Unbroken stretches of one sensor's pieces in time order, from the first packet of the scope (ns) on."""
    joined: list[tuple[int, int]] = []
    holes = sorted(hole for piece in pieces for hole in piece.holes)
    for i, piece in enumerate(pieces):
        if i and piece.start - joined[-1][1] <= _hole_between(pieces[i - 1], piece):
            joined[-1] = joined[-1][0], max(joined[-1][1], piece.end)
        else:
            joined.append((piece.start, piece.end))
    for start, end in joined:
        begin = max(start, carried)
        for after, until in holes:
            if begin <= until and after <= end:
                yield Span(min(begin, after), after)  # an instant where it begins with a hole: there was something
                begin = max(begin, until)
        if begin <= end:
            yield Span(begin, end)


def _hole_between(before: Census, after: Census) -> int:
    """The longest silence between two pieces that is no hole: the median is that of the one with more packets."""
    busier = before if before.packets >= after.packets else after
    return max(SHORTEST_HOLE, MEDIANS_IN_A_HOLE * busier.median_gap)


def _loss(pieces: Iterable[Census], scope: str, around: Window) -> Loss:
    """Loss in the window, or over the pieces that reach into it: a burst counts, however long the capture.

    The window alone decides where it shows enough to tell a loss of one per cent; else the worse of both does.
    """
    near: list[Census] = []
    others: list[Census] = []
    for piece in pieces:
        (near if piece.start <= around.end and piece.end >= around.start else others).append(piece)
    of_scope = [piece.scopes[scope] for piece in near if scope in piece.scopes]
    # A flow is counted with the piece that it begins in, which may have ended long before.
    from_others = [piece.scopes[scope] for piece in others if scope in piece.scopes and piece.scopes[scope].slices]
    # A record whose headers could not be read may as well not have been captured: our SYN may be in it.
    dropped = sum((piece.dropped or 0) + piece.undecodable for piece in near)
    packets = sum(piece.packets for piece in near)

    def loss(seen: Iterable[tuple[int, int]]) -> Loss:
        pairs = list(seen)
        return Loss(sum(segments for segments, _ in pairs), sum(lost for _, lost in pairs), dropped, packets)

    whole = loss((census.segments, census.lost) for census in of_scope)
    window = loss(pair for census in (*of_scope, *from_others) for pair in _in_window(census, around))
    if window.opportunities >= ENOUGH_FOR_ONE_PER_CENT:
        return window
    return window if (window.rate or 0.0) > (whole.rate or 0.0) else whole


def _in_window(census: ScopeCensus, around: Window) -> list[tuple[int, int]]:
    """Segments and losses of the slices that reach into a window; of the whole where there are no slices."""
    if not census.slices:
        return [(census.segments, census.lost)]
    return [
        (segments, lost)
        for begin, segments, lost in census.slices
        if begin <= around.end and begin + SLICE >= around.start
    ]
