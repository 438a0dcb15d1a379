"""Contact sheets: many small pictures as one, to look at the object distribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geco_core.config.models import ViewRigConfig
from geco_core.shapes.classes import CLASS_NAMES
from geco_core.shapes.object import ShapeObject, make_object_of_class
from geco_core.shapes.views import condition_view, over_white, rig_views


def grid(images: Sequence[np.ndarray], columns: int, *, gap: int = 2) -> np.ndarray:
    """Lay pictures out row by row.

    Args:
        images: RGB float [H, W, 3] in [0, 1], all of one size.
        columns: pictures per row; missing ones at the end stay white.
        gap: light grey pixels between pictures.

    Returns:
        RGB uint8 [rows * (H + gap) - gap, columns * (W + gap) - gap, 3].

    Raises:
        ValueError: for no pictures or pictures of different sizes.
    """
    if not images or len({image.shape for image in images}) != 1:
        raise ValueError("a sheet needs at least one picture, all of one size")
    height, width, _ = images[0].shape
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 0.8)
    for k in range(rows * columns):
        top, left = k // columns * (height + gap), k % columns * (width + gap)
        sheet[top : top + height, left : left + width] = images[k] if k < len(images) else 1.0
    return np.floor(np.clip(sheet, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def strip(made: ShapeObject, size: int, elevation_deg: float = 10.0) -> list[np.ndarray]:
    """Condition view and the six rig views of one object, over white, RGB float [S, S, 3] each."""
    views = [condition_view(made, elevation_deg, size), *rig_views(made, ViewRigConfig(), size)]
    return [over_white(view) for view in views]


def class_sheet(
    *, names: Sequence[str] = CLASS_NAMES, variants: int = 2, size: int = 64
) -> np.ndarray:
    """One row per class, RGB uint8.

    `variants` objects (seeds 0, 1, ...) side by side, seven views each.
    """
    images = []
    for name in names:
        for seed in range(variants):
            images += strip(make_object_of_class(name, seed), size)
    return grid(images, 7 * variants)
