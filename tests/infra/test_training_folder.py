"""The folder of a training stage: its record, its events, its result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from geco_core.errors import Fatal
from infra.storage import LocalStorage
from infra.training_folder import (
    has_weights,
    last_event,
    pin_stage,
    put_events,
    put_sample,
    put_weights,
    read_events,
    standing_stage,
)
from tests.support.stores import MemoryStorage


def event(kind: str, step: int, **numbers: float) -> dict[str, Any]:
    return {"kind": kind, "step": step, "numbers": numbers}


def test_the_first_record_stands() -> None:
    storage = MemoryStorage()
    assert pin_stage(storage, {"order": 1}) == {"order": 1}
    assert pin_stage(storage, {"order": 2}) == {"order": 1}
    assert standing_stage(storage) == {"order": 1}


def test_a_lost_record_is_an_error() -> None:
    with pytest.raises(Fatal, match=r"without a readable stage\.json"):
        standing_stage(MemoryStorage())


def test_steps_made_again_are_told_once() -> None:
    storage = MemoryStorage()
    put_events(storage, [event("started", 0)])
    put_events(storage, [event("train", 2, loss=3.0)])
    put_events(storage, [event("train", 4, loss=2.0), event("checkpoint", 4)])
    put_events(storage, [event("train", 6, loss=9.0)])  # lost with its process
    put_events(storage, [event("started", 4)])
    put_events(storage, [event("train", 6, loss=1.0), event("finished", 6)])
    put_events(storage, [event("started", 6), event("finished", 6)])
    told = [(e["kind"], e["step"]) for e in read_events(storage)]
    assert told == [
        ("started", 0), ("train", 2), ("train", 4), ("checkpoint", 4), ("started", 4),
        ("train", 6), ("finished", 6), ("started", 6), ("finished", 6),
    ]  # fmt: skip
    assert last_event(storage, "train")["numbers"] == {"loss": 1.0}
    assert last_event(storage, "damaged") is None


def test_what_is_damaged_or_gone_is_passed_over() -> None:
    storage = MemoryStorage()
    put_events(storage, [event("train", 2), event("train", 4)])
    whole = storage.get("events/step-000004.jsonl")
    storage.put_atomic("events/step-000006.jsonl", b'\xff{\n[1]\n{"kind": "train"}\n' + whole[:9])
    put_events(storage, [event("finished", 8)])
    assert [e["step"] for e in read_events(storage)] == [2, 4, 8]
    assert last_event(storage, "train") == event("train", 4)

    class Losing(MemoryStorage):
        def get(self, key: str) -> bytes:
            if key.endswith("4.jsonl"):
                raise KeyError(key)
            return storage.get(key)

        def list(self, prefix: str) -> Iterator[str]:
            return storage.list(prefix)

    assert [e["step"] for e in read_events(Losing())] == [8]


def test_a_stage_is_found_below_a_run_folder(tmp_path: Path) -> None:
    for name in ("stage1", "stage10"):
        put_events(LocalStorage(tmp_path / "stages" / name), [event(name, 1)])
    told = read_events(LocalStorage(tmp_path), "stages/stage1")
    assert [e["kind"] for e in told] == ["stage1"]


def test_samples_and_weights_have_their_places(tmp_path: Path) -> None:
    storage = MemoryStorage()
    put_sample(storage, 25, b"png")
    assert storage.get("samples/step-000025.png") == b"png"
    assert not has_weights(storage)
    path = tmp_path / "w"
    path.write_bytes(b"weights")
    put_weights(storage, path)
    assert has_weights(storage)
    assert storage.get("weights.safetensors") == b"weights"
