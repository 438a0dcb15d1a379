"""The state of the global generator is kept and given back."""

from __future__ import annotations

import torch

from geco_core.training.rng import rng_state, seed_torch, set_rng_state

CPU = torch.device("cpu")


def test_what_was_drawn_is_drawn_again() -> None:
    seed_torch(5)
    first = torch.rand(2)
    state = rng_state(CPU)
    later = torch.rand(2)
    set_rng_state(state, CPU)
    assert torch.equal(torch.rand(2), later)
    seed_torch(5)
    assert torch.equal(torch.rand(2), first)


def test_a_gpus_state_is_left_out_where_there_is_none() -> None:
    states = [torch.get_rng_state(), torch.zeros(16, dtype=torch.uint8)]
    set_rng_state(states, CPU)
    assert len(rng_state(CPU)) == 1
