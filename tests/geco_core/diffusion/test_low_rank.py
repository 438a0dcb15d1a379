"""Adapters start at zero, train alone, and merge into plain layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geco_core.diffusion.low_rank import LowRankLinear, add_low_rank, merge_low_rank
from geco_core.diffusion.unet import build_unet
from tests.support.tiny_models import TINY_PATCH_UNET


@pytest.fixture
def unet() -> nn.Module:
    torch.manual_seed(0)
    return build_unet(TINY_PATCH_UNET).eval()


def run(unet: nn.Module) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    x, states = torch.randn(1, 3, 8, 8, generator=g), torch.randn(1, 5, 8, generator=g)
    with torch.no_grad():
        return unet(x, torch.tensor([10]), states, return_dict=False)[0]


def test_adapters_start_at_zero_change_the_output_when_trained_and_merge(unet: nn.Module) -> None:
    before = run(unet)
    names = set(unet.state_dict())
    trained = add_low_rank(unet, 3)
    assert torch.equal(run(unet), before)
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.3)
    changed = run(unet)
    assert (changed - before).abs().max() > 1e-3
    merge_low_rank(unet)
    assert set(unet.state_dict()) == names
    torch.testing.assert_close(run(unet), changed, atol=1e-5, rtol=1e-4)


def test_every_attention_projection_is_adapted(unet: nn.Module) -> None:
    add_low_rank(unet, 2)
    adapted = [n for n, m in unet.named_modules() if isinstance(m, LowRankLinear)]
    attentions = [n for n, m in unet.named_modules() if n.endswith(("attn1", "attn2"))]
    assert len(adapted) == 4 * len(attentions) > 0


def test_scale_zero_switches_the_adapter_off(unet: nn.Module) -> None:
    before = run(unet)
    for parameter in add_low_rank(unet, 2, scale=0.0):
        nn.init.ones_(parameter)
    assert torch.equal(run(unet), before)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="rank"):
        LowRankLinear(nn.Linear(2, 2), 0)
    with pytest.raises(ValueError, match="no linear layer"):
        add_low_rank(nn.Sequential(nn.Linear(2, 2)), 1)
