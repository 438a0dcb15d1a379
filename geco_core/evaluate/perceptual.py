"""A perceptual distance without downloaded weights, behind the interface that LPIPS fits too.

Deep features compare images by their local structure rather than pixel by pixel (Zhang et al.,
arXiv 1801.03924); even the features of a network with random weights do (the paper's section 4.1
reports them as baseline). `RandomFeatures` is such a network, fixed by a seed: a pyramid of
convolutions whose unit-length activations are compared at every scale. It serves small images and
tests; trained perceptual weights replace it where there are any.

Legend: B batch, C channels, H W pixels.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Perceptual(Protocol):
    """A distance of images."""

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Distances [B], at least 0, of images [B, 3, H, W] in [0, 1]; gradients reach both."""
        ...


class RandomFeatures(nn.Module):
    """Distances of normalised features of a fixed random network.

    Args:
        widths: channels per scale; every scale halves the resolution.
        seed: of the weights.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 32, 48, 64), seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList()
        inputs = 3
        for width in widths:
            layer = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
            std = (2.0 / (9 * inputs)) ** 0.5
            with torch.no_grad():
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * std)
            self.layers.append(layer)
            inputs = width
        self.requires_grad_(False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """See `Perceptual`."""
        both = torch.cat([images, targets]).float() * 2.0 - 1.0
        total = torch.zeros(len(images), device=images.device)
        for layer in self.layers:
            both = F.leaky_relu(layer(both), 0.2)
            unit = both / (both.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()
            ours, theirs = unit.chunk(2)
            total = total + (ours - theirs).square().sum(dim=1).mean(dim=(1, 2))
            both = F.avg_pool2d(both, 2) if min(both.shape[-2:]) > 1 else both
        return total / len(self.layers)
