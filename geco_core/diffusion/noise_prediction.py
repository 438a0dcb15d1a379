"""Schedule and DDIM sampler of networks that predict noise (latent diffusion's own, arXiv
2010.02502), as MVDream, ImageDream and CRM are sampled.

x_t = sqrt(abar) x0 + sqrt(1 - abar) e. What differs from `samplers.sample_ddim`: the network
predicts e, tables are made in float64, and the choices in which the published sampler is unlike
diffusers' are options (`DdimConfig`). With zero terminal SNR abar_T is 0, where e says nothing of
x0: step lists that reach it are refused, the published ones stay below. A network may be configured
to predict v = sqrt(abar) e - sqrt(1 - abar) x0 instead, which may start at pure noise.

Legend: T training timesteps, S sampling steps, x any latent [B, ...].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geco_core.config.crm import DdimConfig, NoiseTablesConfig
from geco_core.errors import ConfigError

PredictFn = Callable[[Tensor, Tensor], Tensor]
ObserveFn = Callable[[int, Tensor, Tensor], None]


def beta_table(config: NoiseTablesConfig) -> Tensor:
    """Variances float64 [T], rescaled for zero terminal SNR.

    The rescaling is algorithm 1 of arXiv 2305.08891.
    """
    power = 2 if config.beta_schedule == "scaled_linear" else 1
    ends = config.beta_start ** (1 / power), config.beta_end ** (1 / power)
    betas = torch.linspace(*ends, config.num_train_timesteps, dtype=torch.float64) ** power
    if not config.zero_terminal_snr:
        return betas
    root = (1.0 - betas).cumprod(0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    abar = root**2
    return 1.0 - torch.cat([abar[:1], abar[1:] / abar[:-1]])


def abar_table(config: NoiseTablesConfig) -> Tensor:
    """The products abar float32 [T], rounded through float16 where the configuration says so."""
    abar = (1.0 - beta_table(config)).cumprod(0).float()
    return abar.half().float() if config.tables == "float16" else abar


@dataclass(frozen=True)
class DdimSteps:
    """The steps of one sampling run, ascending (sampling walks them backwards).

    Attributes:
        timesteps: int64 [S].
        abar: float32 [S].
        abar_before: float32 [S], what each step leads to.
        sigma: float32 [S], sqrt(1 - abar).
    """

    timesteps: Tensor
    abar: Tensor
    abar_before: Tensor
    sigma: Tensor


def ddim_steps(schedule: NoiseTablesConfig, sampler: DdimConfig) -> DdimSteps:
    """The steps a sampler takes.

    Raises:
        ConfigError: the steps leave the schedule or reach pure noise.
    """
    total = schedule.num_train_timesteps
    stride = total // sampler.steps
    if stride < 1:
        raise ConfigError(f"{sampler.steps} steps of {total} timesteps", remedy="take fewer steps")
    if sampler.spacing == "trailing":
        ends = torch.arange(1, sampler.steps + 1, dtype=torch.float64) * (total / sampler.steps)
        timesteps = ends.round().long() - 1
    else:
        timesteps = torch.arange(0, total, stride) + 1
        if sampler.spacing == "leading":
            timesteps = timesteps[: sampler.steps]
    table = abar_table(schedule)
    last = int(timesteps[-1])
    blind = schedule.prediction == "epsilon" and last < total and float(table[last]) == 0.0
    if last >= total or blind:
        where = "leaves the schedule" if last >= total else "is pure noise"
        raise ConfigError(
            f"{sampler.steps} steps start at timestep {last}, which {where}",
            remedy="choose another number of steps, 20, 25, 40 and 50 are good, or spacing=leading",
        )
    abar = table[timesteps]
    first = table[:1] if sampler.last_alpha == "first" else torch.ones(1)
    half = schedule.tables == "float16"  # 1 - abar is rounded before its root is
    sigma = (1.0 - abar.half()).sqrt().float() if half else (1.0 - abar).sqrt()
    return DdimSteps(timesteps, abar, torch.cat([first, abar[:-1]]), sigma)


def sample_noise_prediction(
    predict: PredictFn,
    noise: Tensor,
    schedule: NoiseTablesConfig,
    sampler: DdimConfig,
    *,
    prepare: Callable[[Tensor], Tensor] | None = None,
    observe: ObserveFn | None = None,
) -> Tensor:
    """Deterministic DDIM (eta 0), without clipping.

    Args:
        predict: (x_t, t scalar tensor) -> e, or v where the schedule says so; guidance included.
        noise: N(0, 1) start, float32.
        schedule: the network's.
        sampler: steps.
        prepare: changes the state before every step, and the change stays.
        observe: called after every step with its number from 0, the state and the prediction of x0.

    Returns:
        The latents, float32, same shape as `noise`.

    Raises:
        ConfigError: see `ddim_steps`.
    """
    steps = ddim_steps(schedule, sampler)
    x = noise.float()
    for number, index in enumerate(reversed(range(len(steps.timesteps)))):
        if prepare is not None:
            x = prepare(x)
        found = predict(x, steps.timesteps[index]).float()
        abar, before = float(steps.abar[index]), float(steps.abar_before[index])
        sigma = float(steps.sigma[index])
        if schedule.prediction == "epsilon":
            e, clean = found, (x - sigma * found) / abar**0.5
        else:
            e, clean = abar**0.5 * found + sigma * x, abar**0.5 * x - sigma * found
        x = before**0.5 * clean + (1.0 - before) ** 0.5 * e
        if observe is not None:
            observe(number, x, clean)
    return x
