"""Coarse-to-fine evaluation of a field: only nodes near the surface are ever evaluated.

Levels halve the cell size down to the grid. On each level the cells whose corners change sign,
widened by `dilate` cells, are refined; then growth follows the surface across sign-changing faces
until nothing is added. Book-keeping is one byte per cell or node of a level; values are kept as
sorted lists, never as a volume.

What is found. Every surface cell reported is a surface cell of the dense grid, with the same
values. A part of the surface connected by sign-changing faces is found completely once any of its
cells is. What can be missed are whole parts the coarsest level does not see: components smaller
than a coarse cell that lie farther than the dilation from anything seen, and sheets so thin that
every coarse edge crosses them twice. `exact=True` evaluates everything.

Legend: P evaluated nodes (of the finest grid), S surface cubes, U nodes of surface cubes, X Y Z
counts of a level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geco_core.surface.cells import SurfaceCells, crossed_cubes, reduce_corners
from geco_core.surface.grid import RegularGrid, unflatten, within
from geco_core.surface.levels import (
    Level,
    child_cells,
    corner_nodes,
    dilate_cells,
    level_strides,
)
from geco_core.surface.tables import tables_on

SdfFn = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SparseField:
    """A field known at some nodes of a grid.

    Attributes:
        grid: the finest grid.
        nodes: int64 [P] flat indices of the nodes evaluated, ascending.
        values: float [P] at those nodes.
        cubes: int64 [S] flat indices of the surface cubes, ascending; all their corners are among
            `nodes`.
    """

    grid: RegularGrid
    nodes: Tensor
    values: Tensor
    cubes: Tensor

    def surface(self) -> SurfaceNodes:
        """The surface cubes with their own short list of nodes."""
        corners_S8 = self.grid.corners(self.cubes)
        if self.nodes.shape[0] == self.grid.num_nodes:
            mark = torch.zeros(self.grid.num_nodes, dtype=torch.bool, device=self.nodes.device)
            mark.index_fill_(0, corners_S8.view(-1), True)
            rows_U = nodes_U = mark.nonzero().view(-1)
        else:
            rows_S8 = torch.searchsorted(self.nodes, corners_S8)
            mark = torch.zeros(self.nodes.shape[0], dtype=torch.bool, device=self.nodes.device)
            mark.index_fill_(0, rows_S8.view(-1), True)
            rows_U = mark.nonzero().view(-1)
            nodes_U = self.nodes[rows_U]
            corners_S8 = rows_S8
        cells = SurfaceCells(self.grid.res, self.cubes, torch.searchsorted(rows_U, corners_S8))
        return SurfaceNodes(self.grid, nodes_U, self.values[rows_U], cells)


@dataclass(frozen=True)
class SurfaceNodes:
    """All that extraction needs: the surface cubes and the nodes at their corners.

    Attributes:
        grid: the grid.
        nodes: int64 [U] flat indices of the corner nodes, ascending.
        sdf: [U] values there.
        cells: surface cubes [S] whose corners [S, 8] index `nodes`.
    """

    grid: RegularGrid
    nodes: Tensor
    sdf: Tensor
    cells: SurfaceCells

    def points(self) -> Tensor:
        """Float32 [U, 3] undeformed node positions."""
        return self.grid.points(self.nodes)


class _Evaluation:
    """What is known so far: sorted nodes and values, and two node masks of the current level."""

    def __init__(
        self, sdf_fn: SdfFn, level: Level, chunk_points: int, device: torch.device
    ) -> None:
        self.sdf_fn = sdf_fn
        self.level = level
        self.chunk_points = chunk_points
        self.known = torch.zeros(level.nodes, dtype=torch.bool, device=device)
        self.inside = torch.zeros_like(self.known)
        self.nodes = torch.empty(0, dtype=torch.long, device=device)
        self.values = torch.empty(0, device=device)

    def refine(self, level: Level) -> None:
        """Go to the next finer level, keeping all that is known."""
        self.known, self.inside = level.embed(self.known), level.embed(self.inside)
        self.level = level

    def evaluate(self, wanted_P: Tensor) -> None:
        """Evaluate nodes of this level (flat, ascending) that are not yet known."""
        if wanted_P.shape[0] == 0:
            return  # several network operators refuse empty batches
        nodes = self.level.to_grid(wanted_P)
        values = evaluate_nodes(self.sdf_fn, self.level.grid, nodes, self.chunk_points)
        self.known.view(-1).index_fill_(0, wanted_P, True)
        self.inside.view(-1)[wanted_P] = values < 0
        self.nodes, self.values = _merge(self.nodes, self.values, nodes, values)

    def evaluate_cells(self, cells_XYZ: Tensor) -> None:
        """Evaluate the unknown corners of the cells set in a mask [X, Y, Z]."""
        wanted = corner_nodes(cells_XYZ).logical_and_(~self.known)
        self.evaluate(wanted.view(-1).nonzero().view(-1))

    def surface(self) -> Tensor:
        """Bool mask of the cells known to change sign."""
        return crossed_cubes(self.inside).logical_and_(reduce_corners(self.known, every=True))

    def grow(self, surface_XYZ: Tensor) -> Tensor:
        """Follow the surface across sign-changing faces into unknown cells.

        Returns all surface cells.
        """
        while True:
            known_cells = reduce_corners(self.known, every=True)
            added = False
            front_S = self._beyond(surface_XYZ.view(-1).nonzero().view(-1), known_cells)
            while front_S.shape[0] > 0:
                added = True
                corner_P = RegularGrid(self.level.cells).corners(front_S).view(-1)
                self.evaluate(torch.unique(corner_P[~self.known.view(-1)[corner_P]]))
                known_cells.view(-1).index_fill_(0, front_S, True)
                front_S = self._beyond(front_S, known_cells)
            if not added:
                return surface_XYZ
            surface_XYZ = self.surface()

    def _beyond(self, cells_S: Tensor, known_cells: Tensor) -> Tensor:
        """Unknown cells that share a sign-changing face with one of the known cells [S]."""
        tables = tables_on(cells_S.device)
        sizes = self.level.cells
        position_S3 = torch.stack(unflatten(cells_S, sizes), dim=-1)
        near_S63 = position_S3[:, None] + tables.face_directions
        in_grid_S6 = within(near_S63, sizes)
        near_S6 = (near_S63[..., 0] * sizes[1] + near_S63[..., 1]) * sizes[2] + near_S63[..., 2]
        open_S6 = in_grid_S6 & ~known_cells.view(-1)[near_S6.clamp(0, known_cells.numel() - 1)]
        row, face = open_S6.nonzero(as_tuple=True)
        inside_B8 = self.inside.view(-1)[RegularGrid(sizes).corners(cells_S[row])]
        inside_B4 = torch.gather(inside_B8, 1, tables.face_corners[face])
        crossed_B = inside_B4.any(dim=1) & ~inside_B4.all(dim=1)
        return torch.unique(near_S6[row, face][crossed_B])


def evaluate_sparse(
    sdf_fn: SdfFn,
    grid: RegularGrid,
    *,
    coarse_factor: int = 4,
    dilate: int = 1,
    growth: bool = True,
    exact: bool = False,
    chunk_points: int = 65536,
    device: torch.device | str = "cpu",
) -> SparseField:
    """Evaluate a field where its surface is.

    Args:
        sdf_fn: points [P, 3] (the grid's frame) to values [P], negative inside.
        grid: the finest grid.
        coarse_factor: the coarsest level has at least max(32, max(res) / coarse_factor) cells on
            the longest axis; levels halve, so the actual factor is a power of two.
        dilate: cells by which the sign-changing cells of a level are widened before they are
            refined.
        growth: follow the surface across sign-changing faces.
        exact: evaluate every node.
        chunk_points: most points per call of `sdf_fn`.
        device: where nodes and values live; `sdf_fn` gets its points there.

    Returns:
        The field at the evaluated nodes and the surface cubes; no cubes when nothing changes sign.
    """
    device = torch.device(device)
    strides = [1] if exact else level_strides(max(grid.res), coarse_factor)
    state = _Evaluation(sdf_fn, Level(grid, strides[0]), chunk_points, device)
    state.evaluate(torch.arange(state.known.numel(), device=device))
    surface = crossed_cubes(state.inside)
    for stride in strides[1:]:
        active = dilate_cells(surface, dilate)
        state.refine(Level(grid, stride))
        state.evaluate_cells(child_cells(active, state.level.cells))
        surface = state.surface()
        surface = state.grow(surface) if growth else surface
    return SparseField(grid, state.nodes, state.values, surface.view(-1).nonzero().view(-1))


def evaluate_nodes(sdf_fn: SdfFn, grid: RegularGrid, nodes_P: Tensor, chunk_points: int) -> Tensor:
    """Values [P] at flat nodes, `chunk_points` at a time."""
    parts = [
        sdf_fn(grid.points(chunk)).reshape(-1) for chunk in nodes_P.split(max(chunk_points, 1))
    ]
    return torch.cat(parts)


def _merge(
    nodes_A: Tensor, values_A: Tensor, nodes_B: Tensor, values_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Merge two disjoint ascending lists of nodes with their values."""
    if nodes_A.shape[0] == 0:
        return nodes_B, values_B
    if nodes_A.shape[0] > nodes_B.shape[0]:
        nodes_A, values_A, nodes_B, values_B = nodes_B, values_B, nodes_A, values_A
    place_A = torch.searchsorted(nodes_B, nodes_A) + torch.arange(
        nodes_A.shape[0], device=nodes_A.device
    )
    total = nodes_A.shape[0] + nodes_B.shape[0]
    from_B = torch.ones(total, dtype=torch.bool, device=nodes_A.device)
    from_B.index_fill_(0, place_A, False)
    place_B = from_B.nonzero().view(-1)
    nodes = (
        nodes_A.new_empty(total).index_copy_(0, place_A, nodes_A).index_copy_(0, place_B, nodes_B)
    )
    values = (
        values_A.new_empty(total).index_copy(0, place_A, values_A).index_copy(0, place_B, values_B)
    )
    return nodes, values
