"""How many workers a run gets, and when it is refused instead of waiting without end."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.order import WorkOrder
from actors.pool import ReplicaOptions
from geco_core.config.run import RunConfig
from geco_core.errors import ConfigError
from infra.attempts import Attempts, write_attempts
from infra.storage import LocalStorage
from workflows.ray_engine import check_resources, default_workers, known_crashes, replica_options

GIB = 2.0**30
LAPTOP = {"CPU": 8.0, "memory": 8 * GIB}
SERVER = {"CPU": 64.0, "GPU": 4.0, "memory": 256 * GIB}


def options(gpus: float = 0.0, threads: int = 1) -> ReplicaOptions:
    return ReplicaOptions(num_gpus=gpus, num_cpus=0.0 if gpus else 1.0, threads=threads,
                          start_timeout_s=1.0)  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "resources", "workers"),
    [
        (options(), LAPTOP, 2),
        (options(), {"CPU": 1.0, "memory": 8 * GIB}, 1),
        (options(), {"CPU": 8.0, "memory": 1.5 * GIB}, 1),
        (options(threads=8), LAPTOP, 1),
        (options(gpus=1.0), SERVER, 4),
        (options(gpus=0.5), SERVER, 8),
    ],
)
def test_default_number_of_workers(
    wanted: ReplicaOptions, resources: dict[str, float], workers: int
) -> None:
    assert default_workers(wanted, resources) == workers


def test_gpus_are_used_where_they_are() -> None:
    on_gpu, on_cpu = (replica_options(RunConfig(), there) for there in (SERVER, LAPTOP))
    assert (on_gpu.num_gpus, on_gpu.num_cpus) == (1.0, 0.0)
    assert (on_cpu.num_gpus, on_cpu.num_cpus) == (0.0, 1.0)


def test_what_can_never_start_is_refused() -> None:
    check_resources(options(gpus=1.0), SERVER)
    check_resources(options(), LAPTOP)
    with pytest.raises(ConfigError, match="asks for 1 GPU, Ray has 0"):
        check_resources(options(gpus=1.0), LAPTOP)
    with pytest.raises(ConfigError, match="asks for 1 CPU"):
        check_resources(options(), {"CPU": 0.0})


def test_foreign_files_are_no_crash_records(tmp_path: Path) -> None:
    store = LocalStorage(tmp_path)
    for shard, crashes in ((3, 2), (5, 1)):
        write_attempts(store, Attempts(shard, crashes))
    (tmp_path / "attempts" / "notes.txt").write_text("x")
    assert known_crashes(store, WorkOrder((3, 4))) == {3: 2}
