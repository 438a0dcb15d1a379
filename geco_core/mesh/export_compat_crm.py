"""CRM's export conventions, for parity checks and for users who rely on its files.

Follows the behaviour of CRM (arXiv 2403.05034): a textured OBJ turned from z up to y up at the
scale of the model, its material and picture, and a GLB that is centred and scaled to a longest side
of 1.8. Faces of CRM's decoder wind inwards and are reversed on the way. Everything else in this
project uses `geco_core.mesh.frames` and `geco_core.mesh.bake`.

Vertices and faces are taken as CRM's decoder gives them: canonical frame (z up, front +y), faces
inwards.

Legend: N vertices, F faces, M texture coordinates, H, W texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import grey_dilation

from geco_core.mesh.export_compat import MTL_NAME
from geco_core.types import Mesh

BOUND = 0.9
_UNCOVERED = 1
_BLACK_SUM = 3


@dataclass(frozen=True)
class CrmObj:
    """What CRM's OBJ holds, zero-based.

    Attributes:
        vertices: [N, 3], y up.
        uvs: [M, 2], v downwards: row 0 of the picture is v = 0 of the layout.
        faces: [F, 3], outwards.
        face_uvs: [F, 3] into `uvs`.
    """

    vertices: np.ndarray
    uvs: np.ndarray
    faces: np.ndarray
    face_uvs: np.ndarray


def crm_axes(vertices_N3: np.ndarray) -> np.ndarray:
    """Canonical vertices, y up: (x, y, z) -> (x, z, -y), a proper rotation."""
    x, y, z = vertices_N3.T
    return np.stack([x, z, -y], axis=1)


def crm_obj(
    vertices_N3: np.ndarray, faces_F3: np.ndarray, uvs_M2: np.ndarray, face_uvs_F3: np.ndarray
) -> CrmObj:
    """The arrays of CRM's OBJ from a decoded mesh and its layout (origin at the lower left)."""
    flipped_M2 = np.stack([uvs_M2[:, 0], 1.0 - uvs_M2[:, 1]], axis=1)
    return CrmObj(crm_axes(vertices_N3), flipped_M2, faces_F3[:, ::-1], face_uvs_F3[:, ::-1])


def obj_text(obj: CrmObj, *, mtl_file: str) -> bytes:
    """OBJ text with positions and texture coordinates indexed apart."""
    lines = [f"mtllib {mtl_file}"]
    lines += ["v " + " ".join(f"{value:.8f}" for value in position) for position in obj.vertices]
    lines += [f"vt {u:.8f} {v:.8f}" for u, v in obj.uvs]
    lines.append(f"usemtl {MTL_NAME}")
    lines += [
        "f " + " ".join(f"{vertex + 1}/{uv + 1}" for vertex, uv in zip(face, face_uv, strict=True))
        for face, face_uv in zip(obj.faces, obj.face_uvs, strict=True)
    ]
    return ("\n".join(lines) + "\n").encode("ascii")


def material_text(texture_file: str) -> bytes:
    """The MTL text that goes with `obj_text`."""
    fields = {
        "newmtl": MTL_NAME,
        "Kd": "1 1 1",
        "Ka": "1 1 1",
        "Ks": "0.4 0.4 0.4",
        "Ns": "10",
        "illum": "2",
        "map_Kd": texture_file,
    }
    return "".join(f"{key} {value}\n" for key, value in fields.items()).encode("ascii")


def texture_pixels(colors_HW3: np.ndarray, covered_HW: np.ndarray) -> np.ndarray:
    """The uint8 picture that is saved for colours in [0, 1] where texels are covered.

    Values are truncated; uncovered and nearly black texels (channels that add up to 3 or less)
    take, per channel, the maximum of their 3x3 neighbourhood, once: a gutter of one texel. Row 0 of
    the picture is row 0 of `colors_HW3`, v = 0 of the layout.
    """
    values_HW3 = np.clip(colors_HW3 * 255.0, 0.0, 255.0).astype(np.uint8)
    pixels_HW3 = np.where(covered_HW[..., None], values_HW3, np.uint8(_UNCOVERED))
    black_HW = pixels_HW3.sum(axis=-1, dtype=np.int64) <= _BLACK_SUM
    grown_HW3 = grey_dilation(pixels_HW3, size=(3, 3, 1), mode="constant", cval=0)
    return np.where(black_HW[..., None], grown_HW3, pixels_HW3)


def glb_mesh(obj: CrmObj, texture_HW3: np.ndarray | None = None, *, bound: float = BOUND) -> Mesh:
    """The mesh of CRM's GLB, for `geco_core.mesh.glb.write_glb`.

    One vertex per texture coordinate, centred on the bounding box, longest side 2 * `bound`.

    Args:
        obj: from `crm_obj`.
        texture_HW3: from `texture_pixels`.
        bound: half the longest side.

    Raises:
        ValueError: a texture coordinate that belongs to no face, or a mesh without extent.
    """
    low_3, high_3 = obj.vertices.min(axis=0), obj.vertices.max(axis=0)
    side = float((high_3 - low_3).max())
    if side <= 0.0:
        raise ValueError("a mesh without extent can not be scaled")
    source_M = np.full(len(obj.uvs), -1, dtype=np.int64)
    source_M[obj.face_uvs.reshape(-1)] = obj.faces.reshape(-1)
    if source_M.min(initial=0) < 0:
        raise ValueError("a texture coordinate belongs to no face")
    scaled_N3 = (obj.vertices - (low_3 + high_3) / 2) * (2.0 * bound / side)
    return Mesh(
        vertices=np.ascontiguousarray(scaled_N3[source_M], dtype=np.float32),
        faces=np.ascontiguousarray(obj.face_uvs, dtype=np.int32),
        uvs=obj.uvs.astype(np.float32),
        texture=texture_HW3,
    )
