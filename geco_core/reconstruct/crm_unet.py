"""CRM's convolutional network from noised images to triplanes.

Same function as the U-Net of CRM (arXiv 2403.05034, section 3.2): diffusers' `UNet2DModel`, told
how far its input is noised. Images of opposite views and their coordinate maps are pixel-aligned
with the planes; learned channels are appended after the noising. What differs: the noise is an
argument, so that a result depends on its item's seed alone.

Legend: B batch, S plane side, C plane channels.
"""

from __future__ import annotations

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from geco_core.config.crm_reconstructor import CrmReconstructorConfig, CrmUNetConfig
from geco_core.diffusion.noise import NoiseSource
from geco_core.diffusion.schedule import NoiseSchedule
from geco_core.fields.rolled_planes import unroll_planes

STREAM = "crm_input"


class CrmUNet(nn.Module):
    """`network` (diffusers' names) and `learned_plane` [1, L, S, 3 S]."""

    def __init__(self, config: CrmUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.network = build_network(config)
        size = config.plane_size
        self.learned_plane = nn.Parameter(
            torch.empty(1, config.learned_channels, size, 3 * size).normal_(std=0.1)
        )

    def forward(self, images: Tensor, t: Tensor | int) -> Tensor:
        """Rolled-out planes [B, C, S, 3 S].

        Args:
            images: noised [B, image channels, S, 3 S].
            t: timestep the images were noised to; a scalar or [B].
        """
        learned = self.learned_plane.expand(len(images), -1, -1, -1)
        return self.network(torch.cat([images, learned], 1), t).sample


def build_network(config: CrmUNetConfig) -> UNet2DModel:
    """The U-Net with random weights."""
    down = tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in config.attention_levels)
    up = tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(config.attention_levels))
    return UNet2DModel(
        sample_size=(config.plane_size, 3 * config.plane_size),
        in_channels=config.image_channels + config.learned_channels,
        out_channels=config.out_channels,
        block_out_channels=config.block_out_channels,
        down_block_types=down,
        up_block_types=up,
        layers_per_block=config.layers_per_block,
        attention_head_dim=config.attention_head_dim,
        add_attention=config.mid_attention,
        norm_num_groups=config.norm_num_groups,
    )


class InputNoise:
    """Noises images to the one timestep that the network was trained behind.

    x_t = sqrt(abar_t) x + sqrt(1 - abar_t) (std n + mean), n standard normal.
    """

    def __init__(self, config: CrmReconstructorConfig) -> None:
        self._config = config
        self._schedule = NoiseSchedule(config.schedule)

    @property
    def alpha_cumprod(self) -> Tensor:
        """Abar at the timestep, a float32 scalar."""
        return self._schedule.alphas_cumprod[self._config.timestep]

    def draw(self, source: NoiseSource) -> Tensor:
        """Standard normal noise [B, image channels, S, 3 S] of the items of `source`."""
        unet = self._config.unet
        return source.draw(STREAM, (unet.image_channels, unet.plane_size, 3 * unet.plane_size))

    def add(self, images: Tensor, noise: Tensor) -> Tensor:
        """Noised images, float32.

        Args:
            images: [B, image channels, S, 3 S] in [0, 1].
            noise: standard normal, of the same shape.
        """
        shaped = noise.to(images.device) * self._config.noise_std + self._config.noise_mean
        return self._schedule.add_noise(images, shaped, self._config.timestep)


def planes_of(unet: CrmUNet, noised: Tensor, timestep: int) -> Tensor:
    """Planes [B, 3, C, S, S], float32, of noised images."""
    return unroll_planes(unet(noised, timestep)).float()
