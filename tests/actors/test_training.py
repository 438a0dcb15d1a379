"""The order of a training travels as plain data and comes back whole."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from actors.training import StageInputs, StageOrder, refuse_other
from geco_core.config.distill import DistillConfig, TeacherConfig, TrainConfig
from geco_core.config.run import S3Config
from geco_core.errors import ConfigError


def test_an_order_comes_back_whole() -> None:
    config = DistillConfig(
        seed=7,
        teacher=TeacherConfig(model={"sampler": {"steps": 3}, "weights": {"licence": "MIT"}}),
        train=TrainConfig(workers=3, min_workers=2, student_rank=4),
        s3=S3Config(endpoint_url="http://127.0.0.1:9"),
    )
    config = replace(config, stage1=replace(config.stage1, t_bounds=(0.1, 0.9), min_snr=5.0))
    inputs = StageInputs("s3://b/t", "photos/", {"generator": "w.safetensors"})
    order = StageOrder("stage2", config, inputs, "s3://b/run", conditional_put=True)
    plain = order.to_plain()
    assert StageOrder.from_plain(json.loads(json.dumps(plain))) == order


def test_another_stage_is_refused_with_the_difference() -> None:
    refuse_other({"order": {"seed": 1}}, {"order": {"seed": 1}})
    with pytest.raises(ConfigError, match=r"order\.seed: 1 -> 2"):
        refuse_other({"order": {"seed": 1}}, {"order": {"seed": 2}})
