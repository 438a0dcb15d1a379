"""The attention module equals torch's and shares its names."""

from __future__ import annotations

import pytest
import torch

from geco_core.reconstruct.attention import MultiheadAttention


@pytest.mark.parametrize("context_dim", [16, 24])
def test_equals_torch_and_shares_its_state_dict(context_dim: int) -> None:
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(
        16, 2, bias=False, kdim=context_dim, vdim=context_dim, batch_first=True
    )
    ours = MultiheadAttention(16, 2, context_dim)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(theirs.state_dict())
    tokens, context = torch.randn(2, 5, 16), torch.randn(2, 7, context_dim)
    torch.testing.assert_close(ours(tokens, context), theirs(tokens, context, context)[0])
    if context_dim == 16:
        torch.testing.assert_close(ours(tokens), theirs(tokens, tokens, tokens)[0])


def test_indivisible_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="divisible"):
        MultiheadAttention(10, 3)
