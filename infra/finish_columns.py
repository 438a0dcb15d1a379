"""Columns that finishing adds to the output row: quality numbers, and levels of detail.

Which of them the rows of a run have is pinned in its `run.json`, so that all its parts have the
same columns, whatever version of this program makes them. Runs of schema version 1 have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from geco_core.config.finish import FinishConfig

RECORD_KEY = "finish_columns"  # of run.json
QC, LODS = "qc", "lods"

_COUNTS = (
    "collapsed_faces",
    "degenerate_faces",
    "boundary_edges",
    "holes",
    "non_manifold_edges",
    "flipped_edges",
    "euler",
)
_MEASURES = (
    "largest_part_share",
    "inward_share",
    "thin_share",
    "edge_min",
    "edge_max",
    "texture_coverage",
    "color_mean",
    "color_std",
)
_LEVEL = pa.struct(
    [
        ("n_vertices", pa.int64()),
        ("n_faces", pa.int64()),
        ("glb", pa.large_binary()),
        ("glb_sha256", pa.string()),
    ]
)
_TYPES: dict[str, pa.DataType] = {
    QC: pa.struct(
        [*((name, pa.int64()) for name in _COUNTS), *((name, pa.float64()) for name in _MEASURES)]
    ),
    LODS: pa.list_(_LEVEL),
}


def wanted_columns(finish: FinishConfig) -> tuple[str, ...]:
    """Names of the columns that a new run with these settings gets."""
    return (QC, LODS) if finish.lods else (QC,)


def recorded_columns(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the columns that the rows of a run have, from its `run.json`."""
    return tuple(record.get(RECORD_KEY, ()))


def finish_columns(names: Sequence[str]) -> pa.Schema:
    """Names and types of columns. Raises `KeyError` for a name that is none of ours."""
    return pa.schema([(name, _TYPES[name]) for name in names])
