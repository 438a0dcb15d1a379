"""What cost a bug in the prototype of the engine, with real processes. Lessons 1, 2, 4 and 6 stand
beside the code they concern: `test_schedule`, `test_deaths`, `test_cluster_pool`.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster

from infra.attempts import read_attempts
from infra.storage import LocalStorage

ROOT = Path(__file__).parents[2]
POISON = 4
SHARD = """
import sys
from actors.order import WorkOrder
from actors.shard_worker import run_shard
from actors.spec import build_worker
from actors.watchdog import Watchdog
from geco_core.config.run import RunConfig
from infra.attempts import Attempts
from infra.plan import make_plan
from infra.storage import open_storage
from workflows.execute import worker_spec

folder, fault = sys.argv[1:]
config = RunConfig(system="noop", manifest=f"{folder}/m.parquet", out=f"{folder}/run",
                   model={"faults": {"i4": fault}}, thumbnail_size=0, item_timeout_s=1.0,
                   finish_isolation="inline", shard_size=8)
storage = open_storage(config.out)
plan = make_plan(storage, config)
worker = build_worker(worker_spec(config, storage, plan), watchdog=Watchdog())
task = WorkOrder((0,)).task(plan.shard(0), Attempts(0, crashes=3), isolate=True)
run_shard(task, worker)
print("not reached")
"""


def end_in(folder: Path, fault: str) -> subprocess.CompletedProcess[str]:
    """A process that runs a suspect shard whose row 4 is poison."""
    ids = [f"i{k}" for k in range(8)]
    pq.write_table(pa.table({"id": ids, "prompt": ids}), folder / "m.parquet")
    words = [sys.executable, "-c", SHARD, str(folder), fault]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("fault", ["segfault", "sigkill"])
def test_lesson_3_the_store_knows_the_row_before_it_can_kill(tmp_path: Path, fault: str) -> None:
    """The last message of a dying process is easily lost, and then its neighbour is blamed."""
    ended = end_in(tmp_path, fault)
    assert ended.returncode < 0, ended.stderr
    running = read_attempts(LocalStorage(tmp_path / "run"), 0).running
    assert running is not None
    assert (running.row, running.item_id) == (POISON, f"i{POISON}")


@pytest.mark.parametrize("fault", ["hang", "hang_python"])
def test_lesson_5_a_hang_ends_with_or_without_the_gil(tmp_path: Path, fault: str) -> None:
    ended = end_in(tmp_path, fault)
    assert ended.returncode != 0
    assert "not reached" not in ended.stdout
    assert "generate" in ended.stderr  # the traceback says where
    running = read_attempts(LocalStorage(tmp_path / "run"), 0).running
    assert running is not None
    assert running.row == POISON


def test_lesson_4_no_pool_of_ray_schedules_for_us() -> None:
    """`ray.util.ActorPool` neither replaces a dead actor nor returns what it held."""
    for path in [*(ROOT / "actors").glob("*.py"), *(ROOT / "workflows").glob("*.py")]:
        assert "ActorPool" not in path.read_text(), path


def test_lesson_6_nodes_are_added_in_the_main_thread_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Adding one installs signal handlers: tests run the engine in the other thread instead."""
    monkeypatch.setattr("atexit.register", lambda *_: None)  # the half-made node would complain
    errors: list[Exception] = []

    def add() -> None:
        try:
            Cluster().add_node(num_cpus=1)
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])
