"""A worker over the model-free system, and shards run with it: shared by the tests of actors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.shard_worker import ShardTask, Worker, WorkerSettings, run_shard
from geco_core.config.run import ColumnsConfig
from geco_core.mesh.finish import finish_mesh
from geco_core.systems.noop import NoopConfig, NoopSystem
from geco_core.types import Condition, Generated, Shard
from infra.attempts import Attempts
from infra.commit import part_key
from infra.dataset import RowContext
from infra.duplicates import find_duplicates
from infra.locate import locate
from infra.manifest import read_manifest
from infra.rows import RowReader
from infra.storage import LocalStorage

Row = dict[str, Any]


class Spy(NoopSystem):
    """Records batches; `trouble` may raise before a batch is made."""

    def __init__(self, config: NoopConfig, trouble: Callable[[list[str]], None]) -> None:
        super().__init__(config)
        self.batches: list[list[str]] = []
        self.trouble = trouble

    def generate(self, conditions: Sequence[Condition], seeds: Sequence[int]) -> list[Generated]:
        self.batches.append([c.item_id for c in conditions])
        self.trouble(self.batches[-1])
        return super().generate(conditions, seeds)


def worker(
    tmp_path: Path,
    rows: dict[str, list[Any]] | int = 6,
    *,
    trouble: Callable[[list[str]], None] = lambda _: None,
    settings: dict[str, Any] | None = None,
    **config: Any,
) -> Worker:
    """A worker over a manifest of these columns, or of so many prompts, in batches of three."""
    if isinstance(rows, int):
        rows = {"id": [f"i{k}" for k in range(rows)], "prompt": [f"p{k}" for k in range(rows)]}
    pq.write_table(pa.table(rows), tmp_path / "m.parquet")
    store = LocalStorage(tmp_path / "run")
    manifest = read_manifest(locate(str(tmp_path / "m.parquet")), ColumnsConfig(), store)
    return Worker(
        system=Spy(NoopConfig(**{"batch_size": 3, **config}), trouble),
        reader=RowReader(manifest, store, find_duplicates(manifest, store)),
        storage=store,
        settings=WorkerSettings(**{"run_seed": 0, "thumbnail_size": 0, **(settings or {})}),
        context=RowContext("noop", "micro", {"code_version": "1"}),
        finish=finish_mesh,
        sleep=lambda _: None,
    )


def run(made: Worker, stop: int = 6, **task: Any) -> dict[str, Row]:
    """Run shard 0; returns the rows of its part by item id."""
    attempts = task.pop("attempts", Attempts(0))
    summary = run_shard(ShardTask(Shard(0, 0, stop), attempts, **task), made)
    rows = part_rows(made, task.get("generation", 0))
    assert len(rows) == stop == sum(summary.counts.values())
    return {row["item_id"]: row for row in rows}


def part_rows(made: Worker, generation: int = 0) -> list[Row]:
    """The rows of shard 0 as they stand in the store."""
    assert isinstance(made.storage, LocalStorage)
    return pq.read_table(made.storage.root / part_key(0, generation)).to_pylist()


def reasons(rows: dict[str, Row]) -> dict[str, str]:
    """Item id -> reason of the rows that are not done."""
    return {name: row["reason"] for name, row in rows.items() if row["status"] != "done"}


def batches(made: Worker) -> list[list[str]]:
    """Item ids of the `generate` calls so far."""
    assert isinstance(made.system, Spy)
    return made.system.batches
