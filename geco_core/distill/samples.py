"""Sample sheets: what the averaged weights make of fixed conditions and fixed noise.

A sheet of one step is compared with that of another, so everything but the weights stays the same:
rows, noise and cameras.

Legend: B rows of the sheet, V views, K renders, C side of a cell in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geco_core.distill.draws import RowDraws
from geco_core.distill.stage1_trainer import Stage1Data, Stage1Trainer
from geco_core.distill.stage2_trainer import Stage2Data, Stage2Trainer, on_device
from geco_core.imaging.views import resize_views

CELL = 128
SHOWN_RENDERS = 4


@torch.no_grad()
def stage1_sheet(trainer: Stage1Trainer, data: Stage1Data, rows: int) -> np.ndarray:
    """Condition and views per row, uint8 [B C, (1 + V) C, 3].

    Args:
        trainer: its averaged generator makes the views.
        data: the first rows are shown.
        rows: how many.
    """
    count = min(rows, len(data))
    stage1, unet = trainer.stage1, trainer.stage1.networks.generator.unet
    device = stage1.networks.teacher.device
    images = data.images(torch.arange(count)).to(device)
    draws = RowDraws(trainer.config.seed, 0, range(count), stream="samples", device=device)
    trainer.ema.swap(unet)
    try:
        with trainer.config.precision(device):
            z = draws.normal(stage1.networks.teacher.latent_shape)
            latents = stage1.generate(z, stage1.conditions(images, draws))
            views = stage1.networks.generator.decode(latents)
    finally:
        trainer.ema.swap(unet)
    return sheet([images[:, None], views])


@torch.no_grad()
def stage2_sheet(trainer: Stage2Trainer, data: Stage2Data, rows: int) -> np.ndarray:
    """Condition, target renders and ours per row, uint8 [B C, (1 + 2 K) C, 3].

    Args:
        trainer: its averaged chain makes the renders.
        data: the first rows and their first renders are shown.
        rows: how many.
    """
    count, stage2 = min(rows, len(data)), trainer.stage2
    shown = torch.arange(min(SHOWN_RENDERS, data.renders)).expand(count, -1)
    batch = on_device(data.batch(torch.arange(count), shown), stage2.generator.device)
    trainer.swap_averages()
    try:
        with trainer.config.precision(stage2.generator.device):
            ours = stage2.look(batch)
    finally:
        trainer.swap_averages()
    return sheet([batch.images[:, None], batch.renders, ours])


def sheet(columns: Sequence[Tensor]) -> np.ndarray:
    """Images side by side, uint8 [B C, N C, 3].

    Args:
        columns: images [B, n, 3, h, w] in [0, 1] each, of any sizes.
    """
    cells = torch.cat([_cells(images) for images in columns], dim=1)  # [B, N, 3, C, C]
    pixels = cells.permute(0, 3, 1, 4, 2).reshape(len(cells) * CELL, -1, 3)
    return (pixels * 255.0).round().to(torch.uint8).numpy()


def _cells(images: Tensor) -> Tensor:
    images = images.float().cpu().clamp(0.0, 1.0)
    if images.shape[-1] < CELL:  # enlarged pixels stay visible as such
        flat = F.interpolate(images.flatten(0, 1), (CELL, CELL), mode="nearest")
        return flat.unflatten(0, images.shape[:2])
    return resize_views(images, CELL)
