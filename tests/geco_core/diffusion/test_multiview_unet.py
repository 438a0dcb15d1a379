"""The multi-view U-Net: which processors sit where, and what cameras do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from geco_core.diffusion.multiview_attention import (
    FRAMES,
    FrameAttnProcessor,
    ImageTokenAttnProcessor,
)
from geco_core.diffusion.multiview_unet import build_multiview_unet
from geco_core.errors import ConfigError
from tests.geco_core.multiview.crm_models import UNET

TINY = replace(UNET, image_tokens=2)


def test_every_layer_has_its_processor() -> None:
    unet = build_multiview_unet(TINY)
    for name, processor in unet.attn_processors.items():
        wanted = FrameAttnProcessor if "attn1" in name else ImageTokenAttnProcessor
        assert isinstance(processor, wanted), name
    added = [n for n in unet.state_dict() if ".processor." in n]
    assert len(added) == 2 * sum("attn2" in n for n in unet.attn_processors)


@torch.no_grad()
def test_cameras_and_frames_reach_the_output() -> None:
    torch.manual_seed(1)
    unet = build_multiview_unet(TINY).eval()
    x, states, cameras = torch.randn(4, 4, 4, 4), torch.randn(4, 5, 8), torch.randn(4, 16)

    def run(cameras: torch.Tensor, frames: int) -> torch.Tensor:
        return unet(
            x, 10, states, class_labels=cameras, cross_attention_kwargs={FRAMES: frames}
        ).sample

    assert float((run(cameras, 2) - run(cameras * 0, 2)).abs().max()) > 1e-4
    assert float((run(cameras, 2) - run(cameras, 4)).abs().max()) > 1e-5


def test_levels_are_checked() -> None:
    with pytest.raises(ConfigError, match="attention_heads has 1 entries"):
        build_multiview_unet(replace(TINY, attention_heads=(2,)))
