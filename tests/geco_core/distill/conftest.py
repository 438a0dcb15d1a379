"""A multi-view model of a few thousand weights, and conditions to train it on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geco_core.config.models import (
    CodecConfig,
    MultiViewConfig,
    ScheduleConfig,
    TextTowerConfig,
    UNetConfig,
    ViewRigConfig,
    VisionTowerConfig,
)
from geco_core.distill.stage1 import TeacherPairs
from geco_core.multiview.zero123plus import Zero123Plus


def tiny_config() -> MultiViewConfig:
    return MultiViewConfig(
        unet=UNetConfig(
            in_channels=3,
            out_channels=3,
            block_out_channels=(8, 16),
            attention_levels=(False, True),
            attention_heads=(1, 2),
            layers_per_block=1,
            cross_attention_dim=8,
            norm_num_groups=4,
        ),
        codec=CodecConfig(
            kind="patch",
            latent_channels=3,
            patch_size=4,
            scaling_factor=1.0,
            latent_shift=0.0,
            latent_scale=1.0,
            image_scale=1.0,
            condition_mean=0.5,
            condition_std=0.5,
        ),
        vision=VisionTowerConfig(16, 16, 1, 2, image_size=8, patch_size=4, projection_dim=8),
        text=TextTowerConfig(
            12, 8, 16, 1, 2, max_position_embeddings=5, bos_token_id=10, eos_token_id=11
        ),
        schedule=ScheduleConfig(rescale_betas_zero_snr=True),
        rig=ViewRigConfig(view_size=8),
        condition_size=16,
    )


class RandomData:
    """Sixteen random condition images, with made-up teacher samples."""

    def __init__(self, model: Zero123Plus, *, pairs: bool = False) -> None:
        g = torch.Generator().manual_seed(0)
        self._images = torch.rand(16, 3, 16, 16, generator=g)
        self._z = torch.randn(16, *model.latent_shape, generator=g)
        self._latents = torch.randn(16, *model.latent_shape, generator=g)
        self._has_pairs = pairs

    def __len__(self) -> int:
        return 16

    def images(self, rows: Tensor) -> Tensor:
        return self._images[rows]

    def pairs(self, rows: Tensor) -> TeacherPairs | None:
        return TeacherPairs(self._z[rows], self._latents[rows]) if self._has_pairs else None


@pytest.fixture
def teacher() -> Zero123Plus:
    torch.manual_seed(0)
    return Zero123Plus(tiny_config())
