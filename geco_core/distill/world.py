"""The processes that train together: who holds which rows, and how their gradients become one.

Gradients are averaged by hand instead of by a wrapper around the module: distillation calls one
U-Net several times per loss and throws some of its outputs away, which wrappers that watch the
graph get wrong. The result is that of one process with the whole batch, whatever the number of
processes, so that it may change between a checkpoint and the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def current() -> World:
        """Of `torch.distributed` when it is running, else a world of one."""
        if dist.is_available() and dist.is_initialized():
            return World(dist.get_rank(), dist.get_world_size())
        return World()

    def rows(self, batch_size: int) -> range:
        """Places of this process's rows in a global batch.

        Raises:
            ValueError: there are more processes than rows.
        """
        if batch_size < self.size:
            raise ValueError(f"a batch of {batch_size} rows for {self.size} processes")
        return range(self.rank, batch_size, self.size)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes; missing ones count as zero."""
        if self.size == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        for bucket in _buckets(trained):
            gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in bucket]
            flat = torch.cat([g.reshape(-1) for g in gradients])
            dist.all_reduce(flat)
            flat /= self.size
            for parameter, piece in zip(
                bucket, flat.split([g.numel() for g in gradients]), strict=True
            ):
                parameter.grad = piece.view_as(parameter).clone()

    def mean(self, numbers: dict[str, float]) -> dict[str, float]:
        """Numbers averaged over the processes, which must hold the same keys."""
        if self.size == 1 or not numbers:
            return numbers
        keys = sorted(numbers)
        values = torch.tensor([numbers[key] for key in keys], dtype=torch.float64)
        dist.all_reduce(values)
        return {key: float(v) / self.size for key, v in zip(keys, values, strict=True)}

    def agree(self, wish: bool) -> bool:
        """Whether any process wishes so; the same answer everywhere."""
        if self.size == 1:
            return wish
        votes = torch.tensor(int(wish))
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes)

    def share(self, number: int) -> int:
        """The number that the first process gives."""
        if self.size == 1:
            return number
        value = torch.tensor(number if self.rank == 0 else 0)
        dist.all_reduce(value)
        return int(value)

    def gather(self, state: Tensor) -> list[Tensor]:
        """A CPU tensor of every process, in order of their ranks; all have one shape and type."""
        if self.size == 1:
            return [state]
        states = [torch.empty_like(state) for _ in range(self.size)]
        dist.all_gather(states, state)
        return states


BUCKET_ELEMENTS = 2**24


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterable[list[nn.Parameter]]:
    """Neighbours of one device and dtype, so that few and bounded messages are sent."""
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        fits = bucket and _kind(parameter) == _kind(bucket[0]) and size < BUCKET_ELEMENTS
        if bucket and not fits:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket


def _kind(tensor: Tensor) -> tuple[torch.device, torch.dtype]:
    return tensor.device, tensor.dtype
