"""Held-out procedural objects as CRM sees them, with what is true of them.

Points lie in CRM's frame (`geco_core.shapes.canonical`): the box that its planes cover, [-1, 1]^3,
is the world's [-1.05, 1.05]^3, in which `micro_quality` measures.

Legend: B objects, b of them, P points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geco_core.evaluate.geometry import volume_iou
from geco_core.fields.crm_frame import canonical_to_world
from geco_core.shapes.dataset import condition_elevation
from geco_core.shapes.object import make_object, object_seed
from geco_core.shapes.views import ORTHO_HALF_EXTENT, condition_view
from geco_core.training.crm_examples import CrmCacheSpec, CrmExamples

Inside = Callable[[Tensor, Tensor], Tensor]
"""Rows [b] and points [b, P, 3] -> bool [b, P]: what a model takes for inside."""


@dataclass(frozen=True)
class CrmHeldOut:
    """Ground truth of B objects that no model has seen.

    Attributes:
        seeds: of the objects.
        names: their classes.
        conditions: renders uint8 [C, C, 4], straight alpha, not cropped.
        examples: pictures, coordinate maps and surface colours.
        points: [P, 3] uniform in the box, the same for every object.
        inside: bool [B, P].
    """

    seeds: tuple[int, ...]
    names: tuple[str, ...]
    conditions: tuple[np.ndarray, ...]
    examples: CrmExamples
    points: Tensor
    inside: Tensor

    def __len__(self) -> int:
        return len(self.seeds)


def load_crm_heldout(
    count: int, *, first: int = 0, view_size: int = 64, points: int = 20_000
) -> CrmHeldOut:
    """Build the ground truth of `count` held-out objects from the one of index `first` on."""
    spec = CrmCacheSpec(split="heldout", examples=count, view_size=view_size)
    seeds = tuple(object_seed(spec.split, index) for index in range(first, first + count))
    made = [make_object(seed) for seed in seeds]
    arrays = {name: np.empty(shape, dtype) for name, (dtype, shape) in spec.arrays().items()}
    for place in range(count):
        for name, value in spec.row(first + place).items():
            arrays[name][place] = value
    cloud = np.random.default_rng(12345).uniform(-1.0, 1.0, (points, 3)).astype(np.float32)
    world = canonical_to_world(torch.from_numpy(cloud)).numpy() * ORTHO_HALF_EXTENT
    return CrmHeldOut(
        seeds=seeds,
        names=tuple(shape.class_name for shape in made),
        conditions=tuple(
            condition_view(shape, condition_elevation(shape.seed), spec.render_condition_size)
            for shape in made
        ),
        examples=CrmExamples(arrays, spec),
        points=torch.from_numpy(cloud),
        inside=torch.from_numpy(np.stack([shape.sdf(world) < 0 for shape in made])),
    )


@torch.no_grad()
def field_iou(inside: Inside, truth: CrmHeldOut, count: int | None = None) -> Tensor:
    """Volume IoU [count] of the first `count` objects (all when None), 16 at a time."""
    rows = torch.arange(len(truth) if count is None else min(count, len(truth)))
    return torch.cat(
        [
            volume_iou(inside(chunk, truth.points.expand(len(chunk), -1, -1)), truth.inside[chunk])
            for chunk in rows.split(16)
        ]
    )
