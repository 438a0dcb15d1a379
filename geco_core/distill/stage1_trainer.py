"""Stage I's training step: one generator update, then the student's, on two time scales.

A plain object that any loop can drive. A step is a pure function of the weights, the run seed and
the step's number, so a run continued from `state_dict` does what the uninterrupted one would have
done, with any number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from geco_core.distill.draws import RowDraws
from geco_core.distill.networks import ConditionBatch
from geco_core.distill.optimise import (
    OptimiseConfig,
    Piece,
    Stepper,
    add_numbers,
    batch_pieces,
    refuse_foreign,
)
from geco_core.distill.stage1 import Stage1, TeacherPairs
from geco_core.distill.world import World
from geco_core.training.loop import Ema


@dataclass(frozen=True)
class Stage1TrainerConfig(OptimiseConfig):
    """Numbers of Stage I's optimisation.

    `generator_rate` and `student_rate` are 1e-6 in the paper, which calls their balance crucial.
    """

    generator_rate: float = 1e-6
    student_rate: float = 1e-6


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
        self.stage1, self.config = stage1, config
        self._data, self._world = data, world
        networks = stage1.networks
        self._generator_steps = Stepper(
            [(networks.generator_parameters, config.generator_rate)], config, world
        )
        self._student_steps = Stepper(
            [(networks.student_parameters, config.student_rate)], config, world
        )
        self.ema = Ema(networks.generator.unet, config.ema_decay)

    def step(self, step: int) -> Mapping[str, float]:
        """One generator update and its student updates.

        Returns:
            Losses and gradient norms, averaged over the processes.

        Raises:
            Fatal: a loss became non-finite.
        """
        pieces = batch_pieces(len(self._data), step, self.config, self._world)
        numbers: dict[str, float] = {}
        made = [self._generator_piece(step, piece, numbers) for piece in pieces]
        numbers["generator_norm"] = self._generator_steps.update(step)
        for turn in range(self.stage1.config.student_turns(step)):
            for piece, (latents, conditions) in zip(pieces, made, strict=True):
                self._student_piece(step, turn, piece, latents, conditions, numbers)
            numbers["student_norm"] = self._student_steps.update(step)
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
            self.ema.load(state["ema"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise refuse_foreign(error) from error

    def _draws(self, step: int, piece: Piece, stream: str) -> RowDraws:
        device = self.stage1.networks.teacher.device
        return RowDraws(self.config.seed, step, piece.places, stream=stream, device=device)

    def _generator_piece(
        self, step: int, piece: Piece, numbers: dict[str, float]
    ) -> tuple[Tensor, ConditionBatch]:
        draws = self._draws(step, piece, "generator")
        conditions = self.stage1.conditions(self._data.images(piece.rows), draws)
        with self.config.precision(self.stage1.networks.teacher.device):
            loss, latents, parts = self.stage1.generator_loss(
                conditions, draws, self._data.pairs(piece.rows), step=step
            )
        self._generator_steps.backward(loss, piece.weight, step)
        add_numbers(numbers, parts, piece.weight)
        return latents, conditions

    def _student_piece(
        self,
        step: int,
        turn: int,
        piece: Piece,
        latents: Tensor,
        conditions: ConditionBatch,
        numbers: dict[str, float],
    ) -> None:
        draws = self._draws(step, piece, f"student-{turn}")
        with self.config.precision(self.stage1.networks.teacher.device):
            loss, parts = self.stage1.student_loss(latents, conditions, draws)
        self._student_steps.backward(loss, piece.weight, step)
        add_numbers(numbers, parts, piece.weight / self.stage1.config.student_turns(step))
