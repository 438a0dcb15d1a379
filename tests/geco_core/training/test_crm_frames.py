"""The tasks of CRM's two diffusion stages: what they denoise, what they show, how they learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from geco_core.config.crm import CrmDiffusionConfig, DdimConfig, NoiseTablesConfig
from geco_core.config.models import CodecConfig
from geco_core.diffusion.codec import PatchCodec
from geco_core.imaging.content import codec_pixels
from geco_core.multiview.crm import CrmDiffusion
from geco_core.training import crm_frames
from geco_core.training.crm_examples import CrmCacheSpec, CrmExamples, make_crm_examples
from geco_core.training.crm_frames import CrmFramesTask, CrmFramesTaskConfig, Stage
from geco_core.training.frames import FrameBatch, FrameErrors, FrameLossConfig
from geco_core.training.loop import LoopConfig, train
from tests.geco_core.multiview.crm_models import CRM, UNET, seeded

VELOCITY = NoiseTablesConfig(prediction="v_prediction", beta_schedule="linear")
CODEC = CodecConfig(
    kind="patch", latent_channels=4, patch_size=4, scaling_factor=1.0,
    latent_shift=0.0, latent_scale=1.0, image_scale=1.0,
)  # fmt: skip
TINY = CrmDiffusionConfig(
    encoders=replace(CRM.encoders, codec=CODEC),
    views=replace(
        CRM.views,
        unet=replace(UNET, in_channels=8),
        reference_channels=True,
        schedule=VELOCITY,
    ),
    ccm=replace(CRM.ccm, schedule=VELOCITY),
)
SAMPLER = DdimConfig(steps=2, guidance_scale=1.0, spacing="trailing", last_alpha="one")
LOSS = FrameLossConfig(per_frame_times=False, last_step_share=0.5, condition_dropout=0.0)
CONFIG = CrmFramesTaskConfig(batch_size=2, loss=LOSS, evaluate_objects=2)
ORDER = [1, 2, 3, 4, 5, 0]
STAGES: list[Stage] = ["views", "ccm"]


@pytest.fixture(scope="module")
def examples() -> CrmExamples:
    return make_crm_examples(
        CrmCacheSpec(examples=3, view_size=16, condition_size=16, sdf_points=8, color_points=8)
    )


@pytest.fixture(scope="module")
def diffusion(examples: CrmExamples) -> CrmDiffusion:
    model = seeded(CrmDiffusion, TINY)
    assert isinstance(model.encoders.codec, PatchCodec)
    model.encoders.codec.fit(examples.views(torch.arange(3)).flatten(0, 1))
    return model


def task_of(
    stage: Stage,
    diffusion: CrmDiffusion,
    examples: CrmExamples,
    config: CrmFramesTaskConfig = CONFIG,
) -> CrmFramesTask:
    network = getattr(diffusion, stage)
    return CrmFramesTask(stage, network, diffusion.encoders, examples, examples, config, SAMPLER)


def batch_of(task: CrmFramesTask, monkeypatch: pytest.MonkeyPatch) -> FrameBatch:
    """What the loss of step 0 is made of."""
    seen: list[FrameBatch] = []

    def errors(_: object, batch: FrameBatch, *_rest: object) -> FrameErrors:
        seen.append(batch)
        return FrameErrors(torch.tensor([1.0, 3.0]), 1)

    monkeypatch.setattr(crm_frames, "frame_loss", errors)
    task.loss(0, torch.Generator().manual_seed(3))
    return seen[0]


def rows_of_step_0() -> Tensor:
    return crm_frames.epoch_rows(3, 2, 0, CONFIG.seed)


def test_stage_1_denoises_the_views_and_shows_the_condition(
    diffusion: CrmDiffusion, examples: CrmExamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(task_of("views", diffusion, examples), monkeypatch)
    encoders, rows = diffusion.encoders, rows_of_step_0()
    for frame, view in enumerate(ORDER):
        wanted = encoders.latents(examples.views(rows)[:, view] * 2.0 - 1.0, None)
        torch.testing.assert_close(batch.targets[:, frame], wanted)
    pixels = torch.stack([codec_pixels(image, 16) for image in examples.conditions(rows)])
    assert batch.condition.reference is not None
    torch.testing.assert_close(batch.condition.reference, encoders.latents(pixels, None))
    channels = batch.condition.reference_channels
    assert channels is not None
    assert channels.shape == (2, 7, 4, 4, 4)
    torch.testing.assert_close(channels[:, 0], batch.condition.reference)
    assert batch.condition.pixel_latents is None
    prompt, negative = encoders.prompt_states()
    assert torch.equal(batch.condition.text, prompt)
    assert torch.equal(batch.condition.negative_text, negative)


def test_stage_2_denoises_the_maps_and_shows_the_views(
    diffusion: CrmDiffusion, examples: CrmExamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders, rows = diffusion.encoders, rows_of_step_0()
    shown: dict[float, Tensor] = {}
    for share in (0.0, 1.0):
        task = task_of("ccm", diffusion, examples, replace(CONFIG, degrade_share=share))
        batch = batch_of(task, monkeypatch)
        for frame, view in enumerate(ORDER):
            wanted = encoders.latents(examples.ccms(rows)[:, view] * 2.0 - 1.0, None)
            torch.testing.assert_close(batch.targets[:, frame], wanted)
        assert batch.condition.reference is None
        assert batch.condition.pixel_latents is not None
        shown[share] = batch.condition.pixel_latents
    views = examples.views(rows)[:, ORDER].flatten(0, 1)
    true = encoders.latents(views * 2.0 - 1.0, None).unflatten(0, (2, 6))
    torch.testing.assert_close(shown[0.0], true)
    worse = (shown[1.0] - true).flatten(1).abs().amax(1)
    assert bool((worse > 0.01).all())


def test_the_loss_is_the_mean_and_its_parts_are_told_apart(
    diffusion: CrmDiffusion, examples: CrmExamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of("views", diffusion, examples)
    batch_of(task, monkeypatch)  # errors of 1 at the last timestep and 3 elsewhere
    loss, parts = task.loss(0, torch.Generator())
    assert float(loss) == 2.0
    assert parts == {"last": 1.0, "rest": 3.0}


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_is_a_function_of_step_and_generator(
    stage: Stage, diffusion: CrmDiffusion, examples: CrmExamples
) -> None:
    task = task_of(stage, diffusion, examples)
    values = [
        float(task.loss(step, torch.Generator().manual_seed(seed))[0].detach())
        for step, seed in ((0, 7), (0, 7), (1, 7), (0, 8))
    ]
    assert values[0] == values[1]
    assert len(set(values)) == 3


@pytest.mark.parametrize("stage", STAGES)
def test_a_few_steps_lower_the_error_and_leave_the_encoders_alone(
    stage: Stage, examples: CrmExamples, diffusion: CrmDiffusion, tmp_path: Path
) -> None:
    model = seeded(CrmDiffusion, TINY)
    model.encoders.load_state_dict(diffusion.encoders.state_dict())
    before = {k: v.clone() for k, v in model.encoders.state_dict().items()}
    task = task_of(stage, model, examples)
    first = task.evaluate(0, tmp_path)
    loop = LoopConfig(
        steps=40, learning_rate=1e-2, warmup_steps=2, decay_steps=10, ema_decay=0.8,
        log_every=10, bfloat16=False,
    )  # fmt: skip
    losses: list[float] = []
    last: list[float] = []
    train(
        task,
        loop,
        tmp_path,
        lambda _, numbers: losses.append(numbers["loss"]),
        lambda _, numbers: last.append(numbers["psnr_one_step"]),
    )
    assert losses[-1] < 0.8 * losses[0]
    assert last[-1] > first["psnr_one_step"] + 1.0
    assert all(torch.equal(before[k], v) for k, v in model.encoders.state_dict().items())
    assert not any(p.requires_grad for p in model.encoders.parameters())


@pytest.mark.parametrize("stage", STAGES)
def test_the_evaluation_compares_frames_with_their_truth(
    stage: Stage,
    diffusion: CrmDiffusion,
    examples: CrmExamples,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    read = examples.views if stage == "views" else examples.ccms
    truth = (read(torch.arange(2))[:, ORDER] * 255.0).round().byte().movedim(-3, -1)
    steps: list[int] = []
    given: list[Tensor] = []

    def views(_m: object, _e: object, _i: object, _n: object, sampler: DdimConfig) -> Tensor:
        steps.append(sampler.steps)
        return truth if sampler.steps == 2 else 255 - truth

    def maps(m: object, e: object, i: object, shown: Tensor, n: object, s: DdimConfig) -> Tensor:
        given.append(shown)
        return views(m, e, i, n, s)

    monkeypatch.setattr(crm_frames, "generate_views", views)
    monkeypatch.setattr(crm_frames, "generate_ccms", maps)
    numbers = task_of(stage, diffusion, examples).evaluate(40, tmp_path)
    assert steps == [1, 2]
    assert numbers["psnr_multi_step"] > 90.0
    assert numbers["psnr_one_step"] < 20.0
    for shown in given:
        wanted = (examples.views(torch.arange(2))[:, ORDER] * 255.0).round().byte()
        assert torch.equal(shown, wanted.movedim(-3, -1))
    assert len(given) == (0 if stage == "views" else 2)
    sheet = np.asarray(Image.open(tmp_path / f"{stage}-000040.png"))
    assert sheet.shape == (2 * 16, 13 * 16, 3)  # the condition, the truth, what was made
    columns = torch.from_numpy(np.array(sheet)).unflatten(1, (13, 16)).unflatten(0, (2, 16))
    made = columns.permute(0, 2, 1, 3, 4)  # [rows, columns, S, S, 3]
    assert torch.equal(made[:, 1:7], truth)
    assert torch.equal(made[:, 7:], truth)
    assert np.array_equal(made[1, 0].numpy(), examples.conditions(torch.tensor([1]))[0])
