"""From the numbers of an optimisation to what carries it out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from geco_core.config.train import UpdatesConfig
from geco_core.distill.optimise import Stepper
from geco_core.distill.world import World
from geco_core.training.loss_scale import ScaledStepper


def make_stepper(
    groups: Sequence[tuple[Sequence[nn.Parameter], float]],
    config: UpdatesConfig,
    seed: int,
    world: World,
) -> Stepper:
    """The optimiser of a training; one that scales the loss under float16.

    Args:
        groups: parameters and their learning rate.
        config: its numbers.
        seed: of the training.
        world: the processes that train together.
    """
    kind = ScaledStepper if config.precision == "float16" else Stepper
    return kind(groups, config.optimise(seed), world)


def autocast(config: UpdatesConfig, device: torch.device) -> torch.autocast:
    """The context the networks run in."""
    dtype = getattr(torch, config.precision)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
