"""A folder as a store: a temporary file, fsync, link(2) or rename(2), and fsync of the folder.

Names starting with `.tmp-` are unfinished writes of a dead process: no verb ever shows them.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from geco_core.errors import Fatal, ForgeError, Retryable
from infra.storage.protocol import SWEPT_FOLDERS, TEMPORARY_PREFIX, Data, checked_key
from infra.storage.publish import publish_first

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}


class LocalStorage:
    """A folder as a store. Safe for any number of writing processes on one filesystem."""

    conditional_put = True

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.uri = str(self.root)

    def put_atomic(self, key: str, data: Data, *, only_if_absent: bool = False) -> bool:
        """See `Storage.put_atomic`: fsync of the file, of its folder and of new parent folders."""
        path = self._path(key)
        temporary: str | None = None
        try:
            if only_if_absent and path.exists():
                _sync_folder(path.parent)  # another writer may not have come that far
                return False
            _make_folder(path.parent)
            handle, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
            with os.fdopen(handle, "wb") as file:
                _write(file, data)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            published = _publish(Path(temporary), path, only_if_absent)
            _sync_folder(path.parent)
        except OSError as error:
            raise _translated(error, key) from error
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
        return published

    def get(self, key: str) -> bytes:
        """See `Storage.get`."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as error:
            raise _translated(error, key) from error

    def exists(self, key: str) -> bool:
        """See `Storage.exists`."""
        try:
            return self._path(key).is_file()
        except OSError as error:
            raise _translated(error, key) from error

    def list(self, prefix: str) -> Iterator[str]:
        """See `Storage.list`. A folder that can not be read is an error, not an empty folder."""
        folder = self._path(prefix) if prefix else self.root

        def fail(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise _translated(error, prefix) from error

        for parent, _, names in os.walk(folder, onerror=fail):
            relative = Path(parent).relative_to(self.root)
            for name in names:
                if not name.startswith(TEMPORARY_PREFIX):
                    yield (relative / name).as_posix()

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise _translated(error, key) from error

    def open_for_pyarrow(self, key: str) -> pa.NativeFile:
        """See `Storage.open_for_pyarrow`."""
        try:
            return pa.OSFile(str(self._path(key)), "rb")
        except FileNotFoundError:
            raise KeyError(key) from None
        except OSError as error:
            raise _translated(error, key) from error

    def sweep_temporary(self, older_than: float) -> int:
        """See `Storage.sweep_temporary`."""
        removed = 0
        for path in self.temporaries():
            try:
                if path.stat().st_mtime < older_than:
                    path.unlink()
                    removed += 1
            except (FileNotFoundError, PermissionError):  # swept by another process, or not ours
                continue
        return removed

    def temporaries(self) -> Iterator[Path]:
        """The unfinished writes of a run."""
        yield from filter(Path.is_file, self.root.glob(f"{TEMPORARY_PREFIX}*"))
        for name in SWEPT_FOLDERS:
            yield from filter(Path.is_file, (self.root / name).rglob(f"{TEMPORARY_PREFIX}*"))

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*checked_key(key).split("/"))


def _write(file: IO[bytes], data: Data) -> None:
    if not isinstance(data, Path):
        file.write(data)
        return
    with data.open("rb") as source:
        while block := source.read(1 << 22):
            file.write(block)


def _publish(temporary: Path, path: Path, only_if_absent: bool) -> bool:
    if only_if_absent:
        return publish_first(temporary, path)
    temporary.replace(path)
    return True


def _make_folder(folder: Path) -> None:
    """Create a folder and its parents, each with a durable name."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _translated(error: OSError, key: str) -> ForgeError:
    detail: dict[str, Any] = {"stage": "store"}
    if error.errno in _NO_SPACE:
        return Fatal(
            f"no space left for {key}: {error}",
            remedy="free some space and run the same command",
            **detail,
        )
    if error.errno in _NO_ACCESS:
        return Fatal(
            f"not allowed to touch {key}: {error}", remedy="check owner and permissions", **detail
        )
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
        return Fatal(f"{key} is in the way: {error}", remedy="choose an empty run folder", **detail)
    return Retryable(
        f"store failed on {key}: {error}", remedy="run the same command again", **detail
    )
