"""From an address to what is behind it: a store to write into, or one file to read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa

from geco_core.config.run import S3Config
from geco_core.errors import ConfigError, Fatal, Retryable
from infra.storage.local import LocalStorage
from infra.storage.protocol import Storage

if TYPE_CHECKING:
    from infra.storage.reader import ObjectReader

DEFAULT_S3 = S3Config()
STREAM_BUFFER_BYTES = 8 << 20


def open_storage(
    uri: str, s3: S3Config = DEFAULT_S3, *, conditional_put: bool | None = None
) -> Storage:
    """The store behind a URI or path. Nothing is read or created yet.

    Args:
        uri: a local path, `file://` or `s3://bucket/folder`.
        s3: how S3 servers are reached.
        conditional_put: what a probe found; None, not known, means do not rely on it. A local store
            always has it.

    Raises:
        ConfigError: an empty address, or a scheme this build has no store for.
    """
    remedy = "give a local path, a file:// URI or s3://bucket/folder"
    scheme, separator, rest = uri.partition("://")
    if not uri.strip() or (not separator and uri.lower().startswith("s3:")):
        raise ConfigError(f"{uri!r} is no address of a store", remedy=remedy)
    if not separator:
        return LocalStorage(Path(uri))
    if scheme == "file":
        return LocalStorage(Path(unquote(rest)))
    if scheme == "s3":
        from infra.storage.s3 import S3Storage  # noqa: PLC0415 - local runs need no boto3

        return S3Storage(uri, s3, conditional_put=bool(conditional_put))
    # Without the address itself: it may hold a password or a signature.
    raise ConfigError(f"there is no store for {scheme}:// addresses", remedy=remedy)


def open_input(source: str | Path, s3: S3Config = DEFAULT_S3, *, tag: str = "") -> pa.NativeFile:
    """A seekable Arrow file over a local path, `file://` or `s3://` object, read by ranges.

    Args:
        source: path or URI.
        s3: how S3 servers are reached.
        tag: ETag that an S3 object must have; empty for any.

    Raises:
        KeyError: there is none.
        Fatal: it has another tag, or may not be read.
        ConfigError, Retryable: it can not be read.
    """
    text = str(source)
    if text.startswith("s3://"):
        return pa.PythonFile(_object_reader(text, s3, tag), mode="r")
    path = _local_path(text)
    try:
        return pa.OSFile(path, "rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def open_stream(source: str, s3: S3Config = DEFAULT_S3, *, tag: str = "") -> IO[bytes]:
    """A file to be read from its beginning, line by line. Otherwise as `open_input`."""
    if source.startswith("s3://"):
        return io.BufferedReader(_object_reader(source, s3, tag), STREAM_BUFFER_BYTES)
    path = _local_path(source)
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def _object_reader(uri: str, s3: S3Config, tag: str) -> ObjectReader:
    from infra.storage.reader import ObjectReader  # noqa: PLC0415 - local runs need no AWS library
    from infra.storage.s3 import split_uri  # noqa: PLC0415

    return ObjectReader(s3, *split_uri(uri), tag=tag)


def _local_path(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if separator and scheme != "file":
        raise ConfigError(f"{scheme}:// files are not read ({text})", remedy="use a path or s3://")
    return unquote(rest) if separator else text


def _unreadable(path: str, error: OSError) -> Exception:
    if isinstance(error, FileNotFoundError):
        return KeyError(path)
    if isinstance(error, (PermissionError, IsADirectoryError)):
        return Fatal(f"may not read {path}: {error}", remedy="check path and permissions")
    return Retryable(f"could not read {path}: {error}", stage="plan")
