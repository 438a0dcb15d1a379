"""Compressed geometry: GLBs with the extension KHR_draco_mesh_compression, written and read.

Follows the extension's specification (Khronos) with the DracoPy package (Apache-2.0), which is
optional. Only geometry is compressed: positions, normals and texture coordinates are rounded to the
bits below, vertex colours and faces are kept exactly, textures and everything else in the document
stay as they are. Vertices and faces come back in another order.

The encoder leaves out nothing but faces that repeat a corner; what it made is decoded again before
it is written, so counts and bounds in the document are those of the file.

Legend: N vertices, F faces.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from geco_core.config.finish import FinishConfig
from geco_core.errors import ConfigError
from geco_core.mesh.glb_container import (
    DTYPES,
    Document,
    GlbError,
    accessor,
    joined,
    split,
    view_bytes,
    wrong,
)

EXTENSION = "KHR_draco_mesh_compression"
POSITION_BITS = 14  # of the longest side of the bounding box: steps of 1/16384 of it
NORMAL_BITS = 10  # per octahedral coordinate: about a quarter of a degree
UV_BITS = 14  # a quarter of a texel of a 4096 texture
LEVEL = 7  # of 0 fast to 10 small
REMEDY = "pip install dracopy"

_WIDTHS = {"POSITION": "VEC3", "NORMAL": "VEC3", "TEXCOORD_0": "VEC2", "COLOR_0": "VEC4"}
_COLOR_ID = 3  # the encoder numbers the other attributes around it
_KINDS = {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 3, "COLOR_0": 4}  # of the library
_UINT32 = 5125


def require_draco(what: str) -> None:
    """Check that the package is there.

    Args:
        what: needs it, for the message.

    Raises:
        ConfigError: it is not.
    """
    if not _installed():
        raise ConfigError(f"{what} needs the package DracoPy", remedy=REMEDY)


def _installed() -> bool:
    return importlib.util.find_spec("DracoPy") is not None


def check_finish(settings: FinishConfig) -> None:
    """Raise `ConfigError` when this machine can not finish meshes with these settings."""
    if settings.compression == "draco":
        require_draco("finish.compression=draco")


def is_compressed(root: Document) -> bool:
    """Whether a document's geometry is compressed."""
    return EXTENSION in root.get("extensionsRequired", ())


def compressed(glb: bytes) -> bytes:
    """A GLB of `geco_core.mesh.glb.write_glb` with its geometry compressed; the same bytes for the
    same input.

    Raises:
        GlbError: it is none, or the geometry can not be encoded.
        ConfigError: DracoPy is not installed.
    """
    require_draco("compression=draco")
    root, binary = split(glb)
    primitive = root["meshes"][0]["primitives"][0]
    arrays = {
        name: accessor(root, binary, number, (_WIDTHS[name],))
        for name, number in primitive["attributes"].items()
    }
    faces = accessor(root, binary, primitive["indices"], ("SCALAR",)).reshape(-1, 3)
    geometry = {entry["bufferView"] for entry in root["accessors"]}
    data = _encoded(arrays, faces)
    decoded = _decoded(data)
    held = {entry["attribute_type"]: entry for entry in decoded.attributes}
    for name, number in primitive["attributes"].items():
        _describe(root["accessors"][number], held[_KINDS[name]]["data"])
    _describe(root["accessors"][primitive["indices"]], decoded.faces.reshape(-1, 1))
    views, renumbered = _other_views(root, binary, geometry)
    for image in root.get("images", ()):
        image["bufferView"] = renumbered[image["bufferView"]]
    ids = {name: held[_KINDS[name]]["unique_id"] for name in arrays}
    primitive["extensions"] = {EXTENSION: {"bufferView": len(views), "attributes": ids}}
    root["extensionsUsed"] = root["extensionsRequired"] = [EXTENSION]
    return joined(root, [*views, ({}, data)])


def expanded(root: Document, binary: bytes) -> tuple[Document, bytes]:
    """The document and binary chunk of a compressed GLB as if it had never been compressed.

    Raises:
        GlbError: the compressed data does not decode, or not to what the document says.
        ConfigError: DracoPy is not installed.
    """
    return split(_uncompressed(root, binary))


def uncompressed(glb: bytes) -> bytes:
    """A GLB without compression: the same bytes when it has none. Raises as `expanded`."""
    root, binary = split(glb)
    return _uncompressed(root, binary) if is_compressed(root) else glb


def _uncompressed(root: Document, binary: bytes) -> bytes:
    require_draco("this compressed GLB")
    if len(root["meshes"]) != 1 or len(root["meshes"][0]["primitives"]) != 1:
        raise wrong("only one mesh of one primitive is read from compressed geometry")
    primitive = root["meshes"][0]["primitives"][0]
    extension = primitive["extensions"].pop(EXTENSION)
    if not primitive["extensions"]:
        del primitive["extensions"]
    for table in ("extensionsUsed", "extensionsRequired"):
        root[table] = [name for name in root[table] if name != EXTENSION]
        if not root[table]:
            del root[table]
    decoded = _decoded(view_bytes(root, binary, extension["bufferView"]))
    views, renumbered = _other_views(root, binary, {extension["bufferView"]})
    for image in root.get("images", ()):
        image["bufferView"] = renumbered[image["bufferView"]]
    held = {entry["unique_id"]: entry["data"] for entry in decoded.attributes}
    arrays = {name: held[number] for name, number in extension["attributes"].items()}
    for name, array in arrays.items():
        entry = root["accessors"][primitive["attributes"][name]]
        content = np.ascontiguousarray(array, DTYPES[entry["componentType"]])
        _placed(entry, len(array), views, content.tobytes(), 34962)
    entry = root["accessors"][primitive["indices"]] | {"componentType": _UINT32}
    root["accessors"][primitive["indices"]] = entry
    flat = np.ascontiguousarray(decoded.faces, "<u4")
    _placed(entry, flat.size, views, flat.tobytes(), 34963)
    return joined(root, views)


def _placed(
    entry: dict[str, Any],
    count: int,
    views: list[tuple[dict[str, Any], bytes]],
    content: bytes,
    target: int,
) -> None:
    """Give an accessor a buffer view of its own."""
    if entry["count"] != count:
        raise wrong(f"{count} elements are compressed, the document says {entry['count']}")
    entry["bufferView"] = len(views)
    views.append(({"target": target}, content))


def _encoded(arrays: dict[str, np.ndarray], faces_F3: np.ndarray) -> bytes:
    import DracoPy  # noqa: PLC0415 - optional

    distinct_F = (faces_F3 != np.roll(faces_F3, 1, axis=1)).all(axis=1)
    options: dict[str, Any] = {}
    if "NORMAL" in arrays:
        options |= {"normals": arrays["NORMAL"].astype(np.float64)}
        options |= {"normal_quantization_bits": NORMAL_BITS}
    if "TEXCOORD_0" in arrays:
        options |= {"tex_coord": arrays["TEXCOORD_0"].astype(np.float64)}
        options |= {"tex_coord_quantization_bits": UV_BITS}
    if "COLOR_0" in arrays:
        options |= {"generic_attributes": {_COLOR_ID: arrays["COLOR_0"]}}
    try:
        return DracoPy.encode(
            arrays["POSITION"],
            faces_F3[distinct_F].astype(np.uint32),
            quantization_bits=POSITION_BITS,
            compression_level=LEVEL,
            **options,
        )
    except (AssertionError, ValueError, RuntimeError, DracoPy.EncodingFailedException) as error:
        raise GlbError(
            f"the geometry can not be compressed: {error}",
            remedy="set finish.compression=none",
            stage="finish",
        ) from error


def _decoded(data: bytes) -> Any:
    import DracoPy  # noqa: PLC0415 - optional

    try:
        mesh = DracoPy.decode(data)
        if len(mesh.faces) and len(mesh.points):
            return mesh
        problem = "no faces"
    except (AttributeError, ValueError, RuntimeError, DracoPy.FileTypeException) as error:
        problem = str(error)
    raise wrong(f"the compressed geometry does not decode: {problem}")


def _describe(entry: dict[str, Any], values: np.ndarray) -> None:
    """Make an accessor without a buffer view describe these elements [count, width]."""
    entry.pop("bufferView", None)
    entry.pop("byteOffset", None)
    entry["count"] = len(values)
    for bound, found in (("min", values.min(axis=0)), ("max", values.max(axis=0))):
        if bound in entry:
            entry[bound] = found.tolist()


def _other_views(
    root: Document, binary: bytes, left_out: set[int]
) -> tuple[list[tuple[dict[str, Any], bytes]], dict[int, int]]:
    """The buffer views without those left out, and their new numbers."""
    views: list[tuple[dict[str, Any], bytes]] = []
    renumbered: dict[int, int] = {}
    for number, entry in enumerate(root["bufferViews"]):
        if number in left_out:
            continue
        renumbered[number] = len(views)
        kept = {k: v for k, v in entry.items() if k not in {"buffer", "byteOffset", "byteLength"}}
        views.append((kept, view_bytes(root, binary, number)))
    return views, renumbered
