"""Local files, inside declared folders only.

A manifest may come from anywhere, so a path in it reaches only below the roots: the manifest's own
folder and `fetch.roots`. What counts is where the file really lies: symbolic links and `..` are
resolved first, and checked again on the opened file, which no later change of the folder can
exchange.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from geco_core.errors import BadItem, Reason
from infra.fetch.problems import bad, passing, read_capped, shown, too_many

_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EMFILE, errno.ENFILE}
_NO_SUCH = {errno.ENOENT, errno.ENOTDIR}
_UNUSABLE = {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.EISDIR}
_DENIED = {errno.EACCES, errno.EPERM}
# O_NONBLOCK: a pipe that was put in the file's place must not hold the open.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class LocalSource:
    """Reads plain paths and `file://` URIs below `roots`.

    Args:
        roots: absolute folders; entries with a scheme are not local and are left out.
        declared: `fetch.roots`, for the remedy.
        max_bytes: largest file.
    """

    def __init__(self, roots: Sequence[str], declared: Sequence[str], max_bytes: int) -> None:
        self._roots = [os.path.realpath(root) for root in roots if root and "://" not in root]
        self._declared = tuple(declared)
        self._max_bytes = max_bytes

    def fetch(self, source: str, item_id: str | None) -> bytes:
        """The bytes of a file.

        Raises:
            BadItem: not_found, access_denied, uri_refused, unsupported_input, too_many_bytes,
                fetch_failed.
            Retryable: the disk or network filesystem failed for the moment.
        """
        path = _local_path(source, item_id)
        try:
            self._check_inside(source, os.path.realpath(path), item_id)
            _check_regular(source, path.stat(), item_id)
            handle = os.open(path, _FLAGS)
            with os.fdopen(handle, "rb") as file:
                info = os.fstat(handle)
                _check_regular(source, info, item_id)
                self._check_inside(source, _real_path(handle, info, path), item_id)
                if info.st_size > self._max_bytes:
                    raise too_many(source, info.st_size, self._max_bytes, item_id)
                return read_capped(source, file.read, self._max_bytes, item_id)
        except (OSError, ValueError) as error:
            raise _translated(source, error, item_id) from error

    def _check_inside(self, source: str, real: str, item_id: str | None) -> None:
        if any(Path(real).is_relative_to(root) for root in self._roots):
            return
        raise bad(
            f"{shown(source)} lies outside the manifest's folder and fetch.roots",
            Reason.URI_REFUSED,
            item_id,
            f"to read from there, add {self._setting(real)}",
        )

    def _setting(self, real: str) -> str:
        folders = [*self._declared, shown(str(Path(real).parent))]
        return f"'fetch.roots={json.dumps(folders, separators=(',', ':'), ensure_ascii=False)}'"


def _local_path(source: str, item_id: str | None) -> Path:
    if "://" not in source:
        return Path(source)
    try:
        parts = urlsplit(source)
    except ValueError as error:
        raise bad(
            f"{shown(source)} is not a URI", Reason.UNSUPPORTED_INPUT, item_id, "correct the URI"
        ) from error
    if parts.scheme != "file":
        return Path(source)
    if parts.netloc not in ("", "localhost"):
        raise bad(
            f"{shown(source)} names another machine",
            Reason.URI_REFUSED,
            item_id,
            "write file:///path for a file of this machine",
        )
    raw = unquote_to_bytes(parts.path.encode("utf-8", "surrogateescape"))
    if b"\x00" in raw:
        raise bad(
            f"{shown(source)} contains a NUL byte",
            Reason.UNSUPPORTED_INPUT,
            item_id,
            "check the manifest",
        )
    return Path(os.fsdecode(raw))


def _check_regular(source: str, info: os.stat_result, item_id: str | None) -> None:
    """Refuse folders, and devices and pipes, which may never end."""
    if not stat.S_ISREG(info.st_mode):
        kind = "folder" if stat.S_ISDIR(info.st_mode) else "device, pipe or socket"
        raise bad(
            f"{shown(source)} is a {kind}, not a file",
            Reason.UNSUPPORTED_INPUT,
            item_id,
            "give a file",
        )


def _real_path(handle: int, info: os.stat_result, path: Path) -> str:
    """Where an opened file lies. Raises `OSError` when it can not be told."""
    link = f"/proc/self/fd/{handle}"
    if Path("/proc/self/fd").is_dir():
        return os.readlink(link)  # noqa: PTH115 - a name of the kernel, maybe of a deleted file
    real = os.path.realpath(path)
    there = os.stat(real, follow_symlinks=False)  # noqa: PTH116 - compared with the open file
    if (there.st_dev, there.st_ino) != (info.st_dev, info.st_ino):
        raise OSError(errno.ESTALE, "the file was exchanged while it was opened")
    return real


def _translated(source: str, error: OSError | ValueError, item_id: str | None) -> Exception:
    number = error.errno if isinstance(error, OSError) else errno.EINVAL
    name = shown(source)
    detail = os.strerror(number) if number else type(error).__name__
    if number in _NO_SUCH:
        return bad(f"{name} does not exist", Reason.NOT_FOUND, item_id, "check the path")
    if number in _DENIED:
        text = f"{name} may not be read"
        return bad(text, Reason.ACCESS_DENIED, item_id, "check its permissions")
    if number in _PASSING:
        return passing(f"{name} can not be read: {detail}", item_id)
    reason = Reason.UNSUPPORTED_INPUT if number in _UNUSABLE else Reason.FETCH_FAILED
    failure: BadItem = bad(f"{name} can not be read: {detail}", reason, item_id, "check the path")
    return failure
