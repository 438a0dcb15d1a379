"""The CRM task: it starts from a ball, learns, and depends on step and generator alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.training.crm_examples import CrmCacheSpec, CrmExamples, make_crm_examples
from geco_core.training.crm_reconstructor import (
    CrmReconstructorTask,
    CrmTaskConfig,
    neutral_heads,
    without_maps,
)
from geco_core.training.loop import LoopConfig, train
from tests.geco_core.reconstruct.crm_models import TINY, tiny_crm

CONFIG = CrmTaskConfig(batch_size=2, sdf_points=64, color_points=32, evaluate_objects=4)


@pytest.fixture(scope="module")
def examples() -> CrmExamples:
    return make_crm_examples(
        CrmCacheSpec(examples=4, view_size=16, condition_size=16, sdf_points=128, color_points=64)
    )


def fresh() -> CrmReconstructor:
    model = tiny_crm(replace(TINY, field_scale=0.2))
    neutral_heads(model)
    return model


def test_neutral_heads_give_the_ball(examples: CrmExamples) -> None:
    model = fresh()
    planes = model.forward_planes(examples.inputs(torch.tensor([0])), torch.zeros(1, 12, 16, 48))
    points = torch.rand(1, 20, 3)
    torch.testing.assert_close(model.decoder.field(planes, points), 0.5 - points.norm(dim=-1))
    assert model.decoder.weights(torch.randn(3, 64)).abs().max() == 0


def test_a_step_is_a_function_of_step_and_generator(examples: CrmExamples) -> None:
    task = CrmReconstructorTask(fresh(), examples, examples, CONFIG)
    first, again, other = (
        float(task.loss(step, torch.Generator().manual_seed(7))[0].detach()) for step in (0, 0, 1)
    )
    assert first == again != other


def recorder(into: list[torch.Tensor]) -> Any:
    """A hook that keeps the first argument of every call."""
    return lambda _, given: into.append(given[0].detach().clone())


def test_the_ablation_sees_pictures_alone(examples: CrmExamples, tmp_path: Path) -> None:
    inputs = examples.inputs(torch.tensor([0, 1]))
    alone = without_maps(inputs)
    assert torch.equal(alone[:, :6], inputs[:, :6])
    assert not alone[:, 6:].any()
    seen: dict[bool, list[torch.Tensor]] = {}
    for maps in (True, False):
        task = CrmReconstructorTask(
            fresh(), examples, examples, replace(CONFIG, coordinate_maps=maps)
        )
        calls = seen.setdefault(maps, [])
        hook = task.model.unet.register_forward_pre_hook(recorder(calls))
        task.loss(0, torch.Generator().manual_seed(7))
        task.evaluate(0, tmp_path)
        hook.remove()
    assert len(seen[True]) == len(seen[False]) == 2
    for whole, ablated in zip(seen[True], seen[False], strict=True):
        assert torch.equal(whole[:, :6], ablated[:, :6])  # the same rows and noise
        difference = (whole - ablated)[:, 6:]
        assert float(difference.std()) > 0.05
        assert float(ablated[:, 6:].abs().max()) < 0.6  # noise alone


def test_a_few_steps_lower_the_error(examples: CrmExamples, tmp_path: Path) -> None:
    task = CrmReconstructorTask(fresh(), examples, examples, CONFIG)
    before = task.evaluate(0, tmp_path)
    loop = LoopConfig(
        steps=30,
        learning_rate=5e-3,
        warmup_steps=2,
        decay_steps=10,
        ema_decay=0.8,
        log_every=10,
        bfloat16=False,
    )
    seen: list[float] = []
    train(
        task,
        loop,
        tmp_path,
        lambda _, numbers: seen.append(numbers["loss"]),
        lambda _, numbers: seen.append(numbers["color_psnr"]),
    )
    *losses, psnr = seen
    assert losses[-1] < 0.8 * losses[0]
    assert psnr > before["color_psnr"] + 1.0
    assert 0 < before["iou"] < 1
