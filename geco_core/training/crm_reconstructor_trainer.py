"""The training step of CRM's reconstructor, end to end through renders.

Follows CRM (arXiv 2403.05034, sections 3.3 and 4.1); the loss is `crm_render`'s. A step is a pure
function of the weights, the run seed and the step's number: every draw belongs to (seed, step,
place in the global batch), and every object goes through the network by itself.

Legend: k renders, S plane side, R render side.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from geco_core.config.train import ExamplesConfig, UpdatesConfig
from geco_core.distill.draws import row_generator
from geco_core.distill.optimise import add_numbers
from geco_core.distill.samples import SHOWN_RENDERS, sheet
from geco_core.distill.world import World
from geco_core.evaluate.perceptual import Perceptual
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.render.protocol import Rasterizer
from geco_core.training.crm_render import CrmRenderConfig, crm_render_loss, render_planes
from geco_core.training.crm_render_rows import RenderRow, RenderRows, rendered_batch
from geco_core.training.folder_trainer import FolderTrainer
from geco_core.training.updates import autocast


class CrmReconstructorTrainer(FolderTrainer[CrmReconstructor, RenderRows]):
    """The reconstructor with its optimiser.

    Args:
        model: trained in place.
        rows: what is trained on.
        updates: of the optimisation.
        render: of the loss.
        examples: how rows are read ahead.
        seed: of every draw.
        world: the processes that train together.
        perceptual: distance of renders, on the model's device.
        rasterizer: for that device.
    """

    def __init__(
        self,
        model: CrmReconstructor,
        rows: RenderRows,
        updates: UpdatesConfig,
        render: CrmRenderConfig,
        examples: ExamplesConfig,
        seed: int,
        world: World,
        perceptual: Perceptual,
        rasterizer: Rasterizer,
    ) -> None:
        model.requires_grad_(True).eval()
        super().__init__(model, rows, updates, examples, seed, world)
        self._render, self._perceptual, self._rasterizer = render, perceptual, rasterizer
        self._device = next(model.parameters()).device

    def _gather(self, step: int) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for piece in self._pieces(step):
            share = piece.weight / len(piece.places)
            made = self._ahead.take(step, piece)
            for place, row in zip(piece.places, made, strict=True):
                loss, parts = self.row_loss(step, place, row)
                self._steps.backward(loss, share, step)
                add_numbers(numbers, {"loss": float(loss.detach()), **parts}, share)
        return numbers

    def row_loss(self, step: int, place: int, row: RenderRow) -> tuple[Tensor, Mapping[str, float]]:
        """Loss of one object and its parts."""
        generator = row_generator(self._seed, step, place, "loss")
        batch = rendered_batch(row).to(self._device)
        with autocast(self.updates, self._device):
            return crm_render_loss(
                self.model, batch, self._render, generator, self._perceptual, self._rasterizer
            )

    @torch.no_grad()
    def look(self, count: int) -> np.ndarray:
        """A sheet of true renders and ours of fixed objects, a row per object."""
        shown, heldout = self._shown_rows(count)
        true, ours = [], []
        with self._averaged():
            for row in shown:
                wanted, made = self._shown(self._rows.plain(row, heldout=heldout), row)
                true.append(wanted)
                ours.append(made)
        return sheet([torch.stack(true), torch.stack(ours)])

    def _shown(self, row: RenderRow, number: int) -> tuple[Tensor, Tensor]:
        """True renders [k, 3, R, R] and ours."""
        batch = rendered_batch(row).to(self._device)
        generator = row_generator(self._seed, 0, number, "samples")
        noise = torch.randn(batch.inputs.shape, generator=generator)
        with autocast(self.updates, self._device):
            planes = self.model.forward_planes(batch.inputs, noise).float()
            shape = self.model.geometry(planes, False, grid_res=self._render.grid_res)
            made = render_planes(
                self.model, planes, shape, batch.renders, 0, self._render, self._rasterizer
            )
        return batch.renders.images[0, :SHOWN_RENDERS], made.rgb[:SHOWN_RENDERS]
