"""Listeners of a training: the store, TensorBoard, Weights & Biases, and all of them as one."""

from __future__ import annotations

import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from actors.training_log import (
    LoggedEvents,
    StoredEvents,
    TensorBoardEvents,
    WandbEvents,
    stage_events,
)
from geco_core.distill.loop import NoEvents
from geco_core.errors import ConfigError
from infra.storage import LocalStorage
from tests.support.stores import MemoryStorage

IMAGE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def test_stored_events_are_lines_of_json() -> None:
    storage = MemoryStorage()
    events = StoredEvents(storage, "stage1", lambda: "2030-01-01T00:00:00+00:00")
    events.flush()
    assert not storage.objects
    events.emit("train", 25, {"loss": 0.5})
    events.emit("checkpoint", 25, {"seconds": 1.0})
    assert not storage.objects
    events.flush()
    first, second = storage.get("events/step-000025.jsonl").decode().splitlines()
    assert json.loads(first) == {
        "kind": "train", "stage": "stage1", "step": 25, "numbers": {"loss": 0.5},
        "time": "2030-01-01T00:00:00+00:00",
    }  # fmt: skip
    assert json.loads(second)["kind"] == "checkpoint"
    events.sheet(25, IMAGE)
    shown = Image.open(io.BytesIO(storage.get("samples/step-000025.png")))
    assert np.array_equal(np.asarray(shown), IMAGE)


def scalars(folder: Path) -> dict[int, float]:
    found = EventAccumulator(str(folder))
    found.Reload()
    return {event.step: event.value for event in found.Scalars("stage1/loss")}


def test_tensorboard_hides_what_a_dead_attempt_wrote(tmp_path: Path) -> None:
    for first, losses in ((0, [1.0, 2.0, 3.0]), (2, [30.0])):
        events = TensorBoardEvents(tmp_path, "stage1")
        events.flush()
        events.emit("started", first, {})
        for step, loss in enumerate(losses, first + 1):
            events.emit("train", step, {"loss": loss})
        events.sheet(first + 1, IMAGE)
        events.flush()
    assert scalars(tmp_path) == {1: 1.0, 2: 2.0, 3: 30.0}


def test_wandb_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r'pip install "geco-forge\[wandb\]"'):
        WandbEvents("project", "stage1", "/runs/a")


def test_wandb_goes_on_in_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []

    class Run:
        def log(self, numbers: dict[str, Any], step: int) -> None:
            heard.append((numbers, step))

        def finish(self) -> None:
            heard.append("finished")

    def init(**options: Any) -> Run:
        heard.append(options)
        return Run()

    fake = types.SimpleNamespace(init=init, Image=lambda image: image.shape)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for _ in range(2):
        events = WandbEvents("project", "stage1", "/runs/a")
    events.emit("started", 0, {})
    events.emit("train", 5, {"loss": 1.0})
    events.sheet(5, IMAGE)
    events.emit("finished", 5, {})
    first, second, *rest = heard
    assert first["id"] == second["id"]
    assert (first["project"], first["resume"]) == ("project", "allow")
    assert rest == [({"stage1/loss": 1.0}, 5), ({"stage1/samples": (4, 4, 3)}, 5), "finished"]


def test_a_stage_tells_everybody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    storage = LocalStorage(tmp_path)
    events = stage_events(storage, "stage2", "", lambda: "now", LoggedEvents("stage2"))
    events.emit("started", 0, {})
    events.emit("damaged", 0, {"problem": "step 3: torn"})
    events.emit("train", 1, {"loss": 1.0})
    events.sheet(1, IMAGE)
    events.flush()
    assert (tmp_path / "events/step-000001.jsonl").is_file()
    assert list((tmp_path / "tensorboard").iterdir())
    assert "stage2_train" in caplog.text
    assert [r.levelname for r in caplog.records if r.msg == "stage2_damaged"] == ["WARNING"]


def test_a_bucket_gets_no_tensorboard_files() -> None:
    events = stage_events(MemoryStorage(), "stage1", "", lambda: "now", NoEvents())
    assert not any(isinstance(one, TensorBoardEvents) for one in events._listeners)
