"""The container of binary glTF 2.0: header, JSON chunk, binary chunk, and the arrays inside.

Follows the glTF 2.0 specification (Khronos), sections 4 (container) and 3.6 (buffers, accessors).
Knows nothing of meshes: `geco_core.mesh.glb_read` gives the arrays their meaning.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from geco_core.errors import ForgeError

MAGIC = b"glTF"
CHUNK_JSON, CHUNK_BIN = 0x4E4F534A, 0x004E4942

# glTF component type -> how its elements lie in a buffer.
DTYPES = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}

Document = dict[str, Any]


class GlbError(ForgeError):
    """The bytes are not a GLB of the expected shape."""


def wrong(message: str) -> GlbError:
    """The error for a file that is not as it should be."""
    return GlbError(message, remedy="write the asset again", stage="verify")


def split(data: bytes) -> tuple[Document, bytes]:
    """The JSON document and the binary chunk of a GLB.

    Raises:
        GlbError: header, chunk lengths or JSON are broken.
    """
    if len(data) < 20 or data[:4] != MAGIC:
        raise wrong("the file does not start with a glTF header")
    _, version, size = struct.unpack_from("<4sII", data)
    if version != 2 or size != len(data):
        raise wrong(f"container version {version} of {size} bytes, found {len(data)} bytes")
    chunks: list[tuple[int, bytes]] = []
    offset = 12
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from("<II", data, offset)
        if length % 4 or offset + 8 + length > len(data):
            raise wrong(f"a chunk of {length} bytes at {offset} does not fit or is not aligned")
        chunks.append((kind, data[offset + 8 : offset + 8 + length]))
        offset += 8 + length
    if offset != len(data) or not chunks or chunks[0][0] != CHUNK_JSON:
        raise wrong("the chunks do not add up to the file")
    try:
        root = json.loads(chunks[0][1])
    except ValueError as error:
        raise wrong(f"the JSON chunk does not parse: {error}") from error
    if not isinstance(root, dict):
        raise wrong("the JSON chunk is not an object")
    binary = chunks[1][1] if len(chunks) > 1 and chunks[1][0] == CHUNK_BIN else b""
    return root, binary


def joined(root: Document, views: list[tuple[dict[str, Any], bytes]]) -> bytes:
    """A GLB of a document and the contents of its buffer views, in order.

    Args:
        root: the document; its `buffers` and `bufferViews` are replaced.
        views: for each buffer view, its fields other than buffer, offset and length, and its bytes.
    """
    entries, binary = [], bytearray()
    for fields, content in views:
        place = {"buffer": 0, "byteOffset": len(binary), "byteLength": len(content)}
        entries.append({**fields, **place})
        binary += content
        binary += bytes(-len(binary) % 4)
    tree = {**root, "bufferViews": entries, "buffers": [{"byteLength": len(binary)}]}
    text = json.dumps(tree, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    size = 12 + 8 + len(text) + 8 + len(binary)
    head = struct.pack("<4sIIII", MAGIC, 2, size, len(text), CHUNK_JSON)
    return head + text + struct.pack("<II", len(binary), CHUNK_BIN) + bytes(binary)


def view_bytes(root: Document, binary: bytes, number: int) -> bytes:
    """The bytes of a buffer view. Raises `GlbError` when it is out of bounds or interleaved."""
    entry = root["bufferViews"][number]
    start = entry.get("byteOffset", 0)
    stop = start + entry["byteLength"]
    if entry.get("buffer", 0) != 0 or start < 0 or stop > len(binary) or "byteStride" in entry:
        raise wrong(f"buffer view {number} is out of bounds or interleaved")
    return binary[start:stop]


def accessor(root: Document, binary: bytes, number: int, shapes: tuple[str, ...]) -> np.ndarray:
    """The accessor's elements [count, width] in their stored type.

    Raises:
        GlbError: another shape than one of `shapes`, or elements beyond the buffer view.
    """
    entry = root["accessors"][number]
    if entry["type"] not in shapes or "sparse" in entry:
        raise wrong(f"accessor {number} is {entry['type']}, expected {' or '.join(shapes)}")
    dtype, width = np.dtype(DTYPES[entry["componentType"]]), _WIDTHS[entry["type"]]
    data = view_bytes(root, binary, entry["bufferView"])
    start, count = entry.get("byteOffset", 0), entry["count"]
    if count < 1 or start + count * width * dtype.itemsize > len(data):
        raise wrong(f"accessor {number} with {count} elements exceeds its buffer view")
    values = np.frombuffer(data, dtype=dtype, count=count * width, offset=start)
    return values.reshape(count, width).astype(dtype.newbyteorder("="))
