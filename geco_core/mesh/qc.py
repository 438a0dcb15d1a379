"""Quality numbers of a finished mesh: what a dataset is filtered by.

Counts, and shares within 0 and 1, so that one threshold fits meshes of any size. Topology is judged
on positions, as in `geco_core.mesh.inspect`: seams of a texture are no holes.

Legend: F faces, P parts of the surface.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geco_core.mesh.gate import DEGENERATE_AREA
from geco_core.mesh.surface import Surface, distinct_corners, measured
from geco_core.types import Mesh

THIN_ANGLE_DEG = 5.0


def mesh_qc(
    mesh: Mesh, surface: Surface | None = None, *, collapsed_faces: int = 0
) -> dict[str, Any]:
    """Quality numbers of a checked mesh (`geco_core.mesh.gate.check_mesh`).

    Args:
        mesh: as it is written.
        surface: the mesh, measured; None measures it.
        collapsed_faces: faces with a repeated corner that were taken out before.

    Returns:
        collapsed_faces: as given.
        degenerate_faces: faces of the mesh without an area that counts.
        boundary_edges: edges of one face only.
        holes: loops that these edges form.
        non_manifold_edges: edges of more than two faces.
        flipped_edges: edges whose two faces disagree about which side is outside.
        euler: vertices - edges + faces; 2 for a ball, 2 - 2 g for one closed part with g handles.
        largest_part_share: area of the largest part, as a share of the surface.
        inward_share: share of the surface in parts that enclose a negative volume: inside out, or
            the walls of a cavity.
        thin_share: share of the faces with an angle below `THIN_ANGLE_DEG`.
        edge_min, edge_max: shortest and longest edge, in units of the mesh.
        texture_coverage: share of the texture that charts cover; None without a texture.
        color_mean, color_std: mean and standard deviation of the colour over the surface, sRGB in
            [0, 1], taken over the three channels; None without colours.
    """
    surface = surface or measured(mesh)
    edges, area_F = surface.edges, surface.areas
    alone = edges.faces == 1
    total = max(float(area_F.sum()), np.finfo(np.float64).tiny)
    area_P = np.bincount(surface.parts, weights=area_F)
    length_F3 = _edge_lengths(surface.corners)
    diagonal_sq = float(np.sum(np.ptp(mesh.vertices.astype(np.float64), axis=0) ** 2))
    distinct_F = distinct_corners(surface.faces)
    vertices = np.bincount(surface.faces[distinct_F].reshape(-1)).astype(bool).sum()
    return {
        "collapsed_faces": collapsed_faces,
        "degenerate_faces": int((~distinct_F | (area_F <= DEGENERATE_AREA * diagonal_sq)).sum()),
        "boundary_edges": int(alone.sum()),
        "holes": _count_connected(edges.low[alone], edges.high[alone]),
        "non_manifold_edges": int((edges.faces > 2).sum()),
        "flipped_edges": int(((edges.faces == 2) & (edges.turns != 0)).sum()),
        "euler": int(vertices - len(edges.faces) + distinct_F.sum()),
        "largest_part_share": min(1.0, float(area_P.max()) / total),
        "inward_share": min(1.0, float(area_P[surface.part_volumes() < 0.0].sum()) / total),
        "thin_share": _thin_share(length_F3, area_F),
        "edge_min": float(length_F3.min()),
        "edge_max": float(length_F3.max()),
        "texture_coverage": _coverage(mesh),
        **_colors(mesh, area_F / total),
    }


def _edge_lengths(corners_3F3: np.ndarray) -> np.ndarray:
    step_3F3 = corners_3F3 - corners_3F3[:, :, [1, 2, 0]]
    return np.sqrt((step_3F3 * step_3F3).sum(axis=0))


def _thin_share(length_F3: np.ndarray, area_F: np.ndarray) -> float:
    """The smallest angle lies between the two longer edges: twice the area is the product of these
    times its sine.
    """
    a_F, b_F, c_F = length_F3.T
    longer_F = np.maximum(np.maximum(a_F * b_F, b_F * c_F), c_F * a_F)
    return float((2.0 * area_F < np.sin(np.deg2rad(THIN_ANGLE_DEG)) * longer_F).mean())


def _count_connected(one: np.ndarray, other: np.ndarray) -> int:
    """Connected sets that edges between these vertices form."""
    if len(one) == 0:
        return 0
    used, compact = np.unique(np.concatenate([one, other]), return_inverse=True)
    pairs = compact.reshape(2, -1)
    ones = np.ones(len(one), dtype=np.int8)
    graph = coo_array((ones, (pairs[0], pairs[1])), shape=(len(used), len(used)))
    return int(connected_components(graph, directed=False)[0])


def _coverage(mesh: Mesh) -> float | None:
    """Charts do not overlap: the sum of their areas is the share of the unit square."""
    if mesh.uvs is None or mesh.texture is None:
        return None
    a_F2, b_F2, c_F2 = np.moveaxis(mesh.uvs.astype(np.float64)[mesh.faces], 1, 0)
    p_F2, q_F2 = b_F2 - a_F2, c_F2 - a_F2
    doubled_F = np.abs(p_F2[:, 0] * q_F2[:, 1] - p_F2[:, 1] * q_F2[:, 0])
    return float(0.5 * doubled_F.sum())


def _colors(mesh: Mesh, share_F: np.ndarray) -> dict[str, float | None]:
    """Colour statistics over the surface, from one sample per face."""
    if mesh.uvs is not None and mesh.texture is not None:
        height, width = mesh.texture.shape[:2]
        uv_F2 = mesh.uvs[mesh.faces].mean(axis=1)
        column_F = np.clip(uv_F2[:, 0] * width, 0, width - 1).astype(np.int64)
        row_F = np.clip((1.0 - uv_F2[:, 1]) * height, 0, height - 1).astype(np.int64)
        color_F3 = mesh.texture[row_F, column_F] / 255.0
    elif mesh.colors is not None:
        color_F3 = sum(mesh.colors[mesh.faces[:, k]].astype(np.float64) for k in range(3)) / 765.0
    else:
        return {"color_mean": None, "color_std": None}
    mean_3 = share_F @ color_F3
    variance_3 = share_F @ (color_F3 - mean_3) ** 2
    return {
        "color_mean": float(mean_3.mean()),
        "color_std": float(np.sqrt(max(0.0, variance_3.mean()))),
    }
