"""Giving a finished temporary file its name on a local disk, such that of several writers exactly
one wins.

link(2) does it wherever there are hard links. Filesystems without them (exFAT, some network and
FUSE mounts) get renameat2(2) with RENAME_NOREPLACE, and where the kernel or the filesystem lacks
that too, a lock file. A lock whose owner died is taken over by age; two processes that take over in
the same instant may both publish, and the later one's bytes stand: every writer of a key writes the
same rows.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from pathlib import Path

from infra.storage.protocol import TEMPORARY_PREFIX

LOCK_STALE_S = 10.0
_POLL_S = 0.02
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_RENAME = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1


def publish_first(temporary: Path, path: Path) -> bool:
    """Name `temporary` `path` unless that exists; returns whether it was named.

    Raises:
        OSError: anything but that another writer was faster.
    """
    try:
        os.link(temporary, path)  # never replaces
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _without_links(temporary, path)
    return True


def _without_links(temporary: Path, path: Path) -> bool:
    number = rename_noreplace(temporary, path)
    if number == 0:
        return True
    if number == errno.EEXIST:
        return False
    if number not in _NO_RENAME:
        raise OSError(number, os.strerror(number), str(path))
    return publish_under_lock(temporary, path)


def rename_noreplace(source: Path, target: Path) -> int:
    """renameat2(2) with RENAME_NOREPLACE: 0 or an errno, ENOSYS where there is none."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return errno.ENOSYS
    arguments = (_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target))
    return ctypes.get_errno() if call(*arguments, _RENAME_NOREPLACE) else 0


def publish_under_lock(temporary: Path, path: Path, stale_s: float = LOCK_STALE_S) -> bool:
    """Check and rename while holding a lock file beside `path`."""
    lock = path.with_name(f"{TEMPORARY_PREFIX}lock-{path.name}")
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            break
        except FileExistsError:
            if path.exists():
                return False
            _wait_or_take_over(lock, stale_s)
    try:
        if path.exists():
            return False
        temporary.replace(path)
        return True
    finally:
        lock.unlink(missing_ok=True)


def _wait_or_take_over(lock: Path, stale_s: float) -> None:
    try:
        age_s = time.time() - lock.stat().st_mtime
    except FileNotFoundError:
        return
    if age_s > stale_s:
        lock.unlink(missing_ok=True)
    else:
        time.sleep(_POLL_S)
