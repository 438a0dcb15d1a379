"""Tiny diffusion models of CRM, with the published layout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from geco_core.config.crm import (
    ConditionEncodersConfig,
    CrmDiffusionConfig,
    DdimConfig,
    FrameRigConfig,
    ImageDreamConfig,
    MultiViewUNetConfig,
    ResamplerConfig,
)
from geco_core.config.models import CodecConfig, TextTowerConfig, VisionTowerConfig

UNET = MultiViewUNetConfig(
    block_out_channels=(8, 16),
    attention_levels=(True, False),
    attention_heads=(2, 2),
    layers_per_block=1,
    cross_attention_dim=8,
    norm_num_groups=4,
    image_tokens=3,
)
RESAMPLER = ResamplerConfig(input_width=16, layers=2, heads=2, head_width=4)
ENCODERS = ConditionEncodersConfig(
    codec=CodecConfig(
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        latent_shift=0.0,
        latent_scale=1.0,
        image_scale=1.0,
    ),
    text=TextTowerConfig(
        12, 8, 16, 2, 2, max_position_embeddings=6, bos_token_id=10, eos_token_id=11
    ),
    vision=VisionTowerConfig(16, 32, 2, 2, image_size=8, patch_size=4, projection_dim=8),
    image_size=16,
    prompt_ids=(1, 2),
    negative_ids=(3, 4, 5),
)
VIEWS = ImageDreamConfig(unet=UNET, resampler=RESAMPLER, rig=FrameRigConfig(reference=True))
CCM = ImageDreamConfig(unet=replace(UNET, in_channels=8), resampler=RESAMPLER, pixel_latents=True)
SAMPLER = DdimConfig(steps=3, guidance_scale=2.0)
CRM = CrmDiffusionConfig(
    encoders=ENCODERS, views=VIEWS, ccm=CCM, views_sampler=SAMPLER, ccm_sampler=SAMPLER
)


def seeded(build: Any, config: Any, seed: int = 3) -> Any:
    """A model in evaluation mode whose weights depend on the seed."""
    torch.manual_seed(seed)
    return build(config).eval()


def pictures(count: int) -> list[np.ndarray]:
    """Prepared condition images of random levels, all different."""
    generator = np.random.default_rng(1)
    return [generator.integers(0, 256, (20, 20, 3)).astype(np.uint8) for _ in range(count)]
