"""The store under a run folder: a handful of verbs that a local disk and an object store can both
keep.

Everything above speaks keys (`done/000003.json`), never paths, and relies on one promise only: an
object appears whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from geco_core.errors import Fatal

TEMPORARY_PREFIX = ".tmp-"
# Where a run writes, beside its top folder. Unfinished writes elsewhere belong to somebody else.
SWEPT_FOLDERS = ("assets", "attempts", "done", "manifest", "objects", "partial", "report", "stages")
Data = bytes | memoryview | Path


@runtime_checkable
class Storage(Protocol):
    """The verbs of a store.

    Keys are relative, `/`-separated, without `..`. Every verb raises `Retryable` or `Fatal`, never
    `OSError` or an error of a client library. A store can be pickled and used in another process.

    Attributes:
        uri: what opens the same store again.
        conditional_put: whether of several writers of an absent key exactly one wins. Without it
            the last of two that come within the same moment wins; both hold the same rows.
    """

    uri: str
    conditional_put: bool

    def put_atomic(self, key: str, data: Data, *, only_if_absent: bool = False) -> bool:
        """Write an object whole; durable, with its name, when this returns.

        Returns:
            False when `only_if_absent` and the key exists. The object that stands may still be
            ours: a write whose answer got lost is found by its own repetition. So callers adopt
            what stands, and never conclude that somebody else wrote it.
        """
        ...

    def get(self, key: str) -> bytes:
        """The object. Raises `KeyError` when there is none."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys below `prefix` (a folder, or "" for all), in no particular order."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; no error when there is none."""
        ...

    def open_for_pyarrow(self, key: str) -> pa.NativeFile:
        """A seekable Arrow file over the object. Raises `KeyError`."""
        ...

    def sweep_temporary(self, older_than: float) -> int:
        """Remove unfinished writes of dead processes; returns how many.

        Only those of a run (`SWEPT_FOLDERS`): a bucket or a folder may hold other things too.

        Args:
            older_than: seconds since the epoch; later ones may belong to a living process.
        """
        ...


def checked_key(key: str) -> str:
    """The key without outer slashes. Raises `Fatal` when it could leave the store."""
    plain = key.strip("/")
    if not key or any(part in ("", ".", "..") for part in plain.split("/")):
        raise Fatal(f"refused storage key {key!r}", remedy="keys are relative and contain no '..'")
    return plain
