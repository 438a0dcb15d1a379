"""`run_shard` without any scheduler: every row ends once, whatever the system does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.inline import run_inline
from actors.item_run import DeviceFault
from actors.shard_worker import ShardTask, Worker, WorkerSettings, run_shard
from geco_core.config.run import ColumnsConfig
from geco_core.errors import BadItem, Fatal, Reason, Retryable
from geco_core.mesh.finish import finish_mesh
from geco_core.systems.noop import NoopConfig, NoopSystem
from geco_core.types import Condition, Generated, Shard, seed_for
from infra.attempts import Attempts, Blame, read_attempts, write_attempts
from infra.commit import done_key, part_key
from infra.dataset import RowContext
from infra.duplicates import find_duplicates
from infra.locate import locate
from infra.manifest import read_manifest
from infra.plan import Plan
from infra.rows import RowReader
from infra.run_state import read_done
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
    batch_size: int | None = None,
    **config: Any,
) -> Worker:
    if isinstance(rows, int):
        rows = {"id": [f"i{k}" for k in range(rows)], "prompt": [f"p{k}" for k in range(rows)]}
    pq.write_table(pa.table(rows), tmp_path / "m.parquet")
    store = LocalStorage(tmp_path / "run")
    manifest = read_manifest(locate(str(tmp_path / "m.parquet")), ColumnsConfig(), store)
    return Worker(
        system=Spy(NoopConfig(**{"batch_size": 3, **config}), trouble),
        reader=RowReader(manifest, store, find_duplicates(manifest, store)),
        storage=store,
        settings=WorkerSettings(run_seed=0, batch_size=batch_size, thumbnail_size=0),
        context=RowContext("noop", "micro", {"code_version": "1"}),
        finish=finish_mesh,
        sleep=lambda _: None,
    )


def run(made: Worker, stop: int = 6, **task: Any) -> dict[str, Row]:
    attempts = task.pop("attempts", Attempts(0))
    summary = run_shard(ShardTask(Shard(0, 0, stop), attempts, **task), made)
    assert isinstance(made.storage, LocalStorage)
    rows = pq.read_table(made.storage.root / part_key(0)).to_pylist()
    assert len(rows) == stop == sum(summary.counts.values())
    return {row["item_id"]: row for row in rows}


def reasons(rows: dict[str, Row]) -> dict[str, str]:
    return {name: row["reason"] for name, row in rows.items() if row["status"] != "done"}


def test_a_clean_shard_is_batched(tmp_path: Path) -> None:
    made = worker(tmp_path, 7)
    rows = run(made, 7)
    assert reasons(rows) == {}
    assert made.system.batches == [["i0", "i1", "i2"], ["i3", "i4", "i5"], ["i6"]]  # type: ignore[attr-defined]
    row = rows["i4"]
    assert row["glb"][:4] == b"glTF"
    assert row["attempts"] == 1
    assert row["source"] == "p4"
    assert len(row["source_sha256"]) == 64
    assert row["timing"]["finish"] > 0
    assert row["mesh"]["n_faces"] == 12
    assert row["mesh"]["volume"] > 0


FAULTS = {
    "prepare": ("generation_failed", "prepare", 0),
    "bad_item": ("corrupt_image", "prepare", 0),
    "generate": ("generation_failed", "generate", 2),
    "non_finite": ("non_finite", "finish", 1),
    "empty": ("empty_mesh", "finish", 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_poison_item_costs_itself_only(tmp_path: Path, fault: str) -> None:
    rows = run(worker(tmp_path, faults={"i1": fault}))
    reason, stage, attempts = FAULTS[fault]
    assert reasons(rows) == {"i1": reason}
    assert (rows["i1"]["stage"], rows["i1"]["attempts"]) == (stage, attempts)
    assert rows["i1"]["message"]
    assert rows["i1"]["glb"] is None


def test_an_exception_replays_its_batch_row_by_row(tmp_path: Path) -> None:
    made = worker(tmp_path, faults={"i1": "generate"})
    rows = run(made)
    assert made.system.batches == [["i0", "i1", "i2"], ["i0"], ["i1"], ["i2"], ["i3", "i4", "i5"]]  # type: ignore[attr-defined]
    assert [rows[f"i{k}"]["attempts"] for k in range(4)] == [2, 2, 2, 1]


def test_memory_that_suffices_for_one_item_is_enough(tmp_path: Path) -> None:
    def trouble(batch: list[str]) -> None:
        if len(batch) > 1 or batch == ["i5"]:
            raise MemoryError("too large")

    rows = run(worker(tmp_path, trouble=trouble))
    assert reasons(rows) == {"i5": "out_of_memory"}


def test_the_same_bytes_in_any_batch(tmp_path: Path) -> None:
    digests = []
    for size in (1, 2, 6):
        folder = tmp_path / str(size)
        folder.mkdir()
        rows = run(worker(folder, batch_size=size))
        digests.append([rows[f"i{k}"]["glb_sha256"] for k in range(6)])
    assert digests[0] == digests[1] == digests[2]
    assert len(set(digests[0])) == 6


def test_seeds_come_from_the_row_or_the_run(tmp_path: Path) -> None:
    cells = {"id": ["a", "b"], "prompt": ["x", "y"], "seed": [41, None]}
    made = worker(tmp_path, cells)
    rows = run(made, 2)
    assert rows["a"]["seed"] == 41
    item = made.reader.read(Shard(0, 0, 2)).rows[1].item
    assert rows["b"]["seed"] == seed_for(item, 0) != seed_for(item, 1)


def test_bad_rows_and_missing_files_are_rows_of_the_output(tmp_path: Path) -> None:
    (tmp_path / "ok.png").write_bytes(b"not looked at")
    cells = {
        "id": ["a", "b", "c", None, "a"],
        "image": ["ok.png", "none.png", None, "ok.png", "ok.png"],
        "tag": [1, 2, 3, 4, 5],
    }
    made = worker(tmp_path, cells)
    run_shard(ShardTask(Shard(0, 0, 5), Attempts(0)), made)
    assert isinstance(made.storage, LocalStorage)
    rows = pq.read_table(made.storage.root / part_key(0)).to_pylist()
    assert [(r["status"], r["reason"]) for r in rows] == [
        ("done", None),
        ("failed", "not_found"),
        ("failed", "missing_input"),
        ("failed", "malformed_row"),
        ("skipped", "duplicate_id"),
    ]
    assert [r["tag"] for r in rows] == [1, 2, 3, 4, 5]
    assert rows[0]["source"] == "ok.png"


def test_isolation_runs_one_row_at_a_time_and_says_so_first(tmp_path: Path) -> None:
    seen: list[tuple[list[str], int]] = []

    def trouble(batch: list[str]) -> None:
        running = read_attempts(LocalStorage(tmp_path / "run"), 0).running
        assert running is not None
        seen.append((batch, running.row))

    blamed = {2: Blame(Reason.CRASHED, "its process died")}
    rows = run(worker(tmp_path, trouble=trouble), attempts=Attempts(0, 4, blamed), isolate=True)
    assert seen == [([f"i{k}"], k) for k in (0, 1, 3, 4, 5)]
    assert reasons(rows) == {"i2": "crashed"}
    assert rows["i2"]["attempts"] == 4
    assert read_attempts(LocalStorage(tmp_path / "run"), 0).running is None


def test_a_part_without_its_record_is_not_made_again(tmp_path: Path) -> None:
    made = worker(tmp_path)
    rows = run(made)
    made.storage.delete(done_key(0))
    made.system.batches.clear()  # type: ignore[attr-defined]
    assert run(made) == rows
    assert made.system.batches == []  # type: ignore[attr-defined]
    assert made.storage.exists(done_key(0))


def test_inline_leaves_rows_that_were_found_guilty_alone(tmp_path: Path) -> None:
    made = worker(tmp_path)
    guilty = Attempts(0, 4, {1: Blame(Reason.CRASHED, "its process died")})
    write_attempts(made.storage, guilty)
    manifest = read_manifest(locate(str(tmp_path / "m.parquet")), ColumnsConfig(), made.storage)
    run_inline(made, Plan(manifest, 6, 0), [0], lambda _: True)
    assert all("i1" not in batch for batch in made.system.batches)  # type: ignore[attr-defined]
    assert dict(read_done(made.storage, 0).reasons) == {"crashed": 1}


def test_fatal_stops_and_commits_nothing(tmp_path: Path) -> None:
    made = worker(tmp_path, faults={"i1": "fatal"})
    with pytest.raises(Fatal, match="noop fault"):
        run(made)
    assert not made.storage.exists(part_key(0))


def test_a_broken_device_ends_the_process_not_the_item(tmp_path: Path) -> None:
    def trouble(_: list[str]) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(DeviceFault):
        run(worker(tmp_path, trouble=trouble))


def test_a_wrong_number_of_results_fails_the_items(tmp_path: Path) -> None:
    made = worker(tmp_path)
    made.system.generate = lambda *_: []  # type: ignore[method-assign]
    assert set(reasons(run(made)).values()) == {"generation_failed"}


def test_a_stuttering_store_is_tried_again(tmp_path: Path) -> None:
    made = worker(tmp_path)
    calls, put = [], made.storage.put_atomic

    def stutter(key: str, *arguments: Any, **options: Any) -> bool:
        calls.append(key)
        if len(calls) <= 2:
            raise Retryable("timeout")
        return put(key, *arguments, **options)

    made.storage.put_atomic = stutter  # type: ignore[method-assign]
    assert reasons(run(made)) == {}


def test_device_work_is_serial_across_shards(tmp_path: Path) -> None:
    active, most = [0], [0]
    lock = threading.Lock()

    def trouble(_: list[str]) -> None:
        with lock:
            active[0] += 1
            most[0] = max(most[0], active[0])
        threading.Event().wait(0.01)
        with lock:
            active[0] -= 1

    made = worker(tmp_path, 12, trouble=trouble)
    tasks = [ShardTask(Shard(k, 6 * k, 6 * k + 6), Attempts(k)) for k in range(2)]
    threads = [threading.Thread(target=run_shard, args=(task, made)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert made.storage.exists(part_key(1))


def test_a_bad_item_from_generate_fails_alone(tmp_path: Path) -> None:
    made = worker(tmp_path)
    whole = made.system.generate

    def generate(conditions: Sequence[Condition], seeds: Sequence[int]) -> list[Generated]:
        results = whole(conditions, seeds)
        results[0] = BadItem("no surface", reason=Reason.EMPTY_MESH, stage="extract")
        return results

    made.system.generate = generate  # type: ignore[method-assign]
    rows = run(made)
    assert reasons(rows) == {"i0": "empty_mesh", "i3": "empty_mesh"}
    assert rows["i0"]["stage"] == "extract"
    assert np.isfinite(rows["i1"]["mesh"]["volume"])
