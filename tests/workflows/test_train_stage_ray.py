"""Ray Train under a stage: however many workers, and whoever of them dies, one result."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import torch
from ray.cluster_utils import Cluster
from safetensors.torch import load_file

from geco_core.errors import Fatal
from infra.cluster import cluster
from infra.storage import LocalStorage
from infra.training_folder import read_events
from tests.support.tiny_chain import tiny_target, weights_digest, write_chain, write_targets
from tests.support.train_driver import CLUSTER, long_distill
from workflows.train_stage import StageInputs, StageResult, train_stage

pytest.importorskip("pandas", reason='Ray Train needs it: pip install "ray[train]"')
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
WAIT_S = 400


class Given:
    """A chain and targets on disk, and what one process makes of them."""

    def __init__(self, folder: Path) -> None:
        self.model = write_chain(folder / "chain")
        targets = [tiny_target(k, weights_digest(self.model)) for k in range(6)]
        self.targets = write_targets(LocalStorage(folder / "targets"), targets)
        self.alone = folder / "alone"
        self.run(self.alone, engine="inline")

    def run(self, folder: Path, on_event: Any = lambda *_: None, **train: Any) -> StageResult:
        config = long_distill(self.model, **train)
        inputs = StageInputs(conditions=self.targets)
        return train_stage("stage1", config, inputs, str(folder), on_event=on_event)

    def start(self, folder: Path, **train: Any) -> subprocess.Popen[str]:
        """The same as a command of its own."""
        order = folder.with_suffix(".json")
        words = {"model": self.model, "targets": self.targets, "folder": str(folder)}
        order.write_text(json.dumps({**words, "train": train}))
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.train_driver", str(order)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    return Given(tmp_path_factory.mktemp("given"))


def distance(a: Path, b: Path) -> float:
    """Largest difference of two exported weights."""
    one, other = (load_file(folder / "weights.safetensors") for folder in (a, b))
    assert one.keys() == other.keys()
    assert not all(torch.equal(value, torch.zeros_like(value)) for value in one.values())
    return max(float((one[key] - other[key]).abs().max()) for key in one)


# Sums in another order move a gradient by 1e-7, which AdamW can turn into a share of the rate of
# 1e-3 where a gradient is that small; a lost or repeated step moves weights by the rate itself.
NOISE = 2e-4


def kinds(folder: Path) -> list[str]:
    return [event["kind"] for event in read_events(LocalStorage(folder))]


def train_workers() -> list[psutil.Process]:
    """Processes of the worker group below this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any("RayTrainWorker" in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:  # gone meanwhile
            continue
    return found


def test_two_workers_end_where_one_does(given: Given, tmp_path: Path) -> None:
    with cluster(CLUSTER, {"OMP_NUM_THREADS": "1"}):
        one = given.run(tmp_path / "one", workers=1)
        two = given.run(tmp_path / "two", workers=2)
    assert one.complete
    assert two.complete
    assert distance(tmp_path / "one", given.alone) == 0.0
    assert 0.0 < distance(tmp_path / "two", given.alone) < NOISE
    # A stage that two workers began is finished by one.
    assert two.numbers["vsd"] == pytest.approx(one.numbers["vsd"], rel=1e-2)


def test_a_killed_worker_costs_the_steps_since_the_checkpoint(given: Given, tmp_path: Path) -> None:
    killed: list[int] = []

    def on_event(kind: str, step: int, _: Mapping[str, Any]) -> None:
        if kind == "checkpoint" and not killed:
            victim = train_workers()[-1]
            killed.append(victim.pid)
            victim.kill()

    with cluster(CLUSTER, {"OMP_NUM_THREADS": "1"}):
        result = given.run(tmp_path / "hurt", on_event, workers=2, max_failures=2)
    assert killed
    assert result.complete
    assert result.made < 12  # the last attempt began at a checkpoint
    assert distance(tmp_path / "hurt", given.alone) < NOISE


def test_a_lost_node_leaves_fewer_workers_and_the_same_result(given: Given, tmp_path: Path) -> None:
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    nodes = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    second = nodes.add_node(**small)
    lost: list[int] = []

    def on_event(kind: str, step: int, _: Mapping[str, Any]) -> None:
        if kind == "checkpoint" and not lost:
            lost.append(step)
            nodes.remove_node(second, allow_graceful=False)

    try:
        ray.init(address=nodes.address, logging_level=logging.ERROR, log_to_driver=False)
        result = given.run(tmp_path / "fewer", on_event, workers=2, min_workers=1)
    finally:
        ray.shutdown()
        nodes.shutdown()
    assert result.complete
    started = [e for e in read_events(LocalStorage(tmp_path / "fewer")) if e["kind"] == "started"]
    assert [event["numbers"]["world"] for event in started] == [2, 1]
    assert started[1]["step"] >= lost[0] > 0
    assert distance(tmp_path / "fewer", given.alone) < NOISE


def test_an_error_that_would_come_again_is_not_tried_again(given: Given, tmp_path: Path) -> None:
    broken = {**given.model, "weights": {**given.model["weights"], "multiview_sha256": "0" * 64}}
    config = long_distill(broken, workers=1, max_failures=50)
    inputs = StageInputs(conditions=given.targets)
    with cluster(CLUSTER, {"OMP_NUM_THREADS": "1"}), pytest.raises(Fatal, match="sha256"):
        train_stage("stage1", config, inputs, str(tmp_path / "broken"))


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + WAIT_S
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, f"no {path}"
        time.sleep(0.02)


def test_a_killed_command_goes_on_where_its_checkpoint_stands(given: Given, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    process = given.start(folder, workers=2)
    wait_for(folder / "checkpoints/step-000003.json", process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=WAIT_S)
    assert not (folder / "weights.safetensors").exists()
    second = given.start(folder, workers=1)  # with fewer workers than before
    out, err = second.communicate(timeout=WAIT_S)
    assert second.returncode == 0, err
    result = json.loads(out.splitlines()[-1])
    assert result["complete"]
    assert result["made"] < 12
    assert distance(folder, given.alone) < NOISE


def test_sigterm_saves_and_ends_with_a_result(given: Given, tmp_path: Path) -> None:
    folder = tmp_path / "asked"
    process = given.start(folder, workers=2, checkpoint_every=100)
    wait_for(folder / "events/step-000003.jsonl", process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    result = json.loads(out.splitlines()[-1])
    assert 3 <= result["step"] < 12
    assert not result["complete"]
    assert (folder / f"checkpoints/step-{result['step']:06d}.json").is_file()
    assert "stopped" in kinds(folder)
    assert given.run(folder, engine="inline").complete
    assert distance(folder, given.alone) < NOISE
