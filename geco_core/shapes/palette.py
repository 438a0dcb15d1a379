"""The twelve colour names and the dice an object is drawn with.

The object distribution is part of the published micro weights: everything random here goes through
`numpy.random.PCG64` and plain 53-bit doubles, whose streams NumPy guarantees, and never through
the derived distributions, whose algorithms it may change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

# Base colours before light, sRGB in [0, 1]. The background is white, so "white" is a light grey;
# shades of one colour under the baked light (factor 0.62 to 1) must not meet those of another.
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.11, 0.11),
    "orange": (0.98, 0.52, 0.06),
    "yellow": (0.97, 0.86, 0.14),
    "green": (0.14, 0.60, 0.20),
    "cyan": (0.18, 0.78, 0.84),
    "blue": (0.13, 0.26, 0.84),
    "purple": (0.53, 0.17, 0.70),
    "pink": (0.98, 0.58, 0.74),
    "brown": (0.43, 0.24, 0.11),
    "white": (0.86, 0.86, 0.86),
    "gray": (0.42, 0.42, 0.44),
    "black": (0.10, 0.10, 0.11),
}


class Dice:
    """Deterministic draws for one object; also remembers the colours already given out.

    Args:
        seed: 0 <= seed < 2**64.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))
        self._used: set[str] = set()

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        return float(self._generator.random())

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.unit()

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.unit() < probability

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, uniformly."""
        return options[int(self.unit() * len(options))]

    def color(self, *names: str) -> str:
        """A colour name not used in this object yet, among `names` (default: all).

        Falls back to a repeated name when all candidates are used.
        """
        candidates = names or tuple(COLORS)
        fresh = [name for name in candidates if name not in self._used]
        name = self.choice(fresh or candidates)
        self._used.add(name)
        return name
