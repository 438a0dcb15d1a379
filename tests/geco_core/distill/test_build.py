"""From a configuration to a stage, and from a stage to weights that a chain loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from geco_core.checkpoints.safe import load_weights
from geco_core.config.distill import DistillConfig, TeacherConfig, TrainConfig
from geco_core.distill.build import build_stage1, build_stage2, export_weights, pinned
from geco_core.distill.stage2 import Stage2Config
from geco_core.distill.stage2_trainer import Stage2TrainerConfig
from geco_core.distill.world import World
from geco_core.errors import ConfigError, Fatal
from geco_core.multiview.zero123plus import Zero123Plus
from tests.geco_core.distill.conftest import RandomData
from tests.geco_core.distill.test_stage2 import SIZE, reconstructor
from tests.geco_core.distill.test_stage2_trainer import Targets
from tests.support.tiny_models import TINY_PATCH_VIEWS

TRAIN = TrainConfig(sample_every=2, sample_objects=2)
CONFIG = DistillConfig(
    seed=3,
    train=TRAIN,
    stage2=Stage2Config(grid_res=12, render_size=SIZE),
    stage2_train=Stage2TrainerConfig(steps=4, batch_size=2, views=2, seed=4),
)


class Teacher:
    def __init__(self, *licences: str) -> None:
        torch.manual_seed(0)
        self.models = (Zero123Plus(TINY_PATCH_VIEWS).eval(), reconstructor().eval())
        self._licences = licences or ("Apache-2.0",)

    def provenance(self) -> Mapping[str, Any]:
        return {"weights_digest": "d", "licences": list(self._licences)}


def stage1(config: DistillConfig = CONFIG, init: Mapping[str, str] | None = None) -> Any:
    teacher = Teacher()
    return build_stage1(config, teacher, RandomData(teacher.models[0]), World(), init or {})


def stage2(config: DistillConfig = CONFIG, init: Mapping[str, str] | None = None) -> Any:
    teacher = Teacher()
    return build_stage2(config, teacher, Targets(teacher.models[0]), World(), init or {})


def test_the_averages_of_stage1_are_exported_and_start_stage2(tmp_path: Path) -> None:
    first = stage1()
    first.trainer.step(0)
    path = tmp_path / "stage1.safetensors"
    export_weights(first, path, {"step": 1})
    shadow = first.trainer.ema.shadow
    loaded = load_weights(str(path))
    assert loaded.tensors.keys() == {f"unet.{key}" for key in shadow}
    assert all(torch.equal(loaded.tensors[f"unet.{k}"], v) for k, v in shadow.items())
    assert loaded.licences == ("Apache-2.0",)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["origin"])["step"] == 1
    second = stage2(init={"generator": str(path)})
    unet = second.trainer.stage2.generator.unet.state_dict()
    assert all(torch.equal(unet[key], value) for key, value in shadow.items())
    assert second.init == {"generator": loaded.sha256}
    assert second.seed == 7


@pytest.mark.parametrize("joint", [False, True])
def test_stage2_exports_what_learned(tmp_path: Path, joint: bool) -> None:
    config = replace(CONFIG, stage2=replace(CONFIG.stage2, train_generator=joint))
    built = stage2(config)
    built.trainer.step(0)
    path = tmp_path / "stage2.safetensors"
    export_weights(built, path, {})
    names = set(load_weights(str(path)).tensors)
    surface = set(reconstructor().state_dict())
    assert {n for n in names if not n.startswith("unet.")} == surface
    assert any(n.startswith("unet.") for n in names) == joint
    again = stage2(init={"reconstructor": str(path)})
    ours = again.trainer.stage2.reconstructor.state_dict()
    ema = built.trainer.emas["reconstructor"].shadow
    assert all(torch.equal(ours[key], ema[key]) for key in surface)


def test_a_licence_must_be_acknowledged_and_is_inherited() -> None:
    teacher = Teacher("CC-BY-NC-4.0")
    data = RandomData(teacher.models[0])
    with pytest.raises(ConfigError, match="CC-BY-NC"):
        build_stage1(CONFIG, teacher, data, World(), {})
    read = replace(CONFIG, teacher=TeacherConfig(acknowledge_licences=("CC-BY-NC-4.0",)))
    assert build_stage1(read, teacher, data, World(), {}).licences == ("CC-BY-NC-4.0",)


def test_more_processes_than_rows_of_a_batch_are_refused_before_the_first_step() -> None:
    teacher = Teacher()
    data = Targets(teacher.models[0])
    with pytest.raises(ConfigError, match="3 processes can not share a batch of 2") as raised:
        build_stage2(CONFIG, teacher, data, World(2, 3), {})
    assert "train.workers=2" in raised.value.remedy
    build_stage2(CONFIG, teacher, data, World(1, 2), {})


def test_lpips_without_its_weights_is_refused(tmp_path: Path) -> None:
    losses = replace(CONFIG.stage2, perceptual_folder=str(tmp_path))
    with pytest.raises(ConfigError, match="lpips") as raised:
        stage2(replace(CONFIG, stage2=losses))
    assert str(tmp_path) in str(raised.value) + raised.value.remedy


def test_wrong_starts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'reconstructor'"):
        stage1(init={"reconstructor": "x"})
    built = stage2()
    path = tmp_path / "surface.safetensors"
    export_weights(built, path, {})
    with pytest.raises(Fatal, match="the generator"):
        stage1(init={"generator": str(path)})


def test_how_a_stage_is_run_is_not_pinned() -> None:
    base = pinned("stage1", CONFIG)
    other = replace(
        CONFIG,
        train=replace(TRAIN, workers=4, checkpoint_every=7),
        stage1_train=replace(CONFIG.stage1_train, accumulation=2),
        stage2=replace(CONFIG.stage2, render_size=99),
        teacher=TeacherConfig(model={"device": "cuda", "batch_size": 8, "cuda_graphs": True}),
    )
    assert pinned("stage1", other) == base
    assert pinned("stage1", replace(CONFIG, seed=4)) != base
    assert pinned("stage2", other) != pinned("stage2", CONFIG)
    sampler = TeacherConfig(model={"sampler": {"steps": 3}})
    assert pinned("stage1", replace(CONFIG, teacher=sampler)) != base
    rank = replace(CONFIG, train=replace(TRAIN, student_rank=2))
    assert pinned("stage1", rank) != base
    assert pinned("stage2", rank) == pinned("stage2", CONFIG)


def test_sheets_are_left_out_where_nobody_wants_them() -> None:
    assert stage1().sheet is not None
    assert stage1(replace(CONFIG, train=replace(TRAIN, sample_every=0))).sheet is None
