"""The columns of a target row, beside the ordinary ones: plain data that any Parquet reader shows.

Images are PNG in struct{bytes, path}, as Ray Data and the datasets library show them; masks are the
alpha of the renders. Arrays are little-endian bytes in C order beside their shape.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from geco_core.types import Target

_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TARGET_SCHEMA = pa.schema(
    [
        ("target_key", pa.string()),
        ("target_sha256", pa.string()),
        ("teacher_digest", pa.string()),
        (
            "digests",
            pa.struct(
                [("condition", pa.string()), ("settings", pa.string()), ("weights", pa.string())]
            ),
        ),
        ("noise", pa.list_(pa.struct([("stream", pa.string()), ("seed", pa.int64())]))),
        ("condition", _PICTURE),
        ("latents", pa.binary()),
        ("latents_shape", pa.list_(pa.int32())),
        ("renders", pa.list_(_PICTURE)),
        ("w2c", pa.list_(pa.float32())),
        ("fov_deg", pa.float64()),
    ]
)
# Renders are many and large; the smallest level that filters is within a tenth of the best size.
_PNG_LEVEL = 1


def encode_target(target: Target, noise: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Values of `TARGET_SCHEMA`.

    Args:
        target: to be written.
        noise: streams of the teacher's draws and the seeds of their generators.
    """
    name = target.key[:16]
    columns: dict[str, Any] = {
        "target_key": target.key,
        "teacher_digest": target.teacher_digest,
        "digests": dict(target.digests),
        "noise": [{"stream": stream, "seed": seed} for stream, seed in noise],
        "condition": {"bytes": encode_png(target.condition), "path": f"{name}-condition.png"},
        "latents": np.ascontiguousarray(target.latents, dtype="<f2").tobytes(),
        "latents_shape": list(target.latents.shape),
        "renders": [
            {"bytes": encode_png(image), "path": f"{name}-{k:03d}.png"}
            for k, image in enumerate(target.renders)
        ],
        "w2c": np.ascontiguousarray(target.w2c, dtype="<f4").reshape(-1),
        "fov_deg": target.fov_deg,
    }
    return columns | {"target_sha256": payload_digest(columns)}


def decode_target(
    row: Mapping[str, Any], *, renders: Sequence[int] | None = None, latents: bool = True
) -> Target:
    """The target of a row's columns.

    Args:
        row: values of `TARGET_SCHEMA` with `item_id` and `seed`; `renders`, `w2c` and `latents` may
            be missing where they are not asked for.
        renders: numbers of the renders to decode, in this order; None for all.
        latents: whether to give the latents, else they are empty.
    """
    pictures, poses = _chosen(row, renders)
    array = np.zeros((0,), dtype=np.float16)
    if latents:
        array = np.frombuffer(row["latents"], dtype="<f2").reshape(row["latents_shape"])
    return Target(
        item_id=row["item_id"],
        seed=row["seed"],
        condition=decode_png(row["condition"]["bytes"]),
        latents=array,
        renders=pictures,
        w2c=poses,
        fov_deg=row["fov_deg"],
        key=row["target_key"],
        teacher_digest=row["teacher_digest"],
        digests=dict(row["digests"]),
    )


def payload_digest(columns: Mapping[str, Any]) -> str:
    """sha256 over everything of a target but its names, hex: what `geco verify` holds a row to."""
    digest = hashlib.sha256()
    head = [columns["target_key"], columns["teacher_digest"], columns["fov_deg"]]
    head += [dict(columns["digests"]), [dict(entry) for entry in columns["noise"]]]
    head += [[int(n) for n in columns["latents_shape"]], len(columns["renders"])]
    pieces = [json.dumps(head, sort_keys=True).encode(), columns["condition"]["bytes"]]
    pieces += [columns["latents"], *(picture["bytes"] for picture in columns["renders"])]
    pieces.append(np.asarray(columns["w2c"], dtype="<f4").tobytes())
    for piece in pieces:
        digest.update(f"{len(piece)}:".encode())
        digest.update(piece)
    return digest.hexdigest()


def target_fault(row: Mapping[str, Any]) -> str:
    """What is wrong with the target columns of a done row, or ""."""
    missing = [name for name in TARGET_SCHEMA.names if row.get(name) is None]
    if missing:
        return f"{', '.join(missing)} of the target are missing"
    found = payload_digest(row)
    if found != row["target_sha256"]:
        recorded = str(row["target_sha256"])[:12]
        return f"sha256 of the target is {found[:12]}, recorded is {recorded}"
    return ""


def encode_png(image: np.ndarray) -> bytes:
    """uint8 [H, W, 3] or [H, W, 4] as PNG."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", compress_level=_PNG_LEVEL)
    return stream.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3] or [H, W, 4] of a PNG."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return np.array(image)


def _chosen(row: Mapping[str, Any], wanted: Sequence[int] | None) -> tuple[np.ndarray, np.ndarray]:
    """Renders [k, R, R, 4] and poses [k, 4, 4]; [0, 1, 1, 4] where none is wanted."""
    if wanted is not None and not len(wanted):
        return np.zeros((0, 1, 1, 4), np.uint8), np.zeros((0, 4, 4), np.float32)
    pictures = row["renders"]
    numbers = range(len(pictures)) if wanted is None else wanted
    poses = np.asarray(row["w2c"], dtype=np.float32).reshape(-1, 4, 4)
    images = np.stack([decode_png(pictures[k]["bytes"]) for k in numbers])
    return images, poses[list(numbers)]
