"""Quads around cut grid edges, and their triangles.

FlexiCubes section 4.3. An edge is one int64 key, first node times number of nodes plus second node;
only cut edges of surface cubes get a key, and four equal neighbours in the sorted list are the four
owners of an inner edge. This gives the order of the original's row-wise `unique` over node pairs at
a small part of its cost.

Legend: S surface cubes, K cut edges of cubes, Q quads, V dual vertices, U nodes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from geco_core.surface.cells import SurfaceCells
from geco_core.surface.grid import constant
from geco_core.surface.tables import tables_on

FaceOrder = Literal["instantmesh", "upstream"]
_CENTRE_EPS = 1e-8


def quads_of(
    sdf: Tensor,
    cells: SurfaceCells,
    cases_S: Tensor,
    first_S: Tensor,
    order: FaceOrder,
    zeros_outside: bool,
) -> Tensor:
    """Dual vertices of the quad around every inner cut edge, counter-clockwise seen from outside.

    Args:
        sdf: [U] values, negative inside.
        cells: surface cubes.
        cases_S: resolved cases.
        first_S: first dual vertex of each cube.
        order: "upstream" sorts by edge; "instantmesh" lists the quads whose first node is outside
            first.
        zeros_outside: a first node of exactly zero counts as outside, as it does in the case ids.
            False is the published rule, `sdf > 0`, which turns such quads inside out.

    Returns:
        Int64 [Q, 4]. Edges in the border of the grid have fewer than four cubes and give no quad.
    """
    tables = tables_on(sdf.device)
    dual_S12 = tables.edge_loop[cases_S]
    cut_K = (dual_S12 >= 0).view(-1).nonzero().view(-1)
    nodes_S12 = cells.corners[:, tables.edge_corners[:, 0]]
    ends_S12 = cells.corners[:, tables.edge_corners[:, 1]]
    key_K, by_edge_K = torch.sort(
        (nodes_S12 * sdf.shape[0] + ends_S12).view(-1)[cut_K], stable=True
    )
    start_Q = (key_K[:-3] == key_K[3:]).nonzero().view(-1)
    owner_Q4 = start_Q[:, None] + torch.arange(4, device=sdf.device)
    # Positions in [S, 12]; cubes ascend because the sort is stable.
    place_Q4 = cut_K[by_edge_K[owner_Q4]]
    quad_Q4 = (dual_S12 + first_S[:, None]).view(-1)[place_Q4]
    value_Q = sdf.detach()[nodes_S12.reshape(-1)[place_Q4[:, 0]]]
    outside_Q = value_Q >= 0 if zeros_outside else value_Q > 0
    ways_24 = constant(((2, 3, 1, 0), (0, 1, 3, 2)), sdf.device)
    quad_Q4 = torch.gather(quad_Q4, 1, ways_24[outside_Q.long()])
    if order == "instantmesh":
        quad_Q4 = quad_Q4[torch.sort((~outside_Q).to(torch.uint8), stable=True).indices]
    return quad_Q4


def triangulate(
    vertices_V3: Tensor, quad_Q4: Tensor, gamma_V: Tensor | None, *, training: bool
) -> tuple[Tensor, Tensor]:
    """Split quads into triangles.

    Args:
        vertices_V3: dual vertices.
        quad_Q4: from `quads_of`.
        gamma_V: the split weight of each dual vertex; None for 1.
        training: four triangles around a weighted centre, which lets gradients reach gamma, instead
            of two along the diagonal with the larger product of gammas.

    Returns:
        `(vertices, faces int64 [F, 3])`; centres are appended to the vertices in quad order.
    """
    gamma_V = vertices_V3.new_ones(vertices_V3.shape[0]) if gamma_V is None else gamma_V
    gamma_Q4 = gamma_V[quad_Q4]
    g02_Q, g13_Q = gamma_Q4[:, 0] * gamma_Q4[:, 2], gamma_Q4[:, 1] * gamma_Q4[:, 3]
    if not training:
        ways_26 = constant(((0, 1, 3, 3, 1, 2), (0, 1, 2, 0, 2, 3)), quad_Q4.device)
        return vertices_V3, torch.gather(quad_Q4, 1, ways_26[(g02_Q > g13_Q).long()]).view(-1, 3)
    x_Q43 = vertices_V3.index_select(0, quad_Q4.reshape(-1)).view(-1, 4, 3)
    w02_Q1, w13_Q1 = g02_Q[:, None], g13_Q[:, None]
    centre_Q3 = w02_Q1 * (x_Q43[:, 0] + x_Q43[:, 2]) / 2 + w13_Q1 * (x_Q43[:, 1] + x_Q43[:, 3]) / 2
    centre_Q3 = centre_Q3 / (w02_Q1 + w13_Q1 + _CENTRE_EPS)
    centre_Q = vertices_V3.shape[0] + torch.arange(quad_Q4.shape[0], device=quad_Q4.device)
    next_Q4 = quad_Q4.roll(-1, dims=1)
    faces_Q43 = torch.stack([quad_Q4, next_Q4, centre_Q[:, None].expand(-1, 4)], dim=-1)
    return torch.cat([vertices_V3, centre_Q3]), faces_Q43.reshape(-1, 3)
