"""Which triangle is visible at each pixel: scan conversion by pair expansion, in torch alone.

Same contract as the first half of nvdiffrast's rasterizer (Laine et al. 2020, section 3.2), written
independently. Triangles expand to (triangle, row) pairs, rows expand to fragments, and one integer
minimum over packed (depth, triangle) keys resolves all views at once, so that the result does not
depend on the order of execution.

Differences from nvdiffrast: screen positions are not snapped to 1/16 pixel, so ids differ on about
one covered pixel in a hundred; a triangle with a vertex at w <= 0 is dropped whole instead of being
clipped against the near plane. Fragments outside -1 <= z/w <= 1 are discarded, which equals
clipping for the triangles that remain.

Shapes: V views, N vertices, F faces, K (view, face) pairs on screen, R (triangle, row) pairs, P
fragments.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

# -1 <= z/w <= 1 maps to 31 bits, above the 32 bits of the triangle index.
DEPTH_SCALE = float(2**30)
DEPTH_LIMIT = 2**31
EMPTY_KEY = 2**63 - 1
_PAIRS_PER_CHUNK = 1 << 21
_FRAGMENTS_PER_CHUNK = 1 << 22


def visible_triangles(pos_clip: Tensor, tri: Tensor, resolution: tuple[int, int]) -> Tensor:
    """Nearest triangle per pixel centre.

    Args:
        pos_clip: clip-space positions [V, N, 4], any floating dtype; the work is done in float64.
        tri: vertex indices [F, 3].
        resolution: (H, W) in pixels. Row 0 is NDC y = -1; the centre of column i is NDC x = (2i +
            1) / W - 1.

    Returns:
        Triangle index + 1, or 0 for background, [V, H, W] int64. Centres on a shared edge belong to
        exactly one of the two triangles; equal depths go to the lowest index.
    """
    height, width = resolution
    views, faces = pos_clip.shape[0], tri.shape[0]
    ids_VHW = torch.zeros(views, height, width, dtype=torch.int64, device=pos_clip.device)
    if faces == 0 or ids_VHW.numel() == 0:
        return ids_VHW
    step = max(1, _PAIRS_PER_CHUNK // faces)
    with torch.no_grad():
        for start in range(0, views, step):
            keys = _resolve(pos_clip[start : start + step].detach(), tri.long(), height, width)
            ids = torch.where(keys == EMPTY_KEY, 0, (keys & 0xFFFFFFFF) + 1)
            ids_VHW[start : start + step] = ids.view(-1, height, width)
    return ids_VHW


def to_screen(pos_clip: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Screen positions [V, N, 3] = (x, y in pixels, z/w) in float64, and usable vertices [V, N].

    Pixel centres lie on integers. Vertices at w <= 0 or with non-finite results are not usable.
    """
    pos = pos_clip.double()
    w = pos[..., 3:]
    ndc = pos[..., :3] / torch.where(w > 0, w, 1.0)
    scale = ndc.new_tensor([0.5 * width, 0.5 * height, 1.0])
    shift = ndc.new_tensor([0.5 * width - 0.5, 0.5 * height - 0.5, 0.0])
    screen = ndc * scale + shift
    return screen, (w[..., 0] > 0) & torch.isfinite(screen).all(-1)


def _resolve(pos_clip: Tensor, tri: Tensor, height: int, width: int) -> Tensor:
    """Packed (depth, triangle) minimum per pixel, [V * H * W] int64."""
    keys = torch.full(
        (pos_clip.shape[0] * height * width,), EMPTY_KEY, dtype=torch.int64, device=pos_clip.device
    )
    edges, first_row, rows, face, view = _triangles_on_screen(pos_clip, tri, height, width)
    if rows.numel() == 0:
        return keys
    owner, offset = _expand(rows)
    row = first_row.index_select(0, owner) + offset
    left, count, depth, slope = _spans(edges.index_select(1, owner), row, width)
    pixel = (view.index_select(0, owner) * height + row) * width + left
    depth_R2 = torch.stack([depth, slope], -1)
    place_R2 = torch.stack([pixel, face.index_select(0, owner)], -1)
    for chunk in _chunks(count):
        span, along = _expand(count[chunk])
        at, tilt = depth_R2[chunk].index_select(0, span).unbind(-1)
        pixel, index = place_R2[chunk].index_select(0, span).unbind(-1)
        # Two roundings, never a fused one: every backend must get the same key.
        level = (at + along * tilt).long()
        key = torch.where((level >= 0) & (level < DEPTH_LIMIT), (level << 32) | index, EMPTY_KEY)
        keys.scatter_reduce_(0, pixel + along, key, "amin")
    return keys


def _triangles_on_screen(
    pos_clip: Tensor, tri: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Triangles that may own a pixel centre.

    Returns:
        Vertices sorted by screen y as [9, K] = (x0 x1 x2 y0 y1 y2 z0 z1 z2); first row, number of
        rows, face, view [K].
    """
    screen_VN3, usable_VN = to_screen(pos_clip, height, width)
    views, faces = pos_clip.shape[0], tri.shape[0]
    flat = tri.reshape(-1)
    corner_VF33 = screen_VN3.index_select(1, flat).view(views, faces, 3, 3)
    usable = usable_VN.index_select(1, flat).view(views, faces, 3).all(-1)
    low, high = corner_VF33.amin(2), corner_VF33.amax(2)
    # Half-open rules: a centre on the lower bound is in, one on the upper bound is out.
    first = low[..., :2].nan_to_num(0.0).ceil().clamp_min(0)
    limit = first.new_tensor([width, height])
    last = torch.minimum(high[..., :2].nan_to_num(0.0).ceil(), limit)
    keep = (usable & (last > first).all(-1) & (low[..., 2] <= 1) & (high[..., 2] >= -1)).view(-1)
    pair = keep.nonzero()[:, 0]
    corner_K33 = corner_VF33.view(-1, 3, 3).index_select(0, pair)
    order = corner_K33[..., 1].argsort(dim=1, stable=True)
    corner_K33 = corner_K33.gather(1, order[..., None].expand(-1, -1, 3))
    first_row = first[..., 1].reshape(-1).index_select(0, pair).long()
    last_row = last[..., 1].reshape(-1).index_select(0, pair).long()
    edges = corner_K33.permute(2, 1, 0).reshape(9, -1)
    return edges, first_row, last_row - first_row, pair % faces, pair // faces


def _spans(edges: Tensor, row: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels of one row inside one triangle.

    The crossing of an edge is computed from its lower end alone, so that both triangles at the edge
    get the same number and no centre falls between them. Depth comes from the two crossed edges,
    hence stays inside the triangle's range.

    Args:
        edges: vertices sorted by y, [9, R] as from `_triangles_on_screen`.
        row: pixel row [R].
        width: image width in pixels.

    Returns:
        First column, number of columns, scaled depth at the first column, scaled depth step per
        column; each [R].
    """
    x0, x1, x2, y0, y1, y2, z0, z1, z2 = edges.unbind(0)
    y = row.double()
    lower = y < y1
    start_x, start_y, start_z = (
        torch.where(lower, a, b) for a, b in ((x0, x1), (y0, y1), (z0, z1))
    )
    end_x, end_y, end_z = (torch.where(lower, a, b) for a, b in ((x1, x2), (y1, y2), (z1, z2)))
    long_dy, short_dy = y2 - y0, end_y - start_y
    xa = x0 + (y - y0) * ((x2 - x0) / long_dy)
    za = z0 + (y - y0) * ((z2 - z0) / long_dy)
    xb = start_x + (y - start_y) * ((end_x - start_x) / short_dy)
    zb = start_z + (y - start_y) * ((end_z - start_z) / short_dy)
    left = torch.minimum(xa, xb).ceil().clamp_(0, width)
    right = torch.maximum(xa, xb).ceil().clamp_(0, width)
    slope = (zb - za) / torch.where(xa == xb, 1.0, xb - xa)
    depth = za + (left - xa) * slope
    return left.long(), (right - left).long(), (depth + 1.0) * DEPTH_SCALE, slope * DEPTH_SCALE


def _expand(count: Tensor) -> tuple[Tensor, Tensor]:
    """Owner and running offset of every element when entry k is repeated count[k] times."""
    end = count.cumsum(0)
    total = int(end[-1]) if count.numel() else 0
    every = torch.arange(count.shape[0], device=count.device)
    owner = torch.repeat_interleave(every, count, output_size=total)
    offset = torch.arange(total, device=count.device) - (end - count).index_select(0, owner)
    return owner, offset


def _chunks(count: Tensor) -> list[slice]:
    """Slices over the rows such that each expands to a bounded number of fragments."""
    end = count.cumsum(0)
    total = int(end[-1])
    if total <= _FRAGMENTS_PER_CHUNK:
        return [slice(0, count.shape[0])]
    marks = torch.arange(
        _FRAGMENTS_PER_CHUNK, total, _FRAGMENTS_PER_CHUNK, device=count.device, dtype=end.dtype
    )
    cuts = [0, *(torch.searchsorted(end, marks) + 1).tolist(), count.shape[0]]
    return [slice(a, b) for a, b in pairwise(cuts) if b > a]
