"""Reading S3 objects by ranges, as Arrow files.

The bytes come through `pyarrow.fs.S3FileSystem`, outside of the interpreter lock. A thin layer
around its file makes passing faults pass (a few more tries, short reads included) and turns the
others into this project's errors: boto3 asks the server once more and says what is wrong.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from geco_core.config.run import S3Config
from geco_core.errors import Fatal, Retryable
from infra.storage.client import environment_digest, resolve, s3_client
from infra.storage.errors import CLIENT_ERRORS, clean, translated
from infra.storage.objects import find_object

T = TypeVar("T")
READ_ATTEMPTS = 3
NEAR_BYTES = 1 << 18
MIN_AHEAD_BYTES = 1 << 20
MAX_AHEAD_BYTES = 8 << 20
_lock = threading.Lock()
_filesystems: dict[tuple[int, S3Config, str], fs.S3FileSystem] = {}


def open_object(config: S3Config, bucket: str, name: str) -> pa.NativeFile:
    """A seekable Arrow file over an object. Raises `KeyError`, `Retryable` or `Fatal`."""
    return pa.PythonFile(ObjectReader(config, bucket, name), mode="r")


class ObjectReader(io.RawIOBase):
    """A read-only file over one object, read by ranges.

    One thread at a time, as Arrow sees to.

    Args:
        config: where the server is.
        bucket: the bucket.
        name: the key within it.
        tag: ETag it must have, or "". Raises `Fatal` for another.
    """

    def __init__(self, config: S3Config, bucket: str, name: str, *, tag: str = "") -> None:
        self._config, self._bucket, self._name, self._tag = config, bucket, name, tag
        self._position = 0
        self._window = (0, pa.py_buffer(b""))  # what was read last: offset and bytes
        self._ahead = 0
        self.check_tag()
        self._file = self._tried(self._open)
        self._size = int(self._file.size())

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Offset of the next read."""
        return self._position

    def size(self) -> int:
        """Bytes of the object."""
        return self._size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; nothing is sent."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The next bytes; fewer only at the end of the object."""
        return self.read_buffer(size).to_pybytes()

    def read_buffer(self, size: int = -1) -> pa.Buffer:
        """`read` without a copy: Arrow asks for this when a file has it."""
        left = max(0, self._size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        if not wanted:
            return pa.py_buffer(b"")
        buffer = self._from_window(self._position, wanted)
        self._position += wanted
        return buffer

    def _from_window(self, offset: int, wanted: int) -> pa.Buffer:
        """A range, read ahead when ranges follow each other: the column chunks of a row group are
        neighbours, and a request each would cost more than their bytes.
        """
        start, window = self._window
        if not (start <= offset and offset + wanted <= start + window.size):
            gap = offset - (start + window.size)
            near = window.size > 0 and -window.size <= gap <= NEAR_BYTES
            self._ahead = min(max(2 * self._ahead, MIN_AHEAD_BYTES), MAX_AHEAD_BYTES) if near else 0
            size = min(max(wanted, self._ahead), self._size - offset)
            start, window = offset, self._tried(lambda: self._range(size, offset))
            self._window = (start, window)
        return window.slice(offset - start, wanted)

    def readinto(self, target: Any) -> int:
        """Fill `target` with the next bytes; fewer only at the end of the object."""
        view = memoryview(target).cast("B")
        buffer = self.read_buffer(view.nbytes)
        view[: buffer.size] = memoryview(buffer).cast("B")
        return buffer.size

    def check_tag(self) -> None:
        """Raises `Fatal` when the object is not the one whose tag was given, `KeyError` when gone.

        Ranges of two versions of an object make neither: whoever reads long asks at the end too.
        """
        if not self._tag:
            return
        found = find_object(self._config, self._bucket, self._name)
        if found is None:
            raise KeyError(f"s3://{self._bucket}/{self._name}")
        if found.tag != self._tag:
            raise Fatal(
                f"s3://{self._bucket}/{self._name} was replaced while this run reads it",
                remedy="put the former object back, or start a new run with another --out",
                stage="fetch",
            )

    def close(self) -> None:
        """Free the connection."""
        if not self.closed:
            super().close()
            if hasattr(self, "_file"):
                self._file.close()

    def _open(self) -> pa.NativeFile:
        system = arrow_filesystem(self._config)
        return system.open_input_file(f"{self._bucket}/{self._name}")

    def _range(self, size: int, offset: int) -> pa.Buffer:
        buffer = pa.py_buffer(self._file.read_at(size, offset))
        if buffer.size != size:
            raise OSError(f"{buffer.size} of {size} bytes arrived")
        return buffer

    def _tried(self, action: Callable[[], T]) -> T:
        """The result of an action, tried again while boto3 can read the object."""
        text = ""
        for _ in range(READ_ATTEMPTS):
            try:
                return action()
            except OSError as error:
                text = clean(str(error))
            self._check(text)
        raise Retryable(
            f"could not read s3://{self._bucket}/{self._name}: {text}",
            remedy="run the same command again",
            stage="fetch",
        )

    def _check(self, text: str) -> None:
        """Ask for the object by boto3, whose answers say what is wrong; returns when nothing is.

        Raises:
            KeyError, Fatal, Retryable: what boto3 found.
        """
        name = f"s3://{self._bucket}/{self._name}"
        if "HTTP status 301" in text:
            raise Fatal(
                f"could not read {name}: the bucket lies in another region",
                remedy="set s3.region or AWS_REGION to the bucket's region",
            )
        client = s3_client(self._config)
        try:
            # A range instead of HEAD: only answers with a body name the error.
            answer = client.get_object(Bucket=self._bucket, Key=self._name, Range="bytes=0-0")
            answer["Body"].close()
        except CLIENT_ERRORS as error:
            found = translated(error, "read", name)
            if "InvalidRange" not in str(found):  # an empty object has no first byte
                raise (KeyError(self._name) if isinstance(found, KeyError) else found) from None


def arrow_filesystem(config: S3Config) -> fs.S3FileSystem:
    """This process's Arrow filesystem for a configuration."""
    key = (os.getpid(), config, environment_digest())
    with _lock:
        if key not in _filesystems:
            _filesystems[key] = _create(config)
        return _filesystems[key]


def _create(config: S3Config) -> fs.S3FileSystem:
    client = s3_client(config)
    options: dict[str, Any] = {
        "region": client.meta.region_name,
        "connect_timeout": config.connect_timeout_s,
        "request_timeout": config.read_timeout_s,
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=config.max_attempts),
        "force_virtual_addressing": False,
    }
    address = urlsplit(client.meta.endpoint_url)
    if "amazonaws.com" not in (address.hostname or ""):
        options |= {"endpoint_override": address.netloc, "scheme": address.scheme}
        options["force_virtual_addressing"] = not resolve(config).path_style
    if os.environ.get("AWS_CA_BUNDLE"):
        options["tls_ca_file_path"] = os.environ["AWS_CA_BUNDLE"]
    return fs.S3FileSystem(**options, **_fixed_credentials(client))


def _fixed_credentials(client: Any) -> dict[str, str]:
    """Credentials that do not expire by themselves, so that both libraries use the same ones.

    Those that do (roles, single sign-on) are found and renewed by the Arrow library itself.
    """
    found = client._request_signer._credentials  # noqa: SLF001 - no public way to the chosen ones
    if found is None or hasattr(found, "refresh_needed"):
        return {}
    plain = found.get_frozen_credentials()
    pairs = {"access_key": plain.access_key, "secret_key": plain.secret_key}
    return pairs | ({"session_token": plain.token} if plain.token else {})
