"""Point heads evaluated on an extraction grid, for every reconstructor that ends in FlexiCubes.

A whole grid has half a million nodes and more; what goes to the heads goes in chunks.

Legend: B batch, N grid nodes, U nodes of surface cubes, S cubes, P points, F features of a point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from geco_core.fields.decoders import CubeHead
from geco_core.surface.grid import RegularGrid

WEIGHT_SCALE = 0.5
CUBES_PER_CHUNK = 16384
WeightsOn = Literal["all", "surface"]
# Planes [B, 3, C, h, w] and points [B, P, 3] to values [B, P]; the surface is where they change
# sign.
FieldFn = Callable[[Tensor, Tensor], Tensor]


def dense_values(field: FieldFn, planes: Tensor, grid: RegularGrid, chunk_points: int) -> Tensor:
    """Values [B, N] at every grid node of planes [B, 3, C, h, w]."""
    points = grid.points(device=planes.device)
    parts = [
        field(planes, chunk.expand(len(planes), -1, -1)) for chunk in points.split(chunk_points)
    ]
    return torch.cat(parts, 1)


def cube_weights(decoder: CubeHead, features: Tensor, corners: Tensor) -> Tensor:
    """Raw FlexiCubes weights [S, 21] of cubes whose corners [S, 8] index node features [U, F].

    Works in chunks and recomputes them in the backward pass: corner features of a whole grid would
    take gigabytes.
    """

    def chunk_weights(chunk: Tensor) -> Tensor:
        return decoder.weights(features[chunk].flatten(1))

    keep = not torch.is_grad_enabled() or len(corners) <= CUBES_PER_CHUNK
    parts = [
        chunk_weights(chunk) if keep else checkpoint(chunk_weights, chunk, use_reentrant=False)
        for chunk in corners.split(CUBES_PER_CHUNK)
    ]
    return torch.cat([part for part in parts if isinstance(part, Tensor)])


def with_signs_of(values: Tensor, known: Tensor) -> Tensor:
    """`values` with the signs of `known`, gradients kept; both [U].

    Under bfloat16 a value may round across zero from one pass to the next; the signs of the pass
    that chose the cubes hold.
    """
    same = (values < 0) == (known < 0)
    return torch.where(same, values, values - (values - known).detach())
