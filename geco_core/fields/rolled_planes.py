"""CRM's triplane: three planes side by side in one image, summed where they are sampled.

Same function as the sampler of CRM (arXiv 2403.05034). What differs from InstantMesh's
(`geco_core.fields.triplane`): other axes, texel centres on the border (`align_corners`), the border
repeated outside, and features added instead of concatenated. Sampling runs in float32 whatever the
autocast state.

Points are in CRM's canonical frame (`geco_core.fields.crm_frame`), in [-1, 1]^3.

Legend: B batch, C channels, S plane side, P points.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Canonical axes that (columns, rows) of each plane run along: xy, yz, zx.
PLANE_AXES: tuple[tuple[int, int], ...] = ((0, 1), (1, 2), (2, 0))


def unroll_planes(rolled: Tensor) -> Tensor:
    """Planes [B, 3, C, S, S] of an image [B, C, S, 3 S]. Raises `ValueError` for other shapes."""
    batch, channels, rows, columns = rolled.shape
    if columns != 3 * rows:
        raise ValueError(f"three square planes are {rows} x {3 * rows}, not {rows} x {columns}")
    return rolled.view(batch, channels, rows, 3, rows).permute(0, 3, 1, 2, 4)


def roll_planes(planes: Tensor) -> Tensor:
    """The image [B, C, S, 3 S] of planes [B, 3, C, S, S]."""
    return planes.permute(0, 2, 3, 1, 4).flatten(3)


def plane_features(planes: Tensor, points: Tensor) -> Tensor:
    """Features of points in each plane.

    Args:
        planes: [B, 3, C, S, S].
        points: [B, P, 3] canonical.

    Returns:
        float32 [B, 3, P, C].
    """
    axes = points.float().unbind(-1)
    with torch.autocast(planes.device.type, enabled=False):
        grid = torch.stack([torch.stack([axes[u], axes[v]], -1) for u, v in PLANE_AXES], 1)
        sampled = F.grid_sample(
            planes.float().flatten(0, 1),  # [3B, C, S, S]
            grid.flatten(0, 1)[:, None],  # [3B, 1, P, 2]
            padding_mode="border",
            align_corners=True,
        )
    return sampled[:, :, 0].unflatten(0, (-1, 3)).transpose(2, 3)


def sample_rolled(planes: Tensor, points: Tensor) -> Tensor:
    """Summed features float32 [B, P, C] of points [B, P, 3] in planes [B, 3, C, S, S]."""
    return plane_features(planes, points).sum(1)
