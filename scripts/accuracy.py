"""Judges random labelled scenarios and prints truth against verdict, and confidence against correctness.

Usage: accuracy.py [COUNT [SEED]]: COUNT scenarios without loss of packets and COUNT with up to 30 % of it. Exits 1
where something genuine was called backscatter without loss, or confirmed with it, or where covered backscatter was
missed too often.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.verdict.scenarios.story import KINDS, Truth
from tests.verdict.scenarios.trial import Outcome, Trial, trials

from backscatter.verdict.model import Label

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Covered backscatter must be recognised in this share of its scenarios.
RECOGNISED = 0.99


def table(counts: Counter[tuple[str, str]], rows: Iterable[str], columns: Iterable[str], corner: str) -> str:
    """A Markdown table of counts by row and column, without the columns that are empty."""
    columns = [column for column in columns if any(counts[row, column] for row in rows)]
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {row} | {' | '.join(str(counts[row, column] or '') for column in columns)} |" for row in rows]
    return "\n".join(lines) + "\n"


def told(done: list[Trial], title: str) -> tuple[int, int, float]:
    """Print the tables of a run.

    Returns how many genuine ones were called backscatter, how many of them were confirmed, and the share of covered
    backscatter that was recognised.
    """
    print(f"## {title}: {len(done)} scenarios of {len(KINDS)} kinds\n")
    by_label = Counter((one.kind.truth.value, one.verdict.label.value) for one in done)
    print(table(by_label, list(Truth), list(Label), "truth"))
    claims = [one for one in done if one.verdict.label is Label.BACKSCATTER]
    bands = Counter((one.verdict.band, one.kind.truth.value) for one in claims)
    print(table(bands, ("confirmed", "probable", "possible"), list(Truth), "called backscatter"))
    outcomes = Counter((one.kind.truth.value, one.outcome.value) for one in done)
    print(table(outcomes, list(Truth), list(Outcome), "truth"))
    wrong = [one for one in claims if one.kind.truth in (Truth.OURS, Truth.THEIRS)]
    for one in wrong:
        print(f"- {one.kind.name} seed {one.seed}: {one.verdict.rule} {one.verdict.band}, {one.world}")
    covered = [one for one in done if one.kind.accept == {Label.BACKSCATTER} and one.world.covers]
    known = sum(one.verdict.label is Label.BACKSCATTER for one in covered) / max(len(covered), 1)
    sure = sum(one.verdict.band == "confirmed" for one in wrong)
    print(f"\nGenuine called backscatter: {len(wrong)}, of them confirmed: {sure}.")
    if covered:
        print(f"Covered backscatter recognised: {known:.2%} of {len(covered)}.")
    print()
    return len(wrong), sure, known if covered else 1.0


def main(count: int = 20_000, seed: int = 0) -> int:
    """Both runs; 0 where the judge held."""
    whole = told(list(trials(range(seed, seed + count))), "Without loss")
    lossy = told(list(trials(range(seed, seed + count), lossy=True)), "With up to 30 % loss")
    return int(whole[0] > 0 or lossy[1] > 0 or whole[2] < RECOGNISED)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
