"""One finished asset, written without any mesh library: what the noop system hands out when only
the engine is measured.

A replica that loads it costs nothing but the engine's own imports.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import numpy as np

from geco_core.types import Asset

_MAGIC, _VERSION, _JSON, _BIN = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_FLOAT, _UINT, _ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 5126, 5125, 34962, 34963


def box_asset(corners_83: np.ndarray, faces_12x3: np.ndarray) -> Asset:
    """The unit box around the origin as a GLB, without a preview.

    Args:
        corners_83: float32, sides of length 1.
        faces_12x3: int32, counter-clockwise seen from outside.
    """
    points = corners_83.astype("<f4").tobytes()
    indices = faces_12x3.astype("<u4").tobytes()
    low, high = corners_83.min(axis=0).tolist(), corners_83.max(axis=0).tolist()
    accessors: list[dict[str, Any]] = [
        {"bufferView": 0, "componentType": _FLOAT, "count": 8, "type": "VEC3"},
        {"bufferView": 1, "componentType": _UINT, "count": 36, "type": "SCALAR"},
    ]
    accessors[0] |= {"min": low, "max": high}
    document = {
        "asset": {"version": "2.0", "extras": {"system": "noop"}},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": accessors,
        "bufferViews": [
            _view(0, len(points), _ARRAY_BUFFER),
            _view(len(points), len(indices), _ELEMENT_ARRAY_BUFFER),
        ],
        "buffers": [{"byteLength": len(points) + len(indices)}],
    }
    glb = _container(json.dumps(document, sort_keys=True).encode(), points + indices)
    stats = {
        "n_vertices": 8,
        "n_faces": 12,
        "bounds": [*low, *high],
        "watertight": True,
        "components": 1,
        "surface_area": 6.0,
        "volume": 1.0,
    }
    return Asset(glb, hashlib.sha256(glb).hexdigest(), b"", stats)


def _view(start: int, length: int, target: int) -> dict[str, int]:
    return {"buffer": 0, "byteOffset": start, "byteLength": length, "target": target}


def _container(document: bytes, data: bytes) -> bytes:
    document += b" " * (-len(document) % 4)
    size = 12 + 8 + len(document) + 8 + len(data)
    head = struct.pack("<III", _MAGIC, _VERSION, size)
    return b"".join(
        (
            head,
            struct.pack("<II", len(document), _JSON),
            document,
            struct.pack("<II", len(data), _BIN),
            data,
        )
    )
