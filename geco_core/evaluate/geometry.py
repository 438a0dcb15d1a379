"""Geometry metrics on occupancies and point sets."""

from __future__ import annotations

import torch
from torch import Tensor


def volume_iou(inside: Tensor, reference: Tensor) -> Tensor:
    """Intersection over union of two occupancies sampled at the same points.

    Args:
        inside: bool [B, P].
        reference: bool [B, P].

    Returns:
        float [B]; 1 where both are empty.
    """
    both = (inside & reference).sum(-1).float()
    either = (inside | reference).sum(-1).float()
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(either))


def chamfer_distance(points: Tensor, reference: Tensor) -> Tensor:
    """Mean of the two directed mean nearest-neighbour distances.

    Not squared, in the unit of the points.

    Args:
        points: [P, 3].
        reference: [Q, 3].
    """
    distances = torch.cdist(points, reference)
    return 0.5 * (distances.amin(1).mean() + distances.amin(0).mean())
