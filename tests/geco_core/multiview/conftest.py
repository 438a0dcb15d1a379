"""Tiny multi-view models, one in the published layout and one in the micro layout."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from geco_core.config.models import ViewRigConfig
from geco_core.multiview.zero123plus import Zero123Plus
from tests.support.tiny_models import (
    TINY_PATCH_CODEC,
    TINY_PATCH_UNET,
    TINY_PATCH_VIEWS,
    TINY_VIEWS,
)


@pytest.fixture(scope="module")
def published() -> Zero123Plus:
    """Autoencoder, published affine constants and betas, four input channels."""
    torch.manual_seed(3)
    return Zero123Plus(TINY_VIEWS).eval()


@pytest.fixture(scope="module")
def micro() -> Zero123Plus:
    """Patch codec, condition channels, zero terminal SNR."""
    torch.manual_seed(4)
    channels = 2 * TINY_PATCH_CODEC.latent_channels + 2 + 6  # latents, frame, view
    config = replace(
        TINY_PATCH_VIEWS,
        unet=replace(TINY_PATCH_UNET, in_channels=channels),
        rig=ViewRigConfig(view_size=16),
        condition_channels=True,
        condition_latent_gain=2.0,
    )
    model = Zero123Plus(config).eval()
    model.codec.fit(torch.rand(4, 3, 16, 16))  # pyright: ignore[reportCallIssue]
    return model
