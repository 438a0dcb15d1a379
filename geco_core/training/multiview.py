"""The micro multi-view teacher's training task: v-prediction on tiled six-view latents.

Recipe (docs/lab): linear betas rescaled to zero terminal SNR, a fixed share of every batch at the
last timestep (the one that turns a condition image into views), 10% of the conditions dropped for
classifier-free guidance, plain v-MSE.

Legend: B batch, c latent channels, h x w latent tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from geco_core.config.models import SamplerConfig
from geco_core.evaluate.image import psnr
from geco_core.imaging.framing import condition_pixels_from_tensor
from geco_core.multiview.generate import views_of_images
from geco_core.multiview.zero123plus import Zero123Plus
from geco_core.training.cache import ExampleCache, epoch_rows
from geco_core.training.sheets import save_sheet


@dataclass(frozen=True)
class MultiViewTaskConfig:
    """Numbers of the task.

    `last_step_share` of each batch is drawn at the last timestep, the rest uniformly over all.
    """

    batch_size: int = 8
    last_step_share: float = 0.4
    condition_dropout: float = 0.1
    seed: int = 0
    evaluate_objects: int = 48
    evaluate_steps: int = 8


class MultiViewTask:
    """Loss and evaluation of a `Zero123Plus` whose codec has been fitted already."""

    def __init__(
        self,
        model: Zero123Plus,
        train: ExampleCache,
        heldout: ExampleCache,
        config: MultiViewTaskConfig,
    ) -> None:
        self.model = model
        self._train = train
        self._heldout = heldout
        self._config = config

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        """v-MSE of the batch at `step`; also reports the share at the last timestep."""
        cfg, model = self._config, self.model
        rows = epoch_rows(len(self._train), cfg.batch_size, step, cfg.seed)
        images = self._train.images("condition", rows)
        with torch.no_grad():
            target_Bchw = model.encode_views(self._train.images("views", rows))
        last = model.config.schedule.num_train_timesteps - 1
        count = max(1, round(cfg.last_step_share * cfg.batch_size))
        t_B = torch.randint(0, last + 1, (cfg.batch_size,), generator=generator)
        t_B[:count] = last
        dropped_B = torch.rand(cfg.batch_size, generator=generator) < cfg.condition_dropout
        noise = torch.randn(target_Bchw.shape, generator=generator)
        condition = model.encode_condition(*condition_pixels_from_tensor(images, model.config))
        condition = condition.replace_rows(dropped_B, model.negative_condition())
        reference_noise = torch.randn(condition.latents.shape, generator=generator)
        noised_Bchw = model.schedule.add_noise(target_Bchw, noise, t_B)
        prediction = model.predict_v(noised_Bchw, t_B, condition, reference_noise)
        v_target = model.schedule.velocity(target_Bchw, noise, t_B)
        errors_B = (prediction.float() - v_target).square().mean(dim=(1, 2, 3))
        parts = {
            "v_last": float(errors_B[:count].detach().mean()),
            "v_rest": float(errors_B[count:].detach().mean()),
        }
        return errors_B.mean(), parts

    def evaluate(self, step: int, folder: Path) -> Mapping[str, float]:
        """View PSNR (dB) on held-out objects, and a sheet.

        Of one step with the clean condition, one with the noised one, and multi-step samples.
        """
        rows = torch.arange(self._config.evaluate_objects)
        truth = self._heldout.images("views", rows)
        conditions = self._heldout.images("condition", rows)
        seeds = [int(i) for i in rows]
        numbers: dict[str, float] = {}
        made = {}

        for name, sampler in (
            ("one_step", SamplerConfig(kind="one_step", steps=1, guidance_scale=1.0)),
            ("single_step", SamplerConfig(kind="ddim", steps=1, guidance_scale=1.0)),
            (
                "multi_step",
                SamplerConfig(kind="ddim", steps=self._config.evaluate_steps, guidance_scale=1.0),
            ),
        ):
            made[name] = views_of_images(self.model, conditions, seeds, sampler)
            numbers[f"psnr_{name}"] = float(psnr(made[name], truth).mean())
        sheet = torch.cat(
            [
                conditions[:12, None],
                truth[:12, :3],
                made["one_step"][:12, :3],
                made["multi_step"][:12, :3],
            ],
            dim=1,
        )
        save_sheet(sheet, folder / f"views-{step:06d}.png")
        return numbers
