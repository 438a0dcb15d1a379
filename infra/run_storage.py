"""The store of a run, opened with what is known about it.

Whether a server keeps conditional puts is found out once, when the run is created, and recorded in
`run.json` together with the server it was found on. A run that was copied to another server is not
believed: it is probed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from geco_core.config.run import S3Config
from infra.plan import read_run
from infra.storage import Storage, open_storage
from infra.storage.open import DEFAULT_S3


def open_run_storage(uri: str, s3: S3Config, token: str) -> Storage:
    """The store to make a run in: conditional puts as its `run.json` says, else as a probe finds.

    Args:
        uri: the run folder.
        s3: how S3 servers are reached.
        token: text no other process uses, for the probe.

    Raises:
        ConfigError: no store of this kind.
        Fatal, Retryable: it can not be read or written.
    """
    storage = open_storage(uri, s3)
    if not is_s3(storage):
        return storage
    known = recorded_conditional_put(storage, read_run(storage), s3)
    if known is None:
        from infra.storage.probe import probe_conditional_put  # noqa: PLC0415 - it loads boto3

        known = probe_conditional_put(storage, token)
    return open_storage(uri, s3, conditional_put=known)


def as_recorded(storage: Storage, record: Mapping[str, Any], s3: S3Config = DEFAULT_S3) -> Storage:
    """The same store with what `run.json` says about it; for commands on a run that exists."""
    if not is_s3(storage):
        return storage
    known = recorded_conditional_put(storage, record, s3)
    return open_storage(storage.uri, s3, conditional_put=known)


def storage_record(storage: Storage, s3: S3Config = DEFAULT_S3) -> dict[str, Any]:
    """What `run.json` says about the store."""
    return {"server": server_of(storage, s3), "conditional_put": storage.conditional_put}


def recorded_conditional_put(
    storage: Storage, record: Mapping[str, Any] | None, s3: S3Config
) -> bool | None:
    """What a `run.json` says about this very server; None when it does not."""
    known = (record or {}).get("storage")
    if not isinstance(known, Mapping) or known.get("server") != server_of(storage, s3):
        return None
    value = known.get("conditional_put")
    return value if isinstance(value, bool) else None


def server_of(storage: Storage, s3: S3Config) -> str:
    """`local`, `aws`, or host and port of an S3-compatible server."""
    if not is_s3(storage):
        return "local"
    from infra.storage.client import resolve  # noqa: PLC0415

    url = resolve(s3).url
    return urlsplit(url).netloc if url else "aws"


def is_s3(storage: Storage) -> bool:
    """Whether a store lies in a bucket."""
    return storage.uri.startswith("s3://")
