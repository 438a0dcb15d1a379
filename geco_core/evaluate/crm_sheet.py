"""A contact sheet of CRM: what each stage made of held-out condition images, for the eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from geco_core.cameras import orbit_pose
from geco_core.config.models import ViewRigConfig
from geco_core.evaluate.crm_quality import Made
from geco_core.evaluate.mesh_quality import mesh_renders, true_renders
from geco_core.reconstruct.crm_input import frame_values

CELL = 128  # pixels per side; six frames share one and a half cells
AZIMUTH_DEG, ELEVATION_DEG = 40.0, 25.0  # a three-quarter view from the object's left
COLUMNS = (
    ("input", 0),
    ("stage 1: views", CELL),
    ("stage 2: coordinates", 5 * CELL // 2),
    ("mesh", 4 * CELL),
    ("truth", 5 * CELL),
)
_HEADER, _GAP = 28, 24


def sheet_row(made: Made, seed: int, rig: ViewRigConfig) -> np.ndarray:
    """One object, uint8 [128, 768, 3].

    Condition, views and maps (front, left, down over back, right, top), mesh, true render.
    """
    pose = orbit_pose(AZIMUTH_DEG, ELEVATION_DEG, rig.radius)[None]
    camera = replace(rig, view_size=CELL)
    return np.concatenate(
        [
            _fitted(made.condition, CELL),
            _six(frame_values(made.frames.views)),
            _six(frame_values(made.frames.ccms)),
            _levels(mesh_renders(made.mesh, camera, pose)[0]),
            _levels(true_renders([seed], camera, pose)[0, 0]),
        ],
        axis=1,
    )


def save_contact_sheet(rows: Sequence[np.ndarray], path: Path) -> None:
    """Write rows of `sheet_row` in two columns under a line of names, as a PNG."""
    half = (len(rows) + 1) // 2
    height, width = half * CELL, rows[0].shape[1]
    canvas = Image.new("RGB", (2 * width + _GAP, height + _HEADER), "white")
    draw = ImageDraw.Draw(canvas)
    for side, part in enumerate((rows[:half], rows[half:])):
        left = side * (width + _GAP)
        for place, row in enumerate(part):
            canvas.paste(Image.fromarray(row), (left, _HEADER + place * CELL))
        for name, column in COLUMNS:
            draw.text((left + column + 8, 8), name, fill=(60, 60, 60))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, optimize=True)


def _six(values_1V3SS: Tensor) -> np.ndarray:
    """Six pictures as three by two, uint8 [128, 192, 3]."""
    tiles = [_fitted(_levels(picture), CELL // 2) for picture in values_1V3SS[0]]
    return np.concatenate([np.concatenate(tiles[k : k + 3], axis=1) for k in (0, 3)], axis=0)


def _fitted(image: np.ndarray, side: int) -> np.ndarray:
    if image.shape[0] == side:
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def _levels(image_3SS: Tensor) -> np.ndarray:
    return image_3SS.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
