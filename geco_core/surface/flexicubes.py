"""FlexiCubes: a differentiable mesh from a scalar field on a grid.

Shen et al., "Flexible Isosurface Extraction for Gradient-Based Mesh Optimization" (2023), in the
form InstantMesh and CRM train with (no gradient function, no tetrahedra). Same vertices, faces,
their order, and regulariser as the original; differs in that surface cubes are found before any
weight is touched, so that weights may be given for the surface cubes alone, and that grids are
arithmetic.

Gradients reach positions, values, alpha and beta; gamma only with `training=True`.

Legend: N nodes, C cubes, S surface cubes, U nodes of surface cubes, V vertices, F faces.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geco_core.surface.cells import SurfaceCells, corner_cases, resolve_ambiguity, select_cells
from geco_core.surface.dual_vertices import dual_topology, dual_vertices
from geco_core.surface.grid import RegularGrid
from geco_core.surface.quads import FaceOrder, quads_of, triangulate


def flexicubes(
    vertices_N3: Tensor,
    sdf_N: Tensor,
    grid_or_cubes: RegularGrid | Tensor,
    res: int | tuple[int, int, int] | None = None,
    *,
    beta: Tensor | None = None,
    alpha: Tensor | None = None,
    gamma: Tensor | None = None,
    weight_scale: float = 0.5,
    training: bool = False,
    order: FaceOrder = "instantmesh",
    zeros_outside: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Extract the zero level set.

    Args:
        vertices_N3: [N, 3] positions of all grid nodes, any frame.
        sdf_N: [N] values, negative inside.
        grid_or_cubes: a `RegularGrid`, or int64 [C, 8] corner indices of all cubes in x-major
            order.
        res: cubes along x, y, z; read from the grid when None.
        beta: raw [C, 12] or [S, 12] edge weights; None for neutral.
        alpha: raw [C, 8] or [S, 8] corner weights; None for neutral.
        gamma: raw [C] or [S] split weights; None for neutral.
        weight_scale: how far weights may stray from 1: tanh(raw) * scale + 1 for beta and alpha,
            sigmoid(raw) * scale + (1 - scale) / 2 for gamma.
        training: four triangles per quad around a centre vertex instead of two.
        order: order of the faces, see `quads_of`.
        zeros_outside: winding at values of exactly zero, see `quads_of`; False for parity.

    Returns:
        `(vertices [V, 3], faces int64 [F, 3], deviation [I])`, see `dual_vertices` for the last;
        faces are counter-clockwise seen from outside. All empty when no cube changes sign.

    Raises:
        ValueError: no resolution, or weights for neither all cubes nor the surface cubes.
    """
    res = _resolution(grid_or_cubes, res)
    cells = select_cells(sdf_N, grid_or_cubes, res)
    num_cubes = res[0] * res[1] * res[2]
    return extract_cells(
        vertices_N3,
        sdf_N,
        cells,
        beta=_surface_rows("beta", beta, cells, num_cubes),
        alpha=_surface_rows("alpha", alpha, cells, num_cubes),
        gamma=_surface_rows("gamma", gamma, cells, num_cubes),
        weight_scale=weight_scale,
        training=training,
        order=order,
        zeros_outside=zeros_outside,
    )


def extract_cells(
    points_U3: Tensor,
    sdf_U: Tensor,
    cells: SurfaceCells,
    *,
    beta: Tensor | None = None,
    alpha: Tensor | None = None,
    gamma: Tensor | None = None,
    weight_scale: float = 0.5,
    training: bool = False,
    order: FaceOrder = "instantmesh",
    zeros_outside: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """`flexicubes` on surface cubes already found: raw weights are [S, 12], [S, 8] and [S].

    `points_U3` and `sdf_U` need to hold only the nodes `cells.corners` refers to.
    """
    if cells.cubes.shape[0] == 0:
        faces = torch.empty((0, 3), dtype=torch.long, device=sdf_U.device)
        # Sums of nothing keep the graph connected: a loss over an empty mesh has a gradient.
        return points_U3[:0] + sdf_U[:0, None], faces, sdf_U[:0] + points_U3[:0, 0]
    beta_S12 = None if beta is None else torch.tanh(beta) * weight_scale + 1
    alpha_S8 = None if alpha is None else torch.tanh(alpha) * weight_scale + 1
    gamma_S = (
        None if gamma is None else torch.sigmoid(gamma) * weight_scale + (1 - weight_scale) / 2
    )
    cases_S = resolve_ambiguity(corner_cases(sdf_U, cells), cells)
    topology = dual_topology(cases_S)
    vertices_V3, deviation_I = dual_vertices(points_U3, sdf_U, cells, topology, beta_S12, alpha_S8)
    quad_Q4 = quads_of(sdf_U, cells, cases_S, topology.first, order, zeros_outside)
    gamma_V = None if gamma_S is None else gamma_S.index_select(0, topology.cube)
    vertices, faces = triangulate(vertices_V3, quad_Q4, gamma_V, training=training)
    return vertices, faces, deviation_I


def split_weights(raw_S21: Tensor) -> dict[str, Tensor]:
    """The network's 21 columns as keyword arguments: beta [S, 12], alpha [S, 8], gamma [S]."""
    return {"beta": raw_S21[:, :12], "alpha": raw_S21[:, 12:20], "gamma": raw_S21[:, 20]}


def _resolution(
    grid_or_cubes: RegularGrid | Tensor, res: int | tuple[int, int, int] | None
) -> tuple[int, int, int]:
    if res is None:
        if isinstance(grid_or_cubes, RegularGrid):
            return grid_or_cubes.res
        raise ValueError("an array of cubes needs `res`, the cubes along x, y, z")
    if isinstance(res, int):
        return res, res, res
    return res[0], res[1], res[2]


def _surface_rows(
    name: str, raw: Tensor | None, cells: SurfaceCells, num_cubes: int
) -> Tensor | None:
    if raw is None or raw.shape[0] == cells.cubes.shape[0]:
        return raw
    if raw.shape[0] != num_cubes:
        num_surface = cells.cubes.shape[0]
        raise ValueError(
            f"{name} has {raw.shape[0]} rows; expected {num_cubes} (all cubes) or {num_surface} "
            "(surface cubes)"
        )
    return raw.index_select(0, cells.cubes)
