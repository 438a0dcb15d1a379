"""Binary glTF 2.0 reader with structural checks, for what `geco_core.mesh.glb` writes.

It reads one triangle mesh (one primitive, no node transform, plain or with compressed geometry)
with float positions, optional colours, texture coordinates and an embedded texture, and verifies on
the way what a consumer relies on: container lengths, buffer and accessor bounds, index range,
finite values. It is no replacement for the Khronos validator.

Legend: N vertices, F faces.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from geco_core.imaging.srgb import linear_to_srgb
from geco_core.mesh.draco import expanded, is_compressed
from geco_core.mesh.glb_container import GlbError, accessor, split, view_bytes, wrong
from geco_core.types import Mesh

__all__ = ["Glb", "GlbError", "read_glb"]


@dataclass(frozen=True)
class Glb:
    """What a GLB holds.

    Attributes:
        mesh: the geometry, sRGB colours and texture.
        normals: float32 [N, 3], or None when the file has none.
        extras: `asset.extras`.
        generator: `asset.generator`.
    """

    mesh: Mesh
    normals: np.ndarray | None
    extras: Mapping[str, Any]
    generator: str


def read_glb(data: bytes) -> Glb:
    """Read and check a GLB.

    Raises:
        GlbError: a broken container, references out of bounds, indices out of range, values that
            are not finite, or a glTF feature this reader does not cover.
        ConfigError: the geometry is compressed and DracoPy is not installed.
    """
    root, binary = split(data)
    try:
        if is_compressed(root):
            root, binary = expanded(root, binary)
        return _read(root, binary)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise wrong(f"the glTF document is incomplete ({type(error).__name__}: {error})") from error


def _read(root: dict[str, Any], binary: bytes) -> Glb:
    asset = root["asset"]
    if asset["version"] != "2.0":
        raise wrong(f"glTF version {asset['version']!r}, expected '2.0'")
    primitive = _only_primitive(root)
    attributes = primitive["attributes"]
    vertices_N3 = accessor(root, binary, attributes["POSITION"], ("VEC3",))
    faces_F3 = _faces(root, binary, primitive, len(vertices_N3))
    colors_N3 = uvs_N2 = normals_N3 = None
    if "COLOR_0" in attributes:
        linear = accessor(root, binary, attributes["COLOR_0"], ("VEC3", "VEC4"))[:, :3]
        colors_N3 = np.rint(linear_to_srgb(_unit(linear)) * 255.0).astype(np.uint8)
    if "TEXCOORD_0" in attributes:
        flipped = _unit(accessor(root, binary, attributes["TEXCOORD_0"], ("VEC2",)))
        uvs_N2 = np.stack([flipped[:, 0], 1.0 - flipped[:, 1]], axis=1).astype(np.float32)
    if "NORMAL" in attributes:
        normals_N3 = accessor(root, binary, attributes["NORMAL"], ("VEC3",))
    for name, values in (("POSITION", vertices_N3), ("NORMAL", normals_N3), ("TEXCOORD_0", uvs_N2)):
        if values is None:
            continue
        if len(values) != len(vertices_N3):
            raise wrong(f"{name} has {len(values)} elements for {len(vertices_N3)} vertices")
        if not np.isfinite(values).all():
            raise wrong(f"{name} holds values that are not finite")
    mesh = Mesh(vertices_N3, faces_F3, colors_N3, uvs_N2, _texture(root, binary))
    return Glb(mesh, normals_N3, asset.get("extras", {}), asset.get("generator", ""))


def _only_primitive(root: dict[str, Any]) -> dict[str, Any]:
    node = root["nodes"][root["scenes"][root.get("scene", 0)]["nodes"][0]]
    primitives = root["meshes"][node["mesh"]]["primitives"]
    moved = {"matrix", "rotation", "scale", "translation"} & node.keys()
    if len(root["meshes"]) != 1 or len(primitives) != 1 or moved or root.get("extensionsRequired"):
        raise wrong(
            "only one untransformed mesh of one primitive without required extensions is read"
        )
    if primitives[0].get("mode", 4) != 4:
        raise wrong("the primitive is not a list of triangles")
    return primitives[0]


def _faces(
    root: dict[str, Any], binary: bytes, primitive: dict[str, Any], vertices: int
) -> np.ndarray:
    flat = accessor(root, binary, primitive["indices"], ("SCALAR",)).reshape(-1)
    if flat.dtype.kind != "u" or len(flat) % 3:
        raise wrong(f"{len(flat)} indices of type {flat.dtype} do not form triangles")
    if int(flat.max()) >= vertices:
        raise wrong(f"index {int(flat.max())} is out of range for {vertices} vertices")
    return flat.reshape(-1, 3).astype(np.int32)


def _unit(values: np.ndarray) -> np.ndarray:
    """Normalised integers as float in [0, 1]; floats unchanged."""
    if values.dtype.kind == "u":
        return values.astype(np.float64) / np.iinfo(values.dtype).max
    return values


def _texture(root: dict[str, Any], binary: bytes) -> np.ndarray | None:
    if not root.get("images"):
        return None
    encoded = view_bytes(root, binary, root["images"][0]["bufferView"])
    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise wrong(f"the texture does not decode: {error}") from error
