"""The output row: one schema for every item, whatever happened to it.

zstd, row groups of 32 rows, statistics on the short columns only: a reader can skip groups by id or
status, and a group of 32 meshes stays well under 128 MB. Groups of tiny rows hold more of them, up
to 1 MB, because every group costs as much as hundreds of such rows; groups of large rows fewer. The
footer repeats the shard's summary so that `done/` can be rebuilt from it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from geco_core.types import Asset, Outcome, Shard

# 2: `run.json` names the columns of finishing (`infra.finish_columns`). Runs of 1 have none, and
# stay that way when they go on.
SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, SCHEMA_VERSION)
ROW_GROUP_ROWS = 32
SMALL_GROUP_BYTES = 1 << 20
LARGE_GROUP_BYTES = 64 << 20
SUMMARY_KEY = b"geco.shard"
RENAMED_PREFIX = "manifest_"
TIMED_STAGES = ("fetch", "prepare", "generate", "multiview", "reconstruct", "extract", "finish")
# Measured inside of `generate`; `views` and `ccm` are inside of `multiview` and in records alone.
GENERATE_PARTS = ("multiview", "views", "ccm", "reconstruct", "extract")
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
    """What all rows of a run share: names for the row, provenance for the row.

    `columns` are those that finishing and the system add (`infra.finish_columns`,
    `infra.extra_columns`).
    """

    system: str
    preset: str
    provenance: Mapping[str, Any]
    columns: pa.Schema = field(default_factory=lambda: pa.schema([]))


def rows_to_table(
    outcomes: Sequence[Outcome], sources: Sequence[str], context: RowContext, passthrough: pa.Table
) -> pa.Table:
    """The shard's table: one row per outcome, in order, the system's and the manifest's columns.

    A manifest column named like one of ours is renamed `manifest_<name>`.
    """
    if len(outcomes) != len(sources):
        raise ValueError(f"{len(outcomes)} outcomes, {len(sources)} sources")
    table = pa.Table.from_arrays(_columns(outcomes, sources, context), schema=ROW_SCHEMA)
    for extra in context.columns:
        values = [o.asset.columns.get(extra.name) if o.asset else None for o in outcomes]
        table = table.append_column(extra, pa.array(values, extra.type))
    for name in passthrough.column_names:
        table = table.append_column(free_name(name, table.column_names), passthrough.column(name))
    return table


def summarise(
    outcomes: Sequence[Outcome], shard: Shard, wall_s: float, extra_s: Mapping[str, float]
) -> ShardSummary:
    """Counts and seconds of a shard's outcomes."""
    seconds: dict[str, float] = {}
    for timing in (*(outcome.timing for outcome in outcomes), extra_s):
        for stage, value in timing.items():
            seconds[stage] = seconds.get(stage, 0.0) + value
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
        table,
        sink,
        compression="zstd",
        row_group_size=_group_rows(table),
        write_statistics=statistics,
        write_page_checksum=True,  # zstd notices few flipped bits; readers that ask notice all
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


def _columns(
    outcomes: Sequence[Outcome], sources: Sequence[str], context: RowContext
) -> list[pa.Array]:
    """The arrays of `ROW_SCHEMA`, in its order."""
    if not outcomes:  # nothing can be repeated no times
        return [pa.array([], field.type) for field in ROW_SCHEMA]
    assets = [outcome.asset for outcome in outcomes]
    provenance = {name: context.provenance.get(name) for name in _PROVENANCE.names}
    columns: dict[str, Iterable[Any]] = {
        "item_id": [o.item_id for o in outcomes],
        "source": sources,
        "source_sha256": [o.source_sha256 or None for o in outcomes],
        "seed": [o.seed for o in outcomes],
        "status": [o.status.value for o in outcomes],
        "reason": [o.reason.value if o.reason else None for o in outcomes],
        "message": [o.message or None for o in outcomes],
        "stage": [o.stage or None for o in outcomes],
        "attempts": [o.attempts for o in outcomes],
        "glb": [a.glb if a else None for a in assets],
        "glb_uri": [None] * len(outcomes),
        "glb_sha256": [a.glb_sha256 if a else None for a in assets],
        "notes": [o.notes for o in outcomes],
    }
    made = {name: pa.array(values, ROW_SCHEMA.field(name).type) for name, values in columns.items()}
    for name, value in (
        ("system", context.system),
        ("preset", context.preset),
        ("provenance", provenance),
    ):
        made[name] = pa.repeat(pa.scalar(value, ROW_SCHEMA.field(name).type), len(outcomes))
    made["thumbnail"] = _thumbnails(outcomes)
    made["mesh"] = _struct(_MESH, [a.mesh_stats if a else None for a in assets])
    made["timing"] = _struct(ROW_SCHEMA.field("timing").type, [o.timing for o in outcomes])
    return [made[name] for name in ROW_SCHEMA.names]


def _struct(kind: pa.StructType, rows: Sequence[Mapping[str, Any] | None]) -> pa.Array:
    """A struct column; None is a null struct, a missing or unknown name a null field."""
    sound = [{} if row is None else row for row in rows]
    fields = list(kind)
    children = [pa.array([row.get(f.name) for row in sound], f.type) for f in fields]
    missing = pa.array([row is None for row in rows], pa.bool_())
    return pa.StructArray.from_arrays(children, fields=fields, mask=missing)


def _thumbnails(outcomes: Sequence[Outcome]) -> pa.Array:
    def shown(outcome: Outcome) -> dict[str, Any] | None:
        png = _png(outcome.asset)
        return {"bytes": png, "path": f"{outcome.item_id}.png"} if png else None

    return _struct(ROW_SCHEMA.field("thumbnail").type, [shown(outcome) for outcome in outcomes])


def _png(asset: Asset | None) -> bytes:
    return asset.thumbnail_png if asset else b""


def _group_rows(table: pa.Table) -> int:
    """Rows per row group: 32, as many tiny ones as `SMALL_GROUP_BYTES` hold, or as few large ones
    as `LARGE_GROUP_BYTES` hold.
    """
    bytes_per_row = max(1, table.nbytes // max(1, table.num_rows))
    fewest = max(1, min(ROW_GROUP_ROWS, LARGE_GROUP_BYTES // bytes_per_row))
    return max(fewest, SMALL_GROUP_BYTES // bytes_per_row)


def free_name(name: str, taken: Sequence[str]) -> str:
    """The name a manifest column gets beside the names that are taken."""
    while name in taken:
        name = RENAMED_PREFIX + name
    return name
