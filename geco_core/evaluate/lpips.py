"""LPIPS: learned perceptual distance of images (Zhang et al., arXiv 1801.03924, version 0.1).

Activations of a classification network at five depths, scaled to unit length per pixel, squared
differences weighted per channel, averaged over pixels and summed over depths. Written from the
paper; names follow torchvision's VGG-16 and AlexNet and the authors' linear layers, whose files it
reads. Fits `geco_core.evaluate.perceptual.Perceptual`: gradients reach the images.

Legend: B batch, C channels, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from geco_core.evaluate.metric_weights import WeightsFile, curl, load_part, require
from geco_core.evaluate.perceptual import RandomFeatures

Net = Literal["vgg", "alex"]
_TORCHVISION = "https://download.pytorch.org/models"
_AUTHORS = (
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1"
)
# ImageNet's mean and deviation for pixels in [-1, 1].
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


@dataclass(frozen=True)
class _Trunk:
    """Layers in torchvision's order: (out, kernel, stride, padding) convolutions with ReLU, or the
    kernel of a max-pooling of stride 2; taps are numbers of ReLU layers.
    """

    layers: tuple[tuple[int, int, int, int] | int, ...]
    taps: tuple[int, ...]
    channels: tuple[int, ...]
    backbone: WeightsFile
    linear: WeightsFile


def _conv(out: int, times: int) -> tuple[tuple[int, int, int, int], ...]:
    return ((out, 3, 1, 1),) * times


TRUNKS: dict[str, _Trunk] = {
    "vgg": _Trunk(
        layers=(
            *_conv(64, 2), 2, *_conv(128, 2), 2, *_conv(256, 3), 2, *_conv(512, 3), 2,
            *_conv(512, 3),
        ),
        taps=(3, 8, 15, 22, 29),
        channels=(64, 128, 256, 512, 512),
        backbone=WeightsFile(
            "vgg16-397923af.pth",
            "VGG-16 of torchvision",
            "BSD-3-Clause",
            curl(f"{_TORCHVISION}/vgg16-397923af.pth", "vgg16-397923af.pth"),
        ),
        linear=WeightsFile(
            "lpips-vgg.pth",
            "linear layers of LPIPS 0.1",
            "BSD-2-Clause",
            curl(f"{_AUTHORS}/vgg.pth", "lpips-vgg.pth"),
        ),
    ),
    "alex": _Trunk(
        layers=((64, 11, 4, 2), 3, (192, 5, 1, 2), 3, (384, 3, 1, 1), *_conv(256, 2)),
        taps=(1, 4, 7, 9, 11),
        channels=(64, 192, 384, 256, 256),
        backbone=WeightsFile(
            "alexnet-owt-7be5be79.pth",
            "AlexNet of torchvision",
            "BSD-3-Clause",
            curl(f"{_TORCHVISION}/alexnet-owt-7be5be79.pth", "alexnet-owt-7be5be79.pth"),
        ),
        linear=WeightsFile(
            "lpips-alex.pth",
            "linear layers of LPIPS 0.1",
            "BSD-2-Clause",
            curl(f"{_AUTHORS}/alex.pth", "lpips-alex.pth"),
        ),
    ),
}  # fmt: skip


class Lpips(nn.Module):
    """The distance, with weights that still have to be loaded.

    Args:
        net: which classification network.
    """

    def __init__(self, net: Net = "vgg") -> None:
        super().__init__()
        trunk = TRUNKS[net]
        self.taps = trunk.taps
        self.features = _features(trunk)
        self.linear = nn.ModuleDict(
            {
                f"lin{k}": nn.ModuleDict(
                    {"model": nn.ModuleDict({"1": nn.Conv2d(c, 1, 1, bias=False)})}
                )
                for k, c in enumerate(trunk.channels)
            }
        )

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Distances [B], at least 0 with trained weights, of images [B, 3, H, W] in [0, 1]."""
        both = torch.cat([images, targets]).float() * 2.0 - 1.0
        shift, scale = (both.new_tensor(numbers).view(1, 3, 1, 1) for numbers in (_SHIFT, _SCALE))
        values = (both - shift) / scale
        total = torch.zeros(len(images), device=images.device)
        taps = dict(zip(self.taps, self.linear.values(), strict=True))
        for number, layer in enumerate(self.features):
            values = layer(values)
            if number in taps:
                length = values.square().sum(dim=1, keepdim=True)
                # A root has no slope at 0, where ReLU leaves pixels without any activation.
                unit = values / (length.clamp(min=1e-20).sqrt() + 1e-10)
                ours, theirs = unit.chunk(2)
                weight = next(taps[number].parameters())  # [1, C, 1, 1]
                total = total + ((ours - theirs).square() * weight).sum(dim=1).mean(dim=(1, 2))
        return total


def lpips_files(net: Net) -> list[WeightsFile]:
    """The files the distance needs."""
    return [TRUNKS[net].backbone, TRUNKS[net].linear]


def load_lpips(folder: Path, net: Net = "vgg") -> Lpips:
    """The distance with the weights in a folder.

    Raises:
        ConfigError: files are missing (the remedy gets them) or damaged.
        Fatal: they are of another model.
    """
    backbone, linear = require(f"lpips ({net})", lpips_files(net), folder)
    metric = Lpips(net)
    load_part(metric.features, backbone, "features.", f"the trunk of LPIPS ({net})")
    load_part(metric.linear, linear, "", f"the linear layers of LPIPS ({net})")
    return metric


def load_perceptual(folder: str) -> Lpips | RandomFeatures:
    """The distance that training uses.

    Args:
        folder: with the weights of LPIPS; "" takes `RandomFeatures`, which needs none.

    Raises:
        ConfigError: see `load_lpips`.
        Fatal: see `load_lpips`.
    """
    return load_lpips(Path(folder)) if folder else RandomFeatures()


def _features(trunk: _Trunk) -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = 3
    for layer in trunk.layers:
        if isinstance(layer, int):
            layers.append(nn.MaxPool2d(layer, 2))
            continue
        out, kernel, stride, padding = layer
        layers += [nn.Conv2d(inputs, out, kernel, stride, padding), nn.ReLU()]
        inputs = out
    return nn.Sequential(*layers)
