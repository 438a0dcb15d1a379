"""Floaters: parts of the surface too small to belong to the object.

Legend: N vertices, F faces.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geco_core.mesh.inspect import welded_faces
from geco_core.types import Mesh


def face_components(faces_F3: np.ndarray) -> np.ndarray:
    """Int64 [F]: number of the part each face belongs to; parts share no corner."""
    if len(faces_F3) == 0:
        return np.zeros(0, dtype=np.int64)
    count = int(faces_F3.max()) + 1
    rows = np.concatenate([faces_F3[:, 0], faces_F3[:, 1]])
    columns = np.concatenate([faces_F3[:, 1], faces_F3[:, 2]])
    ones = np.ones(len(rows), dtype=np.int8)
    _, labels_N = connected_components(
        coo_array((ones, (rows, columns)), shape=(count, count)), directed=False
    )
    return labels_N[faces_F3[:, 0]].astype(np.int64)


def face_areas(mesh: Mesh) -> np.ndarray:
    """Float64 [F]: areas in squared units of the mesh."""
    a_F3, b_F3, c_F3 = (mesh.vertices.astype(np.float64)[mesh.faces[:, k]] for k in range(3))
    return 0.5 * np.linalg.norm(np.cross(b_F3 - a_F3, c_F3 - a_F3), axis=1)


def drop_small_components(mesh: Mesh, min_share: float) -> tuple[Mesh, int]:
    """The mesh without parts smaller than a share of the whole surface.

    The largest part always stays. Vertices are left as they are: `clean` takes unused ones out.

    Args:
        mesh: any checked mesh.
        min_share: smallest area of a part that stays, as a share of the area of the mesh; 0 keeps
            everything.

    Returns:
        The mesh and how many parts went.
    """
    if min_share <= 0.0 or len(mesh.faces) == 0:
        return mesh, 0
    labels_F = face_components(welded_faces(mesh))
    names, labels_F = np.unique(labels_F, return_inverse=True)
    area_P = np.bincount(labels_F, weights=face_areas(mesh), minlength=len(names))
    keep_P = area_P >= min_share * area_P.sum()
    keep_P[int(area_P.argmax())] = True
    if keep_P.all():
        return mesh, 0
    faces_F3 = mesh.faces[keep_P[labels_F]]
    kept = Mesh(mesh.vertices, faces_F3, mesh.colors, mesh.uvs, mesh.texture)
    return kept, int((~keep_P).sum())
