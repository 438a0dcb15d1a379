"""Rows in batches, replayed one by one after an exception, or alone from the start."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from actors.shard_worker import Abandoned, ShardTask, run_shard
from geco_core.config.run import StageTimeouts
from geco_core.errors import Fatal, Reason
from geco_core.types import Item, Shard
from infra.attempts import Attempts, Blame, read_attempts
from infra.commit import part_key
from infra.storage import LocalStorage
from tests.actors.shards import batches, reasons, run, worker


def test_a_clean_shard_is_batched(tmp_path: Path) -> None:
    made = worker(tmp_path, 7)
    rows = run(made, 7)
    assert reasons(rows) == {}
    assert batches(made) == [["i0", "i1", "i2"], ["i3", "i4", "i5"], ["i6"]]
    row = rows["i4"]
    assert row["glb"][:4] == b"glTF"
    assert row["attempts"] == 1
    assert row["source"] == "p4"
    assert len(row["source_sha256"]) == 64
    assert row["timing"]["finish"] > 0
    assert row["mesh"]["n_faces"] == 12
    assert row["mesh"]["volume"] > 0


def test_an_exception_replays_its_batch_row_by_row(tmp_path: Path) -> None:
    made = worker(tmp_path, faults={"i1": "generate"})
    rows = run(made)
    assert batches(made) == [["i0", "i1", "i2"], ["i0"], ["i1"], ["i2"], ["i3", "i4", "i5"]]
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
        rows = run(worker(folder, settings={"batch_size": size}))
        digests.append([rows[f"i{k}"]["glb_sha256"] for k in range(6)])
    assert digests[0] == digests[1] == digests[2]
    assert len(set(digests[0])) == 6


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


def test_preparation_keeps_its_order_and_stays_close(tmp_path: Path) -> None:
    made = worker(tmp_path, 40, settings={"prepare_threads": 3}, prepare_s=0.002)
    started: list[str] = []
    whole = made.system.prepare

    def prepare(item: Item) -> object:
        started.append(item.item_id)
        assert len(started) <= 3 * len(batches(made)) + 3 + 3 * 3, "ran too far ahead"
        return whole(item)

    made.system.prepare = prepare  # type: ignore[method-assign]
    assert reasons(run(made, 40)) == {}
    assert [name for batch in batches(made) for name in batch] == [f"i{k}" for k in range(40)]
    assert sorted(started) == sorted(f"i{k}" for k in range(40))


def test_a_fatal_error_of_preparation_stops_the_shard(tmp_path: Path) -> None:
    made = worker(tmp_path)

    def prepare(_: Item) -> object:
        raise Fatal("no weights")

    made.system.prepare = prepare  # type: ignore[method-assign]
    with pytest.raises(Fatal, match="no weights"):
        run(made)


def test_a_worker_that_is_to_stop_starts_nothing(tmp_path: Path) -> None:
    made = worker(tmp_path)
    made.stopping.set()
    with pytest.raises(Abandoned):
        run(made)
    assert batches(made) == []


@pytest.mark.parametrize("isolate", [False, True])
def test_stopping_between_batches_gives_the_shard_back(tmp_path: Path, isolate: bool) -> None:
    def trouble(batch: list[str]) -> None:
        if "i4" in batch:
            made.stopping.set()

    made = worker(tmp_path, 12, trouble=trouble)
    with pytest.raises(Abandoned) as caught:
        run(made, 12, isolate=isolate)
    assert (caught.value.shard, caught.value.rows_saved) == (0, 5 if isolate else 6)
    assert read_attempts(made.storage, 0).running is None
    made.stopping.clear()
    batches(made).clear()
    assert reasons(run(made, 12, partials=True)) == {}
    again = {name for batch in batches(made) for name in batch}
    assert again == {f"i{k}" for k in range(5 if isolate else 6, 12)}


def test_a_slow_source_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    made = worker(tmp_path, 6)
    release = threading.Event()
    whole = made.system.prepare

    def prepare(item: Item) -> object:
        if item.item_id == "i4":
            made.stopping.set()
            release.wait(20)
        return whole(item)

    made.system.prepare = prepare  # type: ignore[method-assign]
    begun = time.monotonic()
    with pytest.raises(Abandoned):
        run(made)
    assert time.monotonic() - begun < 10
    release.set()


def test_device_work_is_not_begun_after_a_stop(tmp_path: Path) -> None:
    made = worker(tmp_path, 12, settings={"batch_size": 6})

    def trouble(batch: list[str]) -> None:
        if batch == ["i2"]:  # in the row-by-row replay of the first batch
            made.stopping.set()
        if len(batch) > 1:
            raise ValueError("not together")

    made.system.trouble = trouble  # type: ignore[attr-defined]
    with pytest.raises(Abandoned) as caught:
        run(made, 12)
    assert batches(made)[1:] == [["i0"], ["i1"], ["i2"]]
    assert caught.value.rows_saved == 3


def test_time_lost_in_a_failed_batch_counts(tmp_path: Path) -> None:
    made = worker(tmp_path, 3, faults={"i1": "generate"})
    ticks = iter(range(10_000))
    made.clock = lambda: float(next(ticks))
    rows = run(made, 3)
    assert rows["i0"]["timing"]["generate"] == pytest.approx(1 / 3 + 1)


def test_the_record_tells_the_limit_of_the_stage_that_runs(tmp_path: Path) -> None:
    limits = StageTimeouts(prepare=5.0, generate=7.0)
    made = worker(tmp_path, 1, settings={"stage_timeout_s": limits})
    seen: list[float | None] = []

    def look(*_: object) -> None:
        running = read_attempts(made.storage, 0).running
        seen.append(running and running.limit_s)

    whole = made.system.prepare
    made.system.prepare = lambda item: (look(), whole(item))[1]  # type: ignore[method-assign]
    made.system.trouble = look  # type: ignore[attr-defined]
    run(made, 1, isolate=True)
    assert seen == [5.0, 7.0]
