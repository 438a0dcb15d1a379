"""Optimiser steps under float16: the loss is scaled so that small gradients do not vanish.

Follows mixed-precision training (arXiv 1710.03740) with a scale that moves: halved when a gradient
overflows, whose step is left out, and doubled after `WINDOW` steps without one. Every process sees
the same averaged gradients, so all decide alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geco_core.distill.optimise import OptimiseConfig, Stepper
from geco_core.distill.world import World
from geco_core.errors import Fatal

INITIAL_SCALE = 2.0**16
WINDOW = 1000


class ScaledStepper(Stepper):
    """A `Stepper` whose loss is scaled. Arguments as there."""

    def __init__(
        self,
        groups: Sequence[tuple[Sequence[nn.Parameter], float]],
        config: OptimiseConfig,
        world: World,
    ) -> None:
        super().__init__(groups, config, world)
        self.scale, self._good = INITIAL_SCALE, 0

    def backward(self, loss: Tensor, weight: float, step: int) -> None:
        """See `Stepper.backward`."""
        super().backward(loss, weight * self.scale, step)

    def update(self, step: int) -> float:
        """See `Stepper.update`; a step whose gradients overflow changes no weight, norm 0.

        Raises:
            Fatal: gradients overflow at scale 1.
        """
        self._world.average_gradients(self._parameters)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if all(bool(torch.isfinite(g).all()) for g in gradients):
            for gradient in gradients:
                gradient.div_(self.scale)
            self._good += 1
            if self._good % WINDOW == 0:
                self.scale *= 2.0
            return self._apply(step)
        if self.scale <= 1.0:
            raise Fatal(
                f"gradients overflow float16 at step {step}",
                stage="train",
                remedy="set updates.precision=bfloat16 or float32",
            )
        self.scale, self._good = self.scale / 2.0, 0
        self._forget()
        return 0.0

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state and the scale."""
        return {"adam": super().state_dict(), "scale": self.scale, "good": self._good}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`."""
        super().load_state_dict(state["adam"])
        self.scale, self._good = float(state["scale"]), int(state["good"])
