"""Stage II's training step: one update of the reconstructor, and of the generator if it learns."""

from __future__ import annotations

from dataclasses import dataclass

from geco_core.distill.optimise import OptimiseConfig


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
