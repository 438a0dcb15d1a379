"""The Ray engine end to end: same bytes as without Ray, and no fault costs more than its row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geco_core.config.run import ClusterConfig, RunConfig
from geco_core.errors import Fatal
from infra.cluster import cluster
from workflows.generate import generate

ITEMS = 24
pytestmark = pytest.mark.timeout(400)  # a busy machine starts processes slowly


@pytest.fixture(scope="module", autouse=True)
def ray_session() -> Iterator[None]:
    with cluster(ClusterConfig(num_cpus=2, num_gpus=0, object_store_mb=100), {}):
        yield


def config(tmp_path: Path, **values: Any) -> RunConfig:
    ids = [f"i{k}" for k in range(ITEMS)]
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"id": ids, "prompt": ids}), path)
    defaults: dict[str, Any] = {
        "system": "noop",
        "manifest": str(path),
        "out": str(tmp_path / "run"),
        "workers": 2,
        "shard_size": 6,
        "thumbnail_size": 0,
        "max_failure_rate": 1.0,
    }
    return RunConfig(**(defaults | values))


def rows(folder: str) -> dict[str, dict[str, Any]]:
    tables = [pq.read_table(path) for path in sorted(Path(folder, "assets").iterdir())]
    listed = pa.concat_tables(tables).to_pylist()
    assert [row["item_id"] for row in listed] == [f"i{k}" for k in range(ITEMS)]
    return {row["item_id"]: row for row in listed}


def test_ray_and_inline_make_the_same_bytes(tmp_path: Path) -> None:
    result = generate(config(tmp_path))
    assert result.complete
    assert result.fresh.counts["done"] == ITEMS
    inline = config(tmp_path, out=str(tmp_path / "inline"), engine="inline")
    generate(inline)
    ours, theirs = rows(str(tmp_path / "run")), rows(inline.out)
    assert {k: r["glb_sha256"] for k, r in ours.items()} == {
        k: r["glb_sha256"] for k, r in theirs.items()
    }


def test_crash_hang_and_exception_cost_one_row_each(tmp_path: Path) -> None:
    faults = {"i2": "segfault", "i4": "hang", "i17": "generate"}
    poisoned = config(
        tmp_path,
        model={"faults": faults},
        workers=1,
        item_timeout_s=3.0,
        batch_size=1,
        crashes_before_isolation=1,
    )
    result = generate(poisoned)
    made = rows(poisoned.out)
    failed = {k: r["reason"] for k, r in made.items() if r["status"] != "done"}
    assert failed == {"i2": "crashed", "i4": "timed_out", "i17": "generation_failed"}
    assert result.complete
    assert made["i4"]["message"] == "took longer than 3 s, alone in its process"
    assert not generate(poisoned).fresh.rows_done  # nothing is tried twice


def test_fatal_errors_of_workers_arrive_with_their_remedy(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="noop fault that stops the run") as caught:
        generate(config(tmp_path, workers=1, model={"faults": {"i3": "fatal"}}))
    assert caught.value.remedy == "remove the fault"
