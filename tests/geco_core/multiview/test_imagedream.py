"""ImageDream's network: joined frames, references and channels that arrive, separate objects."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from geco_core.config.crm import DdimConfig, ImageDreamConfig, NoiseTablesConfig
from geco_core.errors import ConfigError
from geco_core.multiview.imagedream import (
    FrameRows,
    ImageDream,
    ObjectCondition,
    with_reference,
)
from geco_core.multiview.ortho_views import frame_cameras
from tests.geco_core.multiview.crm_models import CCM, UNET, VIEWS, seeded

SHAPE = (4, 4, 4)


@pytest.fixture(scope="module")
def views() -> ImageDream:
    return seeded(ImageDream, VIEWS)


def condition_of(objects: int, seed: int = 5) -> ObjectCondition:
    generator = torch.Generator().manual_seed(seed)
    return ObjectCondition(
        text=torch.randn(1, 6, 8, generator=generator),
        negative_text=torch.randn(1, 6, 8, generator=generator),
        image_states=torch.randn(objects, 5, 16, generator=generator),
        reference=torch.randn(objects, *SHAPE, generator=generator),
    )


def row(condition: ObjectCondition, index: int) -> ObjectCondition:
    assert condition.image_states is not None
    assert condition.reference is not None
    return replace(
        condition,
        image_states=condition.image_states[index : index + 1],
        reference=condition.reference[index : index + 1],
    )


def noise(objects: int, frames: int = 7) -> Tensor:
    return torch.randn(objects, frames, *SHAPE, generator=torch.Generator().manual_seed(9))


@torch.no_grad()
def test_guided_rows_are_without_then_with(views: ImageDream) -> None:
    cameras = frame_cameras(views.config.rig)
    condition = condition_of(2)
    rows = views.rows(condition, cameras, guidance=True)
    assert rows.text.shape == (28, 6, 8)
    assert rows.image_tokens is not None
    assert rows.reference is not None
    assert condition.reference is not None
    assert torch.equal(rows.text[0], condition.negative_text[0])
    assert torch.equal(rows.text[14], condition.text[0])
    assert torch.equal(rows.reference[:2], torch.zeros(2, *SHAPE))
    assert torch.equal(rows.reference[2:], condition.reference)
    assert torch.equal(rows.cameras[7:14], cameras)
    nothing = views.image_tokens(torch.zeros(1, 5, 16))
    torch.testing.assert_close(rows.image_tokens[:14], nothing.expand(14, -1, -1))
    assert float(nothing.abs().max()) > 0.1
    assert not torch.equal(rows.image_tokens[14], rows.image_tokens[21])  # two objects
    assert torch.equal(rows.image_tokens[14], rows.image_tokens[20])  # one object's frames


@torch.no_grad()
def test_the_reference_frame_is_replaced_out_of_place(views: ImageDream) -> None:
    rows = views.rows(condition_of(1), frame_cameras(views.config.rig), guidance=False)
    x = noise(1).flatten(0, 1)
    before = x.clone()
    first = views.predict(x, 500, rows)
    assert torch.equal(x, before)
    other = x.clone()
    other[6] += 3.0  # what it held is never seen
    assert torch.equal(views.predict(other, 500, rows), first)
    moved = replace(rows, reference=None)
    assert float((views.predict(x, 500, moved) - first)[:6].abs().max()) > 1e-4


def test_with_reference_touches_the_last_frame_of_each_object() -> None:
    x = torch.zeros(6, 1, 1, 1)
    found = with_reference(x, torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1), 3)
    assert found.flatten().tolist() == [0, 0, 1, 0, 0, 2]


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_an_object_does_not_depend_on_its_batch(views: ImageDream, scale: float) -> None:
    cameras, sampler = frame_cameras(views.config.rig), DdimConfig(steps=3, guidance_scale=scale)
    condition, start = condition_of(3), noise(3)
    together = views.sample(condition, cameras, start, sampler)
    alone = views.sample(row(condition, 1), cameras, start[1:2], sampler)
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)
    assert float((together[0] - together[1]).abs().max()) > 1e-2


@torch.no_grad()
def test_without_guidance_the_state_keeps_the_reference(views: ImageDream) -> None:
    """As published: the views are the same either way, only the reference frame's own differs."""
    condition, cameras = condition_of(1), frame_cameras(views.config.rig)
    assert condition.reference is not None
    sampler = DdimConfig(steps=2, guidance_scale=1.0)
    start = noise(1)
    changed = start.clone()
    changed[:, 6] += 5.0
    first = views.sample(condition, cameras, start, sampler)
    torch.testing.assert_close(views.sample(condition, cameras, changed, sampler), first)


@torch.no_grad()
def test_frames_see_each_other(views: ImageDream) -> None:
    rows = views.rows(condition_of(1), frame_cameras(views.config.rig), guidance=False)
    x = noise(1).flatten(0, 1)
    changed = x.clone()
    changed[3] += 1.0
    difference = (views.predict(x, 300, rows) - views.predict(changed, 300, rows)).abs()
    assert float(difference[0].max()) > 1e-4
    alone = replace(rows, frames=1, reference=None)
    apart = (views.predict(x, 300, alone) - views.predict(changed, 300, alone)).abs()
    assert float(apart[0].max()) == 0.0


@torch.no_grad()
def test_pixel_latents_are_further_channels() -> None:
    model = seeded(ImageDream, CCM)
    pixels = noise(1, 6)
    condition = replace(condition_of(1), reference=None, pixel_latents=pixels)
    cameras = frame_cameras(model.config.rig)
    seen: list[Tensor] = []
    hook = model.unet.conv_in.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.sample(condition, cameras, noise(1, 6), DdimConfig(steps=1))
    hook.remove()
    assert seen[0].shape == (12, 8, 4, 4)
    assert torch.equal(seen[0][:6, 4:], torch.zeros(6, *SHAPE))
    assert torch.equal(seen[0][6:, 4:], pixels[0])
    with pytest.raises(ValueError, match="needs latents in 4 further input channels, not in 0"):
        model.predict(seen[0][6:, :4], 1, FrameRows(
            condition.text.expand(6, -1, -1), cameras, 6, model.image_tokens(
                torch.zeros(6, 5, 16))))  # fmt: skip


@torch.no_grad()
def test_a_missing_image_is_an_error(views: ImageDream) -> None:
    cameras = frame_cameras(views.config.rig)
    text = torch.zeros(7, 6, 8)
    with pytest.raises(ValueError, match="needs image tokens"):
        views.predict(noise(1)[0], 1, FrameRows(text, cameras, 7))
    plain = seeded(ImageDream, replace(VIEWS, unet=replace(UNET, image_tokens=0)))
    assert plain.resampler is None
    assert plain.predict(noise(1)[0], 1, FrameRows(text, cameras, 7)).shape == (7, *SHAPE)
    with pytest.raises(ValueError, match="takes no image"):
        plain.image_tokens(torch.zeros(1, 5, 16))


READING = replace(VIEWS, unet=replace(UNET, in_channels=8), reference_channels=True)


def conv_inputs(model: ImageDream, condition: ObjectCondition, sampler: DdimConfig) -> Tensor:
    """What the first convolution of the first call read."""
    seen: list[Tensor] = []
    hook = model.unet.conv_in.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    frames = model.config.rig.frames
    model.sample(condition, frame_cameras(model.config.rig), noise(2, frames), sampler)
    hook.remove()
    return seen[0]


@torch.no_grad()
def test_reference_channels_stand_in_every_frame() -> None:
    model = seeded(ImageDream, READING)
    channels = noise(2)
    condition = replace(condition_of(2), reference_channels=channels)
    guided = conv_inputs(model, condition, DdimConfig(steps=1))
    assert guided.shape == (28, 8, 4, 4)
    assert torch.equal(guided[:14, 4:], torch.zeros(14, *SHAPE))
    assert torch.equal(guided[14:, 4:], channels.flatten(0, 1))
    assert condition.reference is not None
    assert torch.equal(guided[20, :4], condition.reference[0])  # the reference frame stays
    alone = conv_inputs(model, condition, DdimConfig(steps=1, guidance_scale=1.0))
    assert torch.equal(alone[:, 4:], channels.flatten(0, 1))
    with pytest.raises(ValueError, match="reads the condition image in its input channels"):
        model.rows(condition_of(2), frame_cameras(model.config.rig), guidance=False)
    rows = seeded(ImageDream, VIEWS).rows(condition, frame_cameras(VIEWS.rig), guidance=False)
    assert rows.channels is None  # a network that does not read them gets none


@torch.no_grad()
def test_a_reference_frame_and_reference_channels_are_apart() -> None:
    """Without the frame the latent is read in the channels alone, after those of the views."""
    unet = replace(UNET, in_channels=12)
    config = replace(CCM, unet=unet, reference_channels=True)
    model = seeded(ImageDream, config)
    pixels, channels = noise(2, 6), noise(2, 6) + 5.0
    condition = replace(condition_of(2), pixel_latents=pixels, reference_channels=channels)
    cameras = frame_cameras(config.rig)
    rows = model.rows(condition, cameras, guidance=False)
    assert rows.reference is None
    seen = conv_inputs(model, condition, DdimConfig(steps=1, guidance_scale=1.0))
    assert torch.equal(seen[:, :4], noise(2, 6).flatten(0, 1))
    assert torch.equal(seen[:, 4:8], pixels.flatten(0, 1))
    assert torch.equal(seen[:, 8:], channels.flatten(0, 1))
    start = noise(2, 6)
    sampler = DdimConfig(steps=1, guidance_scale=1.0)
    first = model.sample(condition, cameras, start, sampler)
    other = model.sample(
        replace(condition, reference_channels=channels - 5.0), cameras, start, sampler
    )
    assert float((first - other).abs().max()) > 1e-3


@torch.no_grad()
def test_coordinates_follow_the_latents() -> None:
    config = replace(READING, unet=replace(UNET, in_channels=10), coordinate_channels=True)
    model = seeded(ImageDream, config)
    condition = replace(condition_of(2), reference_channels=noise(2))
    seen = conv_inputs(model, condition, DdimConfig(steps=1, guidance_scale=1.0))
    assert seen.shape == (14, 10, 4, 4)
    across = torch.tensor([-0.75, -0.25, 0.25, 0.75])
    assert torch.equal(seen[:, 8], across.expand(14, 4, 4))
    assert torch.equal(seen[:, 9], across[:, None].expand(14, 4, 4))


@torch.no_grad()
def test_a_velocity_network_starts_at_pure_noise(views: ImageDream) -> None:
    schedule = NoiseTablesConfig(prediction="v_prediction", beta_schedule="linear")
    model = seeded(ImageDream, replace(VIEWS, schedule=schedule))
    cameras, condition = frame_cameras(VIEWS.rig), condition_of(1)
    sampler = DdimConfig(steps=1, guidance_scale=1.0, spacing="trailing", last_alpha="one")
    found = model.sample(condition, cameras, noise(1), sampler)
    rows = model.rows(condition, cameras, guidance=False)
    velocity = model.predict(noise(1)[0], 999, rows)
    torch.testing.assert_close(found[0, :6], -velocity[:6])
    with pytest.raises(ConfigError, match="pure noise"):
        views.sample(condition, cameras, noise(1), sampler)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(CCM, unet=UNET), "pixel_latents=True.*need 8"),
        (replace(VIEWS, reference_channels=True), "reference_channels=True.*need 8"),
        (replace(VIEWS, coordinate_channels=True), "coordinate_channels=True.*need 6"),
        (replace(VIEWS, unet=replace(UNET, in_channels=8)), "need 4"),
    ],
)
def test_input_channels_must_fit(config: ImageDreamConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        ImageDream(config)
    assert caught.value.remedy == f"set unet.in_channels={message[-1]}"
