"""The noise schedule and the conversions between v, noise and clean prediction.

x_t = a x0 + s e with a = sqrt(abar_t), s = sqrt(1 - abar_t), a^2 + s^2 = 1 and v = a e - s x0
(Salimans & Ho, arXiv 2202.00512). So x0 = a x_t - s v and e = s x_t + a v. Nothing here divides by
a or s: with zero terminal SNR a_T is exactly 0 (Lin et al., arXiv 2305.08891). The tables are
diffusers' own, so that samplers and training agree.

Legend: B batch; x any tensor [B, ...].
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from geco_core.config.models import ScheduleConfig


def scheduler_arguments(config: ScheduleConfig) -> dict[str, Any]:
    """The configuration as keyword arguments of a diffusers scheduler."""
    return dataclasses.asdict(config)


class NoiseSchedule:
    """Tables of one schedule, kept in float64 whatever dtype the model has.

    Args:
        config: the schedule.

    Attributes:
        alphas_cumprod: float32 [T], abar_t as diffusers computes it.
        terminal: the last timestep, T - 1.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        with torch.device("cpu"):  # the model around may be built on the meta device
            scheduler = DDIMScheduler(
                clip_sample=False, set_alpha_to_one=False, **scheduler_arguments(config)
            )
        self.config = config
        self.alphas_cumprod: Tensor = scheduler.alphas_cumprod
        self.terminal = config.num_train_timesteps - 1
        self._tables: dict[torch.device, Tensor] = {}

    def coefficients(self, t: Tensor | int, x: Tensor) -> tuple[Tensor, Tensor]:
        """a_t and s_t, float32, shaped to broadcast against `x`.

        Args:
            t: timesteps in 0..T-1, a scalar or [B]. Fractional ones (the Euler scheduler's
                linspace) interpolate sigma = s / a linearly, as that scheduler does.
            x: the tensor they will multiply; gives device and rank.
        """
        # Looked up where the times are: a sampler's are on the CPU, and asking a device would wait.
        abar = self._lookup(torch.as_tensor(t)).to(x.device)
        abar = abar.reshape(-1, *([1] * (x.ndim - 1)))
        return abar.sqrt().float(), (1.0 - abar).sqrt().float()

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """Noisy state a x0 + s e, float32."""
        a, s = self.coefficients(t, clean)
        return a * clean.float() + s * noise.float()

    def velocity(self, clean: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """Velocity a e - s x0, the regression target, float32."""
        a, s = self.coefficients(t, clean)
        return a * noise.float() - s * clean.float()

    def clean_from_velocity(self, noisy: Tensor, v: Tensor, t: Tensor | int) -> Tensor:
        """Clean prediction a x_t - s v, float32."""
        a, s = self.coefficients(t, noisy)
        return a * noisy.float() - s * v.float()

    def noise_from_velocity(self, noisy: Tensor, v: Tensor, t: Tensor | int) -> Tensor:
        """Noise s x_t + a v, float32."""
        a, s = self.coefficients(t, noisy)
        return s * noisy.float() + a * v.float()

    def snr(self, t: Tensor | int) -> Tensor:
        """Signal to noise ratio a^2 / s^2 at scalar or [B] timesteps, float32."""
        abar = self._lookup(torch.as_tensor(t))
        return (abar / (1.0 - abar)).float()

    def _lookup(self, times: Tensor) -> Tensor:
        device = times.device
        if device not in self._tables:
            self._tables[device] = self.alphas_cumprod.to(device, torch.float64)
        table = self._tables[device]
        if not times.is_floating_point() or bool((times == times.floor()).all()):
            return table[times.long()]
        sigma = ((1.0 - table) / table.clamp(min=2.0**-24)).sqrt()
        low = times.floor().long()
        high = (low + 1).clamp(max=len(table) - 1)
        at_t = torch.lerp(sigma[low], sigma[high], times.double() - low)
        return 1.0 / (1.0 + at_t**2)
