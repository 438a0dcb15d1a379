"""Sending one object to S3: a single PUT, or parts that become an object only at the end.

A condition (`If-None-Match: *`) has an answer of its own for "there is one already": 412. After a
connection broke with the object already written, boto3 repeats the request and gets 412 because of
our own object. The two cases look the same from here, and the caller need not care: it adopts what
stands, whose bytes are those it wanted to write.
"""

from __future__ import annotations

import hashlib
import logging
import os
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from geco_core.errors import Retryable
from infra.storage.errors import CLIENT_ERRORS, error_code, error_status, translated
from infra.storage.protocol import Data
from infra.telemetry import log_event

log = logging.getLogger(__name__)

SINGLE_PUT_BYTES = 16 << 20
PART_BYTES = 16 << 20
MAX_PARTS = 10_000
PARALLEL_PARTS = 4
CONFLICT_ATTEMPTS = 3


@dataclass(frozen=True)
class Target:
    """Where an object goes, and whether only if there is none."""

    client: Any
    bucket: str
    name: str
    conditional: bool

    @property
    def where(self) -> dict[str, str]:
        """Arguments that name the object."""
        return {"Bucket": self.bucket, "Key": self.name}

    @property
    def condition(self) -> dict[str, str]:
        """Arguments of the request that makes the object visible."""
        return {"IfNoneMatch": "*"} if self.conditional else {}


class _Exists(Exception):
    """The condition did not hold."""


class _Conflict(Exception):
    """Another conditional write of the same key is under way (409): nobody has won yet."""


def upload(target: Target, data: Data) -> bool:
    """Write an object whole.

    Returns:
        False when the target is conditional and the object exists.

    Raises:
        Retryable, Fatal: as `infra.storage.errors` translates.
    """
    size = data.stat().st_size if isinstance(data, Path) else memoryview(data).nbytes
    for _ in range(CONFLICT_ATTEMPTS):
        try:
            if size < SINGLE_PUT_BYTES:
                _put(target, _piece(data, 0, size))
            else:
                _Multipart(target, data, size).run()
        except _Exists:
            return False
        except _Conflict:
            continue
        except CLIENT_ERRORS as error:
            raise _as_ours(error, target) from None
        return True
    raise Retryable(
        f"others kept writing s3://{target.bucket}/{target.name}",
        remedy="run the same command again",
    )


def _put(target: Target, body: bytes) -> None:
    md5 = _md5(body)
    with_condition = target.condition
    try:
        answer = target.client.put_object(
            **target.where, Body=body, ContentMD5=b64encode(md5).decode(), **with_condition
        )
    except ClientError as error:
        _raise_if_condition(error, target)
        raise
    if _is_other_md5(answer, md5):
        _compare_stored(target, body)


class _Multipart:
    """One multipart upload: parts in parallel, aborted when anything fails."""

    def __init__(self, target: Target, data: Data, size: int) -> None:
        self.target = target
        self.data = data
        self.size = size
        self.part_bytes = max(PART_BYTES, -(-size // MAX_PARTS))

    def run(self) -> None:
        """Send, then complete. The object appears with the completion, never before."""
        client, where = self.target.client, self.target.where
        upload_id = client.create_multipart_upload(**where)["UploadId"]
        try:
            parts = self._send(upload_id)
        except BaseException:
            self._abort(upload_id)
            raise
        self._complete(upload_id, [tag for tag, _ in parts], [md5 for _, md5 in parts])

    def _send(self, upload_id: str) -> list[tuple[str, bytes]]:
        count = -(-self.size // self.part_bytes)
        with ThreadPoolExecutor(PARALLEL_PARTS, thread_name_prefix="upload") as pool:
            jobs = [pool.submit(self._send_part, upload_id, index) for index in range(count)]
            try:
                return [job.result() for job in jobs]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _send_part(self, upload_id: str, index: int) -> tuple[str, bytes]:
        start = index * self.part_bytes
        body = _piece(self.data, start, min(start + self.part_bytes, self.size))
        md5 = _md5(body)
        answer = self.target.client.upload_part(
            **self.target.where,
            UploadId=upload_id,
            PartNumber=index + 1,
            Body=body,
            ContentMD5=b64encode(md5).decode(),
        )
        return answer["ETag"], md5

    def _complete(self, upload_id: str, tags: list[str], md5s: list[bytes]) -> None:
        target = self.target
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, start=1)]
        try:
            target.client.complete_multipart_upload(
                **target.where,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},
                **target.condition,
            )
        except ClientError as error:
            if error_code(error) == "NoSuchUpload" and self._stands(md5s):
                return  # it was completed, the answer got lost, and boto3 asked again
            self._abort(upload_id)
            _raise_if_condition(error, target)
            raise
        stored = int(target.client.head_object(**target.where)["ContentLength"])
        if stored != self.size:
            raise Retryable(
                f"s3://{target.bucket}/{target.name} has {stored} bytes, {self.size} were sent",
                remedy="run the same command again",
                stage="store",
            )

    def _stands(self, md5s: list[bytes]) -> bool:
        """Whether the object is what these parts make, by either way servers tag such objects."""
        try:
            answer = self.target.client.head_object(**self.target.where)
        except ClientError:
            return False
        tag = answer.get("ETag", "").strip('"')
        if answer["ContentLength"] != self.size:
            return False
        return tag in (f"{_md5(b''.join(md5s)).hex()}-{len(md5s)}", self._whole_md5())

    def _whole_md5(self) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        for start in range(0, self.size, self.part_bytes):
            digest.update(_piece(self.data, start, min(start + self.part_bytes, self.size)))
        return digest.hexdigest()

    def _abort(self, upload_id: str) -> None:
        """Best effort: what stays behind is swept later, and the first error is the one to tell."""
        try:
            self.target.client.abort_multipart_upload(**self.target.where, UploadId=upload_id)
        except CLIENT_ERRORS as error:
            found = translated(error, "abort", f"s3://{self.target.bucket}/{self.target.name}")
            log_event(log, "upload_not_aborted", level=logging.WARNING, error=str(found))


def _piece(data: Data, start: int, stop: int) -> bytes:
    if not isinstance(data, Path):
        return bytes(memoryview(data).cast("B")[start:stop])
    with data.open("rb") as file:
        file.seek(start, os.SEEK_SET)
        piece = file.read(stop - start)
    if len(piece) != stop - start:
        raise Retryable(
            f"{data} became shorter while it was sent",
            remedy="run the same command again",
            stage="store",
        )
    return piece


def _md5(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


def _raise_if_condition(error: ClientError, target: Target) -> None:
    if target.conditional and error_status(error) == 412:
        raise _Exists from None
    if target.conditional and error_status(error) == 409:
        raise _Conflict from None


def _is_other_md5(answer: dict[str, Any], md5: bytes) -> bool:
    """Whether the server's ETag looks like an MD5 and is another one, or is missing.

    Under KMS or customer keys it is no MD5 of the content.
    """
    tag = str(answer.get("ETag", "")).strip('"')
    if not tag:
        return True
    encrypted = "SSECustomerAlgorithm" in answer or "kms" in answer.get("ServerSideEncryption", "")
    return len(tag) == 32 and not encrypted and tag.lower() != md5.hex()


def _compare_stored(target: Target, body: bytes) -> None:
    """Some servers' ETags are no MD5s: only the stored bytes can tell. Raises `Retryable`."""
    stored = target.client.get_object(**target.where)["Body"].read()
    if stored != body:
        raise Retryable(
            f"s3://{target.bucket}/{target.name} holds other bytes than were sent",
            remedy="run the same command again",
            stage="store",
        )


def _as_ours(error: Exception, target: Target) -> Exception:
    found = translated(error, "write", f"s3://{target.bucket}/{target.name}")
    if isinstance(found, KeyError):  # a write that finds nothing: the bucket or the upload is gone
        return Retryable(
            f"could not write s3://{target.bucket}/{target.name}: not found",
            remedy="check that the bucket exists",
            stage="store",
        )
    return found
