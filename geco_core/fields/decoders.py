"""Point decoders: small MLPs from triplane features to geometry and colour.

Same functions and state-dict names as InstantMesh's synthesizer (arXiv 2404.07191, section 3.2).
What differs: each head can be evaluated alone, so that inference runs the weight and deformation
heads near the surface only; the last layer of every head runs in float32 under autocast, because
eight bits of SDF move the surface; and an optional sphere bias keeps untrained shapes non-empty.

Frame: points are world, in [-1, 1]^3. SDF < 0 is inside.

Legend: B batch, P points, C plane channels.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geco_core.fields.triplane import sample_planes

WEIGHTS_PER_CUBE = 21  # FlexiCubes: 12 beta, 8 alpha, 1 gamma
WEIGHT_GAIN = 0.1


class CubeHead(Protocol):
    """What gives FlexiCubes weights."""

    def weights(self, corner_features: Tensor) -> Tensor:
        """[..., 21] of cubes from their corners' features [..., 8 * features], concatenated."""
        ...


class HeadMLP(nn.Sequential):
    """Four linear layers with ReLU between them (indices 0, 2, 4, 6); the last one in float32."""

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__(
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name torch gives it
        """[..., inputs] -> float32 [..., outputs]."""
        *hidden, last = self
        assert isinstance(last, nn.Linear)
        features = input
        for layer in hidden:
            features = layer(features)
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(features.to(last.weight.dtype), last.weight, last.bias).float()


def activate_color(raw: Tensor) -> Tensor:
    """Sigmoid stretched to [-0.001, 1.001], so that pure black and white are reachable.

    Clamp when exporting.
    """
    return torch.sigmoid(raw) * 1.002 - 0.001


class MeshDecoder(nn.Module):
    """Heads of the mesh variant: `net_sdf`, `net_deformation`, `net_weight`, `net_rgb`.

    Args:
        channels: C, channels of one plane.
        hidden: width of the hidden layers.
        sphere_radius: adds |p| - radius to the SDF when positive; 0 in the published model.
        sdf_scale: multiplies the SDF head's raw output; 1 in the published model.
    """

    def __init__(
        self, channels: int, hidden: int = 64, *, sphere_radius: float = 0.0, sdf_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.sphere_radius = sphere_radius
        self.sdf_scale = sdf_scale
        self.net_sdf = HeadMLP(3 * channels, 1, hidden)
        self.net_rgb = HeadMLP(3 * channels, 3, hidden)
        self.net_deformation = HeadMLP(3 * channels, 3, hidden)
        self.net_weight = HeadMLP(8 * 3 * channels, WEIGHTS_PER_CUBE, hidden)

    def features(self, planes: Tensor, points: Tensor) -> Tensor:
        """Features [B, P, 3C] of points [B, P, 3] in planes [B, 3, C, h, w].

        Input of the `*_of` methods.
        """
        return sample_planes(planes, points)

    def sdf_of(self, features: Tensor, points: Tensor) -> Tensor:
        """Signed distance [..., 1] from features [..., 3C] of points [..., 3]."""
        sdf = self.net_sdf(features)
        if self.sdf_scale != 1.0:
            sdf = sdf * self.sdf_scale
        if self.sphere_radius > 0:
            sdf = sdf + (points.float().norm(dim=-1, keepdim=True) - self.sphere_radius)
        return sdf

    def deformation_of(self, features: Tensor) -> Tensor:
        """Raw deformation [..., 3], before tanh and the grid's scale."""
        return self.net_deformation(features)

    def rgb_of(self, features: Tensor) -> Tensor:
        """Colour [..., 3] in [-0.001, 1.001]."""
        return activate_color(self.net_rgb(features))

    def weights(self, corner_features: Tensor) -> Tensor:
        """FlexiCubes weights [..., 21] of cubes.

        Takes the features [..., 8 * 3C] of a cube's corners 0..7, concatenated.
        """
        return self.net_weight(corner_features) * WEIGHT_GAIN

    def sdf(self, planes: Tensor, points: Tensor) -> Tensor:
        """Signed distance [B, P, 1] of points [B, P, 3]."""
        return self.sdf_of(self.features(planes, points), points)

    def deformation(self, planes: Tensor, points: Tensor) -> Tensor:
        """Raw deformation [B, P, 3]."""
        return self.deformation_of(self.features(planes, points))

    def rgb(self, planes: Tensor, points: Tensor) -> Tensor:
        """Colour [B, P, 3] in [-0.001, 1.001]."""
        return self.rgb_of(self.features(planes, points))


class NerfDecoder(nn.Module):
    """Head of the radiance-field variant: one `net` giving raw density and colour."""

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.net = HeadMLP(3 * channels, 4, hidden)

    def forward(self, planes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Colour [B, P, 3] in [-0.001, 1.001] and raw density [B, P, 1] of points [B, P, 3]."""
        raw = self.net(sample_planes(planes, points))
        return activate_color(raw[..., 1:]), raw[..., :1]
