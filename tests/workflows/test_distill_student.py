"""The distilled chain as files: what training wrote goes in, what the ordinary loader reads comes
out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from actors.stop import Stop
from geco_core.checkpoints.origin import read_licences
from geco_core.config.distill import DistillConfig
from geco_core.errors import Fatal
from geco_core.systems.chain import load_chain
from infra.storage import LocalStorage
from workflows.dag import StepContext
from workflows.distill_student import (
    export_student,
    load_teacher,
    nested,
    student_config,
    student_words,
    unet_tensors,
)


@pytest.fixture
def context(tmp_path: Path) -> StepContext:
    return StepContext("stage2", "a" * 64, LocalStorage(tmp_path), {}, Stop(1))


def test_a_student_is_its_teacher_with_what_was_trained(context: StepContext) -> None:
    config = DistillConfig()
    teacher = load_teacher(config)
    stage1 = {f"unet.{k}": v + 0.25 for k, v in teacher.multiview.unet.state_dict().items()}
    stage2 = {k: v - 0.25 for k, v in teacher.reconstructor.state_dict().items()}
    told, digests = export_student(config, stage1, stage2, context)
    assert set(told) == {
        "multiview", "multiview_sha256", "reconstructor", "reconstructor_sha256",
    }  # fmt: skip
    assert digests[told["multiview"]] == told["multiview_sha256"]
    weights = {k: context.uri(v) if v.startswith("stages/") else v for k, v in told.items()}
    chain = load_chain(student_config(config, weights), torch.float32)
    for name, value in chain.multiview.unet.state_dict().items():
        torch.testing.assert_close(value, stage1[f"unet.{name}"])
    for name, value in chain.reconstructor.state_dict().items():
        torch.testing.assert_close(value, stage2[name])
    shared = teacher.multiview.state_dict()
    for name, value in chain.multiview.state_dict().items():
        if not name.startswith("unet."):
            torch.testing.assert_close(value, shared[name])
    assert chain.licences == ("Apache-2.0",)
    assert read_licences(Path(weights["reconstructor"])) == ("Apache-2.0",)


def test_a_generator_that_learned_in_stage_two_counts(context: StepContext) -> None:
    config = DistillConfig()
    teacher = load_teacher(config)
    unet = teacher.multiview.unet.state_dict()
    stage1 = {f"unet.{k}": v + 1 for k, v in unet.items()}
    stage2 = teacher.reconstructor.state_dict() | {f"unet.{k}": v + 2 for k, v in unet.items()}
    told, _ = export_student(config, stage1, stage2, context)
    weights = {k: context.uri(v) if v.startswith("stages/") else v for k, v in told.items()}
    chain = load_chain(student_config(config, weights), torch.float32)
    name = next(iter(unet))
    torch.testing.assert_close(chain.multiview.unet.state_dict()[name], unet[name] + 2)


def test_a_published_teacher_gets_a_unet_in_its_pipeline(context: StepContext) -> None:
    config = replace(
        DistillConfig(), teacher=replace(DistillConfig().teacher, preset="full"),
        student_preset="full",
    )  # fmt: skip
    stage1, stage2 = {"unet.a": torch.ones(2)}, {"net.b": torch.ones(3)}
    told, _ = export_student(config, stage1, stage2, context)
    assert told["multiview"] == "sudo-ai/zero123plus-v1.2"
    assert told["white_unet"].endswith("student/white_unet.safetensors")
    resolved = student_config(config, told)
    assert resolved.weights.white_unet == told["white_unet"]
    licences = read_licences(Path(context.uri(told["white_unet"])))
    assert "CC-BY-NC-4.0" in licences


def test_a_student_has_the_teachers_sizes_and_the_trained_step() -> None:
    base = DistillConfig()
    teacher = replace(base.teacher, model={"extraction": {"grid_res": 32}, "sampler": {"steps": 7}})
    stage1 = replace(base.stage1, generator_guidance=2.0, reference_t=9)
    words = student_words(replace(base, teacher=teacher, stage1=stage1))
    assert words["extraction"] == {"grid_res": 32}
    assert words["sampler"] == {
        "kind": "one_step", "steps": 1, "guidance_scale": 2.0, "reference_t": 9,
    }  # fmt: skip


def test_weights_without_a_unet_are_refused() -> None:
    with pytest.raises(Fatal, match="no U-Net"):
        unet_tensors({"net.a": torch.ones(1)})


def test_nested_words() -> None:
    assert nested({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
