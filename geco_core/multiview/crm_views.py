"""CRM stage 1: six axis-parallel views of the object in one image.

Follows CRM (arXiv 2403.05034, section 3.1): ImageDream's network with seven frames, the last of
which holds the input's clean latent and is dropped. What differs: objects are batched, and every
draw comes from a noise source.

Legend: B objects, F frames, V views, S image pixels, P vision pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from geco_core.config.crm import DdimConfig, FrameRigConfig
from geco_core.diffusion.noise import INITIAL, POSTERIOR, NoiseSource
from geco_core.errors import BadItem, Reason
from geco_core.imaging.content import codec_pixels, vision_pixels
from geco_core.multiview.condition_encoders import ConditionEncoders, to_levels
from geco_core.multiview.imagedream import ImageDream, ObjectCondition
from geco_core.multiview.ortho_views import frame_cameras

BEHIND = 3


@torch.no_grad()
def generate_views(
    model: ImageDream,
    encoders: ConditionEncoders,
    images: Sequence[np.ndarray],
    noise: NoiseSource,
    sampler: DdimConfig,
) -> Tensor:
    """The views of B objects, uint8 [B, V, S, S, 3] on the CPU, in the order of the rig's views.

    Args:
        model: stage 1.
        encoders: shared with stage 2.
        images: prepared condition images (`imaging.content.prepare_image`), uint8 [N, N, 3] each.
        noise: draws the posterior of the reference latent, then the start.
        sampler: steps and guidance.
    """
    rig = model.config.rig
    pixels = torch.stack([codec_pixels(image, encoders.config.image_size) for image in images])
    drawn = noise.draw(POSTERIOR, encoders.latent_shape)
    reference = encoders.latents(pixels, drawn) if rig.reference else None
    channels = None
    if model.config.reference_channels:
        channels = reference_channels(encoders, pixels, rig, drawn)
    condition = image_condition(encoders, images, reference=reference, reference_channels=channels)
    start = noise.draw(INITIAL, (rig.frames, *encoders.latent_shape))
    latents = model.sample(condition, frame_cameras(rig), start, sampler)
    return frame_levels(encoders, latents[:, : rig.generated])


def reference_channels(
    encoders: ConditionEncoders,
    pixels_B3SS: Tensor,
    rig: FrameRigConfig,
    noise_Bchw: Tensor | None,
) -> Tensor:
    """Latents [B, F, c, h, w] of the condition image for every frame, the reference included.

    Seen from behind, an outline is mirrored: so is the image that the view from behind gets. In the
    other views rows or columns, or both, are in their place already.
    """
    plain = encoders.latents(pixels_B3SS, noise_Bchw)
    mirrored = encoders.latents(pixels_B3SS.flip(-1), noise_Bchw)
    frames = [mirrored if view == BEHIND else plain for view in rig.views]
    return torch.stack([*frames, *[plain] * int(rig.reference)], dim=1)


def image_condition(
    encoders: ConditionEncoders,
    images: Sequence[np.ndarray],
    *,
    reference: Tensor | None = None,
    pixel_latents: Tensor | None = None,
    reference_channels: Tensor | None = None,
) -> ObjectCondition:
    """The condition on prepared images, uint8 [N, N, 3] each, and on latents made of them."""
    size = encoders.config.vision.image_size
    vision = torch.stack([vision_pixels(image, size) for image in images])
    text, negative = encoders.prompt_states()
    return ObjectCondition(
        text=text,
        negative_text=negative,
        image_states=encoders.image_states(vision),
        reference=reference,
        pixel_latents=pixel_latents,
        reference_channels=reference_channels,
    )


def frame_levels(encoders: ConditionEncoders, latents_BFchw: Tensor) -> Tensor:
    """Frames uint8 [B, F, S, S, 3] on the CPU of scaled latents.

    Raises:
        BadItem: `non_finite`, which whole numbers could not say any more.
    """
    images = encoders.images(latents_BFchw.flatten(0, 1))  # [B F, 3, S, S]
    if not bool(latents_BFchw.isfinite().all() and images.isfinite().all()):
        raise BadItem(
            "the diffusion models produced non-finite frames",
            reason=Reason.NON_FINITE,
            remedy="check the weights and the precision",
            stage="multiview",
        )
    levels = to_levels(images).permute(0, 2, 3, 1).cpu()
    return levels.unflatten(0, latents_BFchw.shape[:2]).contiguous()
