"""A small run whose shards are written through the commit protocol, for tests that then harm it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from geco_core.config.run import RunConfig
from geco_core.errors import Reason
from geco_core.types import Asset, Outcome, Status
from infra.commit import commit_shard
from infra.dataset import RowContext, rows_to_table, summarise
from infra.finish_columns import QC, finish_columns
from infra.plan import Plan, SystemDescription, load_duplicates, make_plan, open_run
from infra.rows import RowReader
from infra.storage import LocalStorage, Storage

PROVENANCE = {"config_digest": "c", "weights_digest": "w", "licences": ["MIT"]}
STATS = {
    "n_vertices": 8,
    "n_faces": 12,
    "bounds": [0.0, 0.0, 0.0, 1.0, 1.0, 1.0],
    "watertight": True,
    "components": 1,
    "surface_area": 6.0,
    "volume": 1.0,
}
FAILED = {3: Reason.TIMED_OUT, 5: Reason.CRASHED}


def write_manifest(folder: Path, rows: int = 11, *, duplicate: bool = True) -> Path:
    """`rows` prompts with a tag; the last one repeats the first id."""
    ids = [f"i{k}" for k in range(rows)]
    if duplicate:
        ids[-1] = ids[0]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "m.parquet"
    columns = {"id": ids, "prompt": [f"a {k}" for k in range(rows)], "tag": list(range(rows))}
    pq.write_table(pa.table(columns), path)
    return path


def open_made_run(storage: Storage, manifest: Path, shard_size: int = 4) -> Plan:
    """`run.json` and the plan of a no-op run."""
    config = RunConfig(
        system="noop", manifest=str(manifest), out=storage.uri, shard_size=shard_size
    )
    plan = make_plan(storage, config)
    system = SystemDescription({"system": "noop"}, {}, ("MIT",))
    open_run(storage, config, plan, system, {"python": "3"}, "2026-01-01T00:00:00+00:00")
    return plan


def commit(
    storage: Storage,
    plan: Plan,
    shard: int,
    *,
    failed: Mapping[int, Reason] = FAILED,
    generation: int = 0,
) -> None:
    """Commit a shard whose rows are done, but those of `failed` (manifest rows)."""
    duplicates = load_duplicates(plan.manifest, storage)
    rows = RowReader(plan.manifest, storage, duplicates).read(plan.shard(shard))
    outcomes = []
    for row in rows.rows:
        name, seed = row.item.item_id, row.index
        if row.problem is not None:
            problem = row.problem
            outcome = Outcome(name, problem.status, seed, problem.reason, problem.message, "plan")
        elif row.index in failed:
            outcome = Outcome(name, Status.FAILED, seed, failed[row.index], "so", "generate")
        else:
            glb = f"glTF {name} {generation}".encode()
            asset = Asset(glb, hashlib.sha256(glb).hexdigest(), b"\x89PNG", STATS)
            outcome = Outcome(name, Status.DONE, seed, asset=asset, timing={"generate": 0.5})
        outcomes.append(outcome)
    table = rows_to_table(
        outcomes,
        [row.source for row in rows.rows],
        RowContext("noop", "micro", PROVENANCE, finish_columns([QC])),
        rows.passthrough,
    )
    summary = summarise(outcomes, plan.shard(shard), 1.0, {"commit": 0.1})
    stamp = {"worker": "w", "finished_at": "2026-01-01T00:00:01.000+00:00"}
    commit_shard(storage, table, replace(summary, generation=generation, **stamp))


def made_run(
    folder: Path, *, rows: int = 11, shard_size: int = 4, shards: Sequence[int] | None = None
) -> tuple[LocalStorage, Plan]:
    """A run in `folder/run` with its manifest beside it; `shards` None commits all."""
    storage = LocalStorage(folder / "run")
    plan = open_made_run(storage, write_manifest(folder, rows), shard_size)
    for shard in range(plan.shards) if shards is None else shards:
        commit(storage, plan, shard)
    return storage, plan
