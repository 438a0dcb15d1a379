"""The shard's table, column by column, equals the one made row by row; groups follow the size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geco_core.errors import Reason
from geco_core.types import Asset, Outcome, Shard, Status
from infra.dataset import (
    LARGE_GROUP_BYTES,
    ROW_SCHEMA,
    TIMED_STAGES,
    RowContext,
    encode,
    read_summary,
    rows_to_table,
    summarise,
)

STATS = {
    "n_vertices": np.int64(8),
    "n_faces": 12,
    "bounds": [0.0, 0.0, 0.0, 1.0, 1.0, np.float64(1.0)],
    "watertight": True,
    "components": 1,
    "surface_area": 6.0,
    "volume": 1.0,
    "not_in_the_schema": 1,
}
CONTEXT = RowContext(
    "noop", "micro", {"config_digest": "c", "weights_digest": "w", "licences": ["MIT"], "more": 1}
)


def asset(size: int = 4, thumbnail: bytes = b"\x89PNG", **stats: Any) -> Asset:
    return Asset(b"g" * size, "d" * 64, thumbnail, {**STATS, **stats})


OUTCOMES = [
    Outcome("a", Status.DONE, 1, asset=asset(), timing={"finish": 0.5, "elsewhere": 1.0}),
    Outcome("ü/b", Status.DONE, 2**63 - 1, asset=asset(thumbnail=b""), notes=("frame 0", "x")),
    Outcome("c", Status.FAILED, 3, Reason.EMPTY_MESH, "nothing", "extract", attempts=2),
    Outcome("d", Status.SKIPPED, 0, Reason.DUPLICATE_ID, "twice", "plan", attempts=0),
    Outcome("e", Status.DONE, 5, asset=asset(volume=None, bounds=None), source_sha256="f" * 64),
    Outcome("f", Status.DONE, 6, asset=Asset(b"", "", b"", {})),
]


def slow_table(outcomes: list[Outcome], sources: list[str], context: RowContext) -> pa.Table:
    """Row by row, as dictionaries."""

    def row(outcome: Outcome, source: str) -> dict[str, Any]:
        made = outcome.asset
        cells: dict[str, Any] = {
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
            "provenance": {
                name: context.provenance.get(name)
                for name in ROW_SCHEMA.field("provenance").type.names
            },
            "notes": list(outcome.notes),
        }
        if made is not None:
            names = ROW_SCHEMA.field("mesh").type.names
            cells["glb"], cells["glb_sha256"] = made.glb, made.glb_sha256
            cells["mesh"] = {name: made.mesh_stats.get(name) for name in names}
            if made.thumbnail_png:
                path = f"{outcome.item_id}.png"
                cells["thumbnail"] = {"bytes": made.thumbnail_png, "path": path}
        return cells

    rows = [row(o, s) for o, s in zip(outcomes, sources, strict=True)]
    return pa.Table.from_pylist(rows, schema=ROW_SCHEMA)


@pytest.mark.parametrize("picked", [OUTCOMES, OUTCOMES[2:4], OUTCOMES[:1], [], OUTCOMES[::-1] * 30])
def test_the_table_equals_the_one_made_row_by_row(picked: list[Outcome]) -> None:
    sources = [f"{k}.png" for k in range(len(picked))]
    extra = pa.table({"tag": pa.array(range(len(picked)), pa.int64())})
    table = rows_to_table(picked, sources, CONTEXT, extra)
    table.validate(full=True)
    assert table.drop_columns("tag").equals(slow_table(picked, sources, CONTEXT))
    assert table.column("tag").to_pylist() == list(range(len(picked)))
    assert table.schema == ROW_SCHEMA.append(pa.field("tag", pa.int64()))


def test_missing_structs_are_null_and_missing_fields_are_null_fields() -> None:
    table = rows_to_table(OUTCOMES, [""] * 6, RowContext("s", "p", {}), pa.table({"x": [0] * 6}))
    rows = table.to_pylist()
    assert [row["mesh"] is None for row in rows] == [False, False, True, True, False, False]
    assert [row["thumbnail"] is None for row in rows] == [False, True, True, True, False, True]
    assert rows[5]["mesh"] == dict.fromkeys(ROW_SCHEMA.field("mesh").type.names)
    assert rows[0]["provenance"] == dict.fromkeys(ROW_SCHEMA.field("provenance").type.names)
    assert rows[0]["timing"]["finish"] == 0.5


def test_another_number_of_sources_is_refused() -> None:
    with pytest.raises(ValueError, match="6 outcomes, 5 sources"):
        rows_to_table(OUTCOMES, [""] * 5, CONTEXT, pa.table({"x": [0] * 6}))


@pytest.mark.parametrize(
    ("size", "groups"), [(10, [256]), (10_000, [101, 101, 54]), (40_000, [32] * 8)]
)
def test_row_groups_hold_32_rows_or_a_megabyte(size: int, groups: list[int]) -> None:
    made = [Outcome(f"i{k}", Status.DONE, k, asset=asset(size, b"")) for k in range(256)]
    table = rows_to_table(made, ["s"] * 256, CONTEXT, pa.table({"x": [0] * 256}))
    summary = summarise(made, Shard(0, 0, 256), 1.0, {})
    file = pa.BufferReader(encode(table, summary))
    assert read_summary(file) == summary
    metadata = pq.ParquetFile(file).metadata
    assert [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)] == groups
    assert pq.read_table(file).equals(table.replace_schema_metadata(pq.read_schema(file).metadata))


def test_a_systems_own_columns_stand_between_ours_and_the_manifests() -> None:
    own = pa.schema([("extra", pa.list_(pa.int32()))])
    context = RowContext("s", "p", {}, own)
    made = [
        Outcome("a", Status.DONE, 1, asset=Asset(b"x", "d", b"", {}, columns={"extra": [1, 2]})),
        Outcome("b", Status.FAILED, 2, Reason.TIMED_OUT, "late", "generate"),
        Outcome("c", Status.DONE, 3, asset=Asset(b"x", "d", b"", {})),
    ]
    table = rows_to_table(made, [""] * 3, context, pa.table({"extra": [7, 8, 9]}))
    assert table.column_names == [*ROW_SCHEMA.names, "extra", "manifest_extra"]
    assert table.column("extra").to_pylist() == [[1, 2], None, None]
    assert table.column("manifest_extra").to_pylist() == [7, 8, 9]
    empty = rows_to_table([], [], context, pa.table({"extra": pa.array([], pa.int64())}))
    assert empty.schema.equals(table.schema)


def test_groups_of_large_rows_hold_few_of_them() -> None:
    big = bytes(LARGE_GROUP_BYTES // 4)
    made = [Outcome(f"{k}", Status.DONE, k, asset=Asset(big, "d", b"", {})) for k in range(6)]
    table = rows_to_table(made, [""] * 6, CONTEXT, pa.table({"x": [0] * 6}))
    data = encode(table, summarise(made, Shard(0, 0, 6), 1.0, {}))
    groups = pq.ParquetFile(pa.BufferReader(data)).metadata
    sizes = [groups.row_group(k).num_rows for k in range(groups.num_row_groups)]
    assert sizes == [3, 3]
