"""Judges random labelled scenarios and writes docs/accuracy.md: truth against verdict, confidence against correctness.

Usage: accuracy.py [COUNT [SEED]]: COUNT scenarios without loss of packets and COUNT with up to 30 % of it (20,000 each
unless said), on all processors. The page is written by the whole run only; a shorter one is printed. Exits 1 where the
judge did not hold: something genuine called backscatter without loss, or confirmed with it, or in more than 0.5 % of
the scenarios with it, or covered backscatter missed too often.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.verdict.scenarios.story import KINDS, Truth
from tests.verdict.scenarios.trial import Outcome, Trial, small_blocks, trials

from backscatter.cli.terminal import Meter
from backscatter.verdict.model import Label, band

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "accuracy.md"
WHOLE = 20_000

#: Covered backscatter must be recognised in this share of its scenarios.
RECOGNISED = 0.99

#: With loss, genuine connections may be called backscatter in this share of all scenarios, and never confirmed.
MISTAKEN = 0.005

#: Scenarios that one process judges at a time.
_PORTION = 100

GENUINE = (Truth.OURS, Truth.THEIRS)
BANDS = ("confirmed", "probable", "possible", "none")
LOSSES = ((0.0, 0.01), (0.01, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 0.3))

HEAD = """# How often the judge is right

Made by `make accuracy` from random scenarios; do not edit it here. A scenario is a story of known truth
(`tests/verdict/scenarios`, {kinds} kinds), told into a capture under drawn conditions: encapsulation, IP version,
rotation, snap length, reordering, sensors and their clocks, other traffic, an alert clock that is up to 20 s off. The
alert about it is written as one of its sources writes it and read back. Seeds {first} to {last}; a seed always makes
the same scenario.

*Ours*: our host opened it, asked, scanned, or takes part. *Theirs*: they did. *Open*: what was captured allows several
readings. *Covered*: other traffic shows both directions of our host to every sensor that carries it, nothing is lost,
cut or shuffled by seconds, so silence means something.

| promise | held by |
|---|---|
"""

TAIL = """
Known limits, which no capture can show: a half-open scan of our own whose SYN left by a way that is not captured, while
other traffic of that host is captured both ways, looks like R6; a capture filtered for SYN+ACK and RST hides every SYN
(below *confirmed*); who owns the remote may send words to our host in the numbers of SYN+ACKs, which is as one-sided as
a flood's echo: our host answers with the RSTs of any flood.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What of a trial goes into the tables."""

    kind: str
    truth: Truth
    seed: int
    label: Label
    rule: str
    confidence: int
    outcome: Outcome
    covered: bool
    loss: float
    alert: str
    encapsulation: str
    sensors: str

    @classmethod
    def of(cls, one: Trial) -> Result:
        """The result of a trial."""
        verdict, world = one.verdict, one.world
        covered = one.kind.accept == {Label.BACKSCATTER} and world.covers
        return cls(
            one.kind.name, one.kind.truth, one.seed, verdict.label, verdict.rule or "", verdict.confidence,
            one.outcome, covered, world.loss, world.alert, world.encapsulation, world.sensors,
        )  # fmt: skip

    @property
    def claimed(self) -> bool:
        """Called backscatter."""
        return self.label is Label.BACKSCATTER

    @property
    def mistaken(self) -> bool:
        """Genuine, and called backscatter."""
        return self.claimed and self.truth in GENUINE


def results(count: int, seed: int, *, lossy: bool) -> list[Result]:
    """So many scenarios judged, on all processors, in the order of their seeds."""
    portions = [(at, min(at + _PORTION, seed + count), lossy) for at in range(seed, seed + count, _PORTION)]
    done: list[Result] = []
    what = "with loss" if lossy else "without loss"
    with Meter(f"scenarios {what}", count, of_bytes=False) as meter, multiprocessing.Pool(os.cpu_count()) as pool:
        for part in pool.imap(_portion, portions):
            done += part
            meter.at(len(done))
    return done


def _portion(portion: tuple[int, int, bool]) -> list[Result]:
    first, behind, lossy = portion
    with small_blocks():
        return [Result.of(one) for one in trials(range(first, behind), lossy=lossy)]


# -- tables ----------------------------------------------------------------------------------------------------------


def table(corner: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def crossed(corner: str, done: Iterable[Result], row: Callable[[Result], str], column: Callable[[Result], str],
            rows: Iterable[str], columns: Iterable[str]) -> str:  # fmt: skip
    """Counts by row and column, without the columns that are empty."""
    counts = Counter((row(one), column(one)) for one in done)
    rows = list(rows)
    shown = [name for name in columns if any(counts[one, name] for one in rows)]
    return table(corner, shown, ([one, *(counts[one, name] or "" for name in shown)] for one in rows))


def share(part: int, whole: int, digits: int = 2) -> str:
    """A percentage; "-" of nothing."""
    return f"{part / whole:.{digits}%}" if whole else "-"


def calibration(done: Sequence[Result]) -> str:
    """How often what was claimed with a confidence was so, for backscatter and for all labels."""
    rows = []
    for low, high in ((50, 59), (60, 69), (70, 79), (80, 89), (90, 94), (95, 99)):
        here = [one for one in done if low <= one.confidence <= high]
        right = sum(one.outcome is Outcome.RIGHT for one in here)
        claims = [one for one in here if one.claimed]
        true = sum(one.truth is Truth.BACKSCATTER for one in claims)
        opened = sum(one.truth is Truth.OPEN for one in claims)
        rows.append(
            [f"{low} to {high} ({band(low)})", len(here), share(right, len(here)), len(claims),
             share(true, len(claims)), share(opened, len(claims)), sum(one.mistaken for one in claims)]
        )  # fmt: skip
    columns = ("verdicts", "as they should be", "of them backscatter", "true", "open", "genuine")
    return table("confidence", columns, rows)


def worst_kinds(done: Sequence[Result], most: int = 12) -> str:
    """The kinds in which covered backscatter was recognised least, and those that were told right least often."""
    rows = []
    for name in KINDS:
        here = [one for one in done if one.kind == name]
        right = sum(one.outcome is Outcome.RIGHT for one in here)
        covered = [one for one in here if one.covered]
        harm = sum(one.outcome is Outcome.HARMFUL for one in here)
        rows.append((right / max(len(here), 1), name, here, right, covered, harm))
    rows.sort(key=lambda row: (-row[5], row[0], row[1]))
    told = [
        [name.replace("_", " "), here[0].truth if here else "", len(here), share(right, len(here), 0),
         share(sum(one.claimed for one in covered), len(covered), 0), harm,
         ", ".join(f"{count} {label}" for label, count in Counter(one.label.value for one in here).most_common(3))]
        for _, name, here, right, covered, harm in rows[:most]
    ]  # fmt: skip
    return table("kind", ("truth", "scenarios", "right", "recognised where covered", "too harmless", "called"), told)


def by(corner: str, done: Sequence[Result], of: Callable[[Result], str]) -> str:
    """Genuine ones called backscatter, and covered backscatter recognised, by a condition."""
    rows = []
    for name in sorted({of(one) for one in done}):
        here = [one for one in done if of(one) == name]
        covered = [one for one in here if one.covered]
        rows.append(
            [name, len(here), sum(one.mistaken for one in here), len(covered),
             share(sum(one.claimed for one in covered), len(covered))]
        )  # fmt: skip
    columns = ("scenarios", "genuine called backscatter", "covered backscatter", "recognised")
    return table(corner, columns, rows)


def by_loss(done: Sequence[Result]) -> str:
    """What loss does to both sides of the scale."""
    rows = []
    for low, high in LOSSES:
        here = [one for one in done if low <= one.loss < high]
        true = [one for one in here if one.truth is Truth.BACKSCATTER]
        wrong = [one for one in here if one.mistaken]
        bands = Counter(band(one.confidence) for one in wrong)
        rows.append(
            [f"{low:.0%} to {high:.0%}", len(here), share(sum(one.claimed for one in true), len(true), 0), len(wrong),
             *(bands[name] for name in BANDS[:3])]
        )  # fmt: skip
    columns = ("scenarios", "true backscatter told", "genuine called backscatter", *BANDS[:3])
    return table("lost", columns, rows)


# -- the page --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised, what came out, and whether that holds."""

    text: str
    found: str
    held: bool


def promises(whole: Sequence[Result], lossy: Sequence[Result]) -> list[Promise]:
    """The judge's promises against both runs."""
    wrong, lost = [one for one in whole if one.mistaken], [one for one in lossy if one.mistaken]
    covered = [one for one in whole if one.covered]
    known = sum(one.claimed for one in covered)
    sure = sum(one.confidence >= 95 for one in lost)
    return [
        Promise("without loss, nothing genuine is called backscatter in any band", f"{len(wrong)} of {len(whole)}",
                not wrong),
        Promise(f"covered backscatter is recognised in {RECOGNISED:.0%}",
                f"{share(known, len(covered))} of {len(covered)}", known >= RECOGNISED * len(covered)),
        Promise("with loss, nothing genuine is confirmed backscatter", f"{sure} of {len(lossy)}", not sure),
        Promise(f"with loss, at most {MISTAKEN:.1%} are called backscatter in a lower band",
                f"{len(lost)}, {share(len(lost), len(lossy))}", len(lost) <= MISTAKEN * len(lossy)),
    ]  # fmt: skip


def page(whole: Sequence[Result], lossy: Sequence[Result]) -> str:
    """docs/accuracy.md."""
    first, last = whole[0].seed, whole[-1].seed
    parts = [HEAD.format(kinds=len(KINDS), first=first, last=last).rstrip("\n")]
    parts[0] += "\n" + "".join(f"| {one.text} | {one.found} |\n" for one in promises(whole, lossy))
    for title, done in (("Without loss", whole), ("With up to 30 % loss", lossy)):
        claims = [one for one in done if one.claimed]
        parts += [
            f"## {title}: {len(done)} scenarios\n",
            crossed("truth", done, lambda one: one.truth, lambda one: one.label, Truth, Label),
            crossed(
                "called backscatter", claims, lambda one: band(one.confidence), lambda one: one.truth, BANDS, Truth
            ),
            "### Confidence against correctness\n",
            calibration(done),
        ]
        if done is lossy:
            parts += ["### By how much was lost\n", by_loss(done), _mistaken(done)]
        parts += ["### Kinds that were told right least often\n", worst_kinds(done)]
    parts += [
        "## Conditions, without loss\n",
        by("alert", whole, lambda one: one.alert.replace("_", " ")),
        by("encapsulation", whole, lambda one: one.encapsulation),
        by("sensors", whole, lambda one: one.sensors),
    ]
    return "\n".join(parts) + TAIL


def _mistaken(done: Sequence[Result]) -> str:
    """Which genuine ones were called backscatter."""
    kinds = Counter((one.kind.replace("_", " "), one.rule, band(one.confidence)) for one in done if one.mistaken)
    rows = ([name, rule, name_of_band, count] for (name, rule, name_of_band), count in sorted(kinds.items()))
    return table("genuine, called backscatter", ("rule", "band", "times"), rows)


def main(count: int = WHOLE, seed: int = 0) -> int:
    """Both runs; 0 where the judge held."""
    since = time.monotonic()
    whole = results(count, seed, lossy=False)
    lossy = results(count, seed, lossy=True)
    text = page(whole, lossy)
    if count >= WHOLE:
        PAGE.write_text(text, encoding="utf-8")
        print(f"{PAGE.relative_to(ROOT)} written")
    else:
        print(text)
    for one in promises(whole, lossy):
        print(f"{'held' if one.held else 'BROKEN'}: {one.text}: {one.found}")
    for wrong in (one for one in whole if one.mistaken or one.outcome is Outcome.MISSED):
        print(f"- without loss, seed {wrong.seed}: {wrong.kind} was called {wrong.label} by {wrong.rule}")
    print(
        f"{2 * count} scenarios took {time.monotonic() - since:.0f} s on {os.cpu_count()} processors", file=sys.stderr
    )
    return int(not all(one.held for one in promises(whole, lossy)))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
