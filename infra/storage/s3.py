"""A prefix of an S3 bucket as a store.

An object appears whole or not at all because a PUT and a completed multipart upload do. Where the
server honours `If-None-Match: *` (`infra.storage.probe` finds out), of several writers of an absent
key exactly one wins; elsewhere the key is looked up before the write, and the later of two writers
within that moment stands. Both hold the same rows.

What is sent carries a Content-MD5 that the server checks; what comes back as a plain MD5 is checked
here; and lengths are compared both ways.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError

from geco_core.config.run import S3Config
from geco_core.errors import ConfigError, Fatal, Retryable
from infra.storage.client import s3_client
from infra.storage.errors import CLIENT_ERRORS, each_page, translated
from infra.storage.protocol import SWEPT_FOLDERS, TEMPORARY_PREFIX, Data, checked_key
from infra.storage.upload import Target, upload
from infra.telemetry import log_event

log = logging.getLogger(__name__)

READ_ATTEMPTS = 3


def split_uri(uri: str) -> tuple[str, str]:
    """`s3://bucket/some/key` -> (`bucket`, `some/key`). Raises `ConfigError` without a bucket."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if "@" in bucket:
        raise ConfigError(
            "an s3:// address carries credentials in front of the bucket",
            remedy="write s3://bucket/folder; credentials go to AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY",
        )
    if scheme != "s3" or not bucket:
        raise ConfigError(f"{uri} is no s3:// address", remedy="write s3://bucket/folder")
    return bucket, key


class S3Storage:
    """A bucket, or a folder of one, as a store.

    Safe for any number of writing threads, processes and machines.
    """

    def __init__(self, uri: str, config: S3Config, *, conditional_put: bool) -> None:
        """Nothing is sent yet. Raises `ConfigError` for an address without a bucket."""
        self.bucket, prefix = split_uri(uri)
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        if self.prefix:
            checked_key(self.prefix)
        self.uri = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        self.config = config
        self.conditional_put = conditional_put

    def put_atomic(self, key: str, data: Data, *, only_if_absent: bool = False) -> bool:
        """See `Storage.put_atomic`: one PUT, or a multipart upload completed at the end."""
        name = self._name(key)
        if only_if_absent and not self.conditional_put and self.exists(key):
            return False
        target = Target(self._client(), self.bucket, name, only_if_absent and self.conditional_put)
        return upload(target, data)

    def get(self, key: str) -> bytes:
        """See `Storage.get`. A body that breaks off is asked for again, then `Retryable`."""
        name = self._name(key)
        broken = ""
        for _ in range(READ_ATTEMPTS):
            answer = self._asked("get_object", "read", key, Key=name)
            try:
                data = answer["Body"].read()
            except CLIENT_ERRORS as error:
                found = self._error(error, "read", key)
                if not isinstance(found, Retryable):
                    raise found from None
                broken = found.message
                continue
            wanted = int(answer.get("ContentLength", len(data)))
            if len(data) == wanted and "ETag" in answer:  # without: an error page with status 200
                return data
            broken = f"{len(data)} of {wanted} bytes of {self.bucket}/{name} arrived"
        raise Retryable(broken, remedy="run the same command again", stage="store")

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        try:
            answer = self._asked("head_object", "look up", key, Key=self._name(key))
        except KeyError:
            return False
        if "ETag" not in answer:  # an error page with status 200
            raise Retryable(f"no sound answer about {key}", remedy="run the same command again")
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """See `Storage.list`. Markers of folders (keys that end in `/`) are no objects."""
        folder = f"{self._name(prefix)}/" if prefix.strip("/") else self.prefix
        place: dict[str, str] | None = {"Prefix": folder}
        while place is not None:
            page = self._asked("list_objects_v2", "list", prefix, **place)
            for entry in page.get("Contents", ()):
                name: str = entry["Key"]
                if not name.endswith("/") and not _is_temporary(name):
                    yield name[len(self.prefix) :]
            more = page.get("NextContinuationToken") if page.get("IsTruncated") else None
            place = {"Prefix": folder, "ContinuationToken": more} if more else None

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        with contextlib.suppress(KeyError):
            self._asked("delete_object", "delete", key, Key=self._name(key))

    def open_for_pyarrow(self, key: str) -> pa.NativeFile:
        """See `Storage.open_for_pyarrow`: range requests, nothing is read ahead as a whole."""
        from infra.storage.reader import open_object  # noqa: PLC0415 - it loads the AWS C++ library

        return open_object(self.config, self.bucket, self._name(key))

    def sweep_temporary(self, older_than: float) -> int:
        """See `Storage.sweep_temporary`: aborts multipart uploads begun before that time.

        Not every server or set of credentials can list uploads; a lifecycle rule does the same, so
        a refusal is logged and no error.
        """
        removed = 0
        try:
            for page in self._pages("list_multipart_uploads", "", Prefix=self.prefix):
                for entry in page.get("Uploads", ()):
                    folder = entry["Key"][len(self.prefix) :].partition("/")[0]
                    old = entry["Initiated"].timestamp() < older_than
                    if old and folder in SWEPT_FOLDERS:
                        self._abort(entry["Key"], entry["UploadId"])
                        removed += 1
        except (Fatal, Retryable) as error:
            if "NoSuchUpload" not in error.message:  # how one server says that there are none
                log_event(log, "uploads_not_swept", level=logging.WARNING, error=error.message)
        return removed

    def _abort(self, name: str, upload_id: str) -> None:
        try:
            self._client().abort_multipart_upload(Bucket=self.bucket, Key=name, UploadId=upload_id)
        except CLIENT_ERRORS as error:
            if "NoSuchUpload" not in str(error):  # somebody else swept it, or it was completed
                raise translated(error, "abort an upload of", f"{self.bucket}/{name}") from None

    def _pages(self, operation: str, prefix: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        paginator = self._client().get_paginator(operation)
        pages = paginator.paginate(Bucket=self.bucket, **arguments)
        yield from each_page(pages, lambda error: self._error(error, "list", prefix))

    def _asked(self, operation: str, verb: str, key: str, **arguments: str) -> dict[str, Any]:
        """One request and its answer. boto3 repeats requests; an answer whose reading breaks off,
        be it that of an error, is asked for again here.

        Raises:
            KeyError, Retryable, Fatal: see `infra.storage.errors`.
        """
        left = READ_ATTEMPTS
        while True:
            left -= 1
            try:
                return getattr(self._client(), operation)(Bucket=self.bucket, **arguments)
            except CLIENT_ERRORS as error:
                settled = isinstance(error, (ClientError, BotoCoreError))
                if settled or not left:
                    raise self._error(error, verb, key) from None

    def _client(self) -> Any:
        return s3_client(self.config)

    def _name(self, key: str) -> str:
        return self.prefix + checked_key(key)

    def _error(self, error: Exception, verb: str, key: str) -> Exception:
        found = translated(error, verb, f"s3://{self.bucket}/{self.prefix}{key.strip('/')}")
        return KeyError(key) if isinstance(found, KeyError) else found


def _is_temporary(name: str) -> bool:
    """A torn write of a local run folder that was copied into the bucket as it was."""
    return name.rpartition("/")[2].startswith(TEMPORARY_PREFIX)
