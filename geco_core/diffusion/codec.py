"""Latent codecs: the published autoencoder and a closed-form patch codec behind one interface.

A codec maps pixels (centred, about [-1, 1] times `image_scale`) to *raw* latents and back. The
affine constants around it (scaling factor, shift, image scale) are applied by
`geco_core.diffusion.affine`, never by the codec.

Legend: B batch, k latent channels, H W pixels, h = H / f, w = W / f with f the codec's stride, p
patch size.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn

from geco_core.config.models import CodecConfig


def codec_stride(config: CodecConfig) -> int:
    """Pixels per latent cell and side."""
    if config.kind == "patch":
        return config.patch_size
    return 2 ** (len(config.block_out_channels) - 1)


class LatentCodec(nn.Module, ABC):
    """Pixels <-> raw latents.

    Attributes:
        stride: pixels per latent cell and side.
        latent_channels: k.
    """

    stride: int
    latent_channels: int

    @abstractmethod
    def moments(self, pixels_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (which may be 0) of the posterior, both [B, k, h, w]."""

    @abstractmethod
    def decode(self, latents_Bkhw: Tensor) -> Tensor:
        """Raw latents [B, k, h, w] -> pixels [B, 3, H, W]."""

    def encode(self, pixels_B3HW: Tensor, noise_Bkhw: Tensor | None = None) -> Tensor:
        """One draw of the posterior, [B, k, h, w]; its mean when no noise is given."""
        mean, std = self.moments(pixels_B3HW)
        return mean if noise_Bkhw is None else mean + std * noise_Bkhw.to(mean)


class AutoencoderKLCodec(LatentCodec):
    """The Stable Diffusion autoencoder (diffusers' `AutoencoderKL`)."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        levels = len(config.block_out_channels)
        # diffusers annotates these tuples with one element.
        blocks: dict[str, Any] = {
            "block_out_channels": config.block_out_channels,
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
        }
        self.vae = AutoencoderKL(
            **blocks,
            layers_per_block=config.layers_per_block,
            latent_channels=config.latent_channels,
            norm_num_groups=config.norm_num_groups,
            scaling_factor=config.scaling_factor,
        )
        self.stride = codec_stride(config)
        self.latent_channels = config.latent_channels

    def moments(self, pixels_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the encoder's Gaussian."""
        posterior = self.vae.encode(pixels_B3HW.to(self.vae.dtype), return_dict=False)[0]
        return posterior.mean, posterior.std

    def decode(self, latents_Bkhw: Tensor) -> Tensor:
        """The decoder's pixels, not clamped."""
        latents = cast("torch.FloatTensor", latents_Bkhw.to(self.vae.dtype))
        return self.vae.decode(latents, return_dict=False)[0]


class PatchCodec(LatentCodec):
    """Principal components of p x p RGB patches: a convolution fitted in closed form.

    Channels are half-whitened: each is divided by the square root of its own standard deviation,
    then all by one number that makes the mean channel variance 1. Full whitening would weigh noise
    channels as much as the first ones; none at all leaves a twentyfold range of scales.

    Buffers: basis [k, 3 p p] (orthonormal rows, patch order colour-row-column), mean [3 p p], scale
        [k].
    """

    basis: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        size = 3 * config.patch_size**2
        self.stride = codec_stride(config)
        self.latent_channels = config.latent_channels
        self.register_buffer("basis", torch.eye(config.latent_channels, size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(config.latent_channels))

    @torch.no_grad()
    def fit(self, images_M3HW: Tensor) -> None:
        """Fit basis, mean and scale to images [M, 3, H, W] in [0, 1].

        H and W are multiples of the patch size.
        """
        patches_NP = self._patches(images_M3HW.double() * 2.0 - 1.0)
        mean_P = patches_NP.mean(dim=0)
        centred_NP = patches_NP - mean_P
        covariance_PP = centred_NP.T @ centred_NP / len(centred_NP)
        variance, vectors = torch.linalg.eigh(covariance_PP)  # ascending
        k = self.latent_channels
        basis_kP = vectors.T.flip(0)[:k]
        # An eigenvector's sign is arbitrary: a positive largest entry makes fits reproducible.
        largest = basis_kP.gather(1, basis_kP.abs().argmax(dim=1, keepdim=True))
        basis_kP = basis_kP * largest.sign()
        std_k = variance.flip(0)[:k].clamp(min=1e-12).sqrt()
        half_k = std_k.sqrt()
        overall = math.sqrt(float(((std_k / half_k) ** 2).mean()))
        self.basis.copy_(basis_kP)
        self.mean.copy_(mean_P)
        self.scale.copy_(half_k * overall)

    def moments(self, pixels_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """The projection of every patch, and a deviation of zero."""
        # Autocast would round the regression targets to bfloat16.
        with _full_precision(pixels_B3HW.device):
            kernel = self._kernel() / self.scale[:, None, None, None]
            offset = (self.basis @ self.mean) / self.scale
            mean_Bkhw = F.conv2d(
                pixels_B3HW.to(self.basis.dtype), kernel, -offset, stride=self.stride
            )
        return mean_Bkhw, torch.zeros_like(mean_Bkhw)

    def decode(self, latents_Bkhw: Tensor) -> Tensor:
        """The patches in the span of the basis, not clamped."""
        with _full_precision(latents_Bkhw.device):
            kernel = self._kernel() * self.scale[:, None, None, None]
            pixels_B3HW = F.conv_transpose2d(
                latents_Bkhw.to(self.basis.dtype), kernel, stride=self.stride
            )
        patch = self.mean.reshape(3, self.stride, self.stride)
        return pixels_B3HW + patch.repeat(1, *latents_Bkhw.shape[-2:])

    def _kernel(self) -> Tensor:
        return self.basis.reshape(-1, 3, self.stride, self.stride)

    def _patches(self, pixels_B3HW: Tensor) -> Tensor:
        columns_BPN = F.unfold(pixels_B3HW, self.stride, stride=self.stride)
        return columns_BPN.transpose(1, 2).flatten(0, 1)


_CODECS: dict[str, type[AutoencoderKLCodec] | type[PatchCodec]] = {
    "autoencoder_kl": AutoencoderKLCodec,
    "patch": PatchCodec,
}


def _full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast off; devices without autocast (meta) need nothing."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def build_codec(config: CodecConfig) -> LatentCodec:
    """The codec the configuration names, unfitted."""
    return _CODECS[config.kind](config)
