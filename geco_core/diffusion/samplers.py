"""Samplers over a velocity function: DDIM, Euler ancestral, one step.

Timesteps, sigmas and the DDIM update are diffusers' schedulers; the Euler ancestral update is
written out because the scheduler's own draws noise for the batch as a whole. A sampler knows
nothing of the model: it calls `velocity(x, t)` with the variance-preserving state x_t = a x0
+ s e, whatever state it keeps itself.

Legend: x any latent [B, ...]; sigma = s / a.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
    EulerAncestralDiscreteScheduler,
)
from torch import Tensor

from geco_core.config.models import ScheduleConfig
from geco_core.diffusion.schedule import NoiseSchedule, scheduler_arguments

VelocityFn = Callable[[Tensor, Tensor], Tensor]
NoiseFn = Callable[[int], Tensor]
S = TypeVar("S", DDIMScheduler, EulerAncestralDiscreteScheduler)


def ddim_timesteps(config: ScheduleConfig, steps: int) -> Tensor:
    """int64 [steps], descending. "trailing" starts at T - 1."""
    return _ddim(config, steps).timesteps


def euler_tables(config: ScheduleConfig, steps: int) -> tuple[Tensor, Tensor]:
    """Timesteps float32 [steps] and sigmas float32 [steps + 1] of the Euler ancestral sampler.

    The last sigma is 0.
    """
    scheduler = _on_cpu(EulerAncestralDiscreteScheduler, config)
    scheduler.set_timesteps(steps)
    return scheduler.timesteps, scheduler.sigmas


def sample_ddim(velocity: VelocityFn, noise: Tensor, config: ScheduleConfig, steps: int) -> Tensor:
    """Deterministic DDIM (eta 0).

    Args:
        velocity: (x_t, t scalar tensor) -> v.
        noise: N(0, 1) start, float32.
        config: the schedule; its spacing chooses the timesteps.
        steps: number of steps.

    Returns:
        The latents, float32, same shape as `noise`.
    """
    scheduler = _ddim(config, steps)
    x = noise
    for t in scheduler.timesteps:
        v = velocity(x, t).float()
        x = scheduler.step(v, int(t), x, eta=0.0, return_dict=False)[0]
    return x


def sample_euler_ancestral(
    velocity: VelocityFn, noise: Tensor, config: ScheduleConfig, steps: int, step_noise: NoiseFn
) -> Tensor:
    """Euler ancestral in sigma space (arXiv 2206.00364; ancestral split of k-diffusion).

    Args:
        velocity: (x_t, t scalar tensor) -> v.
        noise: N(0, 1) start, float32; it is scaled by the first sigma here.
        config: the schedule.
        steps: number of steps.
        step_noise: step index -> N(0, 1) of the shape of `noise`.

    Returns:
        The latents, float32, same shape as `noise`.
    """
    timesteps, sigmas = euler_tables(config, steps)
    y = noise * sigmas[0].to(noise)  # y = x0 + sigma e
    for step, t in enumerate(timesteps):
        sigma, sigma_next = float(sigmas[step]), float(sigmas[step + 1])
        v = velocity(y / (sigma**2 + 1.0) ** 0.5, t).float()
        clean = y / (sigma**2 + 1.0) - v * (sigma / (sigma**2 + 1.0) ** 0.5)
        up = (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2) ** 0.5
        down = max(sigma_next**2 - up**2, 0.0) ** 0.5
        y = y + (y - clean) / sigma * (down - sigma) + up * step_noise(step).to(y)
    return y


def sample_one_step(velocity: VelocityFn, noise: Tensor, schedule: NoiseSchedule) -> Tensor:
    """x0 = a_T z - s_T v(z, T), the clean prediction from pure noise.

    GECO, arXiv 2405.20327, section 3.2.

    Keeps the graph when gradients are enabled.
    """
    t = torch.tensor(schedule.terminal)
    return schedule.clean_from_velocity(noise, velocity(noise, t), t)


def _ddim(config: ScheduleConfig, steps: int) -> DDIMScheduler:
    scheduler = _on_cpu(DDIMScheduler, config, clip_sample=False, set_alpha_to_one=False)
    scheduler.set_timesteps(steps)
    return scheduler


def _on_cpu(kind: Callable[..., S], config: ScheduleConfig, **extra: object) -> S:
    with torch.device("cpu"):
        return kind(**scheduler_arguments(config), **extra)
