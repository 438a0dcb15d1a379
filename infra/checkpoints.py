"""Checkpoints of a training on a store: written atomically, checked by digest, the newest few kept.

`checkpoints/step-000250.pt` is the checkpoint, `step-000250.json` beside it says how long it is and
what its sha256 is. The record is written second and removed first, so a checkpoint that counts is
whole unless something damaged it later; the digest finds that. Two trainings of one folder at the
same time are a mistake that costs steps, not correctness: where their writes mix, the digest of a
checkpoint does not match and the one before is continued.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from geco_core.errors import Retryable
from infra.retry import retried
from infra.storage import Storage

FOLDER = "checkpoints"
CHUNK_BYTES = 8 << 20
_KEY = re.compile(rf"{FOLDER}/step-(\d{{6,}})\.(json|pt)")


class StoredCheckpoints:
    """`geco_core.distill.resume.CheckpointStore` on a `Storage`.

    Args:
        storage: of the stage's folder.
        keep: how many checkpoints are kept.
    """

    def __init__(self, storage: Storage, keep: int) -> None:
        if keep < 1:
            raise ValueError(f"keep must be positive, got {keep}")
        self._storage, self._keep = storage, keep

    def steps(self) -> list[int]:
        """Steps of the checkpoints that count, the newest first."""
        return sorted((step for step, kind in self._files() if kind == "json"), reverse=True)

    def put(self, step: int, path: Path) -> None:
        """Store a file as the checkpoint of `step`; the oldest beyond the limit are removed, and
        what a killed process left of older ones.

        Raises:
            Fatal, Retryable: of the store.
        """
        record = {"sha256": _digest(path), "bytes": path.stat().st_size}
        self.withdraw(step)  # of a damaged one in its place
        retried(lambda: self._storage.put_atomic(checkpoint_key(step), path))
        text = json.dumps(record, sort_keys=True)
        retried(lambda: self._storage.put_atomic(record_key(step), text.encode()))
        kept = self.steps()[: self._keep]
        for old in sorted({found for found, _ in self._files() if found < min(kept, default=0)}):
            self.withdraw(old)
            retried(lambda old=old: self._storage.delete(checkpoint_key(old)))

    def fetch(self, step: int, path: Path) -> str:
        """Write a checkpoint to a local file; returns what is wrong with it, "" for nothing.

        Raises:
            Fatal, Retryable: of the store.
        """
        try:
            record: Any = json.loads(retried(lambda: self._storage.get(record_key(step))))
            size, digest = retried(lambda: self._copy(checkpoint_key(step), path))
        except KeyError as error:
            return f"{error.args[0]} is missing"
        except ValueError as error:
            return f"its record is damaged: {error}"
        if not isinstance(record, dict) or record.get("bytes") != size:
            return f"it has {size} bytes, its record says {record}"
        return "" if record.get("sha256") == digest else "its sha256 is not the recorded one"

    def withdraw(self, step: int) -> None:
        """Count a checkpoint no longer. Its file stays until it is written again."""
        retried(lambda: self._storage.delete(record_key(step)))

    def _files(self) -> list[tuple[int, str]]:
        """(step, `json` or `pt`) of everything in the folder."""
        keys = retried(lambda: list(self._storage.list(FOLDER)))
        found = (_KEY.fullmatch(key) for key in keys)
        return [(int(match[1]), match[2]) for match in found if match]

    def _copy(self, key: str, path: Path) -> tuple[int, str]:
        """Bytes and sha256 of what was copied."""
        digest, size = hashlib.sha256(), 0
        try:
            with self._storage.open_for_pyarrow(key) as source, path.open("wb") as target:
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
        except OSError as error:
            raise Retryable(f"could not read {key}: {error}", stage="store") from error
        return size, digest.hexdigest()


def checkpoint_key(step: int) -> str:
    """`checkpoints/step-000250.pt`."""
    return f"{FOLDER}/step-{step:06d}.pt"


def record_key(step: int) -> str:
    """`checkpoints/step-000250.json`."""
    return f"{FOLDER}/step-{step:06d}.json"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
