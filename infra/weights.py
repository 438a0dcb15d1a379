"""Weights that lie in S3, once per machine in a local cache.

A file of the cache is named by the address, ETag and size of its object, so that a replaced object
is another file. It appears whole: any number of processes may ask for it at once, one downloads and
the others wait. Whether the content is the pinned one is checked where it is loaded, by sha256.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geco_core.config.run import S3Config
from geco_core.errors import Fatal
from infra.storage.protocol import TEMPORARY_PREFIX

CACHE_VARIABLE = "GECO_CACHE_DIR"
STAGE = "load"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where downloads are kept: GECO_CACHE_DIR, else `geco-forge` in the user's cache folder."""
    if environ.get(CACHE_VARIABLE):
        return Path(environ[CACHE_VARIABLE]).expanduser()
    return Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "geco-forge"


def local_overrides(weights: Mapping[str, Any], s3: S3Config, cache: Path) -> list[str]:
    """Overrides that put local paths in the place of a configuration's `s3://` weights.

    Args:
        weights: the `weights` section of a resolved system configuration.
        s3: how they are reached.
        cache: folder of the downloads.

    Raises:
        Fatal, Retryable: as `local_weights`.
    """
    return [
        f"weights.{name}={json.dumps(local_weights(value, s3, cache))}"
        for name, value in weights.items()
        if isinstance(value, str) and value.startswith("s3://")
    ]


def local_weights(reference: str, s3: S3Config, cache: Path) -> str:
    """A weights reference that can be opened here: downloads `s3://`, returns all else unchanged.

    Raises:
        Fatal: there is no such object, no right to read it, or no room for it.
        Retryable: the store failed for the moment.
    """
    if not reference.startswith("s3://"):
        return reference
    from infra.storage.objects import find_object  # noqa: PLC0415 - local weights need no boto3
    from infra.storage.s3 import split_uri  # noqa: PLC0415

    bucket, key = split_uri(reference)
    found = find_object(s3, bucket, key)
    if found is None:
        raise Fatal(f"there are no weights at {reference}", remedy="fix weights.*", stage=STAGE)
    identity = f"{s3.endpoint_url or ''}\n{reference}\n{found.tag}\n{found.size}"
    name = hashlib.sha256(identity.encode()).hexdigest()[:24]
    path = cache / "weights" / name / key.rpartition("/")[2]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent / ".lock"):
            if not (path.is_file() and path.stat().st_size == found.size):
                _fetch(s3, bucket, found, path)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise Fatal(
            f"could not keep {reference} in {cache}: {error}",
            remedy=f"{'free space' if full else 'check permissions'}, or set {CACHE_VARIABLE}",
            stage=STAGE,
        ) from error
    return str(path)


def _fetch(s3: S3Config, bucket: str, found: Any, path: Path) -> None:
    from infra.storage.download import download  # noqa: PLC0415 - local weights need no boto3

    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            download(s3, bucket, found, file.fileno())
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel frees when its owner dies."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
