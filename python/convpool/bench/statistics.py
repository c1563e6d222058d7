"""Medians, spreads and ratios of times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Spread", "geometric_mean", "median", "paired_ratio", "quantile", "spread"]


class Spread(NamedTuple):
    """The median, and the quartiles around it."""

    median: float
    low: float
    high: float

    @property
    def relative(self) -> float:
        """The interquartile range as a part of the median."""
        return (self.high - self.low) / self.median if self.median > 0 else 0.0


def quantile(values: Iterable[float], part: float) -> float:
    """The value below which ``part`` of them lie, linear between neighbours. Raises ValueError for none.

    >>> quantile([4.0, 1.0, 2.0, 3.0], 0.5)
    2.5
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    position = part * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median(values: Iterable[float]) -> float:
    """The middle value.

    >>> median([3.0, 1.0, 2.0])
    2.0
    """
    return quantile(values, 0.5)


def spread(values: Iterable[float]) -> Spread:
    """Median and quartiles.

    >>> spread([1.0, 2.0, 3.0, 4.0, 5.0])
    Spread(median=3.0, low=2.0, high=4.0)
    """
    ordered = list(values)
    return Spread(quantile(ordered, 0.5), quantile(ordered, 0.25), quantile(ordered, 0.75))


def geometric_mean(values: Iterable[float]) -> float:
    """The mean of ratios.

    >>> round(geometric_mean([0.5, 2.0]), 12)
    1.0
    """
    logarithms = [math.log(value) for value in values]
    if not logarithms:
        raise ValueError("no values")
    return math.exp(math.fsum(logarithms) / len(logarithms))


def paired_ratio(rounds: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> Spread:
    """How many times as long as ``base`` something takes, round by round.

    What slows the whole machine for a while slows both in the same round, and falls out of the ratio. Rounds
    that one of the two sat out are left out; if there are no others, the medians of all samples are compared.

    >>> paired_ratio([[2.0], [4.0], [6.0]], [[1.0], [2.0], [3.0]])
    Spread(median=2.0, low=2.0, high=2.0)
    """
    pairs = [
        median(mine) / median(other) for mine, other in zip(rounds, base, strict=False) if mine and other
    ]
    if pairs:
        return spread(pairs)
    ratio = median(value for mine in rounds for value in mine) / median(
        value for other in base for value in other
    )
    return Spread(ratio, ratio, ratio)
