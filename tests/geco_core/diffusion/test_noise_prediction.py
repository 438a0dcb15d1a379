"""Schedule and DDIM of noise-predicting networks: against diffusers, and where they part."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from geco_core.config.crm import DdimConfig, NoiseTablesConfig
from geco_core.diffusion.noise_prediction import (
    abar_table,
    beta_table,
    ddim_steps,
    sample_noise_prediction,
)
from geco_core.errors import ConfigError

ZERO_SNR, PLAIN = NoiseTablesConfig(), NoiseTablesConfig(zero_terminal_snr=False)
VELOCITY = NoiseTablesConfig(prediction="v_prediction", beta_schedule="linear")
SHAPE = (2, 3, 4, 4)


def scheduler(config: NoiseTablesConfig, sampler: DdimConfig | None = None) -> DDIMScheduler:
    given = sampler or DdimConfig()
    return DDIMScheduler(
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        beta_schedule=config.beta_schedule,
        prediction_type=config.prediction,
        timestep_spacing="trailing" if given.spacing == "trailing" else "leading",
        clip_sample=False,
        set_alpha_to_one=given.last_alpha == "one",
        steps_offset=1,
        rescale_betas_zero_snr=config.zero_terminal_snr,
    )


@pytest.mark.parametrize(
    "config", [ZERO_SNR, PLAIN, VELOCITY], ids=["zero_snr", "plain", "linear_zero_snr"]
)
def test_tables_agree_with_diffusers(config: NoiseTablesConfig) -> None:
    expected = scheduler(config).alphas_cumprod.clone()
    expected[-1] = abar_table(config)[-1]  # diffusers keeps 2**-24 there
    torch.testing.assert_close(abar_table(config), expected, rtol=0, atol=5e-7)


def test_zero_terminal_snr_keeps_the_first_level() -> None:
    assert float(abar_table(ZERO_SNR)[-1]) == 0.0
    assert float(beta_table(ZERO_SNR)[0]) == pytest.approx(float(beta_table(PLAIN)[0]), rel=1e-12)
    assert float(abar_table(ZERO_SNR)[500]) == pytest.approx(0.2410, abs=5e-5)


def eps(x: Tensor, t: Tensor) -> Tensor:
    return torch.sin(x + float(t) / 300.0)


@pytest.mark.parametrize("steps", [20, 25, 50])
def test_sampling_is_diffusers_where_steps_divide_the_schedule(steps: int) -> None:
    z = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    theirs = scheduler(ZERO_SNR)
    theirs.set_timesteps(steps)
    x = z
    for t in theirs.timesteps:
        x = theirs.step(eps(x, t), int(t), x, eta=0.0, return_dict=False)[0]
    for spacing in ("leading", "stride"):
        sampler = DdimConfig(steps=steps, spacing=spacing)
        found = sample_noise_prediction(eps, z, ZERO_SNR, sampler)
        torch.testing.assert_close(found, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("last_alpha", ["one", "first"])
@pytest.mark.parametrize("config", [VELOCITY, replace(VELOCITY, zero_terminal_snr=False)])
@pytest.mark.parametrize("steps", [1, 4, 8, 50])
def test_trailing_velocity_sampling_is_diffusers(
    steps: int, config: NoiseTablesConfig, last_alpha: Literal["one", "first"]
) -> None:
    sampler = DdimConfig(steps=steps, spacing="trailing", last_alpha=last_alpha)
    z = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    theirs = scheduler(config, sampler)
    theirs.set_timesteps(steps)
    x, states = z, []
    for t in theirs.timesteps:
        x = theirs.step(eps(x, t), int(t), x, eta=0.0, return_dict=False)[0]
        states.append(x)
    ours: list[Tensor] = []
    found = sample_noise_prediction(
        eps, z, config, sampler, observe=lambda _, state, __: ours.append(state)
    )
    # diffusers keeps an abar of 2**-24 at the last timestep, where ours is 0.
    for mine, expected in zip(ours, states, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1.5e-3)
    assert torch.equal(found, ours[-1])
    assert float((found - z).abs().max()) > 0.1


@pytest.mark.parametrize("steps", [1, 3, 7, 8, 16, 30, 36, 1000])
def test_trailing_steps_are_diffusers_for_any_number(steps: int) -> None:
    sampler = DdimConfig(steps=steps, spacing="trailing")
    theirs = scheduler(VELOCITY, sampler)
    theirs.set_timesteps(steps)
    found = ddim_steps(VELOCITY, sampler)
    assert found.timesteps.tolist() == theirs.timesteps.tolist()[::-1]
    assert len(found.timesteps) == steps
    assert int(found.timesteps[-1]) == 999
    # Every step leads to the next one of the list, whether or not the number divides the schedule.
    assert torch.equal(found.abar_before[1:], found.abar[:-1])


def test_noise_can_not_be_predicted_from_the_last_timestep_but_velocity_can() -> None:
    sampler = DdimConfig(steps=8, spacing="trailing")
    with pytest.raises(ConfigError, match="8 steps start at timestep 999, which is pure noise"):
        ddim_steps(ZERO_SNR, sampler)
    assert float(ddim_steps(PLAIN, sampler).abar[-1]) > 0.0
    assert float(ddim_steps(VELOCITY, sampler).abar[-1]) == 0.0


def test_linear_betas_are_evenly_spaced() -> None:
    plain = replace(VELOCITY, zero_terminal_snr=False)
    expected = torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64)
    torch.testing.assert_close(beta_table(plain), expected, rtol=1e-12, atol=0)
    assert float(abar_table(VELOCITY)[-1]) == 0.0
    # More noise in the middle than under the published schedule.
    assert float(abar_table(VELOCITY)[500]) < 0.8 * float(abar_table(ZERO_SNR)[500])


@pytest.mark.parametrize("steps", [1, 8])
def test_a_perfect_velocity_returns_its_image_from_pure_noise(steps: int) -> None:
    clean, z = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(2))
    table = abar_table(VELOCITY).double()
    cleans: list[Tensor] = []

    def oracle(x: Tensor, t: Tensor) -> Tensor:
        abar = table[int(t)]
        noise = (x.double() - abar.sqrt() * clean) / (1 - abar).sqrt()
        return (abar.sqrt() * noise - (1 - abar).sqrt() * clean).float()

    sampler = DdimConfig(steps=steps, spacing="trailing", last_alpha="one")
    found = sample_noise_prediction(
        oracle, z, VELOCITY, sampler, observe=lambda _, __, x0: cleans.append(x0)
    )
    torch.testing.assert_close(found, clean, rtol=0, atol=1e-5)
    for x0 in cleans:
        torch.testing.assert_close(x0, clean, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [30, 75])
def test_the_published_list_is_longer_when_steps_do_not_divide(steps: int) -> None:
    long = ddim_steps(ZERO_SNR, DdimConfig(steps=steps, spacing="stride"))
    exact = ddim_steps(ZERO_SNR, DdimConfig(steps=steps))
    assert len(long.timesteps) > steps == len(exact.timesteps)
    assert torch.equal(long.timesteps[:steps], exact.timesteps)
    assert float(long.abar_before[0]) == float(abar_table(ZERO_SNR)[0])


@pytest.mark.parametrize(("steps", "message"), [(36, "leaves the schedule"), (500, "pure noise")])
def test_lists_that_end_badly_are_refused(steps: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ddim_steps(ZERO_SNR, DdimConfig(steps=steps, spacing="stride"))


def test_other_refusals() -> None:
    with pytest.raises(ConfigError, match="1001 steps of 1000"):
        ddim_steps(ZERO_SNR, DdimConfig(steps=1001))
    with pytest.raises(ValueError, match="positive"):
        DdimConfig(steps=0)
    assert len(ddim_steps(ZERO_SNR, DdimConfig(steps=36)).timesteps) == 36


def test_half_tables_and_the_last_step() -> None:
    half = ddim_steps(NoiseTablesConfig(tables="float16"), DdimConfig())
    assert float(half.abar[0]) == pytest.approx(0.998047, abs=1e-6)
    assert float(half.sigma[0]) == pytest.approx(0.04419, abs=1e-5)
    assert float(half.sigma[-1]) == 1.0
    whole = ddim_steps(ZERO_SNR, DdimConfig(last_alpha="one"))
    assert float(whole.abar_before[0]) == 1.0


def test_a_perfect_network_returns_its_image() -> None:
    generator = torch.Generator().manual_seed(2)
    clean, z = torch.randn(2, *SHAPE, generator=generator)
    table = abar_table(ZERO_SNR).double()

    def oracle(x: Tensor, t: Tensor) -> Tensor:
        abar = table[int(t)]
        return ((x - abar.sqrt() * clean) / (1 - abar).sqrt()).float()

    seen: list[int] = []
    found = sample_noise_prediction(
        oracle, z, ZERO_SNR, DdimConfig(steps=50, last_alpha="one"),
        observe=lambda step, _, x0: seen.append(step) or None,
    )  # fmt: skip
    torch.testing.assert_close(found, clean, rtol=0, atol=1e-3)
    assert seen == list(range(50))


def test_a_prepared_state_stays() -> None:
    found = sample_noise_prediction(
        lambda x, _: torch.zeros_like(x), torch.ones(SHAPE), ZERO_SNR, DdimConfig(steps=1),
        prepare=lambda x: x * 2.0,
    )  # fmt: skip
    once = sample_noise_prediction(
        lambda x, _: torch.zeros_like(x), torch.ones(SHAPE), ZERO_SNR, DdimConfig(steps=1)
    )
    torch.testing.assert_close(found, once * 2.0)
