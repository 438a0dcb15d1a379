"""What the trainers of both stages share: batches cut into pieces, and optimiser steps on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geco_core.distill.world import World
from geco_core.errors import Fatal
from geco_core.training.cache import epoch_rows


@dataclass(frozen=True)
class OptimiseConfig:
    """Numbers of an optimisation; rates are per step.

    Attributes:
        steps: updates.
        batch_size: rows of the global batch.
        accumulation: pieces a process cuts its rows into, to save memory.
        warmup_steps, decay_steps: linear rise at the start and fall at the end.
        betas, weight_decay: of AdamW.
        clip_norm: of the gradients of a network.
        ema_decay: of the weights that are evaluated and shipped.
        autocast: precision of the networks' passes.
    """

    steps: int = 5000
    batch_size: int = 4
    accumulation: int = 1
    warmup_steps: int = 0
    decay_steps: int = 1
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip_norm: float = 10.0
    ema_decay: float = 0.999
    autocast: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "clip_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def factor(self, step: int) -> float:
        """Share of the learning rates at `step` (0-based)."""
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return rise * min(1.0, (self.steps - step) / max(1, self.decay_steps))

    def precision(self, device: torch.device) -> torch.autocast:
        """The context the networks run in."""
        dtype = getattr(torch, self.autocast)
        return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


@dataclass(frozen=True)
class Piece:
    """Rows of a batch that go through the networks together.

    Attributes:
        places: in the global batch; they seed the draws.
        rows: of the data, int64.
        weight: factor of the piece's mean loss, so that the average over the processes of the sum
            over the pieces is the mean over the batch.
    """

    places: tuple[int, ...]
    rows: Tensor
    weight: float


def batch_pieces(length: int, step: int, config: OptimiseConfig, world: World) -> list[Piece]:
    """This process's share of the batch at `step`: a pure function of its arguments.

    Args:
        length: rows of the data, at least a batch.
        step: 0-based.
        config: batch size, accumulation, seed.
        world: which rows are ours.

    Raises:
        Fatal: the data hold less than one batch.
    """
    if length < config.batch_size:
        raise Fatal(
            f"{length} training rows are fewer than a batch of {config.batch_size}",
            stage="train",
            remedy="lower batch_size, or give more conditions",
        )
    rows = epoch_rows(length, config.batch_size, step, config.seed)
    places = list(world.rows(config.batch_size))
    size = -(-len(places) // config.accumulation)
    return [
        Piece(
            tuple(places[i : i + size]),
            rows[places[i : i + size]],
            len(places[i : i + size]) * world.size / config.batch_size,
        )
        for i in range(0, len(places), size)
    ]


class Stepper:
    """AdamW over one set of parameters, with gradients averaged over the processes."""

    def __init__(
        self,
        groups: Sequence[tuple[Sequence[nn.Parameter], float]],
        config: OptimiseConfig,
        world: World,
    ) -> None:
        """Args: groups: parameters and their learning rate."""
        self._config, self._world = config, world
        self._parameters = [p for parameters, _ in groups for p in parameters]
        self._adam = torch.optim.AdamW(
            [{"params": list(p), "lr": rate, "initial_lr": rate} for p, rate in groups],
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def backward(self, loss: Tensor, weight: float, step: int) -> None:
        """Add a piece's gradients. Raises `Fatal` when its loss is not finite."""
        if not torch.isfinite(loss):
            raise Fatal(
                f"the loss is {loss.item()} at step {step}",
                stage="train",
                remedy="lower the learning rates",
            )
        (loss * weight).backward()

    def update(self, step: int) -> float:
        """Step with the gathered gradients and forget them; returns their norm.

        Raises:
            Fatal: a gradient is not finite; no weight has changed.
        """
        self._world.average_gradients(self._parameters)
        return self._apply(step)

    def _apply(self, step: int) -> float:
        norm = float(nn.utils.clip_grad_norm_(self._parameters, self._config.clip_norm))
        if not math.isfinite(norm):
            raise Fatal(
                f"the gradient's norm is {norm} at step {step}",
                stage="train",
                remedy="lower the learning rates",
            )
        for group in self._adam.param_groups:
            group["lr"] = group["initial_lr"] * self._config.factor(step)
        self._adam.step()
        self._forget()
        return norm

    def _forget(self) -> None:
        self._adam.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state."""
        return self._adam.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._adam.load_state_dict(dict(state))


def add_numbers(total: dict[str, float], parts: Mapping[str, float], weight: float) -> None:
    """Add weighted numbers of a piece to those of the batch."""
    for key, value in parts.items():
        total[key] = total.get(key, 0.0) + weight * value


def refuse_foreign(error: Exception) -> Fatal:
    """What a checkpoint of other networks is answered with."""
    return Fatal(
        f"the checkpoint does not fit these networks: {error}",
        stage="train",
        remedy="use the configuration it was made with, or another folder",
    )
