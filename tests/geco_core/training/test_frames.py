"""The loss of a multi-view network: what is noised, what is asked for, what is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from geco_core.config.crm import ImageDreamConfig, NoiseTablesConfig
from geco_core.diffusion.noise_prediction import abar_table
from geco_core.multiview.imagedream import FrameRows, ImageDream, ObjectCondition
from geco_core.multiview.ortho_views import frame_cameras
from geco_core.training.frames import (
    FrameBatch,
    FrameDraws,
    FrameLossConfig,
    drop_conditions,
    frame_errors,
    frame_loss,
)
from tests.geco_core.multiview.crm_models import CCM, UNET, VIEWS, seeded

SHAPE = (4, 4, 4)
VELOCITY = NoiseTablesConfig(prediction="v_prediction", beta_schedule="linear")
READING = replace(
    VIEWS, unet=replace(UNET, in_channels=8), reference_channels=True, schedule=VELOCITY
)
NETWORKS = {
    "views": VIEWS,
    "views_velocity": replace(VIEWS, schedule=VELOCITY),
    "reading": READING,
    "ccm": CCM,
    "ccm_velocity": replace(CCM, schedule=VELOCITY),
}


def batch_of(config: ImageDreamConfig, objects: int = 3, seed: int = 5) -> FrameBatch:
    g = torch.Generator().manual_seed(seed)

    def latents(*shape: int) -> Tensor:
        return torch.randn(*shape, *SHAPE, generator=g)

    condition = ObjectCondition(
        text=torch.randn(1, 6, 8, generator=g),
        negative_text=torch.randn(1, 6, 8, generator=g),
        image_states=torch.randn(objects, 5, 16, generator=g),
        reference=latents(objects) if config.rig.reference else None,
        pixel_latents=latents(objects, 6) if config.pixel_latents else None,
        reference_channels=latents(objects, 7) if config.reference_channels else None,
    )
    return FrameBatch(latents(objects, 6), condition)


@dataclass
class Seen:
    """What the network was called with."""

    x: Tensor  # [B, F, c, h, w]
    t: Tensor  # [B, F]
    rows: FrameRows


def watched(
    model: ImageDream, monkeypatch: pytest.MonkeyPatch, answer: Callable[[Tensor, Tensor], Tensor]
) -> list[Seen]:
    """Calls of the network, which returns answer(x [B, F, c, h, w], t [B, F]) instead."""
    calls: list[Seen] = []

    def predict(x: Tensor, t: Tensor, rows: FrameRows) -> Tensor:
        frames = x.unflatten(0, (-1, rows.frames)), t.unflatten(0, (-1, rows.frames))
        calls.append(Seen(*frames, rows))
        return answer(*frames).flatten(0, 1)

    monkeypatch.setattr(model, "predict", predict)
    return calls


def oracle(model: ImageDream, clean: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The right answer in the clean frames' place; nonsense in the reference frame."""
    schedule = model.config.schedule

    def answer(x: Tensor, t: Tensor) -> Tensor:
        frames = clean.shape[1]
        abar = abar_table(schedule).double()[t[:, :frames]][..., None, None, None]
        a, s = abar.sqrt(), (1 - abar).sqrt()
        noise = (x[:, :frames].double() - a * clean) / s
        target = noise if schedule.prediction == "epsilon" else a * noise - s * clean
        rest = torch.full_like(x[:, frames:], 1e3)
        return torch.cat([target.float(), rest], dim=1)

    return answer


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_network_that_is_right_has_no_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nonsense in the reference frame costs nothing; in any other it does."""
    model = seeded(ImageDream, NETWORKS[name])
    batch = batch_of(model.config)
    config = FrameLossConfig(last_step_share=0.34)
    right = oracle(model, batch.targets)
    watched(model, monkeypatch, right)
    found = frame_loss(model, batch, config, generator())
    assert found.per_object.shape == (3,)
    assert found.last == 1
    assert float(found.per_object.max()) < 1e-7

    def wrong(x: Tensor, t: Tensor) -> Tensor:
        answer = right(x, t)
        answer[1, 4] += 2.0
        return answer

    watched(model, monkeypatch, wrong)
    errors = frame_loss(model, batch, config, generator()).per_object
    expected = torch.tensor([0.0, 4.0 / 6, 0.0])  # a mean over six frames, of that object alone
    torch.testing.assert_close(errors, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("per_frame", [True, False])
def test_times_are_drawn_per_frame_or_per_object(
    per_frame: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = seeded(ImageDream, VIEWS)
    batch = batch_of(VIEWS, objects=64)
    calls = watched(model, monkeypatch, lambda x, _: torch.zeros_like(x))
    frame_loss(model, batch, FrameLossConfig(per_frame_times=per_frame), generator())
    times = calls[0].t
    assert times.shape == (64, 7)
    # Published training draws the reference's own time too.
    assert torch.equal(times[:, 6], times[:, 5]) != per_frame
    distinct = [len(set(row.tolist())) for row in times[:, :6]]
    assert (min(distinct) > 3) if per_frame else (set(distinct) == {1})
    drawn = times[:, :6].flatten() if per_frame else times[:, 0]
    assert len(drawn.unique()) > 0.7 * len(drawn)
    assert 0 <= int(drawn.min()) < 60
    assert 940 < int(drawn.max()) <= 999


def test_the_first_objects_stand_at_the_last_timestep(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the state is noise alone: the target's values can not be read from it."""
    model = seeded(ImageDream, NETWORKS["views_velocity"])
    batch = batch_of(VIEWS, objects=8)
    calls = watched(model, monkeypatch, lambda x, _: torch.zeros_like(x))
    config = FrameLossConfig(per_frame_times=False, last_step_share=0.375)
    found = frame_loss(model, batch, config, generator())
    frame_loss(model, replace(batch, targets=batch.targets + 1.0), config, generator())
    assert found.last == 3
    assert (calls[0].t[:3] == 999).all()
    assert (calls[0].t[3:] < 999).all()
    assert torch.equal(calls[0].x[:3], calls[1].x[:3])
    assert bool((calls[0].x[3:, :6] != calls[1].x[3:, :6]).all())
    # The velocity of pure noise is the negated sample.
    torch.testing.assert_close(found.per_object[:3], batch.targets[:3].square().mean((1, 2, 3, 4)))


@pytest.mark.parametrize("name", ["views", "reading", "ccm"])
def test_dropped_conditions_are_the_half_without(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = seeded(ImageDream, NETWORKS[name])
    batch = batch_of(model.config)
    calls = watched(model, monkeypatch, lambda x, _: torch.zeros_like(x))
    for share in (1.0, 0.0):
        frame_loss(model, batch, FrameLossConfig(condition_dropout=share), generator())
    both = model.rows(batch.condition, frame_cameras(model.config.rig), guidance=True)
    for half, seen in enumerate(call.rows for call in calls):
        for field in ("text", "cameras", "image_tokens", "reference", "channels"):
            wanted, found = getattr(both, field), getattr(seen, field)
            assert (wanted is None) == (found is None), field
            if wanted is not None:
                torch.testing.assert_close(found, wanted.chunk(2)[half], msg=field)
    assert (calls[0].rows.reference is not None) == model.config.rig.reference
    assert (calls[0].rows.channels is not None) == (name != "views")


def test_single_objects_are_dropped() -> None:
    model = seeded(ImageDream, READING)
    condition = batch_of(READING).condition
    mixed = drop_conditions(condition, torch.tensor([False, True, False]))
    cameras = frame_cameras(READING.rig)
    found = model.rows(mixed, cameras, guidance=False)
    both = model.rows(condition, cameras, guidance=True)
    for field in ("text", "image_tokens", "reference", "channels"):
        value, wanted = getattr(found, field), getattr(both, field)
        without, given = (half.unflatten(0, (3, -1)) for half in wanted.chunk(2))
        value = value.unflatten(0, (3, -1))
        torch.testing.assert_close(value[1], without[1], msg=field)
        torch.testing.assert_close(value[[0, 2]], given[[0, 2]], msg=field)


def test_a_share_of_objects_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded(ImageDream, VIEWS)
    batch = batch_of(VIEWS, objects=200)
    calls = watched(model, monkeypatch, lambda x, _: torch.zeros_like(x))
    frame_loss(model, batch, FrameLossConfig(condition_dropout=0.25), generator())
    text = calls[0].rows.text[::7]
    dropped = (text == batch.condition.negative_text).all(-1).all(-1)
    assert float(dropped.float().mean()) == pytest.approx(0.25, abs=0.08)
    assert calls[0].rows.reference is not None
    empty = (calls[0].rows.reference == 0).flatten(1).all(1)
    assert torch.equal(empty, dropped)


def test_the_reference_enters_clean_and_its_own_state_is_not_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = seeded(ImageDream, VIEWS)
    batch = batch_of(VIEWS)
    calls = watched(model, monkeypatch, lambda x, _: torch.zeros_like(x))
    frame_loss(model, batch, FrameLossConfig(), generator())
    assert calls[0].x.shape == (3, 7, *SHAPE)
    assert torch.equal(calls[0].x[:, 6], torch.zeros(3, *SHAPE))
    assert calls[0].rows.reference is batch.condition.reference


def test_draws_depend_on_the_generator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded(ImageDream, VIEWS)
    config = FrameLossConfig(last_step_share=0.34, condition_dropout=0.5)
    calls = watched(model, monkeypatch, lambda x, _: torch.zeros_like(x))
    for seed, data in ((1, 5), (1, 5), (1, 6), (2, 5)):
        torch.manual_seed(len(calls))  # is not read
        frame_loss(model, batch_of(VIEWS, seed=data), config, generator(seed))
    first, again, other_data, other_draws = calls
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.rows.text, again.rows.text)
    assert torch.equal(first.t, other_data.t)
    assert torch.equal(first.x[:1], other_data.x[:1])  # pure noise
    assert not torch.equal(first.t, other_draws.t)
    assert not torch.equal(first.x[:1], other_draws.x[:1])


def test_draws_in_hand_are_the_states_that_the_network_sees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = seeded(ImageDream, CCM)
    batch = batch_of(CCM, objects=1)
    draws = FrameDraws(
        torch.tensor([[0, 200, 400, 600, 800, 999]]),
        torch.randn(1, 6, *SHAPE, generator=generator()),
        torch.tensor([False]),
    )
    calls = watched(model, monkeypatch, lambda x, _: torch.zeros_like(x))
    found = frame_errors(model, batch, draws)
    abar = abar_table(CCM.schedule)[draws.times].reshape(1, 6, 1, 1, 1)
    expected = abar.sqrt() * batch.targets + (1 - abar).sqrt() * draws.noise
    torch.testing.assert_close(calls[0].x, expected)
    torch.testing.assert_close(found.per_object, draws.noise.square().mean((1, 2, 3, 4)))


@pytest.mark.parametrize("name", ["views", "reading", "ccm"])
def test_every_weight_but_none_of_the_batch_learns(name: str) -> None:
    model = seeded(ImageDream, NETWORKS[name])
    batch = batch_of(model.config)
    frame_loss(model, batch, FrameLossConfig(), generator()).per_object.mean().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert not batch.targets.requires_grad


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_shares_out_of_range_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="last_step_share"):
        FrameLossConfig(last_step_share=value)
    with pytest.raises(ValueError, match="condition_dropout"):
        FrameLossConfig(condition_dropout=value)
