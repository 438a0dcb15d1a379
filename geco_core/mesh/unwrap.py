"""Texture coordinates: charts of the surface laid out in the unit square, by the xatlas library.

Native code on arbitrary geometry: callers run it where a crash or an endless loop can be cut off.

Legend: N vertices, F faces, M vertices after cutting the surface open along chart borders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geco_core.errors import BadItem, Reason
from geco_core.types import Mesh


@dataclass(frozen=True)
class Unwrapped:
    """A mesh cut along its chart borders.

    Attributes:
        vertices: float32 [M, 3].
        faces: int32 [F, 3], in the order of the mesh.
        uvs: float32 [M, 2] in [0, 1], origin at the lower left.
        source: int64 [M], the vertex of the mesh each one came from.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    source: np.ndarray


def unwrap(mesh: Mesh, *, resolution: int = 1024, padding: int = 2) -> Unwrapped:
    """Cut and lay out a mesh.

    Args:
        mesh: a checked mesh; its colours play no part.
        resolution: side of the texture the charts are packed for, in texels.
        padding: texels between charts.

    Raises:
        BadItem: `FINISHING_FAILED` when the library finds no layout.
    """
    import xatlas  # noqa: PLC0415 - native, and only for those who want textures

    atlas = xatlas.Atlas()
    atlas.add_mesh(
        np.ascontiguousarray(mesh.vertices, dtype=np.float32),
        np.ascontiguousarray(mesh.faces, dtype=np.uint32),
    )
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    packing.resolution = resolution
    packing.padding = padding
    packing.bilinear = True
    atlas.generate(charts, packing)
    source_M, faces_F3, uvs_M2 = atlas[0]
    if len(faces_F3) != len(mesh.faces) or not np.isfinite(uvs_M2).all():
        raise BadItem(
            f"the unwrapping library returned {len(faces_F3)} of {len(mesh.faces)} faces",
            reason=Reason.FINISHING_FAILED,
            remedy="lower finish.face_budget, or set finish.texture_size=0",
            stage="finish",
        )
    source_M = source_M.astype(np.int64)
    return Unwrapped(
        vertices=np.ascontiguousarray(mesh.vertices[source_M], dtype=np.float32),
        faces=faces_F3.astype(np.int32),
        uvs=np.clip(uvs_M2, 0.0, 1.0).astype(np.float32),
        source=source_M,
    )
