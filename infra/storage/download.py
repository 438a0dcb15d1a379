"""One large S3 object into a local file: ranges in parallel, all of one version."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from geco_core.config.run import S3Config
from geco_core.errors import Retryable
from infra.storage.client import s3_client
from infra.storage.errors import CLIENT_ERRORS, error_status, translated
from infra.storage.objects import StoredObject

RANGE_BYTES = 32 << 20
PARALLEL_RANGES = 4
RANGE_ATTEMPTS = 3


def download(config: S3Config, bucket: str, found: StoredObject, handle: int) -> None:
    """Fill the open file `handle` with an object.

    Args:
        config: where the server is.
        bucket: the bucket.
        found: the object as it was looked up; each range must be of that version.
        handle: of an empty file, open for writing.

    Raises:
        Fatal, Retryable: it can not be read; also `Retryable` when it was replaced meanwhile.
        OSError: of the local file.
    """
    starts = range(0, found.size, RANGE_BYTES)
    with ThreadPoolExecutor(PARALLEL_RANGES, thread_name_prefix="download") as pool:
        jobs = [pool.submit(_range, config, bucket, found, start, handle) for start in starts]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _range(config: S3Config, bucket: str, found: StoredObject, start: int, handle: int) -> None:
    size = min(RANGE_BYTES, found.size - start)
    data, name = b"", f"s3://{bucket}/{found.key}"
    for _ in range(RANGE_ATTEMPTS):
        data = _read(config, bucket, found, start, size)
        if len(data) == size:
            break
    else:
        raise Retryable(f"{len(data)} of {size} bytes of {name} arrived", stage="load")
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, start)
        start, view = start + written, view[written:]


def _read(config: S3Config, bucket: str, found: StoredObject, start: int, size: int) -> bytes:
    """The bytes of a range; fewer when the connection broke."""
    pin: dict[str, Any] = {"IfMatch": f'"{found.tag}"'} if found.tag else {}
    wanted = f"bytes={start}-{start + size - 1}"
    name = f"s3://{bucket}/{found.key}"
    try:
        answer = s3_client(config).get_object(Bucket=bucket, Key=found.key, Range=wanted, **pin)
    except CLIENT_ERRORS as error:
        if isinstance(error, ClientError) and error_status(error) == 412:
            raise Retryable(f"{name} was replaced while it was read", stage="load") from None
        raise translated(error, "read", name) from None
    try:
        return answer["Body"].read()
    except CLIENT_ERRORS as error:
        lost = translated(error, "read", name)
        if isinstance(lost, Retryable):
            return b""
        raise lost from None
