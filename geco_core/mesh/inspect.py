"""Numbers about a mesh for its row: counts, bounds, watertightness, components, area, volume.

Topology of a mesh with texture coordinates is judged on positions, not on indices: a seam
duplicates vertices without opening the surface.

Legend: N vertices, F faces, E undirected edges.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geco_core.types import Mesh


def mesh_stats(mesh: Mesh) -> dict[str, Any]:
    """Statistics of a checked mesh (`geco_core.mesh.gate.check_mesh`).

    Returns:
        n_vertices, n_faces: as stored.
        bounds: six floats, minimum xyz then maximum xyz.
        watertight: every edge joins exactly two faces, which run along it in opposite directions.
        components: connected parts of the surface, joined through shared corners.
        surface_area: in squared units of the mesh.
        volume: enclosed volume, positive when faces point outward; None unless watertight.
    """
    faces_F3 = welded_faces(mesh)
    watertight = is_watertight(faces_F3)
    vertices_N3 = mesh.vertices.astype(np.float64)
    a_F3, b_F3, c_F3 = (vertices_N3[mesh.faces[:, corner]] for corner in range(3))
    volume = float(np.einsum("fi,fi->", a_F3, np.cross(b_F3, c_F3))) / 6.0
    low_3, high_3 = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    return {
        "n_vertices": len(mesh.vertices),
        "n_faces": len(mesh.faces),
        "bounds": [float(value) for value in (*low_3, *high_3)],
        "watertight": watertight,
        "components": count_components(faces_F3),
        "surface_area": float(face_areas(mesh).sum()),
        "volume": volume if watertight else None,
    }


def welded_faces(mesh: Mesh) -> np.ndarray:
    """Faces [F, 3] with the two sides of texture seams joined; as they are without texture."""
    if mesh.uvs is None:
        return mesh.faces
    return position_ids(mesh.vertices)[mesh.faces]


def position_ids(vertices_N3: np.ndarray) -> np.ndarray:
    """int64 [N]: equal numbers for bitwise equal positions (-0.0 equals 0.0)."""
    plain_N3 = np.ascontiguousarray(vertices_N3, dtype=np.float32) + np.float32(0.0)
    # Sorting one opaque 12-byte key is several times faster than unique over rows.
    keys_N = plain_N3.view(np.dtype((np.void, plain_N3.dtype.itemsize * 3))).ravel()
    return np.unique(keys_N, return_inverse=True)[1].reshape(-1).astype(np.int64)


def is_watertight(faces_F3: np.ndarray) -> bool:
    """Whether every directed edge occurs once, and its reverse once.

    Then the surface is closed, consistently oriented, and has two-manifold edges. Faces with a
    repeated corner are ignored.
    """
    faces_F3 = faces_F3[distinct_corners(faces_F3)].astype(np.int64)
    if len(faces_F3) == 0:
        return False
    start_E = faces_F3.reshape(-1)
    end_E = np.roll(faces_F3, -1, axis=1).reshape(-1)
    base = int(faces_F3.max()) + 1
    forward_E = np.sort(start_E * base + end_E)
    backward_E = np.sort(end_E * base + start_E)
    unique = bool((np.diff(forward_E) > 0).all())
    return unique and bool(np.array_equal(forward_E, backward_E))


def face_areas(mesh: Mesh) -> np.ndarray:
    """Float64 [F]: areas in squared units of the mesh."""
    vertices_N3 = mesh.vertices.astype(np.float64)
    a_F3, b_F3, c_F3 = (vertices_N3[mesh.faces[:, corner]] for corner in range(3))
    return 0.5 * np.linalg.norm(np.cross(b_F3 - a_F3, c_F3 - a_F3), axis=1)


def face_components(faces_F3: np.ndarray) -> np.ndarray:
    """Int64 [F]: number of the part each face belongs to, from 0; parts share no corner."""
    if len(faces_F3) == 0:
        return np.zeros(0, dtype=np.int64)
    used, compact = np.unique(faces_F3, return_inverse=True)
    compact_F3 = compact.reshape(-1, 3)
    rows = np.concatenate([compact_F3[:, 0], compact_F3[:, 1]])
    columns = np.concatenate([compact_F3[:, 1], compact_F3[:, 2]])
    graph = coo_array(
        (np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(len(used), len(used))
    )
    _, labels_U = connected_components(graph, directed=False)
    return labels_U[compact_F3[:, 0]].astype(np.int64)


def count_components(faces_F3: np.ndarray) -> int:
    """Number of parts of the surface that share no corner."""
    return int(face_components(faces_F3).max(initial=-1)) + 1


def distinct_corners(faces_F3: np.ndarray) -> np.ndarray:
    """Bool [F]: faces whose three corners are different vertices."""
    a_F, b_F, c_F = faces_F3[:, 0], faces_F3[:, 1], faces_F3[:, 2]
    return (a_F != b_F) & (b_F != c_F) & (c_F != a_F)
