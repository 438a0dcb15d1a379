"""CRM stage 2: the canonical coordinate maps of six views.

Follows CRM (arXiv 2403.05034, section 3.1): the same network with the latents of the six views as
further input channels. A coordinate map holds the position p in [-1, 1]^3 of the surface seen as
colour (p + 1) / 2, red, green, blue = x, y, z, in the canonical frame of `ortho_views`.

Legend: B objects, F frames, S pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geco_core.config.crm import DdimConfig
from geco_core.diffusion.noise import NoiseSource
from geco_core.multiview.condition_encoders import ConditionEncoders
from geco_core.multiview.crm_views import frame_levels, image_condition
from geco_core.multiview.imagedream import ImageDream
from geco_core.multiview.ortho_views import frame_cameras

# Streams: the start of sampling, the posterior draws of the six views.
CCM_INITIAL = "ccm_initial"
CCM_POSTERIOR = "ccm_posterior"


@torch.no_grad()
def generate_ccms(
    model: ImageDream,
    encoders: ConditionEncoders,
    images: Sequence[np.ndarray],
    views_BFSS3: Tensor,
    noise: NoiseSource,
    sampler: DdimConfig,
) -> Tensor:
    """The coordinate maps of B objects, uint8 [B, F, S, S, 3] on the CPU, in the views' order.

    Args:
        model: stage 2.
        encoders: shared with stage 1.
        images: the prepared condition images of stage 1.
        views_BFSS3: uint8, what stage 1 made.
        noise: draws the posterior of the view latents, then the start.
        sampler: steps and guidance.
    """
    rig = model.config.rig
    shape = (rig.frames, *encoders.latent_shape)
    latents = view_latents(encoders, views_BFSS3, noise.draw(CCM_POSTERIOR, shape))
    condition = image_condition(encoders, images, pixel_latents=latents)
    found = model.sample(condition, frame_cameras(rig), noise.draw(CCM_INITIAL, shape), sampler)
    return frame_levels(encoders, found)


def view_latents(
    encoders: ConditionEncoders, views_BFSS3: Tensor, noise_BFchw: Tensor | None
) -> Tensor:
    """Scaled latents [B, F, c, h, w] of uint8 views; the posterior's mean without noise."""
    pixels = views_BFSS3.flatten(0, 1).permute(0, 3, 1, 2).float() / 255.0
    noise = None if noise_BFchw is None else noise_BFchw.flatten(0, 1)
    return encoders.latents(pixels * 2.0 - 1.0, noise).unflatten(0, views_BFSS3.shape[:2])
