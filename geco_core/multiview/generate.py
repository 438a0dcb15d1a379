"""Condition pixels and item seeds in, six views out: the multi-view half of a system.

Legend: B batch, V views, S condition pixels, P vision-tower pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geco_core.config.models import SamplerConfig
from geco_core.diffusion import noise as streams
from geco_core.diffusion.noise import ItemNoise
from geco_core.imaging.framing import condition_pixels_from_tensor
from geco_core.multiview.zero123plus import Zero123Plus


@torch.no_grad()
def generate_views(
    model: Zero123Plus,
    pixels: tuple[Tensor, Tensor],
    seeds: Sequence[int],
    sampler: SamplerConfig,
) -> Tensor:
    """Sample the rig's views of every condition.

    Args:
        model: in eval mode.
        pixels: codec pixels [B, 3, S, S] and vision-tower pixels [B, 3, P, P], see
            `imaging.framing.condition_pixels`.
        seeds: one per row; every random draw of a row comes from its seed.
        sampler: kind, steps, guidance scale.

    Returns:
        [B, V, 3, view, view] in [0, 1], float32, on the model's device.
    """
    return model.decode(sample_latents(model, pixels, seeds, sampler))


@torch.no_grad()
def sample_latents(
    model: Zero123Plus,
    pixels: tuple[Tensor, Tensor],
    seeds: Sequence[int],
    sampler: SamplerConfig,
) -> Tensor:
    """Tile latents [B, c, H, W], float32, as the U-Net sees them; arguments of `generate_views`."""
    vae_pixels, clip_pixels = (p.to(model.device) for p in pixels)
    noise = ItemNoise(seeds)
    posterior = noise.draw(streams.POSTERIOR, model.condition_shape).to(model.device)
    condition = model.encode_condition(vae_pixels, clip_pixels, posterior)
    negative = None
    if sampler.guidance_scale != 1.0:
        draw = noise.draw(streams.POSTERIOR_NEGATIVE, model.condition_shape).to(model.device)
        negative = model.negative_condition(len(seeds), draw)
    return model.sample(
        condition, noise, sampler, negative=negative, reference_t=sampler.reference_t
    )


def views_of_images(
    model: Zero123Plus,
    images_B3SS: Tensor,
    seeds: Sequence[int],
    sampler: SamplerConfig,
    *,
    batch_size: int = 8,
) -> Tensor:
    """`generate_views` of framed condition images in [0, 1], a few at a time, on the CPU.

    Args:
        model: in eval mode.
        images_B3SS: framed, on the model's background.
        seeds: one per image.
        sampler: kind, steps, guidance scale.
        batch_size: images per pass.

    Returns:
        [B, V, 3, view, view] in [0, 1], float32.
    """
    made = [
        generate_views(
            model,
            condition_pixels_from_tensor(images_B3SS[i : i + batch_size], model.config),
            seeds[i : i + batch_size],
            sampler,
        ).cpu()
        for i in range(0, len(images_B3SS), batch_size)
    ]
    return torch.cat(made)
