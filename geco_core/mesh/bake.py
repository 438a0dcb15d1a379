"""Texture from a field: every covered texel asks for the colour at its own point of the surface.

Follows InstantMesh's texture export (arXiv 2404.07191): texels are rasterised in texture space and
the colour head is queried at their surface points. Differs in that the empty texels are filled from
the nearest covered one rather than by one dilation, so that no level of a mip-map pulls in
background.

Legend: N vertices, F faces, S texture side, P covered texels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from geco_core.errors import BadItem, Reason
from geco_core.mesh.unwrap import Unwrapped
from geco_core.render.registry import get_rasterizer
from geco_core.types import Mesh

ColorFn = Callable[[np.ndarray], np.ndarray]
"""Points float32 [P, 3] in the glTF frame to sRGB colours float [P, 3] in [0, 1]."""


def bake(unwrapped: Unwrapped, color_fn: ColorFn, size: int) -> Mesh:
    """The unwrapped mesh with a texture of `size` texels a side.

    Raises:
        BadItem: `FINISHING_FAILED` when the layout covers no texel.
    """
    positions_SS3, covered_SS = surface_texels(unwrapped, size)
    if not covered_SS.any():
        raise BadItem(
            f"no texel of a {size} x {size} texture is covered",
            reason=Reason.FINISHING_FAILED,
            remedy="raise finish.texture_size",
            stage="finish",
        )
    texture_SS3 = np.zeros((size, size, 3), dtype=np.uint8)
    colors_P3 = np.clip(color_fn(positions_SS3[covered_SS]), 0.0, 1.0)
    texture_SS3[covered_SS] = np.rint(colors_P3 * 255.0).astype(np.uint8)
    nearest: Any = distance_transform_edt(~covered_SS, return_distances=False, return_indices=True)
    rows_SS, columns_SS = nearest
    filled_SS3 = texture_SS3[rows_SS, columns_SS]
    return Mesh(
        vertices=unwrapped.vertices,
        faces=unwrapped.faces,
        uvs=unwrapped.uvs,
        texture=np.ascontiguousarray(filled_SS3[::-1]),  # v runs upwards, rows run down
    )


def surface_texels(unwrapped: Unwrapped, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of the surface float32 [S, S, 3] at the texel centres, and which are covered.

    Row 0 is v = 0.
    """
    uvs_N2 = torch.from_numpy(unwrapped.uvs)
    flat_N2 = torch.cat([uvs_N2 * 2 - 1, torch.zeros_like(uvs_N2[:, :1])], dim=1)
    clip_1N4 = torch.cat([flat_N2, torch.ones_like(uvs_N2[:, :1])], dim=1)[None]
    triangles = torch.from_numpy(unwrapped.faces).long()
    rasterizer = get_rasterizer("auto", "cpu")
    with torch.inference_mode():
        rast = rasterizer.rasterize(clip_1N4, triangles, (size, size)).rast
        points, _ = rasterizer.interpolate(torch.from_numpy(unwrapped.vertices), rast, triangles)
    return points[0].numpy(), (rast[0, ..., 3] > 0).numpy()


def vertex_color_fn(mesh: Mesh) -> ColorFn:
    """Colours of the nearest vertex: for meshes whose field is gone. Raises `ValueError`."""
    from scipy.spatial import KDTree  # noqa: PLC0415 - only for this fallback

    if mesh.colors is None:
        raise ValueError("the mesh has no vertex colours")
    tree, colors_N3 = KDTree(mesh.vertices), mesh.colors.astype(np.float32) / 255.0

    def colors_at(points_P3: np.ndarray) -> np.ndarray:
        distance_P3, nearest_P3 = tree.query(points_P3, k=min(3, len(colors_N3)))
        if distance_P3.ndim == 1:
            return colors_N3[nearest_P3]
        weight_P3 = 1.0 / (distance_P3 + 1e-9)
        weight_P3 /= weight_P3.sum(axis=1, keepdims=True)
        return (colors_N3[nearest_P3] * weight_P3[..., None]).sum(axis=1)

    return colors_at
