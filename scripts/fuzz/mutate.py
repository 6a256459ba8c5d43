"""Mutation fuzzing over real captures and alerts, with nothing but Python's own random numbers.

python scripts/fuzz/mutate.py --seconds 60 --seed 7     the same seed tries the same inputs in the same order
python scripts/fuzz/mutate.py captures FILE             tries files that failed once more
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from mutations import mutated
from oracle import ORACLES
from seeds import SEEDS
from trials import Trials

#: Alerts are quick to read, captures are where the code is: of so many inputs one is an alert file.
ONE_ALERT_IN = 4


def _weight(data: bytes, became: str) -> float:
    """How often a seed is taken: shorter ones are quicker and are damaged where it matters, refused ones say little."""
    return (0.05 if became == "refused" else 1) / (400 + len(data))


def fuzz(seconds: float, seed: int) -> list[Trials]:
    """Try the seeds as they are, then mutations of them until the time is over."""
    rng = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    trials = {kind: Trials(kind) for kind in ORACLES}
    corpus = {kind: seeds() for kind, seeds in SEEDS.items()}
    end = time.monotonic() + seconds
    weights = {kind: [_weight(data, trials[kind].run(data)) for data in inputs] for kind, inputs in corpus.items()}
    count = 0
    while time.monotonic() < end:
        kind = "captures" if count % ONE_ALERT_IN else "alerts"
        data = rng.choices(corpus[kind], weights[kind])[0]
        trials[kind].run(mutated(rng, data, corpus[kind]))
        count += 1
    return list(trials.values())


def main() -> int:
    """What the command line asks for; 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="?", choices=sorted(ORACLES))
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    if asked.kind:
        again = Trials(asked.kind)
        for path in asked.files:
            again.run(path.read_bytes())
        print(again.summary())
        return 1 if again.failures else 0
    seed = random.SystemRandom().randrange(2**32) if asked.seed is None else asked.seed
    print(f"mutations of seed {seed}, {asked.seconds:g} s")
    failed = 0
    for trials in fuzz(asked.seconds, seed):
        print(f"  {trials.summary()}")
        for place, path in trials.failures.items():
            print(f"  {path}: {place}"[:300])
        failed += len(trials.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
