"""Columns that a system adds to the output row, by its name: after ours, before the manifest's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

TARGETS = "targets"


def extra_columns(system: str) -> pa.Schema:
    """Names and types of a system's own columns; none for most systems."""
    if system != TARGETS:
        return pa.schema([])
    from infra.targets.columns import TARGET_SCHEMA  # noqa: PLC0415 - it reads pictures

    return TARGET_SCHEMA


def extra_fault(row: Mapping[str, Any]) -> str:
    """What is wrong with a done row's own columns, or "": those of targets, the only ones yet."""
    from infra.targets.columns import target_fault  # noqa: PLC0415 - as above

    return target_fault(row)
