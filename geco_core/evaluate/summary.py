"""Means over objects with bootstrap confidence intervals, and paired differences of two runs.

The interval is the percentile bootstrap over objects (Efron 1979): resample the objects with
replacement and take the 2.5th and 97.5th percentile of the means. With 30 objects it tells how
much a table would move with other objects of the same kind; it says nothing about another seed.

Legend: K objects, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

DRAWS = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Summary:
    """One metric over objects.

    Attributes:
        count: objects with a value (NaN is none).
        mean, median: over them; NaN without any.
        low, high: 95% confidence interval of the mean.
    """

    count: int
    mean: float
    median: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is not a number is None."""
        return {k: None if math.isnan(v) else v for k, v in asdict(self).items()}


def summarise(values: Sequence[float], seed: int) -> Summary:
    """Mean, median and interval of one metric; a function of the values and the seed."""
    given = np.asarray([value for value in values if not math.isnan(value)], dtype=np.float64)
    if not len(given):
        return Summary(0, math.nan, math.nan, math.nan, math.nan)
    generator = np.random.default_rng(seed)
    means = np.empty(DRAWS)
    for first in range(0, DRAWS, 1000):  # in portions: D x K numbers at once would be too many
        picks = generator.integers(0, len(given), (min(1000, DRAWS - first), len(given)))
        means[first : first + len(picks)] = given[picks].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Summary(
        len(given), float(given.mean()), float(np.median(given)), float(low), float(high)
    )


def paired(ours: Sequence[float], theirs: Sequence[float], seed: int) -> Summary:
    """The same of the differences ours - theirs, object by object.

    Much narrower than the difference of two intervals, because hard objects are hard for both.

    Raises:
        ValueError: lists of different lengths.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} values can not be paired with {len(theirs)}")
    return summarise([a - b for a, b in zip(ours, theirs, strict=True)], seed)
