"""The one rotation between the world frame (z up, front +x) and the glTF frame (y up, front +z).

Both frames are right-handed, and both maps are cyclic permutations of the axes, hence proper
rotations: orientation, winding and handedness survive. (InstantMesh exports through a reflection or
through several rotations, depending on the format: `geco_core.mesh.export_compat` holds those for
parity.)

Legend: ... any leading axes.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

Points = TypeVar("Points", np.ndarray, torch.Tensor)

_GLTF_FROM_WORLD = [1, 2, 0]
_WORLD_FROM_GLTF = [2, 0, 1]


def world_to_gltf(points: Points) -> Points:
    """World points or directions [..., 3] in the glTF frame: (x, y, z) -> (y, z, x)."""
    return _permuted(points, _GLTF_FROM_WORLD)


def gltf_to_world(points: Points) -> Points:
    """Inverse of `world_to_gltf`, for points or directions [..., 3]: (x, y, z) -> (z, x, y)."""
    return _permuted(points, _WORLD_FROM_GLTF)


def _permuted(points: Points, order: list[int]) -> Points:
    if points.shape[-1] != 3:
        raise ValueError(f"points must be [..., 3], got {tuple(points.shape)}")
    return points[..., order]
