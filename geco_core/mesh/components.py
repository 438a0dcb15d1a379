"""Floaters: parts of the surface too small to belong to the object.

Legend: N vertices, F faces.
"""

from __future__ import annotations

import numpy as np

from geco_core.mesh.surface import face_areas, face_components, welded_faces
from geco_core.types import Mesh


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
    area_P = np.bincount(labels_F, weights=face_areas(mesh))
    keep_P = area_P >= min_share * area_P.sum()
    keep_P[int(area_P.argmax())] = True
    if keep_P.all():
        return mesh, 0
    faces_F3 = mesh.faces[keep_P[labels_F]]
    kept = Mesh(mesh.vertices, faces_F3, mesh.colors, mesh.uvs, mesh.texture)
    return kept, int((~keep_P).sum())
