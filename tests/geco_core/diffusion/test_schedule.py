"""Conversions of v-prediction and the tables of the published schedule."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from geco_core.config.models import ScheduleConfig
from geco_core.diffusion.samplers import ddim_timesteps, euler_tables
from geco_core.diffusion.schedule import NoiseSchedule

ZERO_SNR = ScheduleConfig(rescale_betas_zero_snr=True)


@pytest.fixture(scope="module")
def schedule() -> NoiseSchedule:
    return NoiseSchedule(ScheduleConfig())


def test_published_values(schedule: NoiseSchedule) -> None:
    a, s = schedule.coefficients(999, torch.zeros(1))
    assert float(a) == pytest.approx(0.0397362, abs=1e-6)
    assert float(s) == pytest.approx(0.9992102, abs=1e-6)
    assert float(schedule.snr(torch.tensor(999))) == pytest.approx(0.0015815, abs=1e-6)


@pytest.mark.parametrize("config", [ScheduleConfig(), ZERO_SNR], ids=["published", "zero_snr"])
def test_conversions_round_trip(config: ScheduleConfig, generator: torch.Generator) -> None:
    schedule = NoiseSchedule(config)
    t = torch.tensor([0, 250, 750, 999])
    clean, noise = torch.randn(2, 4, 3, 5, 5, generator=generator)
    noisy = schedule.add_noise(clean, noise, t)
    v = schedule.velocity(clean, noise, t)
    torch.testing.assert_close(schedule.clean_from_velocity(noisy, v, t), clean, rtol=0, atol=2e-6)
    torch.testing.assert_close(schedule.noise_from_velocity(noisy, v, t), noise, rtol=0, atol=2e-6)


def test_a_batch_of_times_is_each_row_alone(
    schedule: NoiseSchedule, generator: torch.Generator
) -> None:
    clean, noise = torch.randn(2, 3, 2, 4, 4, generator=generator)
    times = [999, 400, 7]
    together = schedule.add_noise(clean, noise, torch.tensor(times))
    for i, t in enumerate(times):
        alone = schedule.add_noise(clean[i : i + 1], noise[i : i + 1], t)
        torch.testing.assert_close(together[i : i + 1], alone)


def test_noising_is_what_diffusers_does(
    schedule: NoiseSchedule, generator: torch.Generator
) -> None:
    clean, noise = torch.randn(2, 3, 2, 4, 4, generator=generator)
    t = torch.tensor([999, 400, 7])
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear")
    torch.testing.assert_close(
        schedule.add_noise(clean, noise, t), scheduler.add_noise(clean, noise, t)
    )


def test_zero_terminal_snr_predicts_minus_v() -> None:
    schedule = NoiseSchedule(ZERO_SNR)
    v, z = torch.ones(1, 2), torch.full((1, 2), 3.0)
    assert float(schedule.alphas_cumprod[-1]) == 0.0
    torch.testing.assert_close(schedule.clean_from_velocity(z, v, 999), -v)


def test_fractional_times_interpolate_sigma(schedule: NoiseSchedule) -> None:
    x = torch.zeros(1)
    sigmas = [float(s / a) for a, s in (schedule.coefficients(t, x) for t in (500, 501))]
    a, s = schedule.coefficients(torch.tensor(500.25), x)
    assert float(s / a) == pytest.approx(0.75 * sigmas[0] + 0.25 * sigmas[1], rel=1e-5)


def test_tables_do_not_follow_the_meta_device() -> None:
    with torch.device("meta"):
        built = NoiseSchedule(ScheduleConfig())
    assert built.alphas_cumprod.device.type == "cpu"


def test_trailing_timesteps_start_at_the_end_and_linspace_does_not_match() -> None:
    trailing = ddim_timesteps(ScheduleConfig(), 75)
    assert trailing[:4].tolist() == [999, 986, 972, 959]
    assert trailing[-2:].tolist() == [26, 12]
    linspace = ddim_timesteps(ScheduleConfig(timestep_spacing="linspace"), 75)
    assert linspace[:4].tolist() == [999, 986, 972, 958]


def test_euler_tables() -> None:
    timesteps, sigmas = euler_tables(ScheduleConfig(), 28)
    assert timesteps[:3].tolist() == [999, 963, 928]
    assert float(sigmas[0]) == pytest.approx(25.1461, abs=1e-3)
    assert float(sigmas[-1]) == 0.0
