"""Where sampling takes its randomness from: one stream of noise per item and purpose.

A draw of a whole batch from one generator would make an item's result depend on its neighbours.
Here every (item seed, stream name) pair has its own CPU generator, so a result depends on the
item's seed alone, on any device and in any batch. Golden tests inject recorded draws through the
same interface.

Legend: B batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

# Streams: the start of sampling, the posterior draws of the two condition encodings, the per-step
# noise of the two reference passes, the per-step noise of ancestral samplers.
INITIAL = "initial"
POSTERIOR = "posterior"
POSTERIOR_NEGATIVE = "posterior_negative"
REFERENCE = "reference"
REFERENCE_NEGATIVE = "reference_negative"
ANCESTRAL = "ancestral"


class NoiseSource(Protocol):
    """Standard normal noise by stream; every call returns the stream's next draw."""

    def draw(self, stream: str, shape: Sequence[int]) -> Tensor:
        """[B, *shape], float32, on the CPU."""
        ...


class ItemNoise:
    """Noise that depends on each item's seed and nothing else.

    Args:
        seeds: one per batch row, 0 <= seed < 2**63.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = tuple(int(seed) for seed in seeds)
        self._generators: dict[str, list[torch.Generator]] = {}

    def draw(self, stream: str, shape: Sequence[int]) -> Tensor:
        """[B, *shape]: row i comes from the generator of (seeds[i], stream)."""
        if stream not in self._generators:
            self._generators[stream] = [_generator(seed, stream) for seed in self.seeds]
        rows = [
            torch.randn(tuple(shape), generator=g, dtype=torch.float32)
            for g in self._generators[stream]
        ]
        return torch.stack(rows)


class RecordedNoise:
    """Replays given draws.

    Args:
        draws: stream -> draws in order, each [B, ...].
    """

    def __init__(self, draws: Mapping[str, Sequence[Tensor]]) -> None:
        self._draws: dict[str, Iterator[Tensor]] = {
            name: iter(values) for name, values in draws.items()
        }

    def draw(self, stream: str, shape: Sequence[int]) -> Tensor:
        """The next recorded draw. Raises ValueError when none is left or its shape is another."""
        draw = next(self._draws.get(stream, iter(())), None)
        if draw is None or tuple(draw.shape[1:]) != tuple(shape):
            found = "none is left" if draw is None else f"the next is {tuple(draw.shape[1:])}"
            raise ValueError(f"recorded noise {stream!r}: wanted {tuple(shape)}, {found}")
        return draw


def generator_seed(seed: int, stream: str) -> int:
    """Seed of the generator behind an item's stream, 0 <= seed < 2**63."""
    digest = hashlib.sha256(f"{seed}\x00{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _generator(seed: int, stream: str) -> torch.Generator:
    # Built on the CPU whatever the model's device is: the same numbers everywhere.
    return torch.Generator(device="cpu").manual_seed(generator_seed(seed, stream))
