"""Source bytes of an item: local files, and every way a path can be wrong as a reason code."""

from __future__ import annotations

import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from geco_core.errors import BadItem, Reason

STAGE = "fetch"


def fetch(source: str, *, max_bytes: int, item_id: str | None = None) -> bytes:
    """Read a local path or `file://` URI, at most `max_bytes`.

    Raises:
        BadItem: not_found, access_denied, uri_refused, unsupported_input, too_many_bytes,
            fetch_failed.
    """
    if "\x00" in source:
        raise _bad(
            "the path contains a NUL byte", Reason.UNSUPPORTED_INPUT, item_id, "check the manifest"
        )
    try:
        path = _local_path(source, item_id)
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):  # folders, devices and pipes: the latter two never end
            raise _bad(f"{source} is not a file", Reason.UNSUPPORTED_INPUT, item_id, "give a file")
        if info.st_size > max_bytes:
            raise _too_many(source, info.st_size, max_bytes, item_id)
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise _bad(
            f"{source} does not exist", Reason.NOT_FOUND, item_id, "check the path"
        ) from error
    except PermissionError as error:
        raise _bad(
            f"{source} may not be read", Reason.ACCESS_DENIED, item_id, "check permissions"
        ) from error
    except (OSError, ValueError) as error:
        raise _bad(
            f"{source} can not be read: {error}", Reason.FETCH_FAILED, item_id, ""
        ) from error
    if len(data) > max_bytes:  # it grew, or its size is not what it says
        raise _too_many(source, len(data), max_bytes, item_id)
    return data


def _local_path(source: str, item_id: str | None) -> Path:
    parts = urlsplit(source) if "://" in source else None
    if parts is None:
        return Path(source)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    text = f"{parts.scheme}:// sources are not read by this build ({source[:200]})"
    raise _bad(text, Reason.URI_REFUSED, item_id, "copy the images to a local folder")


def _too_many(source: str, size: int, limit: int, item_id: str | None) -> BadItem:
    text = f"{source} has {size} bytes or more, the limit is {limit}"
    return _bad(text, Reason.TOO_MANY_BYTES, item_id, "raise max_source_bytes")


def _bad(message: str, reason: Reason, item_id: str | None, remedy: str) -> BadItem:
    return BadItem(message, reason=reason, remedy=remedy, item_id=item_id, stage=STAGE)
