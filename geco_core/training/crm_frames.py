"""The micro tasks of CRM's two diffusion stages: views of an image, coordinate maps of views.

Both denoise the latents of the six frames with `frame_loss`. The encoders are fixed: their codec is
fitted beforehand, their towers stay as they were drawn, as CLIP's stay in the published training.

Legend: B objects, F frames, S pixels per side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from geco_core.config.crm import DdimConfig
from geco_core.diffusion.noise import ItemNoise
from geco_core.evaluate.image import psnr
from geco_core.imaging.content import codec_pixels, vision_pixels
from geco_core.multiview.ccm import generate_ccms
from geco_core.multiview.condition_encoders import ConditionEncoders
from geco_core.multiview.crm_views import generate_views, reference_channels
from geco_core.multiview.imagedream import ImageDream, ObjectCondition
from geco_core.training.cache import epoch_rows
from geco_core.training.crm_examples import CrmExamples
from geco_core.training.degrade import degrade_views
from geco_core.training.frames import FrameBatch, FrameLossConfig, frame_loss
from geco_core.training.sheets import save_sheet

Stage = Literal["views", "ccm"]


@dataclass(frozen=True)
class CrmFramesTaskConfig:
    """Batches, draws and the evaluation.

    `degrade_share` of the objects show stage 2 blurred and noisy views: it will read generated
    ones.
    """

    batch_size: int = 8
    loss: FrameLossConfig = field(
        default_factory=lambda: FrameLossConfig(
            per_frame_times=False, last_step_share=0.375, condition_dropout=0.1
        )
    )
    degrade_share: float = 0.5
    degrade_noise: float = 0.08
    seed: int = 0
    evaluate_objects: int = 48


class CrmFramesTask:
    """Loss and evaluation of one stage on cached examples.

    Args:
        stage: which.
        model: its network.
        encoders: of both stages, fitted; not trained.
        train, heldout: examples.
        config: numbers.
        sampler: of the evaluation.
    """

    def __init__(
        self,
        stage: Stage,
        model: ImageDream,
        encoders: ConditionEncoders,
        train: CrmExamples,
        heldout: CrmExamples,
        config: CrmFramesTaskConfig,
        sampler: DdimConfig,
    ) -> None:
        self.model = model
        self._stage, self._encoders = stage, encoders.requires_grad_(False).eval()
        self._train, self._heldout = train, heldout
        self._config, self._sampler = config, sampler
        with torch.no_grad():
            self._text, self._negative = encoders.prompt_states()

    def loss(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        """Squared error; also reports the objects at the last timestep and the others apart."""
        cfg = self._config
        rows = epoch_rows(len(self._train), cfg.batch_size, step, cfg.seed)
        with torch.no_grad():
            batch = self._batch(rows, generator)
        errors = frame_loss(self.model, batch, cfg.loss, generator)
        parts = {"rest": errors.per_object[errors.last :]}
        if errors.last:
            parts["last"] = errors.per_object[: errors.last]
        numbers = {name: float(e.detach().mean()) for name, e in parts.items() if len(e)}
        return errors.per_object.mean(), numbers

    def _batch(self, rows: Tensor, generator: torch.Generator) -> FrameBatch:
        order = list(self.model.config.rig.views)
        views = self._train.views(rows)[:, order]
        images = self._train.conditions(rows)
        if self._stage == "views":
            size = self._encoders.config.image_size
            pixels = torch.stack([codec_pixels(image, size) for image in images])
            reference = self._encoders.latents(pixels, None)
            channels = reference_channels(self._encoders, pixels, self.model.config.rig, None)
            condition = self._condition(images, reference=reference, reference_channels=channels)
            return FrameBatch(self._latents(views), condition)
        cfg = self._config
        shown = degrade_views(views, cfg.degrade_share, cfg.degrade_noise, generator)
        targets = self._latents(self._train.ccms(rows)[:, order])
        return FrameBatch(targets, self._condition(images, pixel_latents=self._latents(shown)))

    def _latents(self, frames_BF3SS: Tensor) -> Tensor:
        flat = self._encoders.latents(frames_BF3SS.flatten(0, 1) * 2.0 - 1.0, None)
        return flat.unflatten(0, frames_BF3SS.shape[:2])

    def _condition(self, images: Sequence[np.ndarray], **latents: Tensor) -> ObjectCondition:
        size = self._encoders.config.vision.image_size
        states = self._encoders.image_states(torch.stack([vision_pixels(i, size) for i in images]))
        return ObjectCondition(self._text, self._negative, states, **latents)

    def evaluate(self, step: int, folder: Path) -> Mapping[str, float]:
        """PSNR (dB) of samples on held-out objects, one step and as configured, and a sheet.

        Stage 2 reads the true views.
        """
        rows = torch.arange(min(self._config.evaluate_objects, len(self._heldout)))
        order = list(self.model.config.rig.views)
        views = self._heldout.views(rows)[:, order]
        truth = views if self._stage == "views" else self._heldout.ccms(rows)[:, order]
        one = DdimConfig(steps=1, guidance_scale=1.0, spacing="trailing", last_alpha="one")
        numbers, made = {}, {}
        for name, sampler in (("one_step", one), ("multi_step", self._sampler)):
            made[name] = self._sample(rows, views, sampler)
            numbers[f"psnr_{name}"] = float(psnr(made[name], truth).mean())
        shown = [self._heldout.conditions(rows[:12]), truth[:12], made["multi_step"][:12]]
        condition = torch.stack([torch.from_numpy(i).movedim(-1, 0) / 255.0 for i in shown[0]])
        save_sheet(
            torch.cat([condition[:, None], shown[1], shown[2]], dim=1),
            folder / f"{self._stage}-{step:06d}.png",
        )
        return numbers

    def _sample(self, rows: Tensor, views: Tensor, sampler: DdimConfig) -> Tensor:
        images, noise = self._heldout.conditions(rows), ItemNoise([int(i) for i in rows])
        encoders = self._encoders
        if self._stage == "views":
            frames = generate_views(self.model, encoders, images, noise, sampler)
        else:
            levels = (views * 255.0).round().byte().movedim(-3, -1)
            frames = generate_ccms(self.model, encoders, images, levels, noise, sampler)
        return frames.movedim(-1, -3).float() / 255.0
