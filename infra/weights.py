"""Weights that lie in S3, once per machine in a local cache.

A file or folder of the cache is named by the addresses, ETags and sizes of its objects, so that a
replaced object is another one. Files appear whole: any number of processes may ask at once, one
downloads and the others wait; what a killed download had finished is not fetched again. Whether the
content is the pinned one is checked where it is loaded, by sha256.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geco_core.config.run import S3Config
from geco_core.errors import Fatal
from infra.storage.protocol import TEMPORARY_PREFIX
from infra.weights_lookup import Groups, look_up

if TYPE_CHECKING:
    from infra.storage.objects import StoredObject

CACHE_VARIABLE = "GECO_CACHE_DIR"
STAGE = "load"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where downloads are kept: GECO_CACHE_DIR, else `geco-forge` in the user's cache folder."""
    if environ.get(CACHE_VARIABLE):
        return Path(environ[CACHE_VARIABLE]).expanduser()
    return Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "geco-forge"


def local_overrides(
    weights: Mapping[str, Any],
    s3: S3Config,
    cache: Path,
    files: Mapping[str, Groups] | None = None,
) -> list[str]:
    """Overrides that put local paths in the place of a configuration's `s3://` weights.

    Args:
        weights: the `weights` section of a resolved system configuration.
        s3: how they are reached.
        cache: folder of the downloads.
        files: field of that section -> what is needed of a folder; see `look_up`.

    Raises:
        Fatal, Retryable: as `local_weights`.
    """
    return [
        f"weights.{name}={json.dumps(local_weights(value, s3, cache, (files or {}).get(name, ())))}"
        for name, value in weights.items()
        if _is_stored(value)
    ]


def stored_identities(
    weights: Mapping[str, Any], files: Mapping[str, Groups], s3: S3Config
) -> dict[str, str]:
    """`<field>_stored` -> number, bytes and a digest of the ETags of what a field in S3 stands for.

    Arguments and errors as `local_overrides`; nothing is downloaded.
    """
    return {
        f"{name}_stored": look_up(value, s3, files.get(name, ())).summary
        for name, value in weights.items()
        if _is_stored(value)
    }


def local_weights(reference: str, s3: S3Config, cache: Path, groups: Groups = ()) -> str:
    """A weights reference that can be opened here: downloads `s3://`, returns all else unchanged.

    Args:
        reference: of a file or, with a folder behind it, of its needed files.
        s3: how it is reached.
        cache: folder of the downloads.
        groups: what is needed of a folder; see `look_up`.

    Raises:
        Fatal: there is no such object, no right to read it, or no room for it.
        Retryable: the store failed for the moment.
    """
    if not _is_stored(reference):
        return reference
    found = look_up(reference, s3, groups)
    folder = cache / "weights" / found.cache_name(s3.endpoint_url or "")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / ".lock"):
            absent = {n: o for n, o in found.objects.items() if not _stands(folder / n, o.size)}
            _check_room(reference, folder, sum(stored.size for stored in absent.values()))
            for name, stored in absent.items():
                _fetch(s3, found.bucket, stored, folder / name)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise _not_kept(reference, cache, str(error), full=full) from error
    return str(folder if found.folder else folder / next(iter(found.objects)))


def _is_stored(reference: object) -> bool:
    return isinstance(reference, str) and reference.startswith("s3://")


def _stands(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _check_room(reference: str, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        text = f"{needed:,} bytes are needed, {free:,} are free"
        raise _not_kept(reference, folder.parent.parent, text, full=True)


def _not_kept(reference: str, cache: Path, why: str, *, full: bool) -> Fatal:
    return Fatal(
        f"could not keep {reference} in {cache}: {why}",
        remedy=f"{'free space' if full else 'check permissions'}, or set {CACHE_VARIABLE}",
        stage=STAGE,
    )


def _fetch(s3: S3Config, bucket: str, found: StoredObject, path: Path) -> None:
    from infra.storage.download import download  # noqa: PLC0415 - local weights need no boto3

    path.parent.mkdir(parents=True, exist_ok=True)
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
