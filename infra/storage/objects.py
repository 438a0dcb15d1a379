"""Looking at S3 objects that are not ours: what a manifest is made of, with sizes and tags."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from geco_core.config.run import S3Config
from infra.storage.client import s3_client
from infra.storage.errors import CLIENT_ERRORS, each_page, translated


@dataclass(frozen=True)
class StoredObject:
    """An object as a listing shows it.

    Attributes:
        key: within the bucket.
        size: bytes.
        tag: its ETag without quotes; changes with the content. Empty where a server gives none.
    """

    key: str
    size: int
    tag: str


def find_object(config: S3Config, bucket: str, key: str) -> StoredObject | None:
    """The object of a key, or None. Raises `Fatal` or `Retryable`."""
    try:
        answer = s3_client(config).head_object(Bucket=bucket, Key=key)
    except CLIENT_ERRORS as error:
        found = translated(error, "look up", f"s3://{bucket}/{key}")
        if isinstance(found, KeyError):
            return None
        raise found from None
    return StoredObject(key, int(answer["ContentLength"]), _tag(answer))


def list_objects(config: S3Config, bucket: str, prefix: str) -> Iterator[StoredObject]:
    """Objects whose key starts with `prefix`, in key order, without folder markers."""
    for page in _pages(config, bucket, Prefix=prefix):
        for entry in page.get("Contents", ()):
            if not entry["Key"].endswith("/"):
                yield StoredObject(entry["Key"], int(entry["Size"]), _tag(entry))


def neighbours(config: S3Config, bucket: str, prefix: str) -> list[str]:
    """Names of up to a thousand objects and folders directly below `prefix`."""
    page = next(_pages(config, bucket, Prefix=prefix, Delimiter="/"), {})
    names = [entry["Key"] for entry in page.get("Contents", ())]
    names += [entry["Prefix"].rstrip("/") for entry in page.get("CommonPrefixes", ())]
    return [name[len(prefix) :] for name in names if len(name) > len(prefix)]


def _pages(config: S3Config, bucket: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    paginator = s3_client(config).get_paginator("list_objects_v2")
    place = f"s3://{bucket}/{arguments['Prefix']}"
    pages = paginator.paginate(Bucket=bucket, **arguments)
    yield from each_page(pages, lambda error: translated(error, "list", place))


def _tag(answer: dict[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"')
