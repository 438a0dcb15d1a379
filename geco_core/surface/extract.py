"""From a field on some nodes to a mesh.

Deformation and weights are asked for where the surface is, nowhere else.

The published reconstructors evaluate their weight head on every cube of the grid (2.1 million at
resolution 128); only the 2-12 % of cubes that the surface crosses influence the mesh.

Legend: U nodes of surface cubes, S surface cubes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from geco_core.config.models import ExtractionConfig
from geco_core.surface.flexicubes import extract_cells, split_weights
from geco_core.surface.grid import RegularGrid
from geco_core.surface.quads import FaceOrder
from geco_core.surface.sparse import SdfFn, SurfaceNodes, evaluate_sparse

OffsetFn = Callable[[Tensor], Tensor]
WeightFn = Callable[[Tensor, Tensor], Tensor]


def extract_surface(
    sdf_fn: SdfFn,
    offset_fn: OffsetFn | None,
    weight_fn: WeightFn | None,
    grid: RegularGrid,
    config: ExtractionConfig,
    *,
    weight_scale: float = 0.5,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Evaluate a field on `grid` and extract its surface.

    The grid's resolution rules, not `config.grid_res`.

    Args:
        sdf_fn: points [P, 3] to values [P], negative inside.
        offset_fn: see `extract_nodes`.
        weight_fn: see `extract_nodes`.
        grid: the grid.
        config: how to evaluate: `exact`, `coarse_factor`, `dilate`, `chunk_points`.
        weight_scale: see `flexicubes`.
        device: where to work.

    Returns:
        `(vertices [V, 3], faces int64 [F, 3])` in the grid's frame; empty when nothing changes
        sign.
    """
    field = evaluate_sparse(
        sdf_fn,
        grid,
        coarse_factor=config.coarse_factor,
        dilate=config.dilate,
        exact=config.exact,
        chunk_points=config.chunk_points,
        device=device,
    )
    vertices, faces, _ = extract_nodes(
        field.surface(), offset_fn, weight_fn, weight_scale=weight_scale
    )
    return vertices, faces


def extract_nodes(
    nodes: SurfaceNodes,
    offset_fn: OffsetFn | None = None,
    weight_fn: WeightFn | None = None,
    *,
    weight_scale: float = 0.5,
    training: bool = False,
    order: FaceOrder = "instantmesh",
) -> tuple[Tensor, Tensor, Tensor]:
    """`flexicubes` on surface nodes already found (`SparseField.surface()`).

    Args:
        nodes: surface cubes, their nodes and values.
        offset_fn: undeformed points [U, 3] to displacements [U, 3] (after any squashing); None for
            no deformation.
        weight_fn: `(undeformed points [U, 3], corners int64 [S, 8] into them)` to raw weights [S,
            21], 12 beta, 8 alpha, 1 gamma; None for neutral weights. Each point is listed once, so
            features can be sampled per point and gathered per corner, in chunks of cubes of the
            caller's choosing.
        weight_scale: see `flexicubes`.
        training: see `flexicubes`.
        order: see `flexicubes`.

    Returns:
        `(vertices, faces, deviation)`, see `flexicubes`. The callbacks are not called for an empty
        surface.
    """
    points_U3 = nodes.points()
    empty = nodes.cells.cubes.shape[0] == 0
    moved_U3 = points_U3 if offset_fn is None or empty else points_U3 + offset_fn(points_U3)
    weights: dict[str, Tensor] = {}
    if weight_fn is not None and not empty:
        weights = split_weights(weight_fn(points_U3, nodes.cells.corners))
    return extract_cells(
        moved_U3,
        nodes.sdf,
        nodes.cells,
        beta=weights.get("beta"),
        alpha=weights.get("alpha"),
        gamma=weights.get("gamma"),
        weight_scale=weight_scale,
        training=training,
        order=order,
    )
