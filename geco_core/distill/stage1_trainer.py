"""Stage I's training step: one generator update, then the student's, on two time scales.

A plain object that any loop can drive. A step is a pure function of the weights, the run seed and
the step's number, so a run continued from `state_dict` does what the uninterrupted one would have
done, with any number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from geco_core.distill.draws import RowDraws
from geco_core.distill.networks import ConditionBatch
from geco_core.distill.stage1 import Stage1, TeacherPairs
from geco_core.distill.world import World
from geco_core.errors import Fatal
from geco_core.training.cache import epoch_rows
from geco_core.training.loop import Ema


@dataclass(frozen=True)
class Stage1TrainerConfig:
    """Numbers of the optimisation; rates are per step.

    Attributes:
        steps: generator updates.
        batch_size: rows of the global batch.
        accumulation: pieces a process cuts its rows into, to save memory.
        generator_rate, student_rate: learning rates; the paper has 1e-6 for both.
        warmup_steps, decay_steps: linear rise at the start and fall at the end.
        betas, weight_decay: of AdamW.
        clip_norm: of the gradients of either network.
        ema_decay: of the generator's weights that are evaluated and shipped.
        autocast: precision of the networks' passes.
    """

    steps: int = 5000
    batch_size: int = 4
    accumulation: int = 1
    generator_rate: float = 1e-6
    student_rate: float = 1e-6
    warmup_steps: int = 0
    decay_steps: int = 1
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip_norm: float = 10.0
    ema_decay: float = 0.999
    autocast: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "generator_rate", "student_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def factor(self, step: int) -> float:
        """Share of the learning rates at `step` (0-based)."""
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return rise * min(1.0, (self.steps - step) / max(1, self.decay_steps))


class Stage1Data(Protocol):
    """Training conditions by row number."""

    def __len__(self) -> int:
        """Number of conditions."""
        ...

    def images(self, rows: Tensor) -> Tensor:
        """Framed condition images of int64 [b] rows, float [b, 3, S, S] in [0, 1]."""
        ...

    def pairs(self, rows: Tensor) -> TeacherPairs | None:
        """Teacher samples of the rows, or None where there are none."""
        ...


class Stage1Trainer:
    """Generator and student with their optimisers and the generator's moving average."""

    def __init__(
        self, stage1: Stage1, data: Stage1Data, config: Stage1TrainerConfig, world: World
    ) -> None:
        self.stage1 = stage1
        self.config = config
        self._data = data
        self._world = world
        networks = stage1.networks
        self.generator_parameters: Sequence[nn.Parameter] = networks.generator_parameters
        self.student_parameters: Sequence[nn.Parameter] = networks.student_parameters
        self._generator_steps = self._adam(self.generator_parameters, config.generator_rate)
        self._student_steps = self._adam(self.student_parameters, config.student_rate)
        self.ema = Ema(networks.generator.unet, config.ema_decay)

    def step(self, step: int) -> Mapping[str, float]:
        """One generator update and its student updates.

        Returns:
            Losses and gradient norms, averaged over the processes.

        Raises:
            Fatal: a loss became non-finite.
        """
        pieces = self._pieces(step)
        numbers: dict[str, float] = {}
        made = [self._generator_piece(step, piece, numbers) for piece in pieces]
        norm = self._update(self._generator_steps, self.generator_parameters, step)
        numbers["generator_norm"] = norm
        for turn in range(self.stage1.config.student_steps if self.stage1.config.vsd_weight else 0):
            for piece, (latents, conditions) in zip(pieces, made, strict=True):
                self._student_piece(step, turn, piece, latents, conditions, numbers)
            norm = self._update(self._student_steps, self.student_parameters, step)
            numbers["student_norm"] = norm
        self.ema.update(self.stage1.networks.generator.unet, step)
        return self._world.mean(numbers)

    def state_dict(self) -> dict[str, Any]:
        """Everything a later `step` depends on, as tensors and plain data."""
        networks = self.stage1.networks
        return {
            "generator": networks.generator.unet.state_dict(),
            "student": networks.student.unet.state_dict(),
            "generator_steps": self._generator_steps.state_dict(),
            "student_steps": self._student_steps.state_dict(),
            "ema": self.ema.shadow,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`. Raises `Fatal` when it does not fit."""
        networks = self.stage1.networks
        try:
            networks.generator.unet.load_state_dict(state["generator"])
            networks.student.unet.load_state_dict(state["student"])
            self._generator_steps.load_state_dict(state["generator_steps"])
            self._student_steps.load_state_dict(state["student_steps"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise Fatal(
                f"the checkpoint does not fit these networks: {error}",
                stage="stage1",
                remedy="use the configuration it was made with, or another folder",
            ) from error
        self.ema.shadow = dict(state["ema"])

    def _pieces(self, step: int) -> list[tuple[list[int], Tensor]]:
        """Places in the global batch and data rows, per accumulated piece."""
        cfg = self.config
        rows = epoch_rows(len(self._data), cfg.batch_size, step, cfg.seed)
        places = list(self._world.rows(cfg.batch_size))
        size = -(-len(places) // cfg.accumulation)
        cut = [places[i : i + size] for i in range(0, len(places), size)]
        return [(piece, rows[piece]) for piece in cut]

    def _draws(self, step: int, places: Sequence[int], stream: str) -> RowDraws:
        device = self.stage1.networks.teacher.device
        return RowDraws(self.config.seed, step, places, stream=stream, device=device)

    def _generator_piece(
        self, step: int, piece: tuple[list[int], Tensor], numbers: dict[str, float]
    ) -> tuple[Tensor, ConditionBatch]:
        places, rows = piece
        draws = self._draws(step, places, "generator")
        conditions = self.stage1.conditions(self._data.images(rows), draws)
        with self._autocast():
            loss, latents, parts = self.stage1.generator_loss(
                conditions, draws, self._data.pairs(rows)
            )
        self._backward(loss, places, step)
        _add(numbers, parts, self._weight(places))
        return latents, conditions

    def _student_piece(
        self,
        step: int,
        turn: int,
        piece: tuple[list[int], Tensor],
        latents: Tensor,
        conditions: ConditionBatch,
        numbers: dict[str, float],
    ) -> None:
        places, _ = piece
        draws = self._draws(step, places, f"student-{turn}")
        with self._autocast():
            loss, parts = self.stage1.student_loss(latents, conditions, draws)
        self._backward(loss, places, step)
        _add(numbers, parts, self._weight(places) / self.stage1.config.student_steps)

    def _weight(self, places: Sequence[int]) -> float:
        """Factor of a piece's mean so that pieces and processes add up to the batch's mean."""
        return len(places) * self._world.size / self.config.batch_size

    def _backward(self, loss: Tensor, places: Sequence[int], step: int) -> None:
        if not torch.isfinite(loss):
            raise Fatal(
                f"the loss is {loss.item()} at step {step}",
                stage="stage1",
                remedy="lower the learning rates",
            )
        (loss * self._weight(places)).backward()

    def _update(
        self, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], step: int
    ) -> float:
        self._world.average_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.config.factor(step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def _adam(self, parameters: Sequence[nn.Parameter], rate: float) -> torch.optim.AdamW:
        cfg = self.config
        adam = torch.optim.AdamW(
            parameters, lr=rate, betas=cfg.betas, weight_decay=cfg.weight_decay, fused=True
        )
        for group in adam.param_groups:
            group["initial_lr"] = rate
        return adam

    def _autocast(self) -> torch.autocast:
        dtype = getattr(torch, self.config.autocast)
        device = self.stage1.networks.teacher.device.type
        return torch.autocast(device, dtype, enabled=dtype != torch.float32)


def _add(numbers: dict[str, float], parts: Mapping[str, float], weight: float) -> None:
    for key, value in parts.items():
        numbers[key] = numbers.get(key, 0.0) + weight * value
