"""Where a run keeps its targets by content: a store of its own, or one that is shared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geco_core.config.run import S3Config
from infra.run_storage import is_s3, open_run_storage
from infra.storage import Storage, open_storage

RECORD = "targets"  # in the `storage` section of run.json


@dataclass(frozen=True)
class StoreAddress:
    """A store of targets; `conditional_put` is what is known about it, so that nobody probes."""

    uri: str
    conditional_put: bool

    def open(self, s3: S3Config) -> Storage:
        """The store behind it."""
        return open_storage(self.uri, s3, conditional_put=self.conditional_put)


def store_address(
    run: Storage, record: Mapping[str, Any] | None, configured: str, s3: S3Config, token: str
) -> StoreAddress:
    """The store of a run's targets: the configured one, else what the run began with, else its own.

    Args:
        run: the run folder.
        record: its `run.json`.
        configured: URI or path, or empty.
        s3: how S3 servers are reached.
        token: text no other process uses, to probe an S3 store with.

    Raises:
        ConfigError: no store of this kind.
        Fatal, Retryable: it can not be read or written.
    """
    recorded = ((record or {}).get("storage") or {}).get(RECORD, "")
    uri = configured or str(recorded or "")
    if not uri or open_storage(uri, s3).uri == run.uri:
        return StoreAddress(run.uri, run.conditional_put)
    storage = open_storage(uri, s3)
    if is_s3(storage):
        storage = open_run_storage(uri, s3, token)
    return StoreAddress(storage.uri, storage.conditional_put)
