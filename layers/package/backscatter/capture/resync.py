"""Finding the way back into a damaged capture, by chains of headers that nothing but records would make.

A pcap record says only how long it is. Bytes that were lost, added or changed show when the next header cannot be one,
or tells of a time far from all others; then the record before is in doubt as well, since the damage may lie in it.
Reading goes on at the first place where several plausible headers follow each other, and only what lies between is
lost. A pcapng block repeats its length at its end, so that it vouches for itself, and the damage is where that fails.

Nothing here looks at a byte more often than a few times, whatever a capture holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from backscatter.capture.layout import NANO
from backscatter.capture.pcapng import BYTE_ORDER_MAGIC, FRAME, PACKET, SECTION

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from backscatter.capture.records import Buffer, Walk

    Places = NDArray[np.int64]
    Mask = NDArray[np.bool_]

#: Plausible headers that make a chain.
CHAIN = 3

#: How far apart (s) the times of neighbouring records are believed to be without more proof; and how far a time may go
#: back in what is found behind damage: a header of which one byte is another's may be off by minutes.
FAR, BACK = 86400, 5

#: No packet is as long on the wire as this, whatever was captured of it.
LONGEST_WIRE = 2**24

#: Bytes looked at together, at first and at most.
FIRST_WINDOW, LAST_WINDOW = 512, 2**20

#: What the reasons of damage begin with that ends the stream.
CUT_SHORT = "cut short: "

#: pcapng blocks that are searched for: of interfaces, packets, names, statistics, secrets, and custom ones. Section
#: headers are too, in both byte orders.
KINDS = (1, 2, 3, 4, 5, 6, 9, 10, 0xBAD, 0x40000BAD)


def search(start: int, end: int, candidates: Callable[[int, int], Places], chains: Callable[[Places], Mask]) -> int:
    """The first place from `start` on, before `end`, that both `candidates` and `chains` accept; -1 for none."""
    size = FIRST_WINDOW
    while start < end:
        stop = min(end, start + size)
        places = candidates(start, stop)
        found = np.flatnonzero(chains(places)) if len(places) else places
        if len(found):
            return int(places[found[0]])
        start, size = stop, min(2 * size, LAST_WINDOW)
    return -1


def _number(data: Buffer, order: str, offset: int) -> NDArray[np.uint32]:
    """The 32-bit number `offset` bytes behind each place of a buffer, as far as there is one."""
    count = len(data) - offset - 3
    # NumPy refuses a view of nothing that begins behind the buffer
    return np.ndarray((count,), order + "u4", data, offset, (1,)) if count > 0 else np.zeros(0, order + "u4")


@dataclass(frozen=True, slots=True)
class Headers:
    """The pcap record headers that might begin at any place of a buffer.

    order    byte order, "<" or ">"
    size     bytes of a header
    ticks    a second
    longest  captured bytes that one record may have
    swapped  the two lengths may have changed places
    ended    whether the stream ends with `data`
    """

    data: Buffer
    order: str
    size: int
    ticks: int
    longest: int
    swapped: bool
    ended: bool

    @property
    def reach(self) -> int:
        """Bytes behind a place within which a chain that begins there is decided."""
        return (CHAIN + 1) * (self.size + self.longest)

    @property
    def window(self) -> int:
        """Bytes that are searched together: no record is longer."""
        return self.size + self.longest

    def field(self, places: Places, number: int) -> Places:
        """The 32-bit field `number` of the headers at `places`, all of which have to lie in the buffer."""
        return _number(self.data, self.order, number * 4)[places].astype(np.int64)

    def lengths(self, places: Places) -> tuple[Places, Places]:
        """Captured bytes, and bytes on the wire, that the headers claim."""
        caplen, wirelen = self.field(places, 2), self.field(places, 3)
        return (np.minimum(caplen, wirelen), np.maximum(caplen, wirelen)) if self.swapped else (caplen, wirelen)

    def plausible(self, places: Places, seconds: Places | int | None, back: int) -> Mask:
        """Which headers at `places` could be some, with times near `seconds` (each its own, all one, or any).

        They may be `back` seconds before it.
        """
        mask: Mask = places + self.size <= len(self.data)
        which = np.flatnonzero(mask)
        places = places[which]
        caplen, wirelen = self.lengths(places)
        time = self.field(places, 0)
        near = seconds[which] if isinstance(seconds, np.ndarray) else seconds
        mask[which] = (
            (self.field(places, 1) < self.ticks)
            & (caplen > 0)
            & (caplen <= np.minimum(wirelen, self.longest))
            & (wirelen < LONGEST_WIRE)
            & ((time > 0) if near is None else ((near - back <= time) & (time <= near + FAR)))
        )
        return mask

    def chains(self, places: Places, seconds: int | None, back: int = FAR) -> Mask:
        """At which of `places` a chain of plausible headers begins, the first of them near `seconds` if given.

        Fewer than CHAIN are enough where they end with the stream; one alone only if its time is near.
        """
        mask = self.plausible(places, seconds, back)
        left = np.flatnonzero(mask)
        at = places[left]
        for before in range(CHAIN - 1):
            time = self.field(at, 0)
            at = at + self.size + self.lengths(at)[0]
            going = self.plausible(at, time, back)
            arrived = (at == len(self.data)) & (self.ended and (before > 0 or seconds is not None))
            mask[left[~going & ~arrived]] = False
            left, at = left[going], at[going]
        return mask

    def find(self, start: int, stop: int, seconds: int | None) -> int:
        """Where from `start` on, before `stop`, records begin again; -1 for nowhere.

        If there are any with times near `seconds`, it is the first of these. It does not depend on how much is held of
        the stream, if that is a reach behind `stop` or all.
        """
        end = min(stop, len(self.data) - self.size + 1)

        def near(start: int, stop: int) -> Places:
            time = _number(self.data, self.order, 0)[start:stop]
            low, high = max(0, (seconds or 0) - BACK), min(2**32 - 1, (seconds or 0) + FAR)
            return start + np.flatnonzero((time >= low) & (time <= high))

        def small(start: int, stop: int) -> Places:
            fraction, length = (_number(self.data, self.order, at)[start:stop] for at in (4, 8))
            return start + np.flatnonzero((fraction < self.ticks) & (length <= LONGEST_WIRE) & (length > 0))

        found = -1
        if seconds is not None:
            found = search(start, end, near, lambda places: self.chains(places, seconds, BACK))
        return search(start, end, small, lambda places: self.chains(places, None)) if found < 0 else found


class Blocks(NamedTuple):
    """The pcapng blocks that might begin at any place of a buffer.

    order       byte order of the section, "<" or ">"
    interfaces  how many it describes
    longest     bytes that one block may have
    ended       whether the stream ends with `data`
    """

    data: Buffer
    order: str
    interfaces: int
    longest: int
    ended: bool

    @property
    def reach(self) -> int:
        """Bytes behind a place within which a chain that begins there is decided."""
        return 2 * self.longest

    @property
    def window(self) -> int:
        """Bytes that are searched together."""
        return self.longest

    def _whole(self, places: Places, order: str) -> tuple[Mask, Places]:
        """Which blocks are as long as they say twice, and how long that is."""
        mask: Mask = places + FRAME <= len(self.data)
        lengths = np.zeros(len(places), np.int64)
        which = np.flatnonzero(mask)
        length = _number(self.data, order, 4)[places[which]].astype(np.int64)
        mask[which] = (length >= FRAME) & (length % 4 == 0) & (length <= self.longest)
        mask[which] &= places[which] + length <= len(self.data)
        which, length = which[mask[which]], length[mask[which]]
        mask[which] = _number(self.data, order, 0)[places[which] + length - 4] == length
        lengths[which] = length
        return mask, lengths

    def plausible(self, places: Places) -> tuple[Mask, Places]:
        """Which blocks could be some, and how long they are."""
        mask, lengths = self._whole(places, self.order)
        which = np.flatnonzero(mask)
        at = places[which]
        kinds = _number(self.data, self.order, 0)[at]
        mask[which] = np.isin(kinds, KINDS)
        packets = which[(kinds == PACKET) & (lengths[which] >= 32)]
        at = places[packets]
        number, caplen = (_number(self.data, self.order, field)[at].astype(np.int64) for field in (8, 20))
        mask[packets] = (number < self.interfaces) & (caplen <= lengths[packets] - 32)
        return mask, lengths

    def sections(self, places: Places) -> Mask:
        """Where a section of either byte order begins: its magic makes it certain without another block."""
        found = np.zeros(len(places), np.bool_)
        for order in "<>":
            mask, _ = self._whole(places, order)
            which = np.flatnonzero(mask)
            at = places[which]
            is_section = _number(self.data, order, 0)[at] == SECTION
            which, at = which[is_section], at[is_section]
            inside = at + 12 <= len(self.data)
            found[which[inside]] = _number(self.data, order, 8)[at[inside]] == BYTE_ORDER_MAGIC
        return found

    def chains(self, places: Places) -> Mask:
        """At which of `places` a section begins, or a block that another follows, or the end."""
        mask, lengths = self.plausible(places)
        which = np.flatnonzero(mask)
        at = places[which] + lengths[which]
        mask[which] = self.plausible(at)[0] | self.sections(at) | ((at == len(self.data)) & self.ended)
        return mask | self.sections(places)

    def find(self, start: int, stop: int, _seconds: int | None) -> int:
        """Where from `start` on, before `stop`, blocks begin again; -1 for nowhere."""

        def known(start: int, stop: int) -> Places:
            kinds = _number(self.data, self.order, 0)[start:stop]
            mask = kinds == SECTION
            for kind in KINDS:
                mask |= kinds == kind
            return start + np.flatnonzero(mask)

        return search(start, min(stop, len(self.data) - FRAME + 1), known, self.chains)


def cut_short(walk: Walk, size: int) -> str:
    """What is wrong where a walk over the last `size` bytes of a stream did not end with them."""
    return f"{CUT_SHORT}the last record needs {walk.wants} bytes or more, {size - walk.at} are there"


class Inspection:
    """The inspection of what one walk over a buffer found: which records to keep, and where the walk went astray.

    `short` if the next walk may be a longer one, so that what this one does not tell can wait.
    """

    def __init__(self, walk: Walk, headers: Headers, last: int | None, *, short: bool = False) -> None:
        self._walk = walk
        self._short = short
        self._headers = headers
        self._last = last
        block = walk.told(headers.data)
        assert block is not None, "there is nothing to inspect"
        self._block = block
        self._places = block.body - headers.size
        self._odd = self._far = self._swallows = np.zeros(0, np.bool_)
        self._suspects = [] if self._is_ordinary() else self._suspicious()

    def _is_ordinary(self) -> bool:
        """Whether no record is suspicious, as a glance at all of them together tells: nearly always."""
        fields, time = self._walk.fields, self._block.time
        if fields is None or fields[1].max() >= 2 * self._headers.ticks:
            return False
        last = time[0] if self._last is None else self._last
        near = max(last, time.max()) - min(last, time.min()) <= FAR * NANO
        return bool(near and (fields[2] <= fields[3]).all())

    def _suspicious(self) -> list[int]:
        """The records whose headers have to be looked at closely."""
        time, headers, last = self._block.time, self._headers, self._last
        # some writers let the fraction run over by a second
        self._odd = headers.field(self._places, 1) >= 2 * headers.ticks
        before = np.concatenate([time[:1] if last is None else [last], time[:-1]])
        self._far = np.abs(time - before) > FAR * NANO
        self._swallows = self._swallowing()
        suspects: list[int] = np.flatnonzero(self._odd | self._far | self._swallows).tolist()
        return suspects

    def _swallowing(self) -> Mask:
        """Records that claim more bytes than were on the wire, where others follow behind those that were."""
        headers, places = self._headers, self._places
        swallows = np.zeros(len(places), np.bool_)
        if headers.swapped:
            return swallows
        caplen, wirelen = headers.lengths(places)
        longer = np.flatnonzero(caplen > wirelen)
        behind = places[longer] + headers.size + wirelen[longer]
        swallows[longer] = headers.plausible(behind, self._block.time[longer] // NANO, BACK)
        some = np.flatnonzero(swallows)
        swallows[some] = headers.chains(places[some] + headers.size + wirelen[some], None)
        return swallows

    def mended(self) -> Walk:
        """The walk with only what can be believed; where it lied, `found` and `held` are told."""
        walk, count, resume = self._walk, len(self._block), 0
        more = not walk.lie and not walk.wants  # it found as many as it was to find: more records follow
        outliers: list[int] = []
        for index in self._suspects:
            if self._swallows[index] and index >= resume:
                walk.lie, walk.at, count = "a record claims bytes of the next ones", int(self._places[index]), index
                break
            if index < resume or (index == 0 and self._last is None):
                continue
            if more and self._short and index >= count - 2:
                return self._wait(index, outliers, longer=True)  # until the next ones are known
            if self._is_outlier(index):
                # a header torn in two reads as a record without bytes, and one without a time
                torn = index > resume and self._block.caplen[index - 1] == 0
                outliers += [index - 1, index] if torn else [index]
                resume = index + 2
            elif not self._goes_on(index):
                if self._undecided(index):
                    return self._wait(index, outliers)
                found = self._find(index)
                if found < 0:
                    break  # there is no better reading
                if more and self._short and found >= self._places[-1]:
                    return self._wait(index, outliers, longer=True)  # until it is known what leads there
                if self._leads_to(index, found):
                    resume = int(np.searchsorted(self._places, found)) + 1
                    continue
                walk.lie, walk.at, count = "a record's header cannot be one", int(self._places[index]), index
                break
        if not walk.lie and not more and self._headers.ended and walk.at < len(self._headers.data):
            walk.lie = cut_short(walk, len(self._headers.data))
        if walk.lie:
            if self._undecided(count):
                return self._wait(count, outliers)
            walk.found = self._find(count)
            if count and not (self._is_remnant(count) and not 0 <= walk.found < walk.at):
                count -= 1
                walk.held = self._block.part(slice(count, count + 1))
        elif more or not self._headers.ended:
            return self._wait(count, outliers)
        return self._keep(count, outliers)

    def _before(self, index: int) -> int | None:
        return int(self._block.time[index - 1]) if index else self._last

    def _is_outlier(self, index: int) -> bool:
        """Whether the record's time alone is off: its lengths fit, and the next one is near that before it again."""
        before, time = self._before(index), self._block.time
        if before is None or index + 1 == len(time) or self._odd[index + 1]:
            return False
        (caplen,), (wirelen,) = self._headers.lengths(self._places[index : index + 1])
        if not 0 < caplen <= wirelen < LONGEST_WIRE or (self._odd[index] and self._far[index]):
            return False
        return abs(int(time[index + 1]) - before) <= FAR * NANO

    def _goes_on(self, index: int) -> bool:
        """Whether a chain begins at the record, as where a capture of another day follows, or it is the very last."""
        places = self._places[index : index + 1]
        is_last = index == len(self._block) - 1 and self._headers.ended and self._walk.at == len(self._headers.data)
        return is_last or bool(self._headers.chains(places, None)[0])

    def _leads_to(self, index: int, found: int) -> bool:
        """Whether the walk came from the record to `found` as well: then only times are odd, and lengths are right."""
        arrived = int(np.searchsorted(self._places, found))
        if found < self._places[index] or arrived == len(self._places) or self._places[arrived] != found:
            return False
        return bool(self._headers.plausible(self._places[index:arrived], None, FAR).all())

    def _behind(self, index: int) -> int:
        """How far behind record `index` it is looked for another reading: a record that begins there is not its own."""
        at = int(self._places[index]) if index < len(self._places) else self._walk.at
        return at + 1 + self._headers.window

    def _undecided(self, index: int) -> bool:
        """Whether more bytes are needed to tell what the record `index`, or the one before it, is."""
        headers = self._headers
        return not headers.ended and self._behind(index) + headers.reach > len(headers.data)

    def _find(self, index: int) -> int:
        """Where records begin again not far behind the header of record `index`, which is none; -1 for nowhere.

        The record before it may have swallowed some, and its time may be as wrong as its length then: the time before
        that is the earliest that they may have. No earlier one: a packet may hold a capture of that day.
        """
        start = int(self._places[index - 1]) if index else self._walk.at
        before = self._before(index)
        earlier = self._before(index - 1) if index else None
        if before is not None and earlier is not None and before - FAR * NANO <= earlier < before:
            before = earlier
        return self._headers.find(start + 1, self._behind(index), None if before is None else before // NANO)

    def _is_remnant(self, index: int) -> bool:
        """Whether the header of record `index`, which cannot be one, has been one: then that before it is whole."""
        headers, place, before = self._headers, np.array([self._walk.at]), self._before(index)
        if self._walk.at + headers.size > len(headers.data):
            return True  # the stream ends in it
        if before is None or (index and headers.lengths(self._places[index - 1 : index])[1][0] >= LONGEST_WIRE):
            return False  # or the damage lies in the header of that before it
        seconds, fraction = (int(headers.field(place, number)[0]) for number in (0, 1))
        leads = self._walk.at + headers.size + int(headers.lengths(place)[0][0]) == self._walk.found
        if leads and headers.plausible(place, None, FAR)[0]:
            return True
        return abs(seconds - before // NANO) <= FAR and fraction < headers.ticks

    def _wait(self, count: int, outliers: list[int], *, longer: bool = False) -> Walk:
        """Holds back the last of `count` records until more was read: only then is it known to be whole.

        Or until what is there was walked, if that takes but a longer walk.
        """
        walk, count = self._walk, max(0, count - 1)
        walk.lie, walk.found = "", -1
        full = not walk.wants and count > 0
        walk.at = int(self._places[count])
        walk.wants = 0 if full or longer else 2 * self._headers.reach
        return self._keep(count, outliers)

    def _keep(self, count: int, outliers: list[int]) -> Walk:
        """The walk with the first `count` records but for the outliers."""
        walk, outliers = self._walk, [index for index in outliers if index < count]
        for index in outliers:
            length = self._headers.size + int(self._block.caplen[index])
            walk.skipped.append((int(self._places[index]), length, "a record's time cannot be right"))
        kept = np.delete(np.arange(count), outliers) if outliers else slice(count)
        walk.records, walk.block = [], self._block.part(kept) if count > len(outliers) else None
        return walk
