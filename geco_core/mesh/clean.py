"""The little that finishing changes in a mesh.

Collapsed faces and unused vertices go, the bounding box is centred.

Faces with distinct corners and no area stay: taking them out would open cracks in a closed surface,
while a face with a repeated corner has no interior edge to lose.

Legend: N vertices, F faces.
"""

from __future__ import annotations

import numpy as np

from geco_core.mesh.surface import distinct_corners
from geco_core.types import Mesh


def clean(mesh: Mesh) -> Mesh:
    """A copy without faces that repeat a corner and without vertices no face uses; order is kept.

    Dtypes become those of `Mesh` (float32, int32).
    """
    faces_F3 = mesh.faces[distinct_corners(mesh.faces)]
    used_N = np.zeros(len(mesh.vertices), dtype=bool)
    used_N[faces_F3] = True
    renumbered_N = np.cumsum(used_N) - 1
    return Mesh(
        vertices=np.ascontiguousarray(mesh.vertices[used_N], dtype=np.float32),
        faces=np.ascontiguousarray(renumbered_N[faces_F3], dtype=np.int32),
        colors=None if mesh.colors is None else mesh.colors[used_N],
        uvs=None if mesh.uvs is None else mesh.uvs[used_N],
        texture=mesh.texture,
    )


def centred(mesh: Mesh) -> tuple[Mesh, tuple[float, float, float]]:
    """The mesh with its bounding-box centre at the origin, and the centre subtracted (glTF)."""
    centre_3 = (0.5 * (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0))).astype(np.float32)
    moved = Mesh(mesh.vertices - centre_3, mesh.faces, mesh.colors, mesh.uvs, mesh.texture)
    x, y, z = (float(value) for value in centre_3)
    return moved, (x, y, z)
