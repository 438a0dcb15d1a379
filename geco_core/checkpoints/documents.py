"""The JSON documents beside published weights, read with limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geco_core.errors import Fatal

MAX_BYTES = 32 << 20
_AGAIN = "download it again"


def read_document(path: Path) -> dict[str, Any]:
    """A JSON map of at most 32 MiB.

    Raises:
        Fatal: too large, unreadable, not JSON, or not a map.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise Fatal(f"{path} can not be read: {error}", stage="load", remedy=_AGAIN) from error
    if len(data) > MAX_BYTES:
        raise Fatal(f"{path} is larger than {MAX_BYTES:,} bytes", stage="load", remedy=_AGAIN)
    try:
        found = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Fatal(
            f"{path} is not JSON: {str(error)[:80]}", stage="load", remedy=_AGAIN
        ) from error
    if not isinstance(found, dict):
        raise Fatal(f"{path} is not a map", stage="load", remedy=_AGAIN)
    return found
