"""The perceiver: shapes, dependence on the states, gradients."""

from __future__ import annotations

import torch

from geco_core.config.crm import ResamplerConfig
from geco_core.multiview.resampler import Resampler


def test_tokens_depend_on_the_states_of_their_row() -> None:
    torch.manual_seed(0)
    model = Resampler(ResamplerConfig(input_width=6, layers=2, heads=2, head_width=4), 3, 8)
    states = torch.randn(2, 5, 6, requires_grad=True)
    tokens = model(states)
    assert tokens.shape == (2, 3, 8)
    torch.testing.assert_close(tokens[:1], model(states[:1]))
    tokens[0].pow(2).sum().backward()
    assert states.grad is not None
    assert float(states.grad[0].abs().max()) > 0
    assert float(states.grad[1].abs().max()) == 0


def test_states_are_a_set() -> None:
    torch.manual_seed(0)
    model = Resampler(ResamplerConfig(input_width=6, layers=1, heads=2, head_width=4), 3, 8)
    states = torch.randn(1, 5, 6)
    torch.testing.assert_close(model(states.flip(1)), model(states), rtol=1e-5, atol=1e-6)
    assert len({tuple(row) for row in model(states)[0].tolist()}) == 3  # queries differ
