"""Manifests in S3: an object, a folder (prefix) or a pattern.

The digest is a sha256 over a line per file with its size and ETag, images with their key as well.
The ETag changes whenever the content does, so nothing has to be read to notice a replaced object;
Parquet footers are added where a server gives no ETags.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath

from geco_core.config.run import S3Config
from geco_core.errors import ManifestError
from infra.locate import (
    KINDS,
    ManifestSource,
    kind_of_file,
    kind_of_many,
    no_images,
)
from infra.patterns import fixed_part, is_pattern, matches
from infra.storage.objects import StoredObject, find_object, list_objects, neighbours
from infra.storage.open import open_input
from infra.storage.s3 import split_uri


def locate_s3(source: str, s3: S3Config) -> ManifestSource:
    """Find out what an `s3://` address is. See `infra.locate.locate`."""
    bucket, key = split_uri(source)
    single = None if key == "" or key.endswith("/") else find_object(s3, bucket, key)
    if single is not None:
        return _single(source, bucket, single, s3)
    if is_pattern(key):
        folder = fixed_part(key)
        inside = [o for o in _visible(s3, bucket, folder) if matches(o.key, key)]
    else:
        folder = key.strip("/")
        inside = list(_visible(s3, bucket, folder))
        if not inside:
            raise _missing(source, bucket, key, s3)
    return _many(source, bucket, folder, inside, s3)


def _visible(s3: S3Config, bucket: str, folder: str) -> Iterator[StoredObject]:
    """Objects below a folder, without those whose name starts with a dot."""
    for entry in list_objects(s3, bucket, f"{folder}/" if folder else ""):
        if not entry.key.rpartition("/")[2].startswith("."):
            yield entry


def _single(source: str, bucket: str, entry: StoredObject, s3: S3Config) -> ManifestSource:
    kind = kind_of_file(source, entry.key)
    folder = entry.key.rpartition("/")[0]
    return _located(source, kind, bucket, folder, [entry], s3)


def _many(
    source: str, bucket: str, folder: str, inside: list[StoredObject], s3: S3Config
) -> ManifestSource:
    kind, suffixes = kind_of_many(entry.key for entry in inside)
    chosen = [o for o in inside if PurePosixPath(o.key).suffix.lower() in suffixes]
    if not chosen:
        raise no_images(source)
    return _located(source, kind, bucket, folder, sorted(chosen, key=lambda o: o.key), s3)


def _located(
    source: str, kind: str, bucket: str, folder: str, entries: list[StoredObject], s3: S3Config
) -> ManifestSource:
    base = f"s3://{bucket}/{folder}".rstrip("/")
    digest = hashlib.sha256()
    for entry in entries:
        line = f"{entry.size}\t{entry.tag}\n"
        if kind == "images":  # the key is the item's id; a table may move
            line = f"{entry.key.removeprefix(folder).lstrip('/')}\t{line}"
        digest.update(line.encode("utf-8", "surrogateescape"))
        if kind == "parquet" and not entry.tag:
            digest.update(_footer(f"s3://{bucket}/{entry.key}", s3))
    return ManifestSource(
        source=source,
        kind=kind,
        base=base,
        paths=tuple(f"s3://{bucket}/{entry.key}" for entry in entries),
        digest=digest.hexdigest(),
        tags=tuple(entry.tag for entry in entries),
        s3=s3,
    )


def _footer(uri: str, s3: S3Config) -> bytes:
    with open_input(uri, s3) as file:
        size = file.size()
        length = int.from_bytes(file.read_at(4, max(0, size - 8)), "little")
        start = max(0, size - 8 - length)
        return file.read_at(size - start, start)


def _missing(source: str, bucket: str, key: str, s3: S3Config) -> ManifestError:
    folder, _, name = key.rstrip("/").rpartition("/")
    names = neighbours(s3, bucket, f"{folder}/" if folder else "")
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    where = f"s3://{bucket}/{folder}/" if folder else f"s3://{bucket}/"
    known = ", ".join(sorted(KINDS))
    hint = f"did you mean {where}{near[0]}?" if near else f"check the address (files: {known})"
    return ManifestError(f"there is no manifest {source}", remedy=hint, stage="plan")
