"""The gate every generated mesh passes before it is written.

It judges shapes, finite values, indices, emptiness and degeneracy.
What passes can be written as glTF without surprises; what does not becomes a failed row with a
reason code.

Legend: N vertices, F faces.
"""

from __future__ import annotations

import numpy as np

from geco_core.errors import BadItem, Reason
from geco_core.mesh.surface import distinct_corners, face_areas
from geco_core.types import Mesh

STAGE = "finish"

# A face is degenerate when its area is below this share of the squared bounding-box diagonal:
# coordinates round at about 1e-7 of the diagonal, so smaller areas carry no direction.
DEGENERATE_AREA = 1e-13
MAX_COORDINATE = 1e6


def check_mesh(
    mesh: Mesh,
    *,
    item_id: str | None = None,
    max_degenerate_share: float = 0.25,
    max_faces: int | None = None,
) -> None:
    """Raise unless `mesh` is a usable triangle mesh.

    Args:
        mesh: any mesh, in the glTF frame.
        item_id: named in the error.
        max_degenerate_share: largest tolerated share of faces with repeated corners or no area.
        max_faces: largest tolerated number of faces; None for no limit.

    Raises:
        BadItem: `EMPTY_MESH` without vertices or faces, `NON_FINITE` for NaN or infinite
            coordinates, `INVALID_MESH` for wrong shapes or types, indices out of range, coordinates
            beyond 1e6, no extent, too many degenerate faces, or too many faces.
    """
    _check_shapes(mesh, item_id)
    if len(mesh.vertices) == 0 or len(mesh.faces) == 0:
        raise _bad(
            f"the mesh is empty ({len(mesh.vertices)} vertices, {len(mesh.faces)} faces)",
            Reason.EMPTY_MESH,
            item_id,
            "try another seed, or an image where the object is larger",
        )
    _check_values(mesh, item_id)
    if max_faces is not None and len(mesh.faces) > max_faces:
        raise _invalid(f"{len(mesh.faces)} faces, the limit is {max_faces}", item_id)
    share = float(degenerate_faces(mesh).mean())
    if share > max_degenerate_share:
        raise _invalid(
            f"{share:.1%} of the faces are degenerate, the limit is {max_degenerate_share:.1%}",
            item_id,
        )


def degenerate_faces(mesh: Mesh) -> np.ndarray:
    """Bool [F]: repeated corners, or an area of no significance against the size of the mesh."""
    diagonal_sq = float(np.sum(np.ptp(mesh.vertices.astype(np.float64), axis=0) ** 2))
    small_F = face_areas(mesh) <= DEGENERATE_AREA * diagonal_sq
    return ~distinct_corners(mesh.faces) | small_F


def _check_shapes(mesh: Mesh, item_id: str | None) -> None:
    vertices, faces = mesh.vertices, mesh.faces
    if (
        vertices.ndim != 2
        or vertices.shape[1] != 3
        or not np.issubdtype(vertices.dtype, np.floating)
    ):
        raise _invalid(
            f"vertices must be float [N, 3], got {vertices.dtype} {vertices.shape}", item_id
        )
    if faces.ndim != 2 or faces.shape[1] != 3 or not np.issubdtype(faces.dtype, np.integer):
        raise _invalid(f"faces must be integer [F, 3], got {faces.dtype} {faces.shape}", item_id)
    count = len(vertices)
    if mesh.colors is not None and (
        mesh.colors.shape != (count, 3) or mesh.colors.dtype != np.uint8
    ):
        raise _invalid(
            f"colors must be uint8 [{count}, 3], got {mesh.colors.dtype} {mesh.colors.shape}",
            item_id,
        )
    if mesh.uvs is not None and mesh.uvs.shape != (count, 2):
        raise _invalid(f"uvs must be [{count}, 2], got {mesh.uvs.shape}", item_id)
    texture = mesh.texture
    if texture is not None:
        if mesh.uvs is None:
            raise _invalid("a texture without uvs", item_id)
        if (
            texture.ndim != 3
            or texture.shape[2] != 3
            or texture.dtype != np.uint8
            or 0 in texture.shape
        ):
            raise _invalid(
                f"texture must be uint8 [H, W, 3], got {texture.dtype} {texture.shape}", item_id
            )


def _check_values(mesh: Mesh, item_id: str | None) -> None:
    if not np.isfinite(mesh.vertices).all():
        bad = int((~np.isfinite(mesh.vertices)).any(axis=1).sum())
        raise _bad(
            f"{bad} of {len(mesh.vertices)} vertices are not finite",
            Reason.NON_FINITE,
            item_id,
            "try another seed or a wider dtype",
        )
    if mesh.uvs is not None and not np.isfinite(mesh.uvs).all():
        raise _bad("texture coordinates are not finite", Reason.NON_FINITE, item_id, "unwrap again")
    lowest, highest = int(mesh.faces.min()), int(mesh.faces.max())
    if lowest < 0 or highest >= len(mesh.vertices):
        raise _invalid(
            f"face indices span {lowest}..{highest}, there are {len(mesh.vertices)} vertices",
            item_id,
        )
    largest = float(np.abs(mesh.vertices).max())
    if largest > MAX_COORDINATE:
        raise _invalid(
            f"a coordinate reaches {largest:.3g}, the limit is {MAX_COORDINATE:.0e}", item_id
        )
    if float(np.ptp(mesh.vertices, axis=0).max()) <= 0.0:
        raise _invalid("all vertices coincide", item_id)


def _invalid(message: str, item_id: str | None) -> BadItem:
    return _bad(message, Reason.INVALID_MESH, item_id, "try another seed")


def _bad(message: str, reason: Reason, item_id: str | None, remedy: str) -> BadItem:
    return BadItem(message, reason=reason, remedy=remedy, item_id=item_id, stage=STAGE)
