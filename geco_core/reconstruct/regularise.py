"""What keeps a training step meaningful: the repair of empty shapes and the SDF entropy.

Same functions as InstantMesh's (arXiv 2404.07191; the repair is GET3D's, arXiv 2209.11163). What
differs: edges come from grid arithmetic, and may be restricted to the nodes of surface cubes, where
all crossed edges are.

Legend: B batch, N grid nodes, U some nodes, E edges. SDF < 0 is inside.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from geco_core.surface.grid import RegularGrid


def grid_edges(shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """Int64 [E, 2]: all edges of a grid of nodes, each once."""
    index = torch.arange(shape[0] * shape[1] * shape[2], device=device).view(shape)
    pairs = (
        (index[:-1], index[1:]),
        (index[:, :-1], index[:, 1:]),
        (index[:, :, :-1], index[:, :, 1:]),
    )
    return torch.cat([torch.stack([a.flatten(), b.flatten()], -1) for a, b in pairs])


def sdf_entropy(ends: Tensor) -> Tensor:
    """Cross-entropy pulling both ends of every crossed edge to one sign; removes floaters.

    Args:
        ends: [E, 2] SDF at the two ends of each grid edge, each edge once; edges without a change
            of sign are ignored.

    Returns:
        Scalar; 0 when no edge is crossed.
    """
    first, second = ends[ends[:, 0].sign() != ends[:, 1].sign()].unbind(-1)
    if not len(first):
        return ends.sum() * 0.0
    forward = F.binary_cross_entropy_with_logits(first, (second > 0).to(first))
    return forward + F.binary_cross_entropy_with_logits(second, (first > 0).to(second))


def one_signed(sdf: Tensor, grid: RegularGrid) -> Tensor:
    """Bool [B]: samples of [B, N] without a change of sign among the inner nodes.

    Inner means without the border layer. Zeros are of neither sign.
    """
    inner = sdf.view(-1, *grid.node_shape)[:, 1:-1, 1:-1, 1:-1].flatten(1)
    return ~((inner > 0).any(1) & (inner < 0).any(1))


def repair_empty(sdf: Tensor, broken: Tensor, grid: RegularGrid) -> Tensor:
    """Give one-signed samples a surface, so that a training step has something to render.

    Args:
        sdf: [B, N].
        broken: bool [B], see `one_signed`.
        grid: a cubic grid.

    Returns:
        [B, N]; broken samples are constants: 1 - min at the centre node, -1 - max on the two
        outermost layers, with extremes over the whole batch, else their own values. The orientation
        of an all-positive field comes out inverted, as in the published code.
    """
    if not bool(broken.any()):
        return sdf
    volume = sdf.detach().clone().view(-1, *grid.node_shape)
    low, high = sdf.detach().min(), sdf.detach().max()
    centre = grid.res[0] // 2 + 1
    border = torch.ones(grid.node_shape, dtype=torch.bool, device=sdf.device)
    border[2:-2, 2:-2, 2:-2] = False
    volume[:, centre, centre, centre] = 1.0 - low
    volume[:, border] = -1.0 - high
    return torch.where(broken[:, None], volume.flatten(1), sdf)


def surface_edges(grid: RegularGrid, index: Tensor) -> Tensor:
    """[E, 2] rows into ascending node indices [U] of the grid edges with both ends among them."""
    _, ny, nz = grid.node_shape
    z = index % nz
    y = index // nz % ny
    pairs = []
    for step, last in ((ny * nz, None), (nz, y == ny - 1), (1, z == nz - 1)):
        place = torch.searchsorted(index, index + step).clamp(max=max(len(index) - 1, 0))
        found = index[place] == index + step
        found = found if last is None else found & ~last
        row = found.nonzero().view(-1)
        pairs.append(torch.stack([row, place[row]], -1))
    return torch.cat(pairs)
