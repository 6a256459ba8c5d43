"""An oracle run on one input after the other, within bounds; of those that fail one is kept for each place."""

from __future__ import annotations

import faulthandler
import hashlib
import resource
import signal
import sys
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from oracle import ORACLES

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]

#: What fuzzing leaves behind; not in git.
KEPT = ROOT / ".fuzz"

#: CPU seconds for one input, of at most LONGEST bytes: far more than any needs, on a slow machine too.
CPU_SECONDS = 20

#: Seconds until a hanging process is ended. Its input is the file `now-KIND`.
HANGING = 180

#: Bytes of address space of the process: what needs more gets a MemoryError.
ADDRESS_SPACE = 4 * 2**30

#: Bytes of resident memory that one input may cost beyond what any did before.
MEMORY = 400 * 2**20

LONGEST = 2**16


class TooSlow(BaseException):
    """An input took longer than CPU_SECONDS."""


class TooLarge(Exception):
    """An input took more memory than MEMORY."""


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TooSlow


def _peak() -> int:
    """Bytes of memory that the process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@dataclass
class Trials:
    """Inputs of one kind, tried one after the other.

    kind      which oracle
    became    what became of the inputs -> how many
    failures  files of the inputs that failed, by where they did
    """

    kind: str
    became: Counter[str] = field(default_factory=Counter)
    failures: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        KEPT.mkdir(exist_ok=True)
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        # CPU time of the process, since others use the machine too
        signal.signal(signal.SIGVTALRM, _stop)

    def run(self, data: bytes) -> str:
        """Try one input; what became of it. One that "failed" is kept, with its traceback beside it."""
        now = KEPT / f"now-{self.kind}"
        now.write_bytes(data)
        peak = _peak()
        faulthandler.dump_traceback_later(HANGING, exit=True)
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
        try:
            word = ORACLES[self.kind](data)
            if self.became.total() and _peak() - peak > MEMORY:
                raise TooLarge(_peak() - peak)  # noqa: TRY301 - it is a failure like those of the oracle
        except (Exception, TooSlow) as error:  # noqa: BLE001 - whatever comes out is what is looked for
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            self._keep(data, error)
            word = "failed"
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            faulthandler.cancel_dump_traceback_later()
        self.became[word] += 1
        return word

    def _keep(self, data: bytes, error: BaseException) -> None:
        """Keep the shortest input of each place that fails."""
        frames = traceback.extract_tb(error.__traceback__)
        last = "" if isinstance(error, TooSlow) else f"{frames[-1].name}:{frames[-1].lineno}"
        above = f"{frames[-2].name}:{frames[-2].lineno}" if len(frames) > 1 and last else ""
        place = " ".join([type(error).__name__, above, last, *(arg for arg in error.args[:2] if isinstance(arg, str))])
        stem = f"{self.kind}-{type(error).__name__}-{hashlib.sha256(place.encode()).hexdigest()[:10]}"
        path = KEPT / f"{stem}.bin"
        if place in self.failures and path.stat().st_size <= len(data):
            return
        if place not in self.failures:
            print(f"FAILED {path.relative_to(ROOT)}: {type(error).__name__} {error.args}"[:400], file=sys.stderr)
        self.failures[place] = path
        path.write_bytes(data)
        path.with_suffix(".txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")

    def summary(self) -> str:
        """What was tried and what became of it."""
        became = ", ".join(f"{count} {word}" for word, count in self.became.most_common())
        return f"{self.kind}: {self.became.total()} inputs ({became}), failures in {len(self.failures)} places"
