"""What has to be known of a capture to read one of its records by its offset alone."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

#: Times beyond this cannot be told in 64 bits of nanoseconds (the years 1677 and 2262): they are clamped.
LAST_TIME = 2**63 - 1
NANO = 10**9


@dataclass(frozen=True, slots=True)
class Interface:
    """A pcapng interface: its LINKTYPE_ number, clock ticks a second, seconds to add, and snap length (0: none)."""

    linktype: int
    ticks: int = 10**6
    offset: int = 0
    snaplen: int = 0

    def time(self, stamp: int) -> int:
        """Nanoseconds since 1970 of a time stamp in ticks, rounded down, clamped to what 64 bits hold."""
        time = stamp * NANO // self.ticks + self.offset * NANO
        return max(-LAST_TIME, min(LAST_TIME, time))


@dataclass(frozen=True, slots=True)
class Section:
    """From byte `start` of the expanded stream on: records of this byte order ("<" or ">") and these interfaces."""

    start: int
    order: str
    interfaces: tuple[Interface, ...]


@dataclass(slots=True)
class Layout:
    """How the records of one capture lie in its expanded stream.

    container    "pcap" or "pcapng"
    compression  "" or the name of the expander in capture.expand
    header       bytes of a pcap record header: 16, or 24 in the modified format
    swapped      pcap before version 2.4 may have its two lengths the other way round
    sections     pcap has one, with one interface; pcapng has one for every change of order or interfaces
    """

    container: str
    compression: str = ""
    header: int = 16
    swapped: bool = False
    sections: list[Section] = field(default_factory=list)

    def section(self, offset: int) -> Section | None:
        """The section that the record at `offset` lies in; None before the first."""
        index = bisect_right(self.sections, offset, key=lambda section: section.start) - 1
        return self.sections[index] if index >= 0 else None

    def add(self, section: Section) -> bool:
        """Adds a section unless it only repeats the one before; whether it was added."""
        last = self.sections[-1] if self.sections else None
        if last and (last.order, last.interfaces) == (section.order, section.interfaces):
            return False
        self.sections.append(section)
        return True

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: interfaces once each in a list, sections naming them by number, so that it stays small."""
        interfaces = list(dict.fromkeys(interface for section in self.sections for interface in section.interfaces))
        number = {interface: index for index, interface in enumerate(interfaces)}
        return {
            "container": self.container,
            "compression": self.compression,
            "header": self.header,
            "swapped": self.swapped,
            # 10**127 ticks a second are legal in pcapng, JSON readers of others end at 2**53: hence text
            "interfaces": [[i.linktype, str(i.ticks), str(i.offset), i.snaplen] for i in interfaces],
            "sections": [[s.start, s.order, [number[i] for i in s.interfaces]] for s in self.sections],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Layout:
        """The layout that `to_json` wrote. Raises KeyError, TypeError or ValueError on anything else."""
        interfaces = [
            Interface(int(linktype), int(ticks), int(offset), int(snaplen))
            for linktype, ticks, offset, snaplen in data["interfaces"]
        ]
        sections = [
            Section(int(start), str(order), tuple(interfaces[int(number)] for number in numbers))
            for start, order, numbers in data["sections"]
        ]
        return cls(data["container"], data["compression"], int(data["header"]), bool(data["swapped"]), sections)
