"""Samplers against a model that knows the answer and against diffusers' own steps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler
from torch import Tensor

from geco_core.config.models import ScheduleConfig
from geco_core.diffusion.samplers import (
    VelocityFn,
    sample_ddim,
    sample_euler_ancestral,
    sample_one_step,
)
from geco_core.diffusion.schedule import NoiseSchedule, scheduler_arguments

ZERO_SNR = ScheduleConfig(rescale_betas_zero_snr=True)
SHAPE = (2, 3, 4, 4)


def oracle(schedule: NoiseSchedule, clean: Tensor) -> VelocityFn:
    """The exact velocity of a data set of one image: v = (a x_t - x0) / s."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        a, s = schedule.coefficients(t, x)
        return (a * x - clean) / s

    return velocity


@pytest.mark.parametrize("config", [ScheduleConfig(), ZERO_SNR], ids=["published", "zero_snr"])
@pytest.mark.parametrize("kind", ["ddim", "euler_ancestral", "one_step"])
def test_a_perfect_model_returns_its_image(
    kind: str, config: ScheduleConfig, generator: torch.Generator
) -> None:
    schedule = NoiseSchedule(config)
    clean, z = torch.randn(2, *SHAPE, generator=generator)
    velocity = oracle(schedule, clean)
    run: dict[str, Callable[[], Tensor]] = {
        "ddim": lambda: sample_ddim(velocity, z, config, 10),
        "euler_ancestral": lambda: sample_euler_ancestral(
            velocity, z, config, 10, lambda _: torch.randn(SHAPE, generator=generator)
        ),
        "one_step": lambda: sample_one_step(velocity, z, schedule),
    }
    found = run[kind]()
    assert torch.isfinite(found).all()
    # DDIM ends at abar[0], not at 1: a little of the predicted noise stays.
    slack = 0.12 if kind == "ddim" else 5e-3
    torch.testing.assert_close(found, clean, rtol=0, atol=slack)


def test_euler_ancestral_equals_the_scheduler_given_its_noise() -> None:
    config = ScheduleConfig()
    z = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    draws = torch.Generator().manual_seed(2)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x + t / 1000)

    ours = sample_euler_ancestral(
        velocity, z, config, 7, lambda _: torch.randn(SHAPE, generator=draws)
    )
    scheduler = EulerAncestralDiscreteScheduler(**scheduler_arguments(config))
    scheduler.set_timesteps(7)
    same = torch.Generator().manual_seed(2)
    x = z * scheduler.sigmas[0]
    for t in scheduler.timesteps:
        v = velocity(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(v, t, x, generator=same, return_dict=False)[0]
    torch.testing.assert_close(ours, x, rtol=0, atol=2e-5)


def test_ddim_depends_on_the_spacing(generator: torch.Generator) -> None:
    z = torch.randn(SHAPE, generator=generator)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x + t / 1000)

    trailing = sample_ddim(velocity, z, ScheduleConfig(), 5)
    linspace = sample_ddim(velocity, z, ScheduleConfig(timestep_spacing="linspace"), 5)
    assert float((trailing - linspace).abs().max()) > 1e-3


def test_one_step_keeps_the_graph() -> None:
    weight = torch.ones((), requires_grad=True)
    z = torch.ones(1, 2)
    x0 = sample_one_step(lambda x, _: weight * x, z, NoiseSchedule(ZERO_SNR))
    x0.sum().backward()
    assert weight.grad is not None
    assert float(weight.grad) == pytest.approx(-2.0)
