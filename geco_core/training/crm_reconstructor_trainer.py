"""The training step of CRM's reconstructor, end to end through renders.

Follows CRM (arXiv 2403.05034, sections 3.3 and 4.1); the loss is `crm_render`'s. A step is a pure
function of the weights, the run seed and the step's number: every draw belongs to (seed, step,
place in the global batch), and every object goes through the network by itself.

Legend: k renders, S plane side, R render side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geco_core.config.train import ExamplesConfig, UpdatesConfig
from geco_core.distill.draws import row_generator
from geco_core.distill.optimise import Piece, add_numbers, batch_pieces, refuse_foreign
from geco_core.distill.samples import SHOWN_RENDERS, sheet
from geco_core.distill.world import World
from geco_core.evaluate.perceptual import Perceptual
from geco_core.reconstruct.crm import CrmReconstructor
from geco_core.render.protocol import Rasterizer
from geco_core.training.ahead import RowsAhead
from geco_core.training.crm_render import CrmRenderConfig, crm_render_loss, render_planes
from geco_core.training.crm_render_rows import RenderRow, RenderRows, rendered_batch
from geco_core.training.loop import Ema
from geco_core.training.updates import autocast, make_stepper


class CrmReconstructorTrainer:
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
        self.model, self.updates = model.requires_grad_(True).eval(), updates
        self._rows, self._render, self._seed, self._world = rows, render, seed, world
        self._perceptual, self._rasterizer = perceptual, rasterizer
        self._device = next(model.parameters()).device
        self._optimise = updates.optimise(seed)
        self._steps = make_stepper([(list(model.parameters()), updates.rate)], updates, seed, world)
        self.ema = Ema(model, updates.ema_decay) if updates.ema_decay else None
        self._ahead = RowsAhead(
            rows.row, self._pieces, updates.steps, threads=examples.threads, ahead=examples.ahead
        )

    def step(self, step: int) -> Mapping[str, float]:
        """One update.

        Returns:
            The loss and its parts, the gradient's norm and how many objects could not be read,
            averaged over the processes.

        Raises:
            Fatal: a loss became non-finite, or no object can be read.
        """
        numbers: dict[str, float] = {}
        for piece in self._pieces(step):
            share = piece.weight / len(piece.places)
            made = self._ahead.take(step, piece)
            for place, row in zip(piece.places, made, strict=True):
                loss, parts = self.row_loss(step, place, row)
                self._steps.backward(loss, share, step)
                add_numbers(numbers, {"loss": float(loss.detach()), **parts}, share)
        numbers["norm"] = self._steps.update(step)
        numbers["bad_objects"] = float(len(self._rows.folder.bad))
        if self.ema is not None:
            self.ema.update(self.model, step)
        return self._world.mean(numbers)

    def row_loss(self, step: int, place: int, row: RenderRow) -> tuple[Tensor, Mapping[str, float]]:
        """Loss of one object and its parts."""
        generator = row_generator(self._seed, step, place, "loss")
        batch = rendered_batch(row).to(self._device)
        with autocast(self.updates, self._device):
            return crm_render_loss(
                self.model, batch, self._render, generator, self._perceptual, self._rasterizer
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything a later `step` depends on, as tensors and plain data."""
        return {
            "weights": self.model.state_dict(),
            "steps": self._steps.state_dict(),
            "ema": self.ema.shadow if self.ema else {},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`. Raises `Fatal` when it does not fit."""
        try:
            self.model.load_state_dict(state["weights"])
            self._steps.load_state_dict(state["steps"])
            if self.ema is not None:
                self.ema.load(state["ema"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise refuse_foreign(error) from error

    def weights(self) -> dict[str, Tensor]:
        """What is exported: the average where there is one."""
        return dict(self.ema.shadow) if self.ema else self.model.state_dict()

    @torch.no_grad()
    def look(self, count: int) -> np.ndarray:
        """A sheet of true renders and ours of fixed objects, a row per object."""
        heldout = bool(self._rows.folder.heldout)
        total = len(self._rows.folder.heldout) if heldout else len(self._rows)
        true, ours = [], []
        if self.ema is not None:
            self.ema.swap(self.model)
        try:
            for row in range(min(count, total)):
                wanted, made = self._shown(self._rows.plain(row, heldout=heldout), row)
                true.append(wanted)
                ours.append(made)
        finally:
            if self.ema is not None:
                self.ema.swap(self.model)
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

    def _pieces(self, step: int) -> list[Piece]:
        return batch_pieces(len(self._rows), step, self._optimise, self._world)
