"""Analytic antialiasing of silhouettes, the source of silhouette gradients.

Follows nvdiffrast (Laine et al. 2020, section 3.3), written independently from its described
behaviour: where two neighbouring pixels show different triangles, the nearer triangle's edge that
leaves toward the other pixel decides how much of that pixel pair it covers, and one of the two
pixels is blended. Only silhouette edges count.

Differs in that pairs are found, tested and dropped without gradients first; only the accepted ones
(a few per cent) are computed again with gradients.

Limit: an edge is found only if its triangle owns a pixel centre, so the gradient is biased low
where triangles are smaller than about two pixels (a property of the scheme). Render larger, or keep
another loss term, in that regime.

Shapes: V views, C channels, Q pixel pairs, S accepted pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from geco_core.render.topology import opposite_vertices

TOLERANCE = 1.0 / 16.0  # how far outside the pair, in pixels, a crossing may lie


class _Pairs(NamedTuple):
    """Neighbouring pixels that show different triangles; every field [Q]."""

    first: Tensor  # flat number of the left or lower pixel
    second: Tensor
    vertical: Tensor  # whether the second lies in the next row
    owner: Tensor  # flat number of the pixel whose triangle is nearer
    sign: Tensor  # +1 where the owner is the first pixel, else -1


class _Crossings(NamedTuple):
    """Accepted pairs; every field [S]."""

    pair: Tensor  # row of the _Pairs
    start: Tensor  # flat vertex numbers of the edge
    end: Tensor


def antialias(color: Tensor, rast: Tensor, pos_clip: Tensor, tri: Tensor) -> Tensor:
    """Blend an image across silhouettes.

    Args:
        color: [V, H, W, C].
        rast: [V, H, W, 4] from `rasterize`; ids and depths are read, no gradient reaches it.
        pos_clip: [V, N, 4]; receives the gradients of the edge positions.
        tri: [F, 3].

    Returns:
        [V, H, W, C].
    """
    views, height, width, channels = color.shape
    if tri.shape[0] == 0 or color.numel() == 0:
        return color
    with torch.no_grad():
        pairs = _find_pairs(rast.detach())
        crossings = _accept(pairs, rast.detach(), pos_clip.detach(), tri.long())
        pairs = _Pairs(*(field.index_select(0, crossings.pair) for field in pairs))
    distance = _distance(pos_clip, crossings, pairs, height, width).clamp(0, 1)
    alpha = pairs.sign * (0.5 - distance)
    flat = color.reshape(-1, channels)
    contrast = flat.index_select(0, pairs.second) - flat.index_select(0, pairs.first)
    target = torch.where(alpha.detach() > 0, pairs.first, pairs.second)
    out = flat.index_add(0, target, (alpha[:, None] * contrast).to(color.dtype))
    return out.view(views, height, width, channels)


def _find_pairs(rast: Tensor) -> _Pairs:
    """Neighbouring pixels with different ids, and which is nearer (background never is)."""
    views, height, width, _ = rast.shape
    ids = rast[..., 3]
    number = torch.arange(ids.numel(), device=ids.device).view(views, height, width)
    across = number[:, :, :-1][ids[:, :, :-1] != ids[:, :, 1:]]
    along = number[:, :-1][ids[:, :-1] != ids[:, 1:]]
    first = torch.cat([across, along])
    vertical = torch.zeros_like(first, dtype=torch.bool)
    vertical[across.shape[0] :] = True
    second = first + torch.where(vertical, width, 1)
    flat = rast.view(-1, 4)
    depth_1, id_1 = flat.index_select(0, first)[:, 2:].unbind(-1)
    depth_2, id_2 = flat.index_select(0, second)[:, 2:].unbind(-1)
    from_first = (id_2 == 0) | ((id_1 != 0) & (depth_1 < depth_2))
    owner = torch.where(from_first, first, second)
    sign = torch.where(from_first, 1.0, -1.0).to(rast.dtype)
    return _Pairs(first, second, vertical, owner, sign)


def _accept(pairs: _Pairs, rast: Tensor, pos_clip: Tensor, tri: Tensor) -> _Crossings:
    """Pairs crossed by a silhouette edge of the nearer triangle, and that edge."""
    _, height, width, _ = rast.shape
    face = rast.view(-1, 4)[:, 3].index_select(0, pairs.owner).long() - 1
    base = pairs.owner // (height * width) * pos_clip.shape[1]
    corner_3Q = tri.t().index_select(1, face) + base
    a, b = _relative(pos_clip, corner_3Q, pairs, height, width)
    # Edge e joins the two corners after e; the line through both centres crosses two edges, of
    # which the further one toward the neighbour bounds the triangle there.
    a1, a2, b1, b2 = a.roll(-1, 0), a.roll(-2, 0), b.roll(-1, 0), b.roll(-2, 0)
    da, db = a2 - a1, b2 - b1
    crosses = (b1 < 0) != (b2 < 0)
    distance = pairs.sign * (a1 - b1 * da / torch.where(crosses, db, 1.0))
    distance = torch.where(crosses, distance, -torch.inf)
    far, edge = distance.max(0)
    steep = db.abs() >= da.abs()
    passed = (far >= -TOLERANCE) & (far <= 1 + TOLERANCE) & _pick(steep, edge)
    kept = passed.nonzero()[:, 0]
    pairs = _Pairs(*(field.index_select(0, kept) for field in pairs))
    edge, face, base = (t.index_select(0, kept) for t in (edge, face, base))
    corner_3Q, a, b = (t.index_select(1, kept) for t in (corner_3Q, a, b))
    ends = [_pick(corner_3Q, (edge + k) % 3) for k in (1, 2)]
    opposite = opposite_vertices(tri).reshape(-1).index_select(0, face * 3 + edge)
    wing = torch.where(opposite < 0, 0, opposite) + base
    wing_a, wing_b = _relative(pos_clip, wing[None], pairs, height, width)
    mine = _side(a, b, edge, _pick(a, edge), _pick(b, edge))
    other = _side(a, b, edge, wing_a[0], wing_b[0])
    silhouette = ((opposite < 0) | ((mine < 0) == (other < 0))).nonzero()[:, 0]
    return _Crossings(
        kept.index_select(0, silhouette), *(e.index_select(0, silhouette) for e in ends)
    )


def _side(a: Tensor, b: Tensor, edge: Tensor, at_a: Tensor, at_b: Tensor) -> Tensor:
    """Side of edge e of the triangles (a, b) [3, Q] on which (at_a, at_b) [Q] lies, by sign."""
    a1, b1, a2, b2 = (_pick(t, (edge + k) % 3) for k in (1, 2) for t in (a, b))
    return (a2 - a1) * (at_b - b1) - (b2 - b1) * (at_a - a1)


def _distance(
    pos_clip: Tensor, crossings: _Crossings, pairs: _Pairs, height: int, width: int
) -> Tensor:
    """Pixels [S] from the owner's centre to the edge, toward the other pixel; differentiable."""
    ends_2S = torch.stack([crossings.start, crossings.end])
    (a1, a2), (b1, b2) = _relative(pos_clip, ends_2S, pairs, height, width)
    return pairs.sign * (a1 - b1 * (a2 - a1) / (b2 - b1))


def _relative(
    pos_clip: Tensor, vertex_KQ: Tensor, pairs: _Pairs, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Pixels from the owner's centre to vertices, along the pair and across it, each [K, Q]."""
    x, y, _, w = (
        pos_clip.reshape(-1, 4)
        .index_select(0, vertex_KQ.reshape(-1))
        .view(*vertex_KQ.shape, 4)
        .unbind(-1)
    )
    column, row = pairs.owner % width, (pairs.owner // width) % height
    inverse = 1 / torch.where(w == 0, 1.0, w)
    x = x * inverse * (0.5 * width) + (0.5 * width - 0.5 - column)
    y = y * inverse * (0.5 * height) + (0.5 * height - 0.5 - row)
    return torch.where(pairs.vertical, y, x), torch.where(pairs.vertical, x, y)


def _pick(rows_3Q: Tensor, which_Q: Tensor) -> Tensor:
    """rows_3Q[which_Q[q], q] for every q."""
    return rows_3Q.gather(0, which_Q[None])[0]
