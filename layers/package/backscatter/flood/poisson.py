"""How many a random process meant, given how many came: the exact interval of a Poisson count (Garwood, 1936)."""

from __future__ import annotations

from functools import lru_cache
from math import exp, lgamma, log, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: 2.5 % on either side, and the quantile of the normal distribution that leaves so much.
TAIL, QUANTILE = 0.025, 1.959963984540054

#: From here on Wilson and Hilferty's cube roots are right to more digits than a rate of packets has.
MANY = 100


@lru_cache(maxsize=4096)
def interval(count: int) -> tuple[float, float]:
    """The 95 % interval of the mean of a Poisson variable of which `count` events came."""
    if count >= MANY:
        return _cube(count, -QUANTILE), _cube(count + 1, QUANTILE)
    low = _where(lambda mean: _at_most(count - 1, mean) > 1 - TAIL) if count else 0.0
    return low, _where(lambda mean: _at_most(count, mean) > TAIL)


def _cube(count: int, quantile: float) -> float:
    return float(count * (1 - 1 / (9 * count) + quantile / (3 * sqrt(count))) ** 3)


def _at_most(count: int, mean: float) -> float:
    """The chance of at most `count` events."""
    return sum(exp(k * log(mean) - mean - lgamma(k + 1)) for k in range(count + 1))


def _where(below: Callable[[float], bool]) -> float:
    """The mean up to which a test holds."""
    low, high = 0.0, 4.0 * MANY
    for _ in range(60):
        middle = (low + high) / 2
        if below(middle):
            low = middle
        else:
            high = middle
    return (low + high) / 2
