"""Coverage-guided fuzzing with atheris: inputs that reach new code are kept and mutated further.

    python scripts/fuzz/guided.py captures --seconds 60

libFuzzer runs in a process of its own, which it leaves without a word to Python; this one tells what it did. What it
learned stays in .fuzz/corpus and is where the next run begins.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path

#: An input that fails is noted and fuzzing goes on; libFuzzer's own bounds are the net below those of trials.py.
HANGING, MEGABYTES = 180, 3000

#: Of so many mutations libFuzzer makes one and ours, which know what a record is, the others.
OURS_OF = 3

#: Seconds that one process tries inputs for: atheris takes a few MB more every second, whatever it is fuzzing, and
#: would run into its own limit within minutes. What a round found is where the next one begins.
ROUND = 240


def _fuzz(kind: str, seconds: int, corpus: Path) -> None:
    """Become libFuzzer. Never returns."""
    import atheris  # noqa: PLC0415 - only the child has it: whoever asks for help need not

    with atheris.instrument_imports(include=["backscatter"]):
        from mutations import mutated, spliced  # noqa: PLC0415 - instrumented as it is imported
        from trials import LONGEST, Trials  # noqa: PLC0415

    trials = Trials(kind)

    def try_one(data: bytes) -> None:
        trials.run(data)

    def change(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)  # noqa: S311 - to be repeated
        if rng.randrange(OURS_OF):
            return mutated(rng, data, ())[:most]
        changed: bytes = atheris.Mutate(data, most)
        return changed

    def cross(one: bytes, other: bytes, most: int, seed: int) -> bytes:
        return spliced(random.Random(seed), one, other)[:most]  # noqa: S311 - to be repeated

    arguments = (f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={HANGING}")
    memory = (f"-rss_limit_mb={MEGABYTES}", f"-artifact_prefix={corpus.parent.parent}/{kind}-")
    told = ("-print_final_stats=1", "-reload=0", str(corpus))
    atheris.Setup([sys.argv[0], *arguments, *memory, *told], try_one, custom_mutator=change, custom_crossover=cross)
    atheris.Fuzz()


def _sown(kind: str, kept: Path) -> Path:
    """The folder of the inputs to begin with: the seeds, and what earlier runs found."""
    from seeds import SEEDS  # noqa: PLC0415 - imports the package, which the child must import instrumented

    corpus = kept / "corpus" / kind
    corpus.mkdir(parents=True, exist_ok=True)
    for data in SEEDS[kind]():
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return corpus


def main() -> int:
    """What the command line asks for; 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("alerts", "captures"))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--child", type=Path, metavar="CORPUS", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        _fuzz(asked.kind, asked.seconds, asked.child)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not here (it has wheels for Linux on x86-64): no coverage-guided fuzzing")
        return 0
    from trials import KEPT  # noqa: PLC0415 - see _sown

    failed = 0
    for begun in range(0, asked.seconds, ROUND):
        corpus = _sown(asked.kind, KEPT)
        sown = sum(1 for _ in corpus.iterdir())
        seconds = min(ROUND, asked.seconds - begun)
        command = [sys.executable, __file__, asked.kind, "--seconds", str(seconds), "--child", str(corpus)]
        run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        failed |= _tell(asked.kind, run.returncode, run.stderr, sown)
    return failed


def _tell(kind: str, code: int, said: str, sown: int) -> int:
    """What libFuzzer and the trials said, in a few lines; 1 where something failed."""
    inputs = re.search(r"number_of_executed_units:\s+(\d+)", said)
    begun, ended = re.search(r"INITED\s+cov: (\d+)", said), re.findall(r" cov: (\d+)", said)
    new = re.search(r"new_units_added:\s+(\d+)", said)
    failures = re.findall(r"^FAILED (.*)", said, re.MULTILINE) + re.findall(r"Test unit written to (.*)", said)
    if not (inputs and begun and new):
        print(f"  {kind}: libFuzzer ended early (exit {code}):\n{said[-4000:]}")
        return 1
    gained = f"{ended[-1]} edges, {int(ended[-1]) - int(begun[1])} of them new; {new[1]} new inputs kept beside {sown}"
    print(f"  {kind}, guided: {inputs[1]} inputs; {gained}; failures in {len(failures)} places")
    for failure in failures:
        print(f"  {failure}")
    return 1 if failures or code else 0


if __name__ == "__main__":
    sys.exit(main())
