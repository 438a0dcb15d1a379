"""The micro task of training through renders: batches, learning, evaluation."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from geco_core.cameras import clip_from_world, projection, world_to_camera
from geco_core.errors import ConfigError
from geco_core.fields.crm_frame import canonical_to_world
from geco_core.multiview.crm import CrmFrames
from geco_core.multiview.ortho_views import FRAME_VIEWS
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.training.crm_examples import CrmCacheSpec, CrmExamples, make_crm_examples
from geco_core.training.crm_reconstructor import neutral_heads
from geco_core.training.crm_render import CrmRenderConfig
from geco_core.training.crm_render_task import CrmRenderTask, CrmRenderTaskConfig
from geco_core.training.loop import LoopConfig, train
from geco_core.training.rendered import RenderCameras
from tests.geco_core.reconstruct.crm_models import TINY, tiny_crm

CONFIG = CrmRenderTaskConfig(
    render=CrmRenderConfig(render_size=24, views_per_step=2, point_weight=0.1),
    cameras=RenderCameras(views=4),
    batch_size=2,
    sdf_points=64,
    color_points=32,
    evaluate_objects=3,
    evaluate_views=2,
    evaluate_grid_res=12,
    sheet_objects=2,
)


@pytest.fixture(scope="module")
def examples() -> CrmExamples:
    spec = CrmCacheSpec(
        examples=4,
        view_size=16,
        condition_size=16,
        render_condition_size=16,
        sdf_points=128,
        color_points=64,
    )
    return make_crm_examples(spec)


def fresh() -> CrmReconstructor:
    model = tiny_crm(replace(TINY, field_scale=0.2))
    neutral_heads(model)
    return model


def loss(task: CrmRenderTask, step: int, seed: int) -> float:
    return float(task.loss(step, torch.Generator().manual_seed(seed))[0].detach())


def test_a_step_is_a_function_of_step_and_generator(examples: CrmExamples) -> None:
    task = CrmRenderTask(fresh(), examples, examples, CONFIG)
    assert loss(task, 0, 7) == loss(CrmRenderTask(fresh(), examples, examples, CONFIG), 0, 7)
    assert loss(task, 0, 7) != loss(task, 1, 7)
    assert loss(task, 0, 7) != loss(task, 0, 8)


def test_a_batch_is_of_one_object_per_row(examples: CrmExamples) -> None:
    task = CrmRenderTask(fresh(), examples, examples, CONFIG)
    batch = task.batch(0, torch.Generator().manual_seed(0))
    assert batch.inputs.shape == (2, 12, 16, 48)
    assert batch.renders.images.shape == (2, 2, 3, 24, 24)
    assert batch.points is not None
    without = replace(CONFIG, render=replace(CONFIG.render, point_weight=0.0))
    bare = CrmRenderTask(fresh(), examples, examples, without)
    assert bare.batch(0, torch.Generator().manual_seed(0)).points is None


def test_renders_points_and_inputs_are_of_the_same_objects(examples: CrmExamples) -> None:
    task = CrmRenderTask(fresh(), examples, examples, CONFIG)
    batch = task.batch(0, torch.Generator().manual_seed(0))
    assert batch.points is not None
    # Surface points fall inside the object's silhouettes.
    for b in range(2):
        surface = canonical_to_world(batch.points.surface[b])
        w2c, proj = world_to_camera(batch.renders.c2w[b]), projection(batch.renders.fov_deg)
        clip = clip_from_world(surface, w2c, proj)
        pixel = ((clip[..., :2] / clip[..., 3:] + 1) / 2 * 24).long().clamp(0, 23)
        pairs = zip(batch.renders.masks[b], pixel, strict=True)
        seen = [mask[at[:, 1], at[:, 0]] > 0 for mask, at in pairs]
        assert torch.stack(seen).float().mean() > 0.97


def test_generated_inputs_take_their_share(examples: CrmExamples) -> None:
    dark = CrmFrames(*(torch.zeros(3, 6, 16, 16, 3, dtype=torch.uint8) for _ in range(2)))
    task = CrmRenderTask(fresh(), examples, examples, CONFIG, dark)
    inputs = task.batch(0, torch.Generator().manual_seed(0)).inputs
    assert [bool(row.any()) for row in inputs] == [False, True]


def test_a_few_steps_raise_the_held_out_score(examples: CrmExamples, tmp_path: Path) -> None:
    task = CrmRenderTask(fresh(), examples, examples, CONFIG)
    before = task.evaluate(0, tmp_path)
    loop = LoopConfig(
        steps=20,
        batch_size=2,
        learning_rate=1e-2,
        warmup_steps=2,
        decay_steps=10,
        ema_decay=0.8,
        checkpoint_every=100,
        evaluate_every=100,
        bfloat16=False,
    )
    seen: list[dict[str, float]] = []
    train(task, loop, tmp_path / "run", lambda *_: None, lambda _, n: seen.append(dict(n)))
    assert seen[-1]["render_psnr"] > before["render_psnr"] + 0.5
    assert seen[-1].keys() == {"render_psnr", "empty", "iou", "color_psnr"}
    assert (tmp_path / "run" / "renders-000020.png").is_file()


def test_an_evaluation_without_a_surface_is_a_background(
    examples: CrmExamples, tmp_path: Path
) -> None:
    model = fresh()
    with torch.no_grad():
        model.decoder.geometry_head.last.bias[0] = -500.0
    found = CrmRenderTask(model, examples, examples, CONFIG).evaluate(0, tmp_path)
    assert found["empty"] == 1.0
    assert math.isfinite(found["render_psnr"])
    assert found["iou"] == 0.0


def test_an_evaluation_reads_generated_inputs_too(examples: CrmExamples, tmp_path: Path) -> None:
    order, rows = list(FRAME_VIEWS), torch.arange(3)
    pictures = (examples.views(rows), examples.ccms(rows))
    true = CrmFrames(*((p[:, order] * 255).round().byte().movedim(2, -1) for p in pictures))
    dark = CrmFrames(torch.zeros_like(true.views), torch.zeros_like(true.ccms))
    model = tiny_crm(replace(TINY, field_scale=0.2))
    for samples, same in ((true, True), (dark, False)):
        task = CrmRenderTask(model, examples, examples, CONFIG, None, samples)
        found = task.evaluate(1, tmp_path)
        close = found["generated_psnr"] == pytest.approx(found["render_psnr"], abs=1e-3)
        assert close == same
    assert (tmp_path / "generated-000001.png").is_file()


def test_missing_weights_of_lpips_say_what_to_fetch(examples: CrmExamples, tmp_path: Path) -> None:
    config = replace(CONFIG, render=replace(CONFIG.render, perceptual_folder=str(tmp_path)))
    with pytest.raises(ConfigError, match="lpips"):
        CrmRenderTask(fresh(), examples, examples, config)
