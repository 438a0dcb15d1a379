"""Inception v3 with the habits of the network that FID is defined by; 2048 pooled features.

Architecture of Szegedy et al. (arXiv 1512.00567); tensors are named as in torchvision, which the
published conversion of the FID authors' weights follows. What differs from torchvision: average
pooling leaves the padding out, the last block pools by maximum, and the classifier, which is in the
file, has 1008 outputs.

Legend: B batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 2048
INPUT_SIDE = 299
Kernel = tuple[int, int]


class _Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, inputs: int, out: int, kernel: int | Kernel, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _same(inputs: int, out: int, kernel: int | Kernel) -> _Conv:
    """A convolution that keeps the size."""
    made = _Conv(inputs, out, kernel)
    high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
    made.conv.padding = (high // 2, wide // 2)
    return made


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _chain(module: nn.Module, names: list[str], x: Tensor) -> Tensor:
    for name in names:
        x = getattr(module, name)(x)
    return x


class _Block(nn.Module):
    """Parallel branches, concatenated: named convolutions and the order they are called in.

    Args:
        layers: convolutions by name.
        branches: names to call in a row, per branch; a branch that ends in a tuple splits there.
        pool: `average` or `max` before the branch `branch_pool`, or `stride`: a max-pooling of
            stride 2 as last branch.
    """

    def __init__(
        self, layers: Mapping[str, _Conv], branches: list[list[str | tuple[str, str]]], pool: str
    ) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.branches, self.pool = branches, pool

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch in self.branches:
            value = _chain(self, [name for name in branch if isinstance(name, str)], x)
            ends = [name for name in branch if isinstance(name, tuple)]
            outputs += [getattr(self, name)(value) for pair in ends for name in pair] or [value]
        if self.pool == "stride":
            outputs.append(F.max_pool2d(x, 3, stride=2))
        else:
            pooled = _average(x) if self.pool == "average" else F.max_pool2d(x, 3, 1, 1)
            outputs.append(_chain(self, ["branch_pool"], pooled))
        return torch.cat(outputs, 1)


def _block_a(inputs: int, pooled: int) -> _Block:
    return _Block(
        {
            "branch1x1": _same(inputs, 64, 1),
            "branch5x5_1": _same(inputs, 48, 1),
            "branch5x5_2": _same(48, 64, 5),
            "branch3x3dbl_1": _same(inputs, 64, 1),
            "branch3x3dbl_2": _same(64, 96, 3),
            "branch3x3dbl_3": _same(96, 96, 3),
            "branch_pool": _same(inputs, pooled, 1),
        },
        [["branch1x1"], ["branch5x5_1", "branch5x5_2"], [f"branch3x3dbl_{k}" for k in (1, 2, 3)]],
        "average",
    )


def _block_b(inputs: int) -> _Block:
    return _Block(
        {
            "branch3x3": _Conv(inputs, 384, 3, 2),
            "branch3x3dbl_1": _same(inputs, 64, 1),
            "branch3x3dbl_2": _same(64, 96, 3),
            "branch3x3dbl_3": _Conv(96, 96, 3, 2),
        },
        [["branch3x3"], [f"branch3x3dbl_{k}" for k in (1, 2, 3)]],
        "stride",
    )


def _block_c(inner: int) -> _Block:
    wide, high = (1, 7), (7, 1)
    return _Block(
        {
            "branch1x1": _same(768, 192, 1),
            "branch7x7_1": _same(768, inner, 1),
            "branch7x7_2": _same(inner, inner, wide),
            "branch7x7_3": _same(inner, 192, high),
            "branch7x7dbl_1": _same(768, inner, 1),
            "branch7x7dbl_2": _same(inner, inner, high),
            "branch7x7dbl_3": _same(inner, inner, wide),
            "branch7x7dbl_4": _same(inner, inner, high),
            "branch7x7dbl_5": _same(inner, 192, wide),
            "branch_pool": _same(768, 192, 1),
        },
        [
            ["branch1x1"],
            [f"branch7x7_{k}" for k in (1, 2, 3)],
            [f"branch7x7dbl_{k}" for k in (1, 2, 3, 4, 5)],
        ],
        "average",
    )


def _block_d() -> _Block:
    return _Block(
        {
            "branch3x3_1": _same(768, 192, 1),
            "branch3x3_2": _Conv(192, 320, 3, 2),
            "branch7x7x3_1": _same(768, 192, 1),
            "branch7x7x3_2": _same(192, 192, (1, 7)),
            "branch7x7x3_3": _same(192, 192, (7, 1)),
            "branch7x7x3_4": _Conv(192, 192, 3, 2),
        },
        [["branch3x3_1", "branch3x3_2"], [f"branch7x7x3_{k}" for k in (1, 2, 3, 4)]],
        "stride",
    )


def _block_e(inputs: int, pool: str) -> _Block:
    return _Block(
        {
            "branch1x1": _same(inputs, 320, 1),
            "branch3x3_1": _same(inputs, 384, 1),
            "branch3x3_2a": _same(384, 384, (1, 3)),
            "branch3x3_2b": _same(384, 384, (3, 1)),
            "branch3x3dbl_1": _same(inputs, 448, 1),
            "branch3x3dbl_2": _same(448, 384, 3),
            "branch3x3dbl_3a": _same(384, 384, (1, 3)),
            "branch3x3dbl_3b": _same(384, 384, (3, 1)),
            "branch_pool": _same(inputs, 192, 1),
        },
        [
            ["branch1x1"],
            ["branch3x3_1", ("branch3x3_2a", "branch3x3_2b")],
            ["branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")],
        ],
        pool,
    )


class FidInception(nn.Module):
    """The network, with weights that still have to be loaded; use it in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _same(32, 64, 3)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c = _block_a(192, 32), _block_a(256, 64)
        self.Mixed_5d = _block_a(288, 64)
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b, self.Mixed_6c = _block_c(128), _block_c(160)
        self.Mixed_6d, self.Mixed_6e = _block_c(160), _block_c(192)
        self.Mixed_7a = _block_d()
        self.Mixed_7b, self.Mixed_7c = _block_e(1280, "average"), _block_e(2048, "max")
        self.fc = nn.Linear(FEATURES, 1008)  # in the file; not called

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features [B, 2048] of images [B, 3, H, W] in [0, 1]."""
        side = (INPUT_SIDE, INPUT_SIDE)
        x = F.interpolate(images.float(), side, mode="bilinear", align_corners=False) * 2.0 - 1.0
        x = _chain(self, ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"], x)
        x = _chain(self, ["Conv2d_3b_1x1", "Conv2d_4a_3x3"], F.max_pool2d(x, 3, 2))
        x = F.max_pool2d(x, 3, 2)
        x = _chain(self, [f"Mixed_5{k}" for k in "bcd"], x)
        x = _chain(self, [f"Mixed_6{k}" for k in "abcde"], x)
        return _chain(self, [f"Mixed_7{k}" for k in "abc"], x).mean(dim=(2, 3))
