"""Training examples of procedural objects, alone and in batches.

An example is a pure function of (seed, sizes): nothing is stored, nothing depends on the process,
the order or other examples. Each kind of randomness has its own stream, so that asking for more
points of one kind leaves the pictures and the other points as they are.

Legend: B batch, V views, S view side, C condition side, P signed-distance points, Q colour points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from geco_core.config.models import ViewRigConfig
from geco_core.shapes.object import ShapeObject, make_object
from geco_core.shapes.sample import sample_sdf, sample_surface
from geco_core.shapes.views import condition_view, ortho_views, over_white, rig_views

ELEVATION_RANGE_DEG = (-5.0, 25.0)
_STREAMS = {"elevation": 1, "sdf": 2, "color": 3}
_RIG = ViewRigConfig()


@dataclass(frozen=True, eq=False)
class ShapeExample:
    """One object as data.

    Pictures are uint8 RGBA with straight alpha, row 0 at the top; points are in the world.

    Attributes:
        seed: of the object.
        class_name: one of `CLASS_NAMES`.
        caption: e.g. "a cyan chair with red legs".
        elevation_deg: of the condition camera (azimuth 0, radius 4, field of view 30 degrees).
        condition: uint8 [C, C, 4].
        views: uint8 [V, S, S, 4], in the order of the rig.
        sdf_points: float32 [P, 3].
        sdf_values: float32 [P], negative inside.
        color_points: float32 [Q, 3] on the visible surface.
        color_values: float32 [Q, 3] in [0, 1], light baked in.
        color_normals: float32 [Q, 3], unit.
        ortho_views: uint8 [6, S, S, 4] or None.
        ortho_maps: canonical coordinate maps float32 [6, S, S, 3] in [0, 1] or None.
    """

    seed: int
    class_name: str
    caption: str
    elevation_deg: float
    condition: np.ndarray
    views: np.ndarray
    sdf_points: np.ndarray
    sdf_values: np.ndarray
    color_points: np.ndarray
    color_values: np.ndarray
    color_normals: np.ndarray
    ortho_views: np.ndarray | None = None
    ortho_maps: np.ndarray | None = None


def make_example(
    seed: int,
    *,
    view_size: int = 64,
    condition_size: int = 128,
    n_sdf: int = 1024,
    n_color: int = 512,
    with_ortho: bool = False,
    rig: ViewRigConfig = _RIG,
) -> ShapeExample:
    """Everything about the object of a seed (0 <= seed < 2**63, see `object_seed`).

    Args:
        view_size: side of all views but the condition, pixels.
        condition_size: side of the condition view, pixels; not cropped to the foreground.
        n_sdf: number of signed-distance points, half of them near the surface.
        n_color: number of surface colour points.
        with_ortho: also make the axis-parallel views and their coordinate maps.
        rig: cameras of the views; its `view_size` is not read.
    """
    made, elevation_deg = make_object(seed), condition_elevation(seed)
    sdf = sample_sdf(made, n_sdf, _stream(seed, "sdf"))
    surface = sample_surface(made, n_color, _stream(seed, "color"))
    ortho, maps = ortho_views(made, view_size) if with_ortho else (None, None)
    return ShapeExample(
        seed=seed,
        class_name=made.class_name,
        caption=made.caption,
        elevation_deg=elevation_deg,
        condition=condition_view(made, elevation_deg, condition_size),
        views=rig_views(made, rig, view_size),
        sdf_points=sdf.points,
        sdf_values=sdf.values,
        color_points=surface.points,
        color_values=surface.colors,
        color_normals=surface.normals,
        ortho_views=ortho,
        ortho_maps=maps,
    )


def condition_elevation(seed: int) -> float:
    """Elevation in degrees of the condition camera of a seed: uniform in [-5, 25)."""
    low, high = ELEVATION_RANGE_DEG
    return low + (high - low) * float(_stream(seed, "elevation").random())


def collate(examples: Sequence[ShapeExample]) -> dict[str, Any]:
    """A batch as tensors, pictures over white.

    Returns:
        condition [B, 3, C, C], views [B, V, 3, S, S], ortho_views [B, 6, 3, S, S] and ortho_maps
        [B, 6, 3, S, S] when every example has them: float32 in [0, 1]; sdf_points [B, P, 3],
        sdf_values [B, P], color_points, color_values, color_normals [B, Q, 3]: float32; seeds,
        captions, class_names: lists.

    Raises:
        ValueError: for an empty batch.
    """
    if not examples:
        raise ValueError("an empty batch can not be collated")
    batch: dict[str, Any] = {
        "seeds": [example.seed for example in examples],
        "captions": [example.caption for example in examples],
        "class_names": [example.class_name for example in examples],
        "condition": _pictures([example.condition for example in examples]),
        "views": _pictures([example.views for example in examples]),
    }
    for name in ("sdf_points", "sdf_values", "color_points", "color_values", "color_normals"):
        batch[name] = torch.from_numpy(np.stack([getattr(example, name) for example in examples]))
    ortho = [example.ortho_views for example in examples if example.ortho_views is not None]
    maps = [example.ortho_maps for example in examples if example.ortho_maps is not None]
    if len(ortho) == len(maps) == len(examples):
        batch["ortho_views"] = _pictures(ortho)
        batch["ortho_maps"] = torch.from_numpy(np.stack(maps)).movedim(-1, -3).contiguous()
    return batch


def surface_cloud(made: ShapeObject, count: int) -> np.ndarray:
    """Visible surface points float32 [count, 3]: the ground truth of point-set metrics."""
    return sample_surface(made, count, _stream(made.seed, "color")).points


def _pictures(images: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(over_white(np.stack(images))).movedim(-1, -3).contiguous()


def _stream(seed: int, name: str) -> np.random.Generator:
    # Streams apart from the object's own (`Dice`), which is seeded by the bare integer.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, _STREAMS[name]])))
