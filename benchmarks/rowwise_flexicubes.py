"""FlexiCubes in the direct way: the yardstick of `benchmarks.flexicubes`, and a twin for tests.

Written from the method's description. Takes the grid as an array of all cubes, normalises the
weights of all of them, and finds shared edges by a row-wise `unique` over node pairs of all twelve
edges of every surface cube.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geco_core.surface.tables import tables_on


def rowwise_flexicubes(
    x: Tensor,
    s: Tensor,
    cubes: Tensor,
    res: tuple[int, int, int],
    beta: Tensor,
    alpha: Tensor,
    gamma: Tensor,
    *,
    weight_scale: float = 0.5,
    training: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces (flipped quads first) and deviation for raw weights of all cubes."""
    tables = tables_on(x.device)
    inside = (s < 0)[cubes]
    surface = inside.any(1) & ~inside.all(1)
    beta = (torch.tanh(beta) * weight_scale + 1)[surface]
    alpha = (torch.tanh(alpha) * weight_scale + 1)[surface]
    gamma = (torch.sigmoid(gamma) * weight_scale + (1 - weight_scale) / 2)[surface]
    corners = cubes[surface]
    cases = _cases(inside, surface, res)

    pairs = corners[:, tables.edge_corners].reshape(-1, 2)
    edges, edge_of, owners = torch.unique(pairs, dim=0, return_inverse=True, return_counts=True)
    cut = (s[edges] < 0).sum(1) == 1
    ends = s[edges]
    crossing = (x[edges[:, 0]] * ends[:, 1:] - x[edges[:, 1]] * ends[:, :1]) / (
        ends[:, 1:] - ends[:, :1]
    )
    edge_of = edge_of.view(-1, 12)

    vertices, deviations, gammas = [], [], []
    vertex_of = torch.full(edge_of.shape, -1, device=x.device)
    total = 0
    for count in range(1, 5):
        rows = (tables.num_loops[cases] == count).nonzero().view(-1)
        loops = tables.loop_edges[cases[rows], :count].reshape(-1, 7)
        place, slot = (loops >= 0).nonzero(as_tuple=True)
        row, edge = rows[place // count], loops[place, slot]
        pair = tables.edge_corners[edge]
        node = corners[row[:, None], pair]
        value = s[node] * alpha[row[:, None], pair]
        point = (x[node[:, 0]] * value[:, 1:] - x[node[:, 1]] * value[:, :1]) / (
            value[:, 1:] - value[:, :1]
        )
        weight = beta[row, edge][:, None]
        size = loops.shape[0]
        top = x.new_zeros(size, 3).index_add(0, place, point * weight)
        vertex = top / x.new_zeros(size, 1).index_add(0, place, weight)
        distance = torch.linalg.norm(crossing[edge_of[row, edge]] - vertex[place], dim=1)
        ones = torch.ones_like(distance)
        mean = x.new_zeros(size).index_add(0, place, distance)
        mean = mean / x.new_zeros(size).index_add(0, place, ones)
        deviations.append((distance - mean[place]).abs())
        vertices.append(vertex)
        gammas.append(gamma[rows].repeat_interleave(count))
        vertex_of[row, edge] = total + place
        total += size
    points = torch.cat(vertices)
    points, faces = _faces(
        points, torch.cat(gammas), s, edges, cut & (owners == 4), edge_of, vertex_of, training
    )
    return points, faces, torch.cat(deviations)


def _cases(inside: Tensor, surface: Tensor, res: tuple[int, int, int]) -> Tensor:
    """Resolved case ids of the surface cubes, through a volume of flags."""
    device = surface.device
    tables = tables_on(device)
    cases = (inside[surface].long() * (1 << torch.arange(8, device=device))).sum(1)
    volume = torch.zeros(surface.shape[0], dtype=torch.bool, device=device)
    volume[surface] = tables.flagged[cases]
    padded = torch.nn.functional.pad(volume.view(res), (1, 1, 1, 1, 1, 1))
    x, y, z = torch.meshgrid(*(torch.arange(r, device=device) for r in res), indexing="ij")
    position = torch.stack([x, y, z], -1).reshape(-1, 3)[surface] + 1
    near = position + tables.flip_direction[cases]
    flip = tables.flagged[cases] & padded[near[:, 0], near[:, 1], near[:, 2]]
    return torch.where(flip, 255 - cases, cases)


def _faces(
    points: Tensor,
    gamma: Tensor,
    s: Tensor,
    edges: Tensor,
    wanted: Tensor,
    edge_of: Tensor,
    vertex_of: Tensor,
    training: bool,
) -> tuple[Tensor, Tensor]:
    """Quads around the wanted edges, first those whose first node is outside, and triangles."""
    flat = edge_of.reshape(-1)
    use = wanted[flat]
    order = torch.argsort(flat[use], stable=True)
    quads = vertex_of.reshape(-1)[use][order].view(-1, 4)
    flip = s[edges[wanted][:, 0]] >= 0
    quads = torch.cat([quads[flip][:, [0, 1, 3, 2]], quads[~flip][:, [2, 3, 1, 0]]])
    g = gamma[quads]
    g02, g13 = g[:, 0] * g[:, 2], g[:, 1] * g[:, 3]
    if not training:
        first = quads[:, [0, 1, 2, 0, 2, 3]]
        second = quads[:, [0, 1, 3, 3, 1, 2]]
        return points, torch.where((g02 > g13)[:, None], first, second).view(-1, 3)
    q = points[quads]
    centre = g02[:, None] * (q[:, 0] + q[:, 2]) / 2 + g13[:, None] * (q[:, 1] + q[:, 3]) / 2
    centre = centre / (g02 + g13 + 1e-8)[:, None]
    new = (points.shape[0] + torch.arange(len(quads), device=quads.device))[:, None].expand(-1, 4)
    faces = torch.stack([quads, quads[:, [1, 2, 3, 0]], new], -1).reshape(-1, 3)
    return torch.cat([points, centre]), faces
