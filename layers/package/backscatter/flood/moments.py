"""When packets came of which only the first and the last time is known: spread evenly between these."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscatter.flood.answers import Answers
    from backscatter.flow.runs import Ints

#: Moments that the packets of one flow are spread over at most.
SPREAD = 32


def moments(answers: Answers, counts: Ints) -> tuple[Ints, NDArray[np.float64], Ints]:
    """Moments (ns) that stand for `counts` packets of each event, how many each stands for, and which event's it is."""
    steps = np.minimum(counts, SPREAD)
    event = np.repeat(np.arange(len(counts)), steps)
    rank = np.arange(len(event)) - np.repeat(np.cumsum(steps) - steps, steps)
    span = answers.event_last - answers.event_first
    time = answers.event_first[event] + span[event] // np.maximum(steps[event] - 1, 1) * rank
    return time, (counts / np.maximum(steps, 1))[event], event
