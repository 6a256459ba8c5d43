"""Work in parts on several cores: NumPy lets other threads run while it works on arrays of some size."""

from __future__ import annotations

import itertools
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

S = TypeVar("S")
T = TypeVar("T")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def over(parts: Iterable[S], work: Callable[[S], T], *, worth: bool) -> Iterator[T]:
    """What `work` makes of each part, in order; on all cores where it is `worth` the threads.

    No more than a few parts are ahead of whoever takes what was made of them.
    """
    count = cores()
    if count == 1 or not worth:
        yield from map(work, parts)
        return
    some = iter(parts)
    with ThreadPoolExecutor(count, "flows") as workers:
        ahead = deque(workers.submit(work, part) for part in itertools.islice(some, count + 1))
        while ahead:
            done = ahead.popleft().result()
            ahead.extend(workers.submit(work, part) for part in itertools.islice(some, 1))
            yield done
