"""Procedural objects as CRM sees them: its six views, its coordinate maps, its frame and scale.

Follows the data of CRM (arXiv 2403.05034): grey background, coordinates in the canonical frame
(`geco_core.fields.crm_frame`) where objects fill [-1, 1], pictures shrunk by 0.95 so that meshes
fill [-0.95, 0.95]. Our axis-parallel views already show each side the way CRM's do; they are listed
in another order, and what CRM calls left is the object's right.

Legend: V = 6 views (0 front, 1 left, 2 down, 3 back, 4 right, 5 top), S pixels per side.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geco_core.fields.crm_frame import world_to_canonical
from geco_core.shapes.views import ORTHO_HALF_EXTENT, ORTHO_NAMES, SUPERSAMPLE

MESH_SCALE = 0.95
BACKGROUND = 127 / 255
_SIDES = ("front", "right", "bottom", "back", "left", "top")
_ORDER = [ORTHO_NAMES.index(name) for name in _SIDES]


def canonical_points(world: Tensor) -> Tensor:
    """World points [..., 3] in the frame of CRM's planes and meshes.

    Lengths, and signed distances with them, shrink by `ORTHO_HALF_EXTENT`.
    """
    return world_to_canonical(world) / ORTHO_HALF_EXTENT


def canonical_views(rgba_VSS4: np.ndarray, maps_VSS3: np.ndarray) -> tuple[Tensor, Tensor]:
    """Pictures and coordinate maps, float32 [6, 3, S, S] in [0, 1], over CRM's grey.

    Args:
        rgba_VSS4: `ShapeExample.ortho_views`.
        maps_VSS3: `ShapeExample.ortho_maps`.
    """
    rgba = ordered_views(rgba_VSS4)
    alpha = rgba[:, 3:]
    views = rgba[:, :3] * alpha + (1.0 - alpha) * BACKGROUND
    points, covered = surface_points(alpha, maps_VSS3)
    ccms = ((points / MESH_SCALE + 1.0) / 2.0).clamp(0.0, 1.0)
    return views, torch.where(covered, ccms, torch.full_like(ccms, BACKGROUND))


def ordered_views(pictures_VSSC: np.ndarray) -> Tensor:
    """`ShapeExample.ortho_views` in CRM's order, float32 [6, C, S, S] in [0, 1]."""
    return torch.from_numpy(pictures_VSSC[_ORDER]).movedim(-1, 1).float() / 255.0


def surface_points(alpha_V1SS: Tensor, maps_VSS3: np.ndarray) -> tuple[Tensor, Tensor]:
    """What coordinate maps show.

    Args:
        alpha_V1SS: of `ordered_views`.
        maps_VSS3: `ShapeExample.ortho_maps`.

    Returns:
        Canonical positions float32 [6, 3, S, S], the window being [-1, 1]; and whether the surface
        covers at least half of a pixel, bool [6, 1, S, S].
    """
    samples = SUPERSAMPLE**2
    # A map averages surface and background (1.0) at silhouettes: take the surface out again.
    share = (alpha_V1SS * samples).round() / samples
    maps = torch.from_numpy(maps_VSS3[_ORDER]).movedim(-1, 1)
    surface = (maps - (1.0 - share)) / share.clamp(min=1.0 / samples)
    points = world_to_canonical((surface * 2.0 - 1.0).movedim(1, -1)).movedim(-1, 1)
    return points, share >= 0.5
