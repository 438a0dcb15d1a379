"""The pool on clusters of several nodes: joining, leaving, draining, failing, sharing a GPU.

`Cluster.add_node` runs in the main thread only (it installs signal handlers), so the engine runs in
another one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray._private.state import state as ray_state
from ray._private.worker import global_worker
from ray.cluster_utils import Cluster

from geco_core.config.run import RunConfig
from workflows.generate import GenerateResult, generate

pytestmark = pytest.mark.timeout(400)  # a busy machine starts processes slowly
ITEMS = 96


class Nodes:
    """A cluster whose head has no room for replicas, and the command that runs on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0, "object_store_memory": 80 * 2**20, "include_dashboard": False
            },
        )  # fmt: skip
        self.results: list[GenerateResult | Exception] = []
        self.thread: threading.Thread | None = None

    def add(self, **resources: Any) -> Any:
        options: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20} | resources
        return self.cluster.add_node(**options)

    def connect(self) -> None:
        ray.init(address=self.cluster.address, logging_level=logging.ERROR, log_to_driver=False)

    def config(self, **values: Any) -> RunConfig:
        ids = [f"i{k}" for k in range(ITEMS)]
        pq.write_table(pa.table({"id": ids, "prompt": ids}), self.folder / "m.parquet")
        defaults: dict[str, Any] = {
            "system": "noop",
            "manifest": str(self.folder / "m.parquet"),
            "out": str(self.folder / "run"),
            "workers": 2,
            "num_gpus_per_replica": 0.0,
            "shard_size": 8,
            "batch_size": 1,
            "thumbnail_size": 0,
            "finish_isolation": "inline",
            "max_failure_rate": 1.0,
        }
        return RunConfig(**(defaults | values))

    def start(self, config: RunConfig) -> None:
        def run() -> None:
            try:
                self.results.append(generate(config))
            except Exception as error:
                self.results.append(error)

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def result(self) -> GenerateResult:
        assert self.thread is not None
        self.thread.join(300)
        (result,) = self.results
        if isinstance(result, Exception):
            raise result
        return result

    def done(self) -> int:
        return len(list((self.folder / "run" / "done").glob("*.json")))

    def rows(self) -> dict[str, dict[str, Any]]:
        tables = [pq.read_table(p) for p in sorted((self.folder / "run" / "assets").iterdir())]
        listed = pa.concat_tables(tables).to_pylist()
        assert [row["item_id"] for row in listed] == [f"i{k}" for k in range(ITEMS)]
        return {row["item_id"]: row for row in listed}


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)
    return found


def living() -> list[dict[str, Any]]:
    """Replicas that Ray has placed and not buried, as its tables have them."""
    table = ray_state.actor_table(None)
    return [a for a in table.values() if a["State"] == "ALIVE"]


def node_of(actor: dict[str, Any]) -> str:
    return actor["Address"]["NodeID"]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    try:
        yield made
    finally:
        if made.thread is not None:
            made.thread.join(60)
        with contextlib.suppress(Exception):
            ray.shutdown()
        made.cluster.shutdown()


def test_a_node_that_joins_is_used_within_seconds_and_idle_replicas_end(nodes: Nodes) -> None:
    nodes.add()
    nodes.connect()
    nodes.start(nodes.config(model={"generate_s": 0.1}))
    wait_for(lambda: nodes.done() >= 1)
    assert len(living()) == 1  # the second replica waits for room
    late = nodes.add()
    joined = time.monotonic()
    wait_for(lambda: late.node_id in map(node_of, living()))
    assert time.monotonic() - joined < 20
    assert nodes.result().complete
    assert len({row["worker"] for row in done_records(nodes)}) == 2
    wait_for(lambda: not living(), 20)
    nodes.rows()


def done_records(nodes: Nodes) -> list[dict[str, Any]]:
    import json

    return [json.loads(p.read_text()) for p in (nodes.folder / "run" / "done").glob("*.json")]


@pytest.mark.slow
def test_lesson_1_work_goes_to_replicas_that_are_ready(nodes: Nodes) -> None:
    """A replica without a place must not swallow shards: the only ready one makes them all."""
    nodes.add()
    nodes.connect()
    nodes.start(nodes.config(workers=4))
    result = nodes.result()
    assert result.complete
    assert len({row["worker"] for row in done_records(nodes)}) == 1


@pytest.mark.slow
def test_a_lost_node_loses_no_item_and_blames_none(nodes: Nodes) -> None:
    nodes.add()
    lost = nodes.add()
    nodes.connect()
    nodes.start(nodes.config(model={"generate_s": 0.1}, crashes_before_isolation=1))
    wait_for(lambda: len(living()) == 2 and nodes.done() >= 2)
    nodes.cluster.remove_node(lost, allow_graceful=False)
    assert nodes.result().state.counts["done"] == ITEMS
    nodes.rows()
    assert not list((nodes.folder / "run" / "attempts").glob("*"))


@pytest.mark.slow
def test_a_draining_node_gives_its_shards_back_with_their_rows(nodes: Nodes) -> None:
    nodes.add()
    leaving = nodes.add()
    nodes.connect()
    nodes.start(nodes.config(model={"generate_s": 0.2}, shard_size=32, workers=2))
    wait_for(lambda: len(living()) == 2)
    time.sleep(3)
    client: Any = global_worker.gcs_client  # type: ignore[attr-defined]
    deadline_ms = int(time.time() * 1000) + 60_000
    accepted, message = client.drain_node(leaving.node_id, 2, "spot notice", deadline_ms)
    assert accepted, message
    saved = wait_for(lambda: list((nodes.folder / "run").glob("partial/**/*.parquet")))
    assert pq.read_table(saved[0]).num_rows >= 1
    wait_for(lambda: leaving.node_id not in map(node_of, living()))
    assert nodes.result().complete
    nodes.rows()
    assert not list((nodes.folder / "run" / "attempts").glob("*"))


@pytest.mark.slow
def test_sigterm_to_a_replica_saves_its_rows_and_it_is_replaced(nodes: Nodes) -> None:
    nodes.add()
    nodes.connect()
    nodes.start(nodes.config(model={"generate_s": 0.1}, shard_size=48, workers=1))
    (actor,) = wait_for(living)
    time.sleep(3)
    os.kill(actor["Pid"], signal.SIGTERM)
    wait_for(lambda: list((nodes.folder / "run").glob("partial/**/*.parquet")))
    assert nodes.result().complete
    nodes.rows()
    assert not list((nodes.folder / "run" / "attempts").glob("*"))


def test_two_replicas_share_one_gpu(nodes: Nodes) -> None:
    nodes.add(num_gpus=1, num_cpus=0)
    nodes.connect()
    nodes.start(nodes.config(model={"generate_s": 0.05}, workers=None, num_gpus_per_replica=0.5))
    wait_for(lambda: len(living()) == 2)
    assert nodes.result().complete
    assert len({row["worker"] for row in done_records(nodes)}) == 2


class ReadyPids(logging.Handler):
    """Process ids of the replicas that became ready, from the events."""

    def __init__(self) -> None:
        super().__init__()
        self.pids: set[int] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "worker_ready":
            self.pids.add(int(record.event_fields["worker"].rpartition(":")[2]))  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_node_on_which_everything_dies_is_retired_and_no_row_is_blamed(nodes: Nodes) -> None:
    bad, good = nodes.add(), nodes.add()
    nodes.connect()
    events, log = ReadyPids(), logging.getLogger("actors.scheduler")
    log.setLevel(logging.INFO)
    log.addHandler(events)
    nodes.start(nodes.config(model={"generate_s": 0.4}, crashes_before_isolation=2, shard_size=2))
    killed, last = 0, set[str]()
    while nodes.thread is not None and nodes.thread.is_alive():
        for actor in living():
            if node_of(actor) == bad.node_id and actor["Pid"] in events.pids:
                time.sleep(0.4)  # it holds shards now
                with contextlib.suppress(ProcessLookupError):
                    os.kill(actor["Pid"], signal.SIGKILL)
                    events.pids.discard(actor["Pid"])
                    killed += 1
        last = {node_of(actor) for actor in living()} or last
        time.sleep(0.2)
    log.removeHandler(events)
    result = nodes.result()
    assert result.state.counts["done"] == ITEMS
    # A strike counts once its shards came out clean elsewhere: how many replicas die meanwhile
    # depends on how fast the good node is beside the restarts on the bad one.
    assert 2 <= killed <= 20
    assert any("was retired" in remark for remark in result.remarks)
    assert last == {good.node_id}
