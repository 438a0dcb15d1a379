"""Randomness of a training step, one stream per row of the global batch.

Which process holds a row changes nothing: a row's stream is seeded by the run, the step and the
row's place in the global batch. So two workers draw what one would have drawn.

Legend: B rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


class RowDraws:
    """Draws for the rows a process holds.

    Args:
        seed: of the run.
        step: of the training.
        rows: places of the rows in the global batch.
        stream: separates the draws of different losses of a step.
        device: where the draws are wanted; they are made on the CPU, so the numbers are the same
            everywhere.
    """

    def __init__(
        self,
        seed: int,
        step: int,
        rows: Sequence[int],
        *,
        stream: str = "",
        device: torch.device | str = "cpu",
    ) -> None:
        self._generators = [row_generator(seed, step, row, stream) for row in rows]
        self._device = device

    @property
    def batch(self) -> int:
        """Number of rows."""
        return len(self._generators)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """N(0, 1), float32 [B, *shape]."""
        drawn = [torch.randn(tuple(shape), generator=g) for g in self._generators]
        return torch.stack(drawn).to(self._device)

    def integers(self, low: int, high: int) -> Tensor:
        """Uniform whole numbers from low to high, both included, int64 [B]."""
        drawn = [torch.randint(low, high + 1, (), generator=g) for g in self._generators]
        return torch.stack(drawn).to(self._device)

    def below(self, share: float) -> Tensor:
        """True with the given probability, bool [B]."""
        drawn = [torch.rand((), generator=g) for g in self._generators]
        return torch.stack(drawn).to(self._device) < share


def row_generator(seed: int, step: int, row: int, stream: str) -> torch.Generator:
    """The generator of one row's stream, on the CPU."""
    digest = hashlib.sha256(f"{seed}/{step}/{row}/{stream}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
