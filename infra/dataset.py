"""The output row: one schema for every item, whatever happened to it.

zstd, row groups of 32 rows, statistics on the short columns only: a reader can skip groups by id or
status, and a group of 32 meshes stays well under 128 MB. The footer repeats the shard's summary so
that `done/` can be rebuilt from it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geco_core.types import Outcome, Shard

SCHEMA_VERSION = 1
ROW_GROUP_ROWS = 32
SUMMARY_KEY = b"geco.shard"
RENAMED_PREFIX = "manifest_"
TIMED_STAGES = ("fetch", "prepare", "generate", "multiview", "reconstruct", "extract", "finish")
GENERATE_PARTS = ("multiview", "reconstruct", "extract")  # measured inside of `generate`
_STATISTICS = ["item_id", "status", "reason", "seed"]

_MESH = pa.struct(
    [
        ("n_vertices", pa.int64()),
        ("n_faces", pa.int64()),
        ("bounds", pa.list_(pa.float64())),
        ("watertight", pa.bool_()),
        ("components", pa.int64()),
        ("surface_area", pa.float64()),
        ("volume", pa.float64()),
    ]
)
_PROVENANCE = pa.struct(
    [
        ("config_digest", pa.string()),
        ("weights_digest", pa.string()),
        ("code_version", pa.string()),
        ("licences", pa.list_(pa.string())),
    ]
)

ROW_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("source", pa.string()),
        ("source_sha256", pa.string()),
        ("system", pa.string()),
        ("preset", pa.string()),
        ("seed", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("stage", pa.string()),
        ("attempts", pa.int32()),
        ("glb", pa.large_binary()),
        ("glb_uri", pa.string()),
        ("glb_sha256", pa.string()),
        ("thumbnail", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("mesh", _MESH),
        ("timing", pa.struct([(stage, pa.float64()) for stage in TIMED_STAGES])),
        ("provenance", _PROVENANCE),
        ("notes", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class ShardSummary:
    """What a committed shard holds: the content of its done record and of its footer.

    Attributes:
        counts: rows by status.
        reasons: failed and skipped rows by reason.
        seconds: summed over the rows, by stage; `wall` is the shard's own duration.
        worker: host and process that made it.
        finished_at: when it was committed, ISO 8601 in UTC.
        generation: 0, and one more each time `geco retry` makes rows of the shard again.
    """

    shard: int
    start: int
    stop: int
    counts: Mapping[str, int]
    reasons: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    worker: str = ""
    finished_at: str = ""
    generation: int = 0

    @property
    def rows(self) -> int:
        """Rows of the shard."""
        return self.stop - self.start

    def to_json(self) -> dict[str, Any]:
        """Plain data; inverse of `ShardSummary(**data)`."""
        return {
            "shard": self.shard,
            "start": self.start,
            "stop": self.stop,
            "counts": dict(self.counts),
            "reasons": dict(self.reasons),
            "seconds": {k: round(v, 6) for k, v in self.seconds.items()},
            "worker": self.worker,
            "finished_at": self.finished_at,
            "generation": self.generation,
        }


@dataclass(frozen=True)
class RowContext:
    """What all rows of a run share: names for the row, provenance for the row."""

    system: str
    preset: str
    provenance: Mapping[str, Any]


def rows_to_table(
    outcomes: Sequence[Outcome], sources: Sequence[str], context: RowContext, passthrough: pa.Table
) -> pa.Table:
    """The shard's table: one row per outcome, in order, then the manifest's other columns.

    A manifest column named like one of ours is renamed `manifest_<name>`.
    """
    rows = [_row(o, s, context) for o, s in zip(outcomes, sources, strict=True)]
    table = pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
    for name in passthrough.column_names:
        table = table.append_column(_free_name(name, table.column_names), passthrough.column(name))
    return table


def summarise(
    outcomes: Sequence[Outcome], shard: Shard, wall_s: float, extra_s: Mapping[str, float]
) -> ShardSummary:
    """Counts and seconds of a shard's outcomes."""
    seconds: Counter[str] = Counter()
    for outcome in outcomes:
        seconds.update(outcome.timing)
    seconds.update(extra_s)
    return ShardSummary(
        shard=shard.index,
        start=shard.start,
        stop=shard.stop,
        counts=dict(Counter(outcome.status.value for outcome in outcomes)),
        reasons=dict(Counter(outcome.reason.value for outcome in outcomes if outcome.reason)),
        seconds={**seconds, "wall": wall_s},
    )


def encode(table: pa.Table, summary: ShardSummary) -> memoryview:
    """The Parquet object of a shard, with `summary` in its footer."""
    footer = {**(table.schema.metadata or {}), SUMMARY_KEY: json.dumps(summary.to_json()).encode()}
    table = table.replace_schema_metadata(footer)
    sink = pa.BufferOutputStream()
    statistics: Any = _STATISTICS  # a list of columns is allowed, the stubs say bool
    pq.write_table(
        table, sink, compression="zstd", row_group_size=ROW_GROUP_ROWS, write_statistics=statistics
    )
    return memoryview(sink.getvalue())


def read_summary(file: pa.NativeFile) -> ShardSummary | None:
    """The summary in a shard object's footer; None when it is no whole shard object."""
    try:
        parquet = pq.ParquetFile(file)
        text = (parquet.schema_arrow.metadata or {})[SUMMARY_KEY]
        summary = ShardSummary(**json.loads(text))
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError):
        return None
    return summary if parquet.metadata.num_rows == summary.rows else None


def _row(outcome: Outcome, source: str, context: RowContext) -> dict[str, Any]:
    asset = outcome.asset
    row: dict[str, Any] = {
        "item_id": outcome.item_id,
        "source": source,
        "source_sha256": outcome.source_sha256 or None,
        "system": context.system,
        "preset": context.preset,
        "seed": outcome.seed,
        "status": outcome.status.value,
        "reason": outcome.reason.value if outcome.reason else None,
        "message": outcome.message or None,
        "stage": outcome.stage or None,
        "attempts": outcome.attempts,
        "timing": {stage: outcome.timing.get(stage) for stage in TIMED_STAGES},
        "provenance": {name: context.provenance.get(name) for name in _PROVENANCE.names},
        "notes": list(outcome.notes),
    }
    if asset is not None:
        row |= {
            "glb": asset.glb,
            "glb_sha256": asset.glb_sha256,
            "mesh": {name: asset.mesh_stats.get(name) for name in _MESH.names},
        }
        if asset.thumbnail_png:
            row["thumbnail"] = {"bytes": asset.thumbnail_png, "path": f"{outcome.item_id}.png"}
    return row


def _free_name(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name = RENAMED_PREFIX + name
    return name
