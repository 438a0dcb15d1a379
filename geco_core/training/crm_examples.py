"""Procedural examples for CRM's reconstructor, held in memory: a tile of 32 takes 100 kB each.

Legend: n examples, S plane side, P signed-distance points, Q colour points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geco_core.reconstruct.crm_input import network_input
from geco_core.shapes.canonical import canonical_points, canonical_views
from geco_core.shapes.dataset import make_example
from geco_core.shapes.object import Split, object_seed
from geco_core.shapes.views import ORTHO_HALF_EXTENT

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CrmExamples:
    """Inputs and supervision, in CRM's frame and scale.

    Attributes:
        images: uint8 [n, 12, S, 3 S], the clean input of the network.
        sdf_points: float32 [n, P, 3]; the first half near the surface, the second uniform.
        sdf_values: float32 [n, P], negative inside.
        color_points: float32 [n, Q, 3] on the surface.
        color_values: float32 [n, Q, 3] in [0, 1].
    """

    images: Tensor
    sdf_points: Tensor
    sdf_values: Tensor
    color_points: Tensor
    color_values: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def inputs(self, rows: Tensor) -> Tensor:
        """Clean input float32 [b, 12, S, 3 S] in [0, 1]."""
        return self.images[rows].float() / 255.0


def make_crm_examples(
    split: Split,
    count: int,
    plane_size: int,
    *,
    sdf_points: int = 1024,
    color_points: int = 512,
    progress: Progress | None = None,
) -> CrmExamples:
    """The first `count` objects of a split."""
    rows = []
    for index in range(count):
        example = make_example(
            object_seed(split, index),
            view_size=plane_size,
            condition_size=plane_size,
            n_sdf=sdf_points,
            n_color=color_points,
            with_ortho=True,
        )
        assert example.ortho_views is not None
        assert example.ortho_maps is not None
        views, ccms = canonical_views(example.ortho_views, example.ortho_maps)
        rows.append(
            (
                (network_input(views[None], ccms[None])[0] * 255.0).byte(),
                canonical_points(torch.from_numpy(example.sdf_points)),
                torch.from_numpy(example.sdf_values) / ORTHO_HALF_EXTENT,
                canonical_points(torch.from_numpy(example.color_points)),
                torch.from_numpy(example.color_values),
            )
        )
        if progress is not None:
            progress(index + 1, count)
    return CrmExamples(*(torch.stack(column) for column in zip(*rows, strict=True)))
