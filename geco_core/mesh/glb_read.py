"""Binary glTF 2.0 reader with structural checks, for what `geco_core.mesh.glb` writes.

It reads one triangle mesh (one primitive, no node transform, no compression extension) with float
positions, optional colours, texture coordinates and an embedded texture, and verifies on the way
what a consumer relies on: container lengths, buffer and accessor bounds, index range, finite
values. It is no replacement for the Khronos validator.

Legend: N vertices, F faces.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from geco_core.errors import ForgeError
from geco_core.imaging.srgb import linear_to_srgb
from geco_core.types import Mesh

MAGIC = b"glTF"
CHUNK_JSON, CHUNK_BIN = 0x4E4F534A, 0x004E4942

_DTYPES = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


class GlbError(ForgeError):
    """The bytes are not a GLB of the expected shape."""


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
    """
    root, binary = _split(data)
    try:
        return _read(root, binary)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise _wrong(
            f"the glTF document is incomplete ({type(error).__name__}: {error})"
        ) from error


def _read(root: dict[str, Any], binary: bytes) -> Glb:
    asset = root["asset"]
    if asset["version"] != "2.0":
        raise _wrong(f"glTF version {asset['version']!r}, expected '2.0'")
    primitive = _only_primitive(root)
    attributes = primitive["attributes"]
    vertices_N3 = _accessor(root, binary, attributes["POSITION"], ("VEC3",))
    faces_F3 = _faces(root, binary, primitive, len(vertices_N3))
    colors_N3 = uvs_N2 = normals_N3 = None
    if "COLOR_0" in attributes:
        linear = _accessor(root, binary, attributes["COLOR_0"], ("VEC3", "VEC4"))[:, :3]
        colors_N3 = np.rint(linear_to_srgb(_unit(linear)) * 255.0).astype(np.uint8)
    if "TEXCOORD_0" in attributes:
        flipped = _unit(_accessor(root, binary, attributes["TEXCOORD_0"], ("VEC2",)))
        uvs_N2 = np.stack([flipped[:, 0], 1.0 - flipped[:, 1]], axis=1).astype(np.float32)
    if "NORMAL" in attributes:
        normals_N3 = _accessor(root, binary, attributes["NORMAL"], ("VEC3",))
    for name, values in (("POSITION", vertices_N3), ("NORMAL", normals_N3), ("TEXCOORD_0", uvs_N2)):
        if values is None:
            continue
        if len(values) != len(vertices_N3):
            raise _wrong(f"{name} has {len(values)} elements for {len(vertices_N3)} vertices")
        if not np.isfinite(values).all():
            raise _wrong(f"{name} holds values that are not finite")
    mesh = Mesh(vertices_N3, faces_F3, colors_N3, uvs_N2, _texture(root, binary))
    return Glb(mesh, normals_N3, asset.get("extras", {}), asset.get("generator", ""))


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON document and the binary chunk."""
    if len(data) < 20 or data[:4] != MAGIC:
        raise _wrong("the file does not start with a glTF header")
    _, version, size = struct.unpack_from("<4sII", data)
    if version != 2 or size != len(data):
        raise _wrong(f"container version {version} of {size} bytes, found {len(data)} bytes")
    chunks: list[tuple[int, bytes]] = []
    offset = 12
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from("<II", data, offset)
        if length % 4 or offset + 8 + length > len(data):
            raise _wrong(f"a chunk of {length} bytes at {offset} does not fit or is not aligned")
        chunks.append((kind, data[offset + 8 : offset + 8 + length]))
        offset += 8 + length
    if offset != len(data) or not chunks or chunks[0][0] != CHUNK_JSON:
        raise _wrong("the chunks do not add up to the file")
    try:
        root = json.loads(chunks[0][1])
    except ValueError as error:
        raise _wrong(f"the JSON chunk does not parse: {error}") from error
    if not isinstance(root, dict):
        raise _wrong("the JSON chunk is not an object")
    binary = chunks[1][1] if len(chunks) > 1 and chunks[1][0] == CHUNK_BIN else b""
    return root, binary


def _only_primitive(root: dict[str, Any]) -> dict[str, Any]:
    node = root["nodes"][root["scenes"][root.get("scene", 0)]["nodes"][0]]
    primitives = root["meshes"][node["mesh"]]["primitives"]
    moved = {"matrix", "rotation", "scale", "translation"} & node.keys()
    if len(root["meshes"]) != 1 or len(primitives) != 1 or moved or root.get("extensionsRequired"):
        raise _wrong(
            "only one untransformed mesh of one primitive without required extensions is read"
        )
    if primitives[0].get("mode", 4) != 4:
        raise _wrong("the primitive is not a list of triangles")
    return primitives[0]


def _view(root: dict[str, Any], binary: bytes, number: int) -> bytes:
    entry = root["bufferViews"][number]
    start = entry.get("byteOffset", 0)
    stop = start + entry["byteLength"]
    if entry.get("buffer", 0) != 0 or start < 0 or stop > len(binary) or "byteStride" in entry:
        raise _wrong(f"buffer view {number} is out of bounds or interleaved")
    return binary[start:stop]


def _accessor(
    root: dict[str, Any], binary: bytes, number: int, shapes: tuple[str, ...]
) -> np.ndarray:
    """The accessor's elements [count, width] in their stored type."""
    entry = root["accessors"][number]
    if entry["type"] not in shapes or "sparse" in entry:
        raise _wrong(f"accessor {number} is {entry['type']}, expected {' or '.join(shapes)}")
    dtype, width = np.dtype(_DTYPES[entry["componentType"]]), _WIDTHS[entry["type"]]
    data = _view(root, binary, entry["bufferView"])
    start, count = entry.get("byteOffset", 0), entry["count"]
    if count < 1 or start + count * width * dtype.itemsize > len(data):
        raise _wrong(f"accessor {number} with {count} elements exceeds its buffer view")
    values = np.frombuffer(data, dtype=dtype, count=count * width, offset=start)
    return values.reshape(count, width).astype(dtype.newbyteorder("="))


def _faces(
    root: dict[str, Any], binary: bytes, primitive: dict[str, Any], vertices: int
) -> np.ndarray:
    flat = _accessor(root, binary, primitive["indices"], ("SCALAR",)).reshape(-1)
    if flat.dtype.kind != "u" or len(flat) % 3:
        raise _wrong(f"{len(flat)} indices of type {flat.dtype} do not form triangles")
    if int(flat.max()) >= vertices:
        raise _wrong(f"index {int(flat.max())} is out of range for {vertices} vertices")
    return flat.reshape(-1, 3).astype(np.int32)


def _unit(values: np.ndarray) -> np.ndarray:
    """Normalised integers as float in [0, 1]; floats unchanged."""
    if values.dtype.kind == "u":
        return values.astype(np.float64) / np.iinfo(values.dtype).max
    return values


def _texture(root: dict[str, Any], binary: bytes) -> np.ndarray | None:
    if not root.get("images"):
        return None
    encoded = _view(root, binary, root["images"][0]["bufferView"])
    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG")) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise _wrong(f"the texture does not decode: {error}") from error


def _wrong(message: str) -> GlbError:
    return GlbError(message, remedy="write the asset again", stage="verify")
