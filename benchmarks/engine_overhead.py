"""What the engine costs: `geco generate` on Ray against a bare Python loop over the same items.

    python -m benchmarks.engine_overhead --items 240 --system noop model.generate_s=0.1

Both load the same system in the same configuration and make the same items; the loop prepares,
generates in batches and finishes, but stores nothing. Start-up is left out on both sides: the
engine's time runs from the first worker ready to the last commit. The loop runs before and after
the engine, because a machine's speed drifts.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.spec import build_worker
from benchmarks.machine import print_machine, save_result
from geco_core.config.load import load
from geco_core.config.run import RunConfig
from geco_core.types import Mesh, Shard, seed_for
from infra.fetch import fetch
from infra.plan import make_plan
from infra.storage import open_storage
from workflows.execute import worker_spec
from workflows.generate import generate

TARGET = 0.95


def write_manifest(folder: Path, items: int, images: Path | None) -> Path:
    """Prompts for systems without images, else the PNG files of `images` over and over."""
    ids = [f"i{k:05d}" for k in range(items)]
    columns: dict[str, list[str]] = {"item_id": ids}
    if images is None:
        columns["prompt"] = ids
    else:
        files = sorted(str(path.absolute()) for path in images.glob("*.png"))
        columns["image"] = [files[k % len(files)] for k in range(items)]
    path = folder / "manifest.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def bare_loop(config: RunConfig) -> float:
    """Seconds for all items in a plain loop, after loading and one warm-up batch."""
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(folder)
        plan = make_plan(storage, config)
        worker = build_worker(worker_spec(config, storage, plan))
        items = [row.item for row in worker.reader.read(Shard(0, 0, plan.rows)).rows]
        size = worker.batch_size
        _make(worker, items[:size], config)
        begun = time.perf_counter()
        for first in range(0, len(items), size):
            _make(worker, items[first : first + size], config)
        return time.perf_counter() - begun


def _make(worker: Any, items: Sequence[Any], config: RunConfig) -> None:
    loaded = [_loaded(item, config) for item in items]
    conditions = [worker.system.prepare(item) for item in loaded]
    seeds = [seed_for(item, config.seed) for item in items]
    for item, seed, mesh in zip(
        items, seeds, worker.system.generate(conditions, seeds), strict=True
    ):
        if isinstance(mesh, Mesh):
            provenance = worker.context.provenance
            size = config.thumbnail_size
            worker.finish(
                mesh, item_id=item.item_id, seed=seed, provenance=provenance, thumbnail_size=size
            )


def _loaded(item: Any, config: RunConfig) -> Any:
    if not isinstance(item.image, str):
        return item
    data = fetch(item.image, max_bytes=config.max_source_bytes)
    return type(item)(item.item_id, data, item.prompt, item.seed)


def engine_run(config: RunConfig) -> float:
    """Seconds from the first worker ready to the last commit."""
    result = generate(config)
    assert result.fresh.rows_done == result.plan.rows, result
    return result.wall_s


def main() -> int:
    """Console entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=240)
    parser.add_argument("--system", default="noop")
    parser.add_argument("--preset", default="micro")
    parser.add_argument("--images", type=Path, help="folder of PNG files, for image systems")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="write benchmarks/results")
    parser.add_argument("words", nargs="*", help="settings, e.g. model.generate_s=0.1")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    print_machine()
    with tempfile.TemporaryDirectory(prefix="geco-bench-") as folder:
        manifest = write_manifest(Path(folder), options.items, options.images)
        given = {"system": options.system, "preset": options.preset, "workers": options.workers}
        given |= {"manifest": str(manifest), "out": f"{folder}/run", "max_failure_rate": 1.0}
        if options.images is not None:
            given["fetch"] = {"roots": [str(options.images.absolute())]}
        config = load(RunConfig, given, options.words)
        loops = [bare_loop(config)]
        engine_s = engine_run(config)
        loops.append(bare_loop(config))
    loop_s = sum(loops) / len(loops)
    per_worker = options.items / engine_s / options.workers
    result = {
        "system": f"{options.system}-{options.preset}",
        "settings": options.words,
        "items": options.items,
        "workers": options.workers,
        "loop_s": [round(s, 3) for s in loops],
        "engine_s": round(engine_s, 3),
        "loop_items_per_s": round(options.items / loop_s, 3),
        "engine_items_per_s_per_worker": round(per_worker, 3),
        "ratio": round(per_worker * loop_s / options.items, 4),
        "target": TARGET,
    }
    print(json.dumps(result, indent=1))
    if options.json:
        print(save_result(f"engine_overhead_{options.system}", result))
    return 0 if result["ratio"] >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
