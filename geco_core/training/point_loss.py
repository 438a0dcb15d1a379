"""The loss of point supervision: clamped distances, occupancy, the surface itself, colours.

Legend: B batch, P points in space, Q points on the surface.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class PointWeights(Protocol):
    """What the parts are worth; lengths in the frame of the points."""

    @property
    def sdf_clamp(self) -> float:
        """Distances beyond this length are all the same."""
        ...

    @property
    def occupancy_width(self) -> float:
        """Distance at which the logit of being inside is 1."""
        ...

    @property
    def sdf_weight(self) -> float:
        """Of the mean error of clamped distances."""
        ...

    @property
    def occupancy_weight(self) -> float:
        """Of the cross-entropy of being inside."""
        ...

    @property
    def surface_weight(self) -> float:
        """Of the mean distance that surface points are given."""
        ...

    @property
    def color_l1_weight(self) -> float:
        """Of the mean colour error."""
        ...

    @property
    def color_mse_weight(self) -> float:
        """Of the mean squared colour error."""
        ...


@dataclass(frozen=True)
class PointLossWeights:
    """`PointWeights` in CRM's frame, weighted towards colours, which its network learns last."""

    sdf_clamp: float = 0.25
    sdf_weight: float = 4.0
    occupancy_weight: float = 0.5
    occupancy_width: float = 0.03
    surface_weight: float = 1.0
    color_l1_weight: float = 3.0
    color_mse_weight: float = 15.0


def point_loss(
    weights: PointWeights, sdf: Tensor, target_BP: Tensor, rgb_BQ3: Tensor, color_BQ3: Tensor
) -> tuple[Tensor, Mapping[str, float]]:
    """Weighted sum of clamped SDF L1, occupancy BCE, |sdf| on the surface and colour errors.

    Args:
        weights: of the parts.
        sdf: [B, P + Q], negative inside: at the points of `target_BP`, then at the surface points.
        target_BP: true distances.
        rgb_BQ3: colours at the surface points.
        color_BQ3: true colours.
    """
    clamp = weights.sdf_clamp
    space_BP, surface_BQ = sdf.split([target_BP.shape[1], color_BQ3.shape[1]], dim=1)
    inside = (target_BP < 0).float()
    clamped = space_BP.clamp(-clamp, clamp) - target_BP.clamp(-clamp, clamp)
    logits = -space_BP / weights.occupancy_width
    parts = {
        "sdf": clamped.abs().mean(),
        "occupancy": F.binary_cross_entropy_with_logits(logits, inside),
        "surface": surface_BQ.abs().mean(),
        "color_l1": (rgb_BQ3 - color_BQ3).abs().mean(),
        "color_mse": (rgb_BQ3 - color_BQ3).square().mean(),
    }
    total = (
        weights.sdf_weight * parts["sdf"]
        + weights.occupancy_weight * parts["occupancy"]
        + weights.surface_weight * parts["surface"]
        + weights.color_l1_weight * parts["color_l1"]
        + weights.color_mse_weight * parts["color_mse"]
    )
    return total, {name: float(value.detach()) for name, value in parts.items()}
