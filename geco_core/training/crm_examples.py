"""Procedural examples for CRM: six views with coordinate maps, a condition image, points.

The same rows train the two diffusion stages and the reconstructor. They lie on disk like the other
caches, or in memory where few are wanted.

Legend: n examples, b batch, S view side, C condition side, P signed-distance points, Q colour
points, 6 views in order 0..5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from geco_core.imaging.content import prepare_image
from geco_core.imaging.framing import resize_foreground
from geco_core.reconstruct.crm_input import network_input
from geco_core.shapes.canonical import canonical_points, canonical_views
from geco_core.shapes.dataset import make_example
from geco_core.shapes.object import object_seed
from geco_core.shapes.views import ORTHO_HALF_EXTENT
from geco_core.training.cache import CacheSpec, Progress, ensure_arrays


@dataclass(frozen=True)
class CrmCacheSpec(CacheSpec):
    """What one cache holds: S is `view_size`, C `condition_size`.

    The condition is as rendered where `foreground_ratio` is 0, as `CrmDiffusionConfig` says.
    """

    foreground_ratio: float = 0.0

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """File stem -> (dtype, shape)."""
        side = self.view_size
        return {**super().arrays(), "ccms": ("uint8", (self.examples, 6, side, side, 3))}

    def row(self, index: int) -> dict[str, np.ndarray]:
        """One object."""
        example = make_example(
            object_seed(self.split, index),
            view_size=self.view_size,
            condition_size=self.render_condition_size,
            n_sdf=self.sdf_points,
            n_color=self.color_points,
            with_ortho=True,
        )
        assert example.ortho_views is not None
        assert example.ortho_maps is not None
        views, ccms = canonical_views(example.ortho_views, example.ortho_maps)
        rgba = example.condition
        if self.foreground_ratio:
            rgba = resize_foreground(rgba, self.foreground_ratio)
        prepared = prepare_image(rgba)
        size = (self.condition_size, self.condition_size)
        points = canonical_points(torch.from_numpy(example.sdf_points))
        return {
            "condition": np.asarray(
                Image.fromarray(prepared).resize(size, Image.Resampling.BILINEAR)
            ),
            "views": _levels(views),
            "ccms": _levels(ccms),
            "sdf_points": points.numpy(),
            "sdf_values": example.sdf_values / ORTHO_HALF_EXTENT,
            "color_points": canonical_points(torch.from_numpy(example.color_points)).numpy(),
            "color_values": np.round(example.color_values * 255.0),
        }


class CrmExamples:
    """Read access to rows; batches come back as float tensors, pictures in [0, 1]."""

    def __init__(self, arrays: Mapping[str, np.ndarray], spec: CrmCacheSpec) -> None:
        self.spec = spec
        self._arrays = arrays

    def __len__(self) -> int:
        return self.spec.examples

    def conditions(self, rows: Tensor) -> list[np.ndarray]:
        """Prepared condition images, uint8 [C, C, 3] each."""
        return [np.array(self._arrays["condition"][int(i)]) for i in rows]

    def views(self, rows: Tensor) -> Tensor:
        """The six views, float32 [b, 6, 3, S, S]."""
        return self._pictures("views", rows)

    def ccms(self, rows: Tensor) -> Tensor:
        """Their coordinate maps, float32 [b, 6, 3, S, S]."""
        return self._pictures("ccms", rows)

    def inputs(self, rows: Tensor) -> Tensor:
        """The reconstructor's clean input of true views, float32 [b, 12, S, 3 S]."""
        return network_input(self.views(rows), self.ccms(rows))

    def sdf(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Points float32 [b, p, 3] in CRM's frame and distances [b, p], negative inside.

        `columns` [p] picks the samples: the first half of them lies near the surface.
        """
        return self._picked("sdf_points", rows, columns), self._picked("sdf_values", rows, columns)

    def colors(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Surface points float32 [b, q, 3] in CRM's frame and their colours [b, q, 3]."""
        values = self._picked("color_values", rows, columns)
        return self._picked("color_points", rows, columns), values / 255.0

    def _pictures(self, name: str, rows: Tensor) -> Tensor:
        pixels = torch.from_numpy(np.stack([self._arrays[name][int(i)] for i in rows]))
        return pixels.movedim(-1, -3).float() / 255.0

    def _picked(self, name: str, rows: Tensor, columns: Tensor) -> Tensor:
        picked = columns.numpy()
        return torch.from_numpy(
            np.stack([self._arrays[name][int(i)][picked] for i in rows])
        ).float()


def ensure_crm_examples(
    folder: Path, spec: CrmCacheSpec, processes: int, progress: Progress
) -> CrmExamples:
    """Open the rows in `folder`, making them first when they are missing or of something else."""
    return CrmExamples(ensure_arrays(folder, spec, processes, progress), spec)


def make_crm_examples(spec: CrmCacheSpec) -> CrmExamples:
    """The same rows in memory."""
    arrays = {n: np.empty(shape, dtype) for n, (dtype, shape) in spec.arrays().items()}
    for index in range(spec.examples):
        for name, value in spec.row(index).items():
            arrays[name][index] = value
    return CrmExamples(arrays, spec)


def _levels(images_V3SS: Tensor) -> np.ndarray:
    """uint8 [V, S, S, 3], truncated as CRM's data is."""
    return (images_V3SS * 255.0).byte().permute(0, 2, 3, 1).numpy()
