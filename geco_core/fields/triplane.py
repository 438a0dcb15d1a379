"""Triplane features: three axis-aligned feature images sampled bilinearly at 3-D points.

Same function as the sampler of EG3D (arXiv 2112.07945) as InstantMesh (arXiv 2404.07191) uses it:
bilinear, zero padding, pixel centres inside the border (`align_corners=False`). What differs:
sampling always runs in float32, because a bfloat16 grid cannot address a plane of more than a few
dozen texels.

Points are in the world frame, in [-1, 1]^3; outside, features fade to zero within half a texel.

Legend: B batch, C channels, h/w plane rows/columns, P points.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# World axes that (columns, rows) of each plane run along: (x, y), (x, z), (z, y).
PLANE_AXES: tuple[tuple[int, int], ...] = ((0, 1), (0, 2), (2, 1))


def project_to_planes(points: Tensor) -> Tensor:
    """In-plane coordinates [B, 3, P, 2] (column axis first) of points [B, P, 3]."""
    axes = points.unbind(-1)  # indexing with a list would copy the list to the device
    return torch.stack([torch.stack([axes[u], axes[v]], -1) for u, v in PLANE_AXES], 1)


def sample_planes(planes: Tensor, points: Tensor) -> Tensor:
    """Features of points, in float32 whatever the autocast state.

    Args:
        planes: [B, 3, C, h, w].
        points: [B, P, 3] world, in [-1, 1].

    Returns:
        float32 [B, P, 3 * C]: plane 0, 1, 2 concatenated.
    """
    batch, _, channels = planes.shape[:3]
    with torch.autocast(planes.device.type, enabled=False):
        grid = project_to_planes(points.float()).flatten(0, 1)[:, None]  # [3B, 1, P, 2]
        images = planes.float().flatten(0, 1)  # [3B, C, h, w]
        sampled = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    features = sampled[:, :, 0].view(batch, 3 * channels, -1)  # [B, 3C, P]
    return features.transpose(1, 2)
