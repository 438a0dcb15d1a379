"""The content-addressed store of targets: `objects/<k2>/<key>.safetensors`, shared by any runs.

An object holds the encoded columns of a target and the teacher's mesh, with a digest over all of
it. The first writer of a key wins and the others adopt what they find; an object whose digest does
not hold is made again and replaced. Nothing is ever removed: a store that is too large is deleted
as a whole, or by the age of its objects.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from geco_core.types import Mesh
from infra.commit import put_target
from infra.storage import Storage

FOLDER = "objects"
_ENTRY = "target"
_TEXTS = ("target_key", "target_sha256", "teacher_digest", "digests", "noise", "fov_deg")
_MESH = ("vertices", "faces", "colors")


class DamagedTarget(Exception):
    """An object of the store is not what was written under its key."""


@dataclass(frozen=True)
class StoredTarget:
    """What is kept of a target.

    Attributes:
        columns: values of `TARGET_SCHEMA`.
        mesh: the teacher's, in the glTF frame, with vertex colours.
    """

    columns: Mapping[str, Any]
    mesh: Mesh


def object_key(key: str) -> str:
    """`objects/ab/ab12....safetensors` of a content address."""
    return f"{FOLDER}/{key[:2]}/{key}.safetensors"


class TargetStore:
    """Targets by content address, in a run folder or anywhere else."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @property
    def uri(self) -> str:
        """Where it lies."""
        return self._storage.uri

    def get(self, key: str) -> StoredTarget | None:
        """The target of a key, or None.

        Raises:
            DamagedTarget: there is one, and it is not whole.
            Retryable, Fatal: the store failed.
        """
        try:
            data = self._storage.get(object_key(key))
        except KeyError:
            return None
        return decode_object(data, key)

    def put(self, stored: StoredTarget, *, replace: bool = False) -> bool:
        """Keep a target; durable on return.

        Args:
            stored: under the key in its columns.
            replace: put it in the place of a damaged one.

        Returns:
            False when one stands there already: take that one, it is the same.
        """
        key = object_key(stored.columns["target_key"])
        return put_target(self._storage, key, encode_object(stored), replace=replace)


def encode_object(stored: StoredTarget) -> bytes:
    """A safetensors file: pictures as bytes, arrays as arrays, the rest in its header."""
    columns, mesh = stored.columns, stored.mesh
    tensors = {
        "condition": _bytes(columns["condition"]["bytes"]),
        "latents": np.frombuffer(columns["latents"], "<f2").reshape(columns["latents_shape"]),
        "w2c": np.asarray(columns["w2c"], "<f4").reshape(-1, 4, 4),
        **{f"renders.{k:04d}": _bytes(p["bytes"]) for k, p in enumerate(columns["renders"])},
    }
    for name in _MESH:
        values = getattr(mesh, name)
        if values is not None:
            tensors[f"mesh.{name}"] = np.ascontiguousarray(values)
    head = {name: columns[name] for name in _TEXTS}
    head["paths"] = [p["path"] for p in (columns["condition"], *columns["renders"])]
    # One entry: safetensors writes several in no fixed order.
    entry = {"head": head, "sha256": _digest(tensors, head)}
    return save_tensors(tensors, {_ENTRY: json.dumps(entry, sort_keys=True)})


def decode_object(data: bytes, key: str) -> StoredTarget:
    """Inverse of `encode_object`. Raises `DamagedTarget` unless every byte is as written."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        entry = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_ENTRY])
        tensors, head = load_tensors(data), entry["head"]
        if _digest(tensors, head) != entry["sha256"]:
            raise DamagedTarget(f"the digest of {object_key(key)} does not hold")
        if head["target_key"] != key:
            raise DamagedTarget(f"{object_key(key)} holds another target")
        return StoredTarget(_columns(head, tensors), _mesh(tensors))
    except (SafetensorError, struct.error, ValueError, KeyError, IndexError, TypeError) as error:
        text = f"{object_key(key)} can not be read: {type(error).__name__}: {error}"
        raise DamagedTarget(text[:300]) from error


def _columns(head: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    first, *others = head["paths"]
    latents = tensors["latents"]
    return {name: head[name] for name in _TEXTS} | {
        "condition": {"bytes": tensors["condition"].tobytes(), "path": first},
        "latents": latents.tobytes(),
        "latents_shape": list(latents.shape),
        "renders": [
            {"bytes": tensors[f"renders.{k:04d}"].tobytes(), "path": path}
            for k, path in enumerate(others)
        ],
        "w2c": tensors["w2c"].reshape(-1),
    }


def _mesh(tensors: Mapping[str, np.ndarray]) -> Mesh:
    vertices, faces = tensors["mesh.vertices"], tensors["mesh.faces"]
    return Mesh(vertices, faces, tensors.get("mesh.colors"))


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


def _digest(tensors: Mapping[str, np.ndarray], head: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
