"""Stage II's training step: one update of the reconstructor, and of the generator if it learns.

A step is a pure function of the weights, the run seed and the step's number, as in Stage I: which
of a target's stored renders are looked at is drawn per row, so it depends neither on the number of
processes nor on when the run was continued.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from geco_core.distill.draws import RowDraws
from geco_core.distill.optimise import (
    OptimiseConfig,
    Piece,
    Stepper,
    add_numbers,
    batch_pieces,
    refuse_foreign,
)
from geco_core.distill.stage2 import Stage2, Stage2Batch
from geco_core.distill.world import World
from geco_core.errors import ConfigError
from geco_core.training.loop import Ema


@dataclass(frozen=True)
class Stage2TrainerConfig(OptimiseConfig):
    """Numbers of Stage II's optimisation.

    Attributes:
        views: renders of a target drawn per step; 4 in the paper, of 50.
        reconstructor_rate, generator_rate: 1e-6 in the paper; the second counts only where the
            generator learns along.
    """

    views: int = 4
    reconstructor_rate: float = 1e-6
    generator_rate: float = 1e-6


class Stage2Data(Protocol):
    """Teacher targets by row number."""

    def __len__(self) -> int:
        """Number of targets."""
        ...

    @property
    def renders(self) -> int:
        """Stored renders of every target."""
        ...

    def batch(self, rows: Tensor, views_BK: Tensor) -> Stage2Batch:
        """Conditions, noise and the chosen renders.

        Args:
            rows: int64 [B].
            views_BK: which renders of each row, int64 [B, K].
        """
        ...


class Stage2Trainer:
    """The chain with its optimisers and moving averages.

    Args:
        stage2: the chain and its loss.
        data: targets.
        config: of the optimisation.
        world: the processes that train together.

    Raises:
        ConfigError: a step wants more renders than a target has.
    """

    def __init__(
        self, stage2: Stage2, data: Stage2Data, config: Stage2TrainerConfig, world: World
    ) -> None:
        if not 1 <= config.views <= data.renders:
            raise ConfigError(
                f"a step draws {config.views} renders, a target has {data.renders}",
                remedy="lower stage2_train.views, or make targets with more targets.renders",
            )
        self.stage2, self.config = stage2, config
        self._data, self._world = data, world
        stage2.reconstructor.requires_grad_(True).eval()
        self._modules: dict[str, nn.Module] = {"reconstructor": stage2.reconstructor}
        rates = {"reconstructor": config.reconstructor_rate, "generator": config.generator_rate}
        if stage2.config.train_generator:
            self._modules["generator"] = stage2.generator.unet
        self._steps = {
            name: Stepper([(list(module.parameters()), rates[name])], config, world)
            for name, module in self._modules.items()
        }
        self.emas = {name: Ema(m, config.ema_decay) for name, m in self._modules.items()}

    def step(self, step: int) -> Mapping[str, float]:
        """One update.

        Returns:
            The loss and its parts, and gradient norms, averaged over the processes.

        Raises:
            Fatal: a loss became non-finite.
        """
        numbers: dict[str, float] = {}
        for piece in batch_pieces(len(self._data), step, self.config, self._world):
            self._piece(step, piece, numbers)
        for name, stepper in self._steps.items():
            numbers[f"{name}_norm"] = stepper.update(step)
            self.emas[name].update(self._modules[name], step)
        return self._world.mean(numbers)

    def state_dict(self) -> dict[str, Any]:
        """Everything a later `step` depends on, as tensors and plain data."""
        return {
            name: {
                "weights": module.state_dict(),
                "steps": self._steps[name].state_dict(),
                "ema": self.emas[name].shadow,
            }
            for name, module in self._modules.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`. Raises `Fatal` when it does not fit."""
        try:
            for name, module in self._modules.items():
                module.load_state_dict(state[name]["weights"])
                self._steps[name].load_state_dict(state[name]["steps"])
                self.emas[name].load(state[name]["ema"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise refuse_foreign(error) from error

    def swap_averages(self) -> None:
        """Exchange the weights with their averages, in place; call again to undo."""
        for name, module in self._modules.items():
            self.emas[name].swap(module)

    def batch(self, step: int, piece: Piece) -> Stage2Batch:
        """The targets of a piece with the renders that are drawn for them, on the device."""
        draws = RowDraws(self.config.seed, step, piece.places, stream="renders")
        # A random order per row: its first K places are a draw without replacement.
        order = draws.normal((self._data.renders,)).argsort(dim=1)
        return on_device(
            self._data.batch(piece.rows, order[:, : self.config.views]),
            self.stage2.generator.device,
        )

    def _piece(self, step: int, piece: Piece, numbers: dict[str, float]) -> None:
        batch = self.batch(step, piece)
        with self.config.precision(self.stage2.generator.device):
            loss, parts = self.stage2.loss(batch)
        self._steps["reconstructor"].backward(loss, piece.weight, step)
        add_numbers(numbers, {"loss": float(loss.detach()), **parts}, piece.weight)


def on_device(batch: Stage2Batch, device: torch.device) -> Stage2Batch:
    """The same batch with its tensors on a device."""
    moved = {
        name: getattr(batch, name).to(device) for name in ("images", "z", "renders", "masks", "w2c")
    }
    return replace(batch, **moved)
