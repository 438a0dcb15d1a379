"""Condition manifests: the same bytes every time, readable by the engine."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from actors.stop import Stop
from geco_core.config.distill import ConditionsConfig
from geco_core.shapes.object import object_seed
from infra.storage import LocalStorage
from workflows.dag import StepContext, StepOutputs
from workflows.distill_conditions import make_conditions


def make(folder: Path, stop: Stop | None = None, **settings: object) -> StepOutputs | None:
    context = StepContext("conditions", "f" * 64, LocalStorage(folder), {}, stop or Stop(1))
    told: list[tuple[int, int]] = []
    conditions = ConditionsConfig(**settings)  # type: ignore[arg-type]
    outputs = make_conditions(conditions, 64, context, lambda *at: told.append(at))
    assert stop is not None or told[-1][0] == told[-1][1]
    return outputs


def test_the_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (make(tmp_path / n, objects=3, heldout=2) for n in "ab")
    assert one is not None
    assert two is not None
    assert one.digests == two.digests
    assert len(one.digests) == 2
    assert one.work == {"unit": "object", "count": 5}
    table = pq.read_table(tmp_path / "a" / str(one.values["train"]))
    assert table.column("id").to_pylist() == ["train-000000", "train-000001", "train-000002"]
    assert table.column("object_seed")[1].as_py() == object_seed("train", 1)
    picture = np.asarray(Image.open(io.BytesIO(table.column("image")[0].as_py())))
    assert picture.shape == (64, 64, 4)
    assert 0.02 < (picture[..., 3] > 0).mean() < 0.98


def test_a_later_range_continues_the_first(tmp_path: Path) -> None:
    whole, part = make(tmp_path / "a", objects=3, heldout=0), make(
        tmp_path / "b", objects=1, first=2, heldout=0
    )  # fmt: skip
    assert whole is not None
    assert part is not None
    rows = pq.read_table(tmp_path / "a" / str(whole.values["train"])).to_pylist()
    assert pq.read_table(tmp_path / "b" / str(part.values["train"])).to_pylist() == rows[2:]
    assert part.values["heldout"] == ""


def test_a_manifest_of_ones_own_is_passed_on(tmp_path: Path) -> None:
    outputs = make(tmp_path, manifest="/data/m.parquet", heldout=1)
    assert outputs is not None
    assert outputs.values["train"] == "/data/m.parquet"
    assert [Path(key).name for key in outputs.digests] == ["heldout.parquet"]


def test_a_stop_is_heard(tmp_path: Path) -> None:
    stop = Stop(1)
    stop.request(15)
    assert make(tmp_path, stop, objects=3, heldout=2) is None
    assert list(LocalStorage(tmp_path).list("")) == []
