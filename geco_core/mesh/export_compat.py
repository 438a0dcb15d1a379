"""InstantMesh's export conventions, for parity checks and for users who rely on its files.

Follows the behaviour of InstantMesh (arXiv 2404.07191), where every format leaves the world in
another way:
- OBJ with vertex colours: z -> -z with reversed faces, i.e. a reflection whose orientation is
  repaired;
- GLB: x -> -x and z -> -z, a proper rotation;
- textured OBJ: untouched axes, separate position and texture indices, a fixed material file, and a
  texture whose black texels are filled from their neighbours.
Everything else in this project uses the one rotation of `geco_core.mesh.frames`.

Legend: N vertices, F faces, M texture coordinates, H, W texture.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import grey_dilation

MTL_NAME = "material_0"
_GLB_SIGNS = np.array([-1, 1, -1], dtype=np.float32)
_OBJ_SIGNS = np.array([1, 1, -1], dtype=np.float32)
_BLACK_SUM = 3


def glb_axes(vertices_N3: np.ndarray) -> np.ndarray:
    """Vertices as InstantMesh's GLB holds them: half a turn about y."""
    return vertices_N3 * _GLB_SIGNS


def obj_axes(vertices_N3: np.ndarray, faces_F3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces as InstantMesh's vertex-colour OBJ holds them.

    Mirrored in z, with the winding reversed.
    """
    return vertices_N3 * _OBJ_SIGNS, faces_F3[:, ::-1]


def colored_obj(vertices_N3: np.ndarray, faces_F3: np.ndarray, colors_N3: np.ndarray) -> bytes:
    """OBJ text with colours after the coordinates.

    Args:
        vertices_N3: model frame, float.
        faces_F3: zero-based.
        colors_N3: uint8 sRGB, written as fractions of 255.
    """
    moved_N3, wound_F3 = obj_axes(vertices_N3, faces_F3)
    lines = [
        "v " + " ".join(f"{value:.8f}" for value in (*position, *(color / 255.0)))
        for position, color in zip(moved_N3, colors_N3.astype(np.float64), strict=True)
    ]
    lines += [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in wound_F3]
    return ("\n".join(lines) + "\n").encode("ascii")


def textured_obj(
    vertices_N3: np.ndarray,
    faces_F3: np.ndarray,
    uvs_M2: np.ndarray,
    face_uvs_F3: np.ndarray,
    *,
    mtl_file: str,
) -> bytes:
    """OBJ text with positions and texture coordinates indexed apart; axes untouched."""
    lines = [f"mtllib {mtl_file}"]
    lines += ["v " + " ".join(f"{value:.6f}" for value in position) for position in vertices_N3]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in uvs_M2]
    lines.append(f"usemtl {MTL_NAME}")
    lines += [
        "f " + " ".join(f"{vertex + 1}/{uv + 1}" for vertex, uv in zip(face, face_uv, strict=True))
        for face, face_uv in zip(faces_F3, face_uvs_F3, strict=True)
    ]
    return ("\n".join(lines) + "\n").encode("ascii")


def material_file(texture_file: str) -> bytes:
    """The MTL text that goes with `textured_obj`."""
    fields = {
        "newmtl": MTL_NAME,
        "Kd": "1 1 1",
        "Ka": "0 0 0",
        "Ks": "0.4 0.4 0.4",
        "Ns": "10",
        "illum": "2",
        "map_Kd": texture_file,
    }
    return "".join(f"{key} {value}\n" for key, value in fields.items()).encode("ascii")


def texture_pixels(texture_HW3: np.ndarray) -> np.ndarray:
    """The uint8 image that is saved for a texture in [0, 1] with row 0 at v = 0.

    Values are truncated; texels whose three channels add up to 3 or less take, per channel, the
    maximum of their 3x3 neighbourhood; the image is turned upside down, so that row 0 of the result
    is the top.
    """
    pixels_HW3 = (texture_HW3 * 255.0).astype(np.uint8)
    black_HW = pixels_HW3.sum(axis=-1, dtype=np.int64) <= _BLACK_SUM
    grown_HW3 = grey_dilation(pixels_HW3, size=(3, 3, 1), mode="constant", cval=0)
    return np.where(black_HW[..., None], grown_HW3, pixels_HW3)[::-1].copy()
