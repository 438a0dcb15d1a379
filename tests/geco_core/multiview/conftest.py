"""Tiny multi-view models, one in the published layout and one in the micro layout."""

from __future__ import annotations

import pytest
import torch

from geco_core.config.models import (
    CodecConfig,
    MultiViewConfig,
    ScheduleConfig,
    TextTowerConfig,
    UNetConfig,
    ViewRigConfig,
    VisionTowerConfig,
)
from geco_core.multiview.zero123plus import Zero123Plus

VISION = VisionTowerConfig(16, 16, 1, 2, image_size=8, patch_size=4, projection_dim=8)
TEXT = TextTowerConfig(12, 8, 16, 1, 2, max_position_embeddings=5, bos_token_id=10, eos_token_id=11)
UNET = UNetConfig(
    block_out_channels=(8, 16),
    attention_levels=(False, True),
    attention_heads=(1, 2),
    layers_per_block=1,
    cross_attention_dim=8,
    norm_num_groups=4,
)


@pytest.fixture(scope="module")
def published() -> Zero123Plus:
    """Autoencoder, published affine constants and betas, four input channels."""
    torch.manual_seed(3)
    config = MultiViewConfig(
        unet=UNET,
        codec=CodecConfig(block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4),
        vision=VISION,
        text=TEXT,
        rig=ViewRigConfig(view_size=8),
        condition_size=16,
    )
    return Zero123Plus(config).eval()


@pytest.fixture(scope="module")
def micro() -> Zero123Plus:
    """Patch codec, condition channels, zero terminal SNR."""
    torch.manual_seed(4)
    latent, views = 3, 6
    codec = CodecConfig(
        kind="patch",
        latent_channels=latent,
        patch_size=4,
        scaling_factor=1.0,
        latent_shift=0.0,
        latent_scale=1.0,
        image_scale=1.0,
        condition_mean=0.5,
        condition_std=0.5,
    )
    fields = {**UNET.__dict__, "in_channels": 2 * latent + 2 + views, "out_channels": latent}
    config = MultiViewConfig(
        unet=UNetConfig(**fields),
        codec=codec,
        vision=VISION,
        text=TEXT,
        schedule=ScheduleConfig(rescale_betas_zero_snr=True),
        rig=ViewRigConfig(view_size=16),
        condition_size=16,
        condition_channels=True,
        condition_latent_gain=2.0,
    )
    model = Zero123Plus(config).eval()
    model.codec.fit(torch.rand(4, 3, 16, 16))  # pyright: ignore[reportCallIssue]
    return model
