"""SIGKILL of targets replicas: no target is lost, and none that was made is made again."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from actors.targets import FOUND, MENDED, NOT_KEPT, RACED
from infra.storage import LocalStorage
from infra.targets import TargetTable
from tests.chaos.kills import Victim, victim
from tests.support.tiny_teacher import pictures, tiny_model
from workflows import cli

ITEMS, SHARD, KILLS = 36, 9, 3
pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(600)]


def objects(run: Path) -> dict[Path, int]:
    """Every target in the store of a run, and when it was written."""
    found = {}
    for path in (run / "objects").rglob("*.safetensors"):
        found[path] = path.stat().st_mtime_ns
    return found


def committed(run: Path) -> int:
    return SHARD * len([*(run / "done").glob("*.json")])


def wait_for_uncommitted(one: Victim, run: Path, count: int) -> None:
    """Until so many targets are made whose shards are still in flight."""
    deadline = time.monotonic() + 300
    while not one.ended and len(objects(run)) < committed(run) + count:
        assert time.monotonic() < deadline, "no target was made"
        time.sleep(0.02)


def test_killed_replicas_cost_what_they_were_making(tmp_path: Path) -> None:
    photos, run = pictures(tmp_path / "photos", ITEMS), tmp_path / "run"
    model: dict[str, Any] = tiny_model(tmp_path / "weights")
    model["sampler"] = {**model["sampler"], "steps": 40}
    config = tmp_path / "distill.yaml"
    settings = {"renders": 4, "render_size": 16, "shard_size": SHARD}
    config.write_text(json.dumps({"teacher": {"model": model}, "targets": settings}))
    line = [sys.executable, "-m", "workflows.cli", "targets", "--manifest", str(photos)]
    line += ["--out", str(run), "--config", str(config), "--workers", "2"]
    rng, seen = random.Random(7), {}
    with victim(line, {}, tmp_path / "log", lambda: committed(run)) as one:
        for _ in range(KILLS):
            wait_for_uncommitted(one, run, 3)
            assert one.kill_one(one.replicas, rng)
            seen |= objects(run)
        assert one.finish() == 0, (tmp_path / "log").read_text()[-2000:]
    check(run, seen)


def check(run: Path, seen: dict[Path, int]) -> None:
    rows = [
        r for part in sorted((run / "assets").iterdir()) for r in pq.read_table(part).to_pylist()
    ]
    assert [row["status"] for row in rows] == ["done"] * ITEMS
    after = objects(run)
    assert {path: after[path] for path in seen} == seen  # what was made was not made again
    assert len({row["target_key"] for row in rows}) == len(after) == ITEMS
    notes = [note for row in rows for note in row["notes"] or ()]
    assert not {RACED, MENDED, NOT_KEPT} & {*notes}
    assert notes.count(FOUND) >= KILLS  # a kill met targets that were made and not committed
    assert len(TargetTable(LocalStorage(run)).read(range(ITEMS))) == ITEMS
    assert cli.main(["verify", str(run)]) == 0
