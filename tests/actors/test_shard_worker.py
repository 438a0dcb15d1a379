"""`run_shard` without any scheduler: every row ends once, whatever the system does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.inline import run_inline
from actors.item_run import DeviceFault
from actors.order import WorkOrder
from actors.shard_worker import ShardTask, run_shard
from geco_core.config.run import ColumnsConfig
from geco_core.errors import Fatal, Reason, Retryable
from geco_core.types import Shard, seed_for
from infra.attempts import Attempts, Blame, write_attempts
from infra.commit import done_key, part_key
from infra.locate import locate
from infra.manifest import read_manifest
from infra.plan import Plan
from infra.run_state import read_done
from tests.actors.shards import batches, part_rows, reasons, run, worker


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
    rows = part_rows(made)
    assert [(r["status"], r["reason"]) for r in rows] == [
        ("done", None),
        ("failed", "not_found"),
        ("failed", "missing_input"),
        ("failed", "malformed_row"),
        ("skipped", "duplicate_id"),
    ]
    assert [r["tag"] for r in rows] == [1, 2, 3, 4, 5]
    assert rows[0]["source"] == "ok.png"


def test_a_part_without_its_record_is_not_made_again(tmp_path: Path) -> None:
    made = worker(tmp_path)
    rows = run(made)
    made.storage.delete(done_key(0))
    batches(made).clear()
    assert run(made) == rows
    assert batches(made) == []
    assert made.storage.exists(done_key(0))


def test_inline_leaves_rows_that_were_found_guilty_alone(tmp_path: Path) -> None:
    made = worker(tmp_path)
    guilty = Attempts(0, 4, {1: Blame(Reason.CRASHED, "its process died")})
    write_attempts(made.storage, guilty)
    manifest = read_manifest(locate(str(tmp_path / "m.parquet")), ColumnsConfig(), made.storage)
    run_inline(made, Plan(manifest, 6, 0), WorkOrder((0,)), lambda _: True)
    assert all("i1" not in batch for batch in batches(made))
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
