"""Marching cubes on a scalar volume: the mesh of the NeRF reconstructor.

Lorensen and Cline (1987), with the triangle table of `tables` instead of the published one:
ambiguous faces always separate their two low corners, so neighbouring cubes agree and a surface
that stays inside the volume is closed. The vertices are those of any marching cubes (linear
crossings of grid edges, each once). PyMCubes, which the original uses, gives the same vertices and
as many triangles, but splits loops along other diagonals and lists both in another order.

Legend: X Y Z nodes per axis, V vertices, F faces, S surface cubes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geco_core.surface.cells import SurfaceCells, corner_cases, crossed_cubes
from geco_core.surface.grid import RegularGrid, constant, unflatten
from geco_core.surface.tables import tables_on


def marching_cubes(field_XYZ: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Triangulate the surface where a field equals `level`.

    Args:
        field_XYZ: values at grid nodes, high inside (a density).
        level: the value on the surface; nodes with field > level are inside.

    Returns:
        `(vertices [V, 3], faces int64 [F, 3])`. Vertices are in node units, [0, X - 1] and so on,
        welded, ordered by the lower node of their grid edge and then by axis, and differentiable in
        the field; faces are counter-clockwise seen from the side of low values. Empty when the
        level is not crossed. Open where the inside meets the border.

    Raises:
        ValueError: the field is not a volume of at least two nodes per axis.
    """
    if field_XYZ.ndim != 3 or min(field_XYZ.shape) < 2:
        shape = tuple(field_XYZ.shape)
        raise ValueError(f"marching cubes needs 2 or more nodes on each of 3 axes, got {shape}")
    x, y, z = field_XYZ.shape
    grid = RegularGrid((x - 1, y - 1, z - 1))
    inside = field_XYZ.detach() > level
    key_V = _cut_edges(inside)
    vertices = _crossings(field_XYZ, level, key_V, grid)
    cubes_S = crossed_cubes(inside).view(-1).nonzero().view(-1)
    cells = SurfaceCells(grid.res, cubes_S, grid.corners(cubes_S))
    return vertices, _faces(inside.view(-1), cells, key_V)


def _cut_edges(inside_XYZ: Tensor) -> Tensor:
    """Int64 [V] keys 3 * lower node + axis of the grid edges that are cut, ascending."""
    cut = torch.zeros((*inside_XYZ.shape, 3), dtype=torch.bool, device=inside_XYZ.device)
    for axis in range(3):
        size = inside_XYZ.shape[axis] - 1
        changes = inside_XYZ.narrow(axis, 0, size) ^ inside_XYZ.narrow(axis, 1, size)
        cut[..., axis].narrow(axis, 0, size).copy_(changes)
    return cut.view(-1).nonzero().view(-1)


def _node_steps(grid: RegularGrid, device: torch.device) -> Tensor:
    """Int64 [3]: what to add to a flat node index to step along each axis."""
    _, ny, nz = grid.node_shape
    return constant(((ny * nz, nz, 1),), device)[0]


def _crossings(field_XYZ: Tensor, level: float, key_V: Tensor, grid: RegularGrid) -> Tensor:
    """[V, 3] positions in node units where edges reach the level."""
    node_V = torch.div(key_V, 3, rounding_mode="floor")
    axis_V = key_V - 3 * node_V
    values = field_XYZ.reshape(-1)
    low_V = values.index_select(0, node_V)
    high_V = values.index_select(0, node_V + _node_steps(grid, key_V.device)[axis_V])
    fraction_V = (level - low_V) / (high_V - low_V)
    corner_V3 = torch.stack(unflatten(node_V, grid.node_shape), dim=-1)
    along_V3 = torch.nn.functional.one_hot(axis_V, 3)
    return corner_V3.to(values.dtype) + along_V3.to(values.dtype) * fraction_V[:, None]


def _faces(inside_N: Tensor, cells: SurfaceCells, key_V: Tensor) -> Tensor:
    """Int64 [F, 3] vertex indices of the triangles of every surface cube, cube by cube."""
    tables = tables_on(inside_N.device)
    # The low side is the tables' inside.
    cases_S = corner_cases(torch.where(inside_N, 1.0, -1.0), cells)
    edge_T3 = tables.triangles[cases_S]  # [S, T, 3], padded with -1
    row, place = (edge_T3[..., 0] >= 0).nonzero(as_tuple=True)
    edge_F3 = edge_T3[row, place]
    ends_12 = tables.edge_corners
    lower_12 = ends_12.amin(dim=1)
    # The corners of an edge differ in one bit: 1, 2, 4 stand for x, y, z.
    axis_12 = torch.div((ends_12[:, 0] - ends_12[:, 1]).abs(), 2, rounding_mode="floor")
    key_F3 = torch.gather(cells.corners[row], 1, lower_12[edge_F3]) * 3 + axis_12[edge_F3]
    return torch.searchsorted(key_V, key_F3)
