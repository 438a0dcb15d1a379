"""The state of torch's global generators.

The draws of this project come from generators of their own. What is left to the global ones are
the first values of fresh adapters and the dropout of third-party modules; a training process seeds
them from its configuration, and its checkpoints keep them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def seed_torch(seed: int) -> None:
    """Seed the generators of the CPU and of every GPU of this process."""
    torch.manual_seed(seed % 2**63)


def rng_state(device: torch.device) -> list[Tensor]:
    """State of the CPU's generator and, on a GPU, of the device's; uint8, on the CPU."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def set_rng_state(states: list[Tensor], device: torch.device) -> None:
    """Inverse of `rng_state`; a state of a kind of device that is not there is left out."""
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
