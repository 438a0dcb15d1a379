"""Dual vertices of FlexiCubes and their regulariser.

FlexiCubes section 4.2 (equations 3-5) and 4.4. Sums over a vertex's edges are gathered into seven
slots per vertex instead of scattered with additions, so the result does not depend on thread or
block order on any device.

Legend: S surface cubes, V dual vertices, I incidences of a dual vertex with a cut edge, U nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geco_core.surface.cells import SurfaceCells
from geco_core.surface.tables import MAX_LOOP_EDGES, tables_on


@dataclass(frozen=True)
class DualTopology:
    """Numbering of dual vertices.

    Cubes with one come first, in cube order, then those with two, three, four.

    Attributes:
        first: int64 [S] the first dual vertex of each cube; the others follow.
        cube: int64 [V] row of the cube each vertex belongs to.
        slot: int64 [I] position of each incidence in [V, 7]; ascending.
        edge: int64 [I] cube edge number of each incidence.
    """

    first: Tensor
    cube: Tensor
    slot: Tensor
    edge: Tensor

    @property
    def vertex(self) -> Tensor:
        """Int64 [I] the dual vertex of each incidence."""
        return torch.div(self.slot, MAX_LOOP_EDGES, rounding_mode="floor")


def dual_topology(cases_S: Tensor) -> DualTopology:
    """Number the dual vertices of cubes with (resolved) cases [S] and list their edges."""
    tables = tables_on(cases_S.device)
    count_S, order_S = torch.sort(tables.num_loops[cases_S], stable=True)
    start_S = count_S.cumsum(0) - count_S  # in sorted order
    first_S = torch.empty_like(start_S).index_copy_(0, order_S, start_S)
    cube_V = torch.repeat_interleave(order_S, count_S)
    loop_V = torch.arange(cube_V.shape[0], device=cube_V.device) - first_S[cube_V]
    edge_V7 = tables.loop_edges[cases_S[cube_V], loop_V].view(-1)
    slot_I = (edge_V7 >= 0).nonzero().view(-1)
    return DualTopology(first_S, cube_V, slot_I, edge_V7[slot_I])


def dual_vertices(
    points: Tensor,
    sdf: Tensor,
    cells: SurfaceCells,
    topology: DualTopology,
    beta_S12: Tensor | None,
    alpha_S8: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Positions of the dual vertices, and how unevenly each one sits between its crossings.

    Args:
        points: [U, 3] node positions (deformed).
        sdf: [U] values, negative inside.
        cells: surface cubes, corners indexing `points`.
        topology: from `dual_topology`.
        beta_S12: positive weights of the crossings, or None for 1.
        alpha_S8: positive scales of the corner values, or None for 1.

    Returns:
        `(vertices [V, 3], deviation [I])`: deviation is | |z_e - v| - mean_e |z_e - v| | with z_e
        the crossing by the plain field, one entry per incidence, vertex by vertex.
    """
    vertex_I, num = topology.vertex, topology.cube.shape[0]
    cube_I = topology.cube[vertex_I]
    corner_I2 = tables_on(sdf.device).edge_corners[topology.edge]
    node_I2 = torch.gather(cells.corners[cube_I], 1, corner_I2)
    x_I23 = points.index_select(0, node_I2.view(-1)).view(-1, 2, 3)
    s_I2 = sdf.index_select(0, node_I2.view(-1)).view(-1, 2)
    crossing_I3 = _crossing(x_I23, s_I2)
    weighted_I3 = crossing_I3
    if alpha_S8 is not None:
        scale_I2 = (
            alpha_S8.reshape(-1)
            .index_select(0, (cube_I[:, None] * 8 + corner_I2).view(-1))
            .view(-1, 2)
        )
        weighted_I3 = _crossing(x_I23, s_I2 * scale_I2)
    if beta_S12 is None:
        beta_I1 = torch.ones_like(weighted_I3[:, :1])
    else:
        beta_I1 = beta_S12.reshape(-1).index_select(0, cube_I * 12 + topology.edge)[:, None]
    sums_V4 = _sum_slots(torch.cat([weighted_I3 * beta_I1, beta_I1], dim=1), topology.slot, num)
    vertices_V3 = sums_V4[:, :3] / sums_V4[:, 3:]
    distance_I = torch.linalg.vector_norm(
        crossing_I3 - vertices_V3.index_select(0, vertex_I), dim=1
    )
    total_V2 = _sum_slots(
        torch.stack([distance_I, torch.ones_like(distance_I)], dim=1), topology.slot, num
    )
    mean_V = total_V2[:, 0] / total_V2[:, 1]
    return vertices_V3, (distance_I - mean_V.index_select(0, vertex_I)).abs()


def _crossing(x_I23: Tensor, s_I2: Tensor) -> Tensor:
    """[I, 3] where the linear interpolant of values [I, 2] at positions [I, 2, 3] is zero."""
    s0, s1 = s_I2[:, :1], s_I2[:, 1:]
    return (x_I23[:, 0] * s1 - x_I23[:, 1] * s0) / (s1 - s0)


def _sum_slots(values_IC: Tensor, slot_I: Tensor, num: int) -> Tensor:
    """[num, C] sums over the incidences of each vertex, always in the same order."""
    channels = values_IC.shape[1]
    padded = values_IC.new_zeros(num * MAX_LOOP_EDGES, channels)
    padded = padded.index_copy(0, slot_I, values_IC)
    return padded.view(num, MAX_LOOP_EDGES, channels).sum(dim=1)
