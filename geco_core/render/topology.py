"""Neighbours across edges: for every edge of every face, the vertex on the other side.

Plays the part of nvdiffrast's topology hash; here edges are packed into integer keys and sorted
once.
"""

from __future__ import annotations

import torch
from torch import Tensor


def opposite_vertices(tri: Tensor) -> Tensor:
    """Vertex opposite to each edge of each face, in the face on the other side of the edge.

    Edge e of a face is the one that does not touch its corner e. Where more than two faces share an
    edge, the first two (by corner, then face number) are each other's neighbour and the rest see
    the first.

    Args:
        tri: vertex indices [F, 3].

    Returns:
        [F, 3] int64, -1 where the edge is a border.
    """
    tri = tri.long()
    apex_E = tri.t().reshape(-1)
    ends_a, ends_b = tri[:, [1, 2, 0]].t().reshape(-1), tri[:, [2, 0, 1]].t().reshape(-1)
    keys_E = (torch.minimum(ends_a, ends_b) << 32) | torch.maximum(ends_a, ends_b)
    keys_E, order_E = keys_E.sort(stable=True)
    apex_E = apex_E.index_select(0, order_E)
    previous_E, next_E = apex_E.roll(1), apex_E.roll(-1)
    same_as_next = torch.zeros_like(keys_E, dtype=torch.bool)
    same_as_next[:-1] = keys_E[:-1] == keys_E[1:]
    same_as_previous = torch.zeros_like(same_as_next)
    same_as_previous[1:] = same_as_next[:-1]
    partner_E = torch.where(same_as_next, next_E, -1)
    partner_E = torch.where(same_as_previous, previous_E, partner_E)
    crowded = same_as_previous.clone()
    crowded[1:] &= same_as_previous[:-1]
    if bool(crowded.any()):
        place = torch.arange(keys_E.shape[0], device=tri.device)
        first = torch.where(same_as_previous, 0, place).cummax(0).values
        partner_E = torch.where(crowded, apex_E.index_select(0, first), partner_E)
    return torch.empty_like(partner_E).index_copy_(0, order_E, partner_E).view(3, -1).t()
