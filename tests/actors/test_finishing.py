"""Finishing in a child: its death costs one row, whatever it dies of, and nothing outlives us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.finishing import ChildFinisher, warm_up
from actors.finishing_process import Kind, forget_nursery, shared_nursery
from actors.item_run import default_reason
from geco_core.config.finish import FinishConfig
from geco_core.errors import BadItem, Fatal, Reason
from geco_core.mesh.finish import finish_mesh
from geco_core.systems.noop import box
from geco_core.types import Asset, Mesh

ROOT = Path(__file__).parents[2]
FUNCTION = "tests.actors.finishers:finish"


@pytest.fixture
def child() -> Iterator[ChildFinisher]:
    finisher = ChildFinisher(512, function=FUNCTION)
    yield finisher
    finisher.close()


def finish(child: ChildFinisher, kind: str, *, limit_s: float = 20.0, sha: str = "") -> Asset:
    return child(
        box(1), item_id=kind, seed=1, provenance={"a": 1}, source_sha256=sha, limit_s=limit_s
    )


def test_the_same_asset_as_without_a_child() -> None:
    details: dict[str, Any] = {
        "item_id": "a",
        "seed": 3,
        "provenance": {"code_version": "1", "licences": ["MIT"]},
        "thumbnail_size": 32,
        "source_sha256": "s",
    }
    real = ChildFinisher(2048)
    warm_up(real, 32)
    assert real(box(3), **details, limit_s=60) == finish_mesh(box(3), **details)
    with pytest.raises(BadItem) as caught:
        real(Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)), **details)
    assert caught.value.reason is Reason.EMPTY_MESH
    real.close()


def test_everything_of_a_mesh_and_its_details_arrives(child: ChildFinisher) -> None:
    asset = finish(child, "fine")
    assert asset.mesh_stats["sum"] == pytest.approx(float(box(1).vertices.sum()))
    assert asset.glb[4:] == box(1).faces.tobytes()
    assert asset.mesh_stats["provenance"] == {"a": 1}
    assert asset.mesh_stats["pid"] != os.getpid()


DEATHS = {
    "segfault": (Reason.CRASHED, "SIGSEGV"),
    "abort": (Reason.CRASHED, "SIGABRT"),
    "exit": (Reason.CRASHED, "exit code 3"),
    "kill": (Reason.OUT_OF_MEMORY, "memory"),
    "hang": (Reason.TIMED_OUT, "0.3 s"),
}


@pytest.mark.parametrize("kind", DEATHS)
def test_a_death_is_a_bad_item_and_the_next_one_is_fine(child: ChildFinisher, kind: str) -> None:
    finish(child, "fine")
    begun = time.monotonic()
    with pytest.raises(BadItem) as caught:
        finish(child, kind, limit_s=0.3 if kind == "hang" else 20.0)
    assert (caught.value.reason, caught.value.stage) == (DEATHS[kind][0], "finish")
    assert DEATHS[kind][1] in caught.value.message
    assert finish(child, "fine").glb_sha256 == "fine"
    assert time.monotonic() - begun < 10  # nothing was imported again


def test_memory_is_limited_and_given_back(child: ChildFinisher) -> None:
    with pytest.raises(MemoryError) as caught:
        finish(child, "memory")
    assert default_reason(caught.value, "finish") is Reason.OUT_OF_MEMORY
    assert finish(child, "fine").glb_sha256 == "fine"


def test_a_mesh_that_does_not_fit_is_out_of_memory() -> None:
    child = ChildFinisher(64, function=FUNCTION)
    large = Mesh(np.zeros((12_000_000, 3), np.float32), box(1).faces)
    with pytest.raises(BadItem) as caught:
        child(large, item_id="fine", seed=1, provenance={}, limit_s=60)
    assert caught.value.reason is Reason.OUT_OF_MEMORY
    assert finish(child, "fine").glb_sha256 == "fine"
    child.close()


def test_typed_errors_come_back_whole(child: ChildFinisher) -> None:
    with pytest.raises(BadItem) as caught:
        finish(child, "bad")
    assert (caught.value.reason, caught.value.item_id) == (Reason.EMPTY_MESH, "bad")
    with pytest.raises(ValueError, match="wrong value") as other:
        finish(child, "value")
    assert "finishers.py" in "".join(other.value.__notes__)
    with pytest.raises(RuntimeError, match="Odd: 1 2"):
        finish(child, "odd")
    first = finish(child, "fine").mesh_stats["pid"]
    assert finish(child, "fine").mesh_stats["pid"] == first


def test_one_death_may_come_from_outside(child: ChildFinisher, tmp_path: Path) -> None:
    assert finish(child, "once", sha=str(tmp_path / "mark")).glb_sha256 == "once"


def test_an_idle_worker_that_was_killed_harms_nobody(child: ChildFinisher) -> None:
    before = finish(child, "fine").mesh_stats["pid"]
    os.kill(before, signal.SIGKILL)
    assert finish(child, "fine").mesh_stats["pid"] != before


def test_the_process_that_forks_is_replaced(child: ChildFinisher) -> None:
    before = finish(child, "fine").mesh_stats
    os.kill(before["parent"], signal.SIGKILL)
    assert gone(before["pid"])
    assert finish(child, "fine").mesh_stats["parent"] != before["parent"]


def test_a_finisher_survives_the_thread_that_started_it() -> None:
    child = ChildFinisher(None, thumbnails=False, function=FUNCTION)
    thread = threading.Thread(target=finish, args=(child, "fine"))
    thread.start()
    thread.join()
    assert finish(child, "fine").glb_sha256 == "fine"
    child.close()


def test_callers_work_side_by_side(child: ChildFinisher) -> None:
    finish(child, "fine")
    pids: list[int] = []

    def call() -> None:
        pids.append(finish(child, "slow").mesh_stats["pid"])

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(pids)) == 3


def test_a_child_that_can_not_start_is_fatal() -> None:
    child = ChildFinisher(None, function="tests.actors.finishers:broken")
    with pytest.raises(Fatal, match="a library is missing"):
        warm_up(child, 0)
    with pytest.raises(Fatal, match="No module named 'nowhere'"):
        ChildFinisher(None, function="nowhere:finish").warm_up()
    for function in ("tests.actors.finishers:broken", "nowhere:finish"):
        forget_nursery(shared_nursery(Kind(function), 1.0))


def test_it_does_not_heed_the_signals_of_its_parent(child: ChildFinisher) -> None:
    stats = finish(child, "fine").mesh_stats
    for pid in (stats["pid"], stats["parent"]):
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    assert finish(child, "fine").mesh_stats["pid"] == stats["pid"]


def test_it_has_one_thread(child: ChildFinisher) -> None:
    parent = finish(child, "fine").mesh_stats["parent"]
    assert len(list(Path(f"/proc/{parent}/task").iterdir())) == 1


SCRIPT = """
import json, os, sys, threading
from actors.finishing import ChildFinisher
from geco_core.systems.noop import box
child = ChildFinisher(512, function="tests.actors.finishers:finish")
stats = child(box(1), item_id="fine", seed=1, provenance={}).mesh_stats
print(json.dumps([stats["pid"], stats["parent"]]), flush=True)
child(box(1), item_id="hang", seed=1, provenance={}, limit_s=60)
"""


LIMITED = """
from actors.finishing import ChildFinisher
from actors.memory import limit_memory
from geco_core.systems.noop import box
limit_memory(64)
child = ChildFinisher(1024, thumbnails=False)
asset = child(box(1), item_id="a", seed=1, provenance={}, thumbnail_size=0, limit_s=60)
print(len(asset.glb))
"""


def test_the_limit_of_the_parent_is_not_the_limit_of_the_child() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert int(done.stdout or 0) > 500, done.stderr


def test_nothing_outlives_a_parent_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        time.sleep(0.2)  # the second mesh hangs by now
        parent.kill()
    assert [pid for pid in pids if not gone(pid)] == []


def gone(pid: int, within_s: float = 10.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":  # dead, and waiting for whoever adopts it here
            return True
        time.sleep(0.02)
    return False


def test_tries_share_the_time_of_a_mesh() -> None:
    settings = FinishConfig(texture_size=64)
    child = ChildFinisher(512, function=FUNCTION, settings=settings)
    finish(child, "fine")
    begun = time.monotonic()
    with pytest.raises(BadItem) as caught:
        finish(child, "late", limit_s=1.0)  # each try dies after 0.45 s, with and without texture
    assert time.monotonic() - begun < 1.25
    assert caught.value.reason is Reason.TIMED_OUT
    child.close()


@pytest.mark.parametrize("harm", ["hang", "segfault", "memory"])
def test_a_mesh_that_can_not_be_textured_keeps_its_vertex_colours(harm: str) -> None:
    settings = FinishConfig(texture_size=64, face_budget=100)
    child = ChildFinisher(512, function=FUNCTION, settings=settings)
    begun = time.monotonic()
    asset = finish(child, f"texture{harm}", limit_s=4.0)
    assert time.monotonic() - begun < 6.0
    assert not asset.mesh_stats["textured"]
    assert asset.mesh_stats["settings"] == FinishConfig(face_budget=100)
    assert asset.notes[-1].startswith("no texture: ")
    assert finish(child, "texturefine").mesh_stats["textured"]
    child.close()
