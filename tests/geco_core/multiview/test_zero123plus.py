"""The multi-view model: conditioning, passes, batch invariance, one step, images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from geco_core.config.load import load, to_dict
from geco_core.config.models import MultiViewConfig, SamplerConfig
from geco_core.diffusion.noise import ItemNoise
from geco_core.errors import ConfigError
from geco_core.multiview.condition import ViewCondition, concatenate, guidance_rows
from geco_core.multiview.zero123plus import Zero123Plus

KINDS = ("ddim", "euler_ancestral", "one_step")


@pytest.fixture(params=["published", "micro"])
def model(request: pytest.FixtureRequest) -> Zero123Plus:
    return request.getfixturevalue(request.param)


def condition_of(model: Zero123Plus, batch: int, seed: int = 0) -> ViewCondition:
    generator = torch.Generator().manual_seed(seed)
    vae = torch.randn(batch, 3, 16, 16, generator=generator)
    clip = torch.randn(batch, 3, 8, 8, generator=generator)
    noise = torch.randn(batch, *model.condition_shape, generator=generator)
    with torch.no_grad():
        return model.encode_condition(vae, clip, noise)


def tile_noise(model: Zero123Plus, batch: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *model.latent_shape, generator=generator)


def reference_noise(model: Zero123Plus, batch: int, seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *model.condition_shape, generator=generator)


def row(condition: ViewCondition, index: int) -> ViewCondition:
    keep = slice(index, index + 1)
    return ViewCondition(condition.latents[keep], condition.states[keep])


# -- conditions --


def test_states_are_the_empty_prompt_plus_the_ramped_embedding(model: Zero123Plus) -> None:
    clip = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states = model.encode_condition(torch.zeros(1, 3, 16, 16), clip).states
        empty, embeds = model.empty_states(), model.image_embeds(clip)
    assert torch.equal(states[:, 0], empty[:, 0])  # the first weight of the default ramp is 0
    torch.testing.assert_close(states[:, -1], empty[:, -1] + embeds)


def test_the_negative_condition_is_gray_and_the_empty_prompt(model: Zero123Plus) -> None:
    with torch.no_grad():
        negative = model.negative_condition(2)
        gray = model.codec.encode(torch.zeros(2, 3, 16, 16))
        assert torch.equal(negative.states[:1], model.empty_states())
    gain = model.config.condition_latent_gain
    torch.testing.assert_close(negative.latents, gray * gain)


def test_condition_latents_carry_no_scaling_factor(published: Zero123Plus) -> None:
    pixels = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    noise = reference_noise(published, 1)
    with torch.no_grad():
        mean, std = published.codec.moments(pixels)
        found = published.encode_condition(pixels, torch.zeros(1, 3, 8, 8), noise).latents
    torch.testing.assert_close(found, mean + std * noise)


def test_dropped_rows_become_the_negative_condition(model: Zero123Plus) -> None:
    condition = condition_of(model, 3)
    with torch.no_grad():
        negative = model.negative_condition()
    mixed = condition.replace_rows(torch.tensor([False, True, False]), negative)
    assert torch.equal(mixed.latents[1], negative.latents[0])
    assert torch.equal(mixed.states[1], negative.states[0])
    assert torch.equal(mixed.latents[::2], condition.latents[::2])


def test_guidance_rows_are_negative_first() -> None:
    one = ViewCondition(torch.ones(2, 1, 1, 1), torch.ones(2, 1, 1))
    zero = ViewCondition(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1))
    assert guidance_rows(one, zero, 4.0).latents.flatten().tolist() == [0, 0, 1, 1]
    assert guidance_rows(one, None, 1.0) is one
    with pytest.raises(ValueError, match="negative"):
        guidance_rows(one, None, 4.0)


# -- passes --


@torch.no_grad()
def test_velocity_depends_on_reference_noise_condition_and_row(model: Zero123Plus) -> None:
    condition, x = condition_of(model, 2), tile_noise(model, 2)
    noise = reference_noise(model, 2)
    v = model.predict_v(x, 500, condition, noise)
    assert v.shape == x.shape
    assert v.dtype == torch.float32
    others = {
        "another reference noise": model.predict_v(x, 500, condition, -noise),
        "another condition": model.predict_v(x, 500, condition_of(model, 2, seed=9), noise),
        "swapped rows": model.predict_v(
            x, 500, concatenate(row(condition, 1), row(condition, 0)), noise
        ),
        "no reference": model.main_pass(x, 500, condition, None),
        "a clean reference": model.main_pass(
            x, 500, condition, model.reference_pass(condition, 500)
        ),
        "another time": model.predict_v(x, 400, condition, noise),
    }
    for what, other in others.items():
        assert float((v - other).abs().max()) > 1e-4, what


@torch.no_grad()
def test_a_time_per_row_is_each_row_alone(model: Zero123Plus) -> None:
    condition, x, noise = condition_of(model, 2), tile_noise(model, 2), reference_noise(model, 2)
    times = torch.tensor([900, 20])
    together = model.predict_v(x, times, condition, noise)
    for i in range(2):
        alone = model.predict_v(x[i : i + 1], int(times[i]), row(condition, i), noise[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)


def test_training_gradients_reach_the_condition_through_the_reference(model: Zero123Plus) -> None:
    condition = condition_of(model, 1)
    latents = condition.latents.clone().requires_grad_()
    rows = ViewCondition(latents, condition.states)
    x, noise = tile_noise(model, 1), reference_noise(model, 1)
    features = model.reference_pass(rows, 500, noise)
    # The main pass sees detached latents, so that only the reference can carry the gradient.
    model.main_pass(x, 500, rows.detach(), features).square().sum().backward()
    assert latents.grad is not None
    assert float(latents.grad.abs().max()) > 0
    model.zero_grad()


@torch.no_grad()
def test_condition_channels_repeat_the_clean_latents(micro: Zero123Plus) -> None:
    seen: list[Tensor] = []
    handle = micro.unet.conv_in.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    condition, x, noise = condition_of(micro, 2), tile_noise(micro, 2), reference_noise(micro, 2)
    micro.predict_v(x, 999, condition, noise)
    handle.remove()
    reference, main = seen
    latent, side = 3, 4
    assert reference.shape == (2, 14, side, side)
    assert main.shape == (2, 14, 3 * side, 2 * side)
    torch.testing.assert_close(reference[:, :latent], noise)  # zero SNR: nothing else at t = 999
    assert torch.equal(reference[:, latent : 2 * latent], condition.latents)
    assert float(reference[:, -6:].abs().max()) == 0.0
    for view in range(6):
        top, left = view // 2 * side, view % 2 * side
        cell = main[:, :, top : top + side, left : left + side]
        assert torch.equal(cell[:, latent : 2 * latent], condition.latents)
        torch.testing.assert_close(
            cell[:, 2 * latent : 2 * latent + 2], reference[:, 2 * latent : 2 * latent + 2]
        )
        assert cell[:, -6:].mean(dim=(0, 2, 3)).tolist() == [float(i == view) for i in range(6)]
    coordinates = reference[0, 2 * latent : 2 * latent + 2]
    assert coordinates[0, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]  # x grows to the right
    assert coordinates[1, :, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]  # y grows downwards


@torch.no_grad()
def test_noised_channels_show_what_the_reference_pass_reads(micro: Zero123Plus) -> None:
    seen: list[Tensor] = []
    handle = micro.unet.conv_in.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    before, micro.config = micro.config, replace(micro.config, noised_channels=True)
    condition, x, noise = condition_of(micro, 2), tile_noise(micro, 2), reference_noise(micro, 2)
    try:
        micro.predict_v(x, 500, condition, noise)
        micro.one_step(x, condition)
    finally:
        micro.config = before
        handle.remove()
    noised = micro.schedule.add_noise(condition.latents, noise, 500)
    latent, side = 3, 4
    for passed, wanted in zip(
        seen, (noised, noised, condition.latents, condition.latents), strict=True
    ):
        cell = passed[:, latent : 2 * latent, :side, :side]
        torch.testing.assert_close(cell, wanted)


# -- sampling --


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_an_item_does_not_depend_on_its_batch(model: Zero123Plus, kind: str, scale: float) -> None:
    condition = condition_of(model, 3)
    sampler = SamplerConfig(kind, steps=3, guidance_scale=scale)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        negative = model.negative_condition() if scale != 1.0 else None
    together = model.sample(condition, ItemNoise([7, 8, 9]), sampler, negative=negative)
    alone = model.sample(row(condition, 1), ItemNoise([8]), sampler, negative=negative)
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)
    other = model.sample(row(condition, 1), ItemNoise([80]), sampler, negative=negative)
    assert float((other - alone).abs().max()) > 1e-2


@torch.no_grad()
def test_guidance_mixes_negative_and_positive(model: Zero123Plus) -> None:
    condition, negative, z = (
        condition_of(model, 2),
        model.negative_condition(),
        tile_noise(model, 2),
    )
    positive_x0 = model.one_step(z, condition)
    negative_x0 = model.one_step(z, negative.expand(2))
    guided = model.one_step(z, condition, negative=negative, guidance_scale=3.0)
    expected = negative_x0 + 3.0 * (positive_x0 - negative_x0)
    torch.testing.assert_close(guided, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_one_step_from_a_cached_reference(model: Zero123Plus) -> None:
    condition, z = condition_of(model, 2), tile_noise(model, 2)
    fresh = model.one_step(z, condition)
    cached = model.reference_pass(condition, 0)
    torch.testing.assert_close(model.one_step(z, condition, reference=cached), fresh)
    assert float((model.one_step(z, condition, reference_t=999) - fresh).abs().max()) > 1e-5
    a, s = model.schedule.coefficients(999, z)
    v = model.main_pass(z, 999, condition, cached)
    torch.testing.assert_close(fresh, a * z - s * v)


def test_one_step_carries_gradients_and_sampling_does_not(model: Zero123Plus) -> None:
    condition = condition_of(model, 1)
    assert model.one_step(tile_noise(model, 1), condition).requires_grad
    sampler = SamplerConfig("one_step", 1, 1.0)
    assert not model.sample(condition, ItemNoise([1]), sampler).requires_grad


def test_bfloat16_autocast_stays_close(model: Zero123Plus) -> None:
    condition, x, noise = condition_of(model, 2), tile_noise(model, 2), reference_noise(model, 2)
    with torch.no_grad():
        exact = model.predict_v(x, 500, condition, noise)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.predict_v(x, 500, condition, noise)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.05)


# -- images and configuration --


@torch.no_grad()
def test_views_round_trip_through_the_patch_codec(micro: Zero123Plus) -> None:
    generator = torch.Generator().manual_seed(0)
    flat = torch.rand(2, 6, 3, 1, 1, generator=generator).expand(-1, -1, -1, 16, 16)
    micro.codec.fit(flat.flatten(0, 1))  # pyright: ignore[reportCallIssue]
    latents = micro.encode_views(flat)
    assert latents.shape == (2, *micro.latent_shape)
    torch.testing.assert_close(micro.decode(latents), flat, rtol=0, atol=1e-5)


@torch.no_grad()
def test_decode_returns_views_in_range(published: Zero123Plus) -> None:
    views = published.decode(tile_noise(published, 2) * 3)
    assert views.shape == (2, 6, 3, 8, 8)
    assert 0.0 <= float(views.min()) <= float(views.max()) <= 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("condition_channels=true", "need 16 and 4"),
        ("vision.projection_dim=9", "projection_dim 9"),
        ("condition_size=15", "multiples"),
        ("rig.view_size=9", "multiples"),
        ("rig.azimuths_deg=[0.0]", "1 azimuths"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    published: Zero123Plus, change: str, message: str
) -> None:
    config = load(MultiViewConfig, to_dict(published.config), [change])
    with pytest.raises(ConfigError, match=message):
        Zero123Plus(config)


def test_a_ramp_of_another_length_is_refused(published: Zero123Plus) -> None:
    with pytest.raises(ConfigError, match="3 weights for 5"):
        Zero123Plus(published.config, ramp=[0.0, 0.1, 0.2])


def sampled_on_meta(config: MultiViewConfig, kind: str) -> tuple[Tensor, Tensor]:
    """Latents and views of one item, as bfloat16 shapes without data.

    A tensor left on the CPU is an error here, as it would be on CUDA.
    """
    with torch.device("meta"):
        model = Zero123Plus(config).bfloat16()
    size, tower = config.condition_size, config.vision.image_size
    condition = model.encode_condition(
        torch.empty(1, 3, size, size, device="meta"),
        torch.empty(1, 3, tower, tower, device="meta"),
        torch.empty(1, *model.condition_shape, device="meta"),
    )
    sampler = SamplerConfig(kind, 2, 4.0)  # pyright: ignore[reportArgumentType]
    latents = model.sample(condition, ItemNoise([1]), sampler, negative=model.negative_condition())
    return latents, model.decode(latents)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_stays_on_the_cpu(model: Zero123Plus, kind: str) -> None:
    latents, _ = sampled_on_meta(model.config, kind)
    assert latents.shape == (1, *model.latent_shape)
    assert latents.dtype == torch.float32
    assert latents.device.type == "meta"


@pytest.mark.slow
def test_full_size_shapes() -> None:
    latents, views = sampled_on_meta(MultiViewConfig(), "ddim")
    assert latents.shape == (1, 4, 120, 80)
    assert views.shape == (1, 6, 3, 320, 320)
