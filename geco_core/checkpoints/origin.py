"""Where a file of ours came from: the JSON under `origin` in a safetensors header.

`licences` (a list) or `licence` (one) bind what is made with the weights; converted and distilled
files carry those of what they were made from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geco_core.checkpoints.containers import Kind, inspect
from geco_core.checkpoints.header import read_header
from geco_core.checkpoints.refusals import CheckpointError

ORIGIN_KEY = "origin"
_MAX_BYTES = 64 << 30


def origin_text(licences: tuple[str, ...], **fields: Any) -> dict[str, str]:
    """Metadata of a safetensors file of ours: its licences and whatever else is to be known."""
    origin = {**fields, "licences": sorted(set(licences))}
    return {"format": "pt", ORIGIN_KEY: json.dumps(origin, sort_keys=True)}


def read_origin(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The origin in the texts of a header; empty where there is none or it is not ours."""
    try:
        origin = json.loads(metadata.get(ORIGIN_KEY, "{}"))
    except ValueError:
        return {}
    return origin if isinstance(origin, dict) else {}


def licences_in(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Licences that the texts of a header state, sorted; empty where they state none."""
    origin = read_origin(metadata)
    stated = origin.get("licences", [origin.get("licence")])
    names = stated if isinstance(stated, list) else [stated]
    return tuple(sorted({name for name in names if isinstance(name, str) and name}))


def read_licences(path: Path) -> tuple[str, ...]:
    """Licences that a safetensors file states; empty for any other file, and for a damaged one."""
    try:
        real = path.resolve()
        if inspect(real, max_bytes=_MAX_BYTES) is not Kind.SAFETENSORS:
            return ()
        return licences_in(read_header(real).metadata)
    except (CheckpointError, OSError):
        return ()  # whoever loads it says what is wrong
