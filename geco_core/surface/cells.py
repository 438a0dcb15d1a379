"""Which cubes the surface passes through, their corners, and their cases.

FlexiCubes section 4.1 with the ambiguity rule of its code (a cube and its neighbour that both could
be joined through their shared ambiguous face are joined). Differs in cost only: neighbours are
found by search among the surface cubes, so nothing of the size of the volume is built besides one
byte per cube.

Legend: N nodes, X Y Z node counts per axis, S surface cubes, U nodes of surface cubes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geco_core.surface.grid import RegularGrid, unflatten, within
from geco_core.surface.tables import tables_on


@dataclass(frozen=True)
class SurfaceCells:
    """The cubes that a surface crosses.

    Attributes:
        res: cubes along x, y, z of the whole grid.
        cubes: int64 [S] flat cube indices, ascending.
        corners: int64 [S, 8] indices into whatever list of nodes the values are stored in. Their
            order must agree with the order of the flat node indices.
    """

    res: tuple[int, int, int]
    cubes: Tensor
    corners: Tensor


def reduce_corners(nodes_XYZ: Tensor, *, every: bool) -> Tensor:
    """Bool [X-1, Y-1, Z-1]: any (or every) one of a cube's eight corners is set."""
    combine = torch.logical_and if every else torch.logical_or
    pairs = combine(nodes_XYZ[:, :, :-1], nodes_XYZ[:, :, 1:])
    pairs = combine(pairs[:, :-1], pairs[:, 1:])
    return combine(pairs[:-1], pairs[1:])


def crossed_cubes(inside_XYZ: Tensor) -> Tensor:
    """Bool [X-1, Y-1, Z-1]: cubes with corners both inside and outside."""
    mixed = reduce_corners(inside_XYZ, every=False)
    return mixed.logical_and_(reduce_corners(inside_XYZ, every=True).logical_not_())


def select_cells(
    sdf_N: Tensor, cubes: RegularGrid | Tensor, res: tuple[int, int, int]
) -> SurfaceCells:
    """Surface cubes of a field known at every node.

    Args:
        sdf_N: [N] values, negative inside.
        cubes: the grid, or int64 [C, 8] node indices of all cubes in x-major order.
        res: cubes along x, y, z.
    """
    inside_N = sdf_N.detach() < 0
    if isinstance(cubes, RegularGrid):
        index_S = crossed_cubes(inside_N.view(cubes.node_shape)).view(-1).nonzero().view(-1)
        return SurfaceCells(res, index_S, cubes.corners(index_S))
    inside_C8 = inside_N[cubes]
    mixed_C = inside_C8.any(dim=1) & ~inside_C8.all(dim=1)
    index_S = mixed_C.nonzero().view(-1)
    return SurfaceCells(res, index_S, cubes[index_S])


def corner_cases(sdf: Tensor, cells: SurfaceCells) -> Tensor:
    """Int64 [S] case ids by corner signs, before the ambiguity rule."""
    inside_S8 = sdf.detach()[cells.corners] < 0
    bits_8 = 1 << torch.arange(8, device=sdf.device)
    return (inside_S8 * bits_8).sum(dim=1)


def resolve_ambiguity(cases_S: Tensor, cells: SurfaceCells) -> Tensor:
    """Int64 [S] case ids that decide which edges share a dual vertex.

    A flagged cube takes the complementary case when the cube behind its ambiguous face is inside
    the grid and flagged as well. Every cube looks at the original cases, so both of a pair change.
    Occupancy does not change.
    """
    tables = tables_on(cases_S.device)
    flagged_A = tables.flagged[cases_S].nonzero().view(-1)
    step_A3 = tables.flip_direction[cases_S[flagged_A]]
    position_A3 = torch.stack(unflatten(cells.cubes[flagged_A], cells.res), dim=-1) + step_A3
    in_grid_A = within(position_A3, cells.res)
    _, ry, rz = cells.res
    neighbour_A = (position_A3[:, 0] * ry + position_A3[:, 1]) * rz + position_A3[:, 2]
    # The shared face changes sign: a neighbour within the grid is a surface cube, and is found.
    last = max(cells.cubes.shape[0] - 1, 0)
    row_A = torch.searchsorted(cells.cubes, neighbour_A).clamp_(max=last)
    same_A = in_grid_A & (cells.cubes[row_A] == neighbour_A)
    flip_A = same_A & tables.flagged[cases_S[row_A]]
    resolved_S = cases_S.clone()
    resolved_S[flagged_A] = torch.where(flip_A, 255 - cases_S[flagged_A], cases_S[flagged_A])
    return resolved_S
