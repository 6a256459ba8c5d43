"""Floods as one self-contained HTML page, with a timeline of each; nothing is loaded from anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backscatter.flood.floods import BINS
from backscatter.report.floods import flood_facts
from backscatter.report.page import template
from backscatter.report.text import moment_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backscatter.flood.floods import Flood, Floods

#: Floods that are drawn; how many more there were is told.
MOST = 200

#: A timeline's size in its own units; bars stand on the line at HEIGHT.
WIDTH, HEIGHT = 720, 96


@dataclass(frozen=True, slots=True)
class Bar:
    """One stretch of time on a timeline: where it stands, how high it is, and what it says."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A flood with its words and its bars; `most` is the count that the highest bar stands for."""

    flood: Flood
    facts: tuple[tuple[str, str], ...]
    bars: tuple[Bar, ...]
    most: int


def floods_page(found: Floods) -> str:
    """The page, as text to be written in UTF-8."""
    return template("floods.html").render(
        found=found,
        drawn=[_drawn(flood, found) for flood in found.floods[:MOST]],
        left_out=max(len(found.floods) - MOST, 0),
        begin=moment_text(found.first),
        end=moment_text(found.first + BINS * found.bin_size),
        width=WIDTH,
        height=HEIGHT,
    )


def _drawn(flood: Flood, found: Floods) -> Drawn:
    return Drawn(flood, tuple(flood_facts(flood, found)), tuple(_bars(flood, found)), max(flood.bins))


def _bars(flood: Flood, found: Floods) -> Iterator[Bar]:
    step, most = WIDTH / len(flood.bins), max(flood.bins)
    for number, count in enumerate(flood.bins):
        if count:
            height = max(HEIGHT * count / most, 2)
            when = moment_text(found.first + number * found.bin_size)
            yield Bar(step * number, HEIGHT - height, step - 1, height, f"{when}: {count} answers")
