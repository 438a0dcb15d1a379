"""Blame at the border between Ray and the schedule: only a row that this command ran alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.schedule import Schedule
from actors.scheduler import ReplicaOptions, Scheduler, _lost_with_its_node
from actors.shard_worker import WorkerSettings
from actors.spec import WorkerSpec
from geco_core.errors import Reason
from infra.attempts import Attempts, Suspicion, read_attempts, write_attempts
from infra.manifest import Columns, Manifest, ManifestFile
from infra.plan import Plan
from infra.storage import LocalStorage

ALONE = Suspicion(row=2, item_id="i2", started_at=100.0)


def scheduler(store: LocalStorage, crashes: int) -> Scheduler:
    """One replica that holds the only shard, whose record names row 2 as running alone."""
    columns = Columns("id", None, "prompt", None)
    files = (ManifestFile("m.parquet", 6, stored=False),)
    manifest = Manifest("m.parquet", "parquet", "d", "", files, columns, ())
    spec = WorkerSpec(store.uri, manifest, "noop", "micro", (), "1", WorkerSettings(0))
    schedule = Schedule([0], workers=1, crashes_before_isolation=3, crashes={0: crashes})
    schedule.ready(schedule.new_replicas()[0])
    schedule.assignments()
    write_attempts(store, Attempts(0, crashes, running=ALONE))
    options = ReplicaOptions(num_gpus=0, num_cpus=1, threads=1, start_timeout_s=1)
    return Scheduler(
        spec, Plan(manifest, 6, 0), store, schedule, options,
        on_summary=lambda _: True, epoch=lambda: 101.0,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def test_a_row_that_ran_alone_is_blamed(store: LocalStorage) -> None:
    scheduler(store, 3)._bury(0, Reason.CRASHED, "segfault")
    record = read_attempts(store, 0)
    assert (record.crashes, list(record.blamed), record.running) == (4, [2], None)


def test_a_suspicion_of_an_earlier_command_blames_nobody(store: LocalStorage) -> None:
    scheduler(store, 0)._bury(0, Reason.CRASHED, "segfault")
    record = read_attempts(store, 0)
    assert (record.crashes, record.blamed, record.running) == (1, {}, None)


def test_a_lost_node_blames_nobody(store: LocalStorage) -> None:
    scheduler(store, 3)._bury(0, Reason.CRASHED, "the node is gone", blame=False)
    record = read_attempts(store, 0)
    assert (record.crashes, record.blamed, record.running) == (4, {}, None)


def test_a_shard_starts_without_old_suspicions(store: LocalStorage) -> None:
    assert scheduler(store, 3)._unsuspected(0) == Attempts(0, 3)
    assert read_attempts(store, 0) == Attempts(0, 3)


def test_deaths_of_nodes_are_told_from_deaths_of_processes() -> None:
    from ray.exceptions import ActorDiedError, NodeDiedError

    assert _lost_with_its_node(NodeDiedError("node 3"))
    dead = ActorDiedError()
    assert not _lost_with_its_node(dead)
    dead.error_msg = "The actor died because its node has died. Node Id: 12"
    assert _lost_with_its_node(dead)
