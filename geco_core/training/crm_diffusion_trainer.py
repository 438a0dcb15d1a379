"""The training step of CRM's diffusion stages: one update of a network behind fixed encoders.

Follows CRM (arXiv 2403.05034, section 4.1, and its released training code as measured): the U-Net
and its Resampler learn, towers and autoencoder do not; every frame has its own timestep; latents
are draws of the posterior. A step is a pure function of the weights, the run seed and the step's
number: every draw belongs to (seed, step, place in the global batch).

Legend: b rows of a piece, F frames, c latent channels, h w latent size.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geco_core.config.crm import DdimConfig
from geco_core.config.train import ExamplesConfig, UpdatesConfig
from geco_core.distill.draws import RowDraws
from geco_core.distill.optimise import Piece, add_numbers
from geco_core.distill.samples import sheet
from geco_core.distill.world import World
from geco_core.multiview.condition_encoders import ConditionEncoders
from geco_core.multiview.crm_views import reference_channels
from geco_core.multiview.imagedream import ImageDream, ObjectCondition
from geco_core.multiview.ortho_views import frame_cameras
from geco_core.training.crm_frame_rows import FrameRowBatch, FrameRows, stack_rows
from geco_core.training.folder_trainer import FolderTrainer
from geco_core.training.frames import (
    FrameBatch,
    FrameDraws,
    FrameLossConfig,
    frame_errors,
)
from geco_core.training.updates import autocast


class CrmDiffusionTrainer(FolderTrainer[ImageDream, FrameRows]):
    """A network with its optimiser.

    Args:
        model: trained in place.
        encoders: fixed.
        rows: what is trained on.
        updates: of the optimisation.
        loss: what is drawn.
        examples: how rows are read ahead.
        seed: of every draw.
        world: the processes that train together.
    """

    def __init__(
        self,
        model: ImageDream,
        encoders: ConditionEncoders,
        rows: FrameRows,
        updates: UpdatesConfig,
        loss: FrameLossConfig,
        examples: ExamplesConfig,
        seed: int,
        world: World,
    ) -> None:
        model.requires_grad_(True).train()
        super().__init__(model, rows, updates, examples, seed, world)
        self._encoders = encoders.requires_grad_(False).eval()
        self._loss = loss
        with torch.no_grad():
            _, self._negative = encoders.prompt_states()

    def _gather(self, step: int) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for piece in self._pieces(step):
            loss = self.piece_loss(step, piece)
            self._steps.backward(loss, piece.weight, step)
            add_numbers(numbers, {"loss": float(loss.detach())}, piece.weight)
        return numbers

    def piece_loss(self, step: int, piece: Piece) -> Tensor:
        """Mean squared error of the rows of a piece."""
        made = self._ahead.take(step, piece)
        tokens = [self._encoders.token_row(row.prompt) for row in made]
        batch = stack_rows(made, tokens).to(self.model.device)
        with autocast(self.updates, self.model.device):
            frames = self._frames(step, piece, batch)
            return frame_errors(self.model, frames, self._draws(step, piece)).per_object.mean()

    @torch.no_grad()
    def look(self, count: int, sampler: DdimConfig) -> np.ndarray:
        """A sheet of condition, truth and samples of fixed objects and noise, a row per object."""
        shown, heldout = self._shown_rows(count)
        made = [self._rows.plain(row, heldout=heldout) for row in shown]
        tokens = [self._encoders.token_row(row.prompt) for row in made]
        batch = stack_rows(made, tokens).to(self.model.device)
        draws = RowDraws(self._seed, 0, shown, stream="samples")
        rig, latent = self.model.config.rig, self._encoders.latent_shape
        start = draws.normal((rig.frames, *latent))
        with self._averaged(), autocast(self.updates, self.model.device):
            condition = self._condition(batch, None)
            latents = self.model.sample(condition, frame_cameras(rig), start, sampler)
            images = self._encoders.images(latents[:, : rig.generated].flatten(0, 1))
        samples = images.unflatten(0, (len(shown), rig.generated))
        return sheet([(batch.condition[:, None] + 1) / 2, (batch.targets + 1) / 2, samples])

    @torch.no_grad()
    def _frames(self, step: int, piece: Piece, batch: FrameRowBatch) -> FrameBatch:
        draws = RowDraws(self._seed, step, piece.places, stream="posterior")
        targets = self._latents(batch.targets, draws)
        return FrameBatch(targets, self._condition(batch, draws))

    def _condition(self, batch: FrameRowBatch, draws: RowDraws | None) -> ObjectCondition:
        config, encoders = self.model.config, self._encoders
        noise = None if draws is None else draws.normal(encoders.latent_shape)
        reference = channels = None
        if config.rig.reference:
            reference = encoders.latents(batch.condition, noise)
        if config.reference_channels:
            channels = reference_channels(encoders, batch.condition, config.rig, noise)
        return ObjectCondition(
            text=encoders.text_states(batch.tokens),
            negative_text=self._negative,
            image_states=encoders.image_states(batch.vision),
            reference=reference,
            pixel_latents=None if batch.shown is None else self._latents(batch.shown, draws),
            reference_channels=channels,
        )

    def _latents(self, pixels_bF3SS: Tensor, draws: RowDraws | None) -> Tensor:
        """Latents [b, F, c, h, w]: draws of the posterior, its mean without any."""
        noise = None
        if draws is not None:
            noise = draws.normal((pixels_bF3SS.shape[1], *self._encoders.latent_shape))
        flat = self._encoders.latents(
            pixels_bF3SS.flatten(0, 1), None if noise is None else noise.flatten(0, 1)
        )
        return flat.unflatten(0, pixels_bF3SS.shape[:2])

    def _draws(self, step: int, piece: Piece) -> FrameDraws:
        loss, total = self._loss, self.model.config.schedule.num_train_timesteps
        rig = self.model.config.rig
        draws = RowDraws(self._seed, step, piece.places, stream="frames")
        columns = rig.frames if loss.per_frame_times else 1
        times = torch.stack([draws.integers(0, total - 1) for _ in range(columns)], dim=1)
        last = draws.below(loss.last_step_share)
        times = torch.where(last[:, None], total - 1, times)
        dropped = draws.below(loss.condition_dropout)
        noise = draws.normal((rig.generated, *self._encoders.latent_shape))
        return FrameDraws(times.repeat(1, rig.frames // columns), noise, dropped)
