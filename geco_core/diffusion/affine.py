"""The affine constants between images, codec pixels, raw latents and the latents a U-Net sees.

Follows Zero123++ (its `scale_image` and `scale_latents`). The one place these numbers are applied;
they come from `CodecConfig`, and a codec that needs none (the patch codec) sets neutral ones.
"""

from __future__ import annotations

from torch import Tensor

from geco_core.config.models import CodecConfig


class LatentAffine:
    """The affine maps of one codec.

    pixels = (2 u - 1) image_scale for u in [0, 1];
    latents = (raw scaling_factor - latent_shift) latent_scale.
    """

    def __init__(self, config: CodecConfig) -> None:
        self.config = config

    def scale_image(self, image: Tensor) -> Tensor:
        """[-1, 1] -> codec pixels."""
        return image * self.config.image_scale

    def unscale_image(self, pixels: Tensor) -> Tensor:
        """Codec pixels -> [-1, 1], not clamped."""
        return pixels / self.config.image_scale

    def scale_latents(self, latents: Tensor) -> Tensor:
        """Latents times the scaling factor -> what the U-Net sees."""
        return (latents - self.config.latent_shift) * self.config.latent_scale

    def unscale_latents(self, latents: Tensor) -> Tensor:
        """Inverse of `scale_latents`."""
        return latents / self.config.latent_scale + self.config.latent_shift

    def pixels(self, images: Tensor) -> Tensor:
        """Images in [0, 1] -> codec pixels."""
        return self.scale_image(images * 2.0 - 1.0)

    def images(self, pixels: Tensor) -> Tensor:
        """Codec pixels -> images clamped to [0, 1]."""
        return (self.unscale_image(pixels) / 2.0 + 0.5).clamp(0.0, 1.0)

    def latents(self, raw: Tensor) -> Tensor:
        """Raw codec latents -> what the U-Net sees."""
        return self.scale_latents(raw * self.config.scaling_factor)

    def raw(self, latents: Tensor) -> Tensor:
        """What the U-Net sees -> raw codec latents."""
        return self.unscale_latents(latents) / self.config.scaling_factor
