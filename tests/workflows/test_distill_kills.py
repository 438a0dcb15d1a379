"""SIGKILL of a targets replica, of a training worker and of the driver, in one distillation: it
goes on, and ends with what an undisturbed one makes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from infra.storage import LocalStorage
from infra.targets import TargetTable
from workflows.dag_record import StepRecord, read_record

pytest.importorskip("ray.train", reason="Ray Train's own dependencies are not installed")

ROOT = Path(__file__).parents[2]
PATIENCE_S = 900.0
WORDS = ("stage1_train.steps=12", "stage2_train.steps=12")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(start(run))
    return run


def start(run: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "workflows.cli", "distill", "--preset", "micro-smoke"]
    return subprocess.Popen(
        [*command, "--out", str(run), *WORDS],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, f"{out}\n{err}"
    return out + err


def workers(driver: int, title: str) -> Iterator[psutil.Process]:
    """Processes of the driver's own Ray with this title."""
    for child in psutil.Process(driver).children(recursive=True):
        try:
            if title in " ".join(child.cmdline()):
                yield child
        except psutil.NoSuchProcess:
            continue


def wait_for(process: subprocess.Popen[str], condition: Callable[[], object], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, f"ended before {what}: {process.communicate()}"
        assert time.monotonic() < until, what
        time.sleep(0.02)


def kill_one(process: subprocess.Popen[str], title: str) -> None:
    found: list[psutil.Process] = []
    wait_for(process, lambda: found.extend(workers(process.pid, title)) or found, title)
    found[0].kill()


def checkpoints(run: Path, stage: str) -> list[Path]:
    return list(run.glob(f"stages/{stage}/*/checkpoints/step-*.json"))


def objects(run: Path) -> dict[str, int]:
    """Targets in the store -> when each was written."""
    return {p.name: p.stat().st_mtime_ns for p in run.glob("targets-store/objects/*/*.safetensors")}


def folder_of(run: Path, step: str) -> Path:
    record = read_record(LocalStorage(run), step)
    assert isinstance(record, StepRecord)
    return run / "stages" / step / record.fingerprint[:12]


def test_killed_everywhere_it_ends_as_if_undisturbed(undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(run)
    wait_for(process, lambda: len(objects(run)) >= 2, "two targets")
    kept = objects(run)
    kill_one(process, "ray::Replica")
    wait_for(process, lambda: checkpoints(run, "stage1"), "a checkpoint of stage1")
    kill_one(process, "RayTrainWorker")
    wait_for(process, lambda: checkpoints(run, "stage2"), "a checkpoint of stage2")
    kept |= objects(run)
    done = {path: path.read_bytes() for path in run.glob("stages/*/DONE.json")}
    assert {path.parent.name for path in done} == {"conditions", "targets", "stage1"}
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    told = finish(start(run))
    assert "done before" in told
    assert "stage2_started step=0" not in told, "stage2 goes on from its checkpoint"
    assert {path: path.read_bytes() for path in done} == done, "what was done is not done again"
    assert_same_targets(undisturbed, run)
    assert {name: when for name, when in objects(run).items() if name in kept} == kept
    for stage in ("stage1", "stage2"):
        assert_same_weights(folder_of(undisturbed, stage), folder_of(run, stage))
    tables = [json.loads((folder_of(r, "evaluate") / "ablation.json").read_text())
              for r in (undisturbed, run)]  # fmt: skip
    for variant, metrics in tables[0]["variants"].items():
        for name, value in metrics.items():
            if name != "multiview_s":
                assert tables[1]["variants"][variant][name]["mean"] == pytest.approx(
                    value["mean"], rel=1e-4
                )


def assert_same_targets(one: Path, other: Path) -> None:
    """Every manifest row is there once, with the same target."""
    tables = [TargetTable(LocalStorage(folder_of(run, "targets"))) for run in (one, other)]
    manifest = pq.read_table(folder_of(one, "conditions") / "train.parquet")
    ids = manifest.column("id").to_pylist()
    assert [list(table.item_ids) for table in tables] == [ids, ids]
    rows = range(len(ids))
    assert [t.key for t in tables[0].read(rows)] == [t.key for t in tables[1].read(rows)]
    for a, b in zip(tables[0].read(rows), tables[1].read(rows), strict=True):
        torch.testing.assert_close(torch.tensor(a.latents), torch.tensor(b.latents))
        assert (a.renders == b.renders).all()


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = (load_file(folder / "weights.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, rtol=1e-5, atol=1e-6, msg=name)
