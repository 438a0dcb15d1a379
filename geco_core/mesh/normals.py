"""Smooth vertex normals, weighted by face area and continuous across texture seams.

Legend: N vertices, F faces, P distinct positions.
"""

from __future__ import annotations

import numpy as np

from geco_core.mesh.surface import position_ids
from geco_core.types import Mesh

_FALLBACK = (0.0, 1.0, 0.0)


def vertex_normals(mesh: Mesh) -> np.ndarray:
    """Unit normals float32 [N, 3], pointing to the side from which faces run counter-clockwise.

    Vertices at one position share a normal when the mesh has texture seams. A vertex without a
    direction (unused, or between faces that cancel) gets +y: glTF admits unit vectors only.
    """
    corners_F3 = mesh.faces
    ids_N = np.arange(len(mesh.vertices)) if mesh.uvs is None else position_ids(mesh.vertices)
    vertices_N3 = mesh.vertices.astype(np.float64)
    a_F3, b_F3, c_F3 = (vertices_N3[corners_F3[:, corner]] for corner in range(3))
    scaled_F3 = np.cross(b_F3 - a_F3, c_F3 - a_F3)  # length is twice the area: the weight
    welded_F3 = ids_N[corners_F3]
    count = int(ids_N.max()) + 1 if len(ids_N) else 0
    summed_P3 = np.zeros((count, 3))
    for axis in range(3):
        for corner in range(3):
            summed_P3[:, axis] += np.bincount(
                welded_F3[:, corner], weights=scaled_F3[:, axis], minlength=count
            )
    length_P1 = np.linalg.norm(summed_P3, axis=1, keepdims=True)
    diagonal = float(np.linalg.norm(np.ptp(vertices_N3, axis=0))) if len(vertices_N3) else 0.0
    usable_P1 = length_P1 > 1e-14 * diagonal**2
    unit_P3 = np.where(usable_P1, summed_P3 / np.where(usable_P1, length_P1, 1.0), _FALLBACK)
    return unit_P3[ids_N].astype(np.float32)
