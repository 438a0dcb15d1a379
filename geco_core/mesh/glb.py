"""Binary glTF 2.0 writer: one mesh, one material, provenance in `asset.extras`, the same bytes for
the same input.

Follows the glTF 2.0 specification (Khronos). Choices:
- Written directly instead of through trimesh: COLOR_0 as 16-bit, extras on the asset and
  byte-for-byte reproducibility are not on offer there.
- COLOR_0 is LINEAR light in glTF while models speak sRGB, hence the conversion; 16 bits keep all
  256 sRGB levels apart, which 8 linear bits do not in the dark.
- A rough, non-metallic, double-sided material (metallic 0, roughness 1) rather than
  KHR_materials_unlit: assets should react to the light of the scene they are put into.
- No timestamps, sorted JSON keys, no padding other than zero: equal input gives equal bytes.

Legend: N vertices, F faces.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from geco_core.imaging.srgb import srgb_to_linear
from geco_core.mesh.glb_read import CHUNK_BIN, CHUNK_JSON, MAGIC, Glb, GlbError, read_glb
from geco_core.mesh.normals import vertex_normals
from geco_core.types import Mesh

__all__ = ["GENERATOR", "Glb", "GlbError", "read_glb", "write_glb"]

GENERATOR = "GECO Forge"

_FLOAT, _UINT16, _UINT32 = 5126, 5123, 5125
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_CLAMP_TO_EDGE, _LINEAR, _LINEAR_MIPMAP_LINEAR = 33071, 9729, 9987
# Index 65535 is the primitive-restart value of 16-bit indices.
_MAX_UINT16_VERTICES = 65535
_LINEAR_U16_OF_SRGB_U8 = np.rint(srgb_to_linear(np.arange(256) / 255.0) * 65535.0).astype(np.uint16)


def write_glb(
    mesh: Mesh,
    extras: Mapping[str, Any] | None = None,
    *,
    name: str = "asset",
    version: str = "",
    normals: bool = True,
) -> bytes:
    """The mesh as GLB bytes.

    Args:
        mesh: a checked mesh in the glTF frame (`geco_core.mesh.gate.check_mesh`).
        extras: JSON-compatible provenance for `asset.extras`; numpy scalars and tuples are
            accepted.
        name: of the node and the mesh.
        version: of the project, appended to `asset.generator`.
        normals: write smooth vertex normals; without them viewers shade faces flat.

    Raises:
        GlbError: extras that JSON can not carry (NaN, infinities, foreign objects).
    """
    document = _Document()
    primitive: dict[str, Any] = {
        "attributes": _attributes(document, mesh, normals),
        "indices": _indices(document, mesh),
        "material": 0,
        "mode": 4,
    }
    root: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": f"{GENERATOR} {version}".strip()},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [{"name": name, "primitives": [primitive]}],
        "materials": [_material(mesh)],
    }
    if extras:
        root["asset"]["extras"] = _plain(extras)
    if mesh.uvs is not None and mesh.texture is not None:
        root["images"] = [
            {"bufferView": document.view(_png(mesh.texture)), "mimeType": "image/png"}
        ]
        wrap = {"wrapS": _CLAMP_TO_EDGE, "wrapT": _CLAMP_TO_EDGE}
        root["samplers"] = [{"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR, **wrap}]
        root["textures"] = [{"sampler": 0, "source": 0}]
    root |= document.tables()
    return _container(root, bytes(document.binary))


class _Document:
    """The binary chunk with the buffer views and accessors into it."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        """Append `data` at a four-byte boundary and return the number of its buffer view."""
        self.binary.extend(b"\x00" * (-len(self.binary) % 4))
        entry: dict[str, Any] = {
            "buffer": 0,
            "byteOffset": len(self.binary),
            "byteLength": len(data),
        }
        if target is not None:
            entry["target"] = target
        self.binary.extend(data)
        self.views.append(entry)
        return len(self.views) - 1

    def accessor(
        self, array: np.ndarray, component: int, shape: str, target: int, **fields: object
    ) -> int:
        """Append a contiguous little-endian array and return the number of its accessor."""
        data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
        view = self.view(data, target)
        self.accessors.append(
            {
                "bufferView": view,
                "componentType": component,
                "count": len(array),
                "type": shape,
                **fields,
            }
        )
        return len(self.accessors) - 1

    def tables(self) -> dict[str, Any]:
        """The top-level entries that describe the binary chunk."""
        self.binary.extend(b"\x00" * (-len(self.binary) % 4))
        return {
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": len(self.binary)}],
        }


def _attributes(document: _Document, mesh: Mesh, normals: bool) -> dict[str, int]:
    vertices_N3 = mesh.vertices.astype(np.float32)
    low, high = (
        [float(v) for v in bound] for bound in (vertices_N3.min(axis=0), vertices_N3.max(axis=0))
    )
    attributes = {
        "POSITION": document.accessor(vertices_N3, _FLOAT, "VEC3", _ARRAY_BUFFER, min=low, max=high)
    }
    if normals:
        attributes["NORMAL"] = document.accessor(
            vertex_normals(mesh), _FLOAT, "VEC3", _ARRAY_BUFFER
        )
    if mesh.uvs is not None:
        flipped_N2 = np.stack([mesh.uvs[:, 0], 1.0 - mesh.uvs[:, 1]], axis=1).astype(np.float32)
        attributes["TEXCOORD_0"] = document.accessor(flipped_N2, _FLOAT, "VEC2", _ARRAY_BUFFER)
    if mesh.colors is not None and mesh.texture is None:
        # Four components: three 16-bit ones would break the four-byte alignment of vertex
        # attributes.
        linear_N4 = np.full((len(mesh.colors), 4), 65535, dtype=np.uint16)
        linear_N4[:, :3] = _LINEAR_U16_OF_SRGB_U8[mesh.colors]
        attributes["COLOR_0"] = document.accessor(
            linear_N4, _UINT16, "VEC4", _ARRAY_BUFFER, normalized=True
        )
    return attributes


def _indices(document: _Document, mesh: Mesh) -> int:
    small = len(mesh.vertices) <= _MAX_UINT16_VERTICES
    flat = mesh.faces.reshape(-1).astype(np.uint16 if small else np.uint32)
    return document.accessor(flat, _UINT16 if small else _UINT32, "SCALAR", _ELEMENT_ARRAY_BUFFER)


def _material(mesh: Mesh) -> dict[str, Any]:
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    if mesh.uvs is not None and mesh.texture is not None:
        surface["baseColorTexture"] = {"index": 0}
    return {"name": "surface", "doubleSided": True, "pbrMetallicRoughness": surface}


def _png(texture_HW3: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(texture_HW3)).save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def _container(root: dict[str, Any], binary: bytes) -> bytes:
    try:
        text = json.dumps(
            root, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
    except (TypeError, ValueError) as error:
        raise GlbError(
            f"asset.extras can not be written as JSON: {error}",
            remedy="pass plain, finite values",
            stage="finish",
        ) from error
    text += b" " * (-len(text) % 4)
    size = 12 + 8 + len(text) + 8 + len(binary)
    return b"".join(
        (
            struct.pack("<4sII", MAGIC, 2, size),
            struct.pack("<II", len(text), CHUNK_JSON),
            text,
            struct.pack("<II", len(binary), CHUNK_BIN),
            binary,
        )
    )


def _plain(value: object) -> Any:
    """`value` with mappings as dicts, sequences as lists and numpy scalars as Python numbers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        entries = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [_plain(entry) for entry in entries]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return value
