"""Texture lookup: bilinear, or trilinear over a pyramid of averages, with wrap or clamp.

Follows the texture operation of nvdiffrast (Laine et al. 2020, section 3.4), written independently:
texel (row i, column j) has its centre at uv = ((j + 0.5) / S, (i + 0.5) / T). Differs in that no
gradient reaches the derivatives that choose the pyramid level.

Shapes: T rows, S columns, C channels, Q lookups.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BOUNDARIES = ("wrap", "clamp")


def sample_texture(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None = None,
    *,
    boundary: str = "wrap",
    max_mip_level: int | None = None,
) -> Tensor:
    """Texture values at uv coordinates; gradients reach both.

    Args:
        tex: [T, S, C]; row 0 at v = 0.
        uv: [..., 2], u along columns and v along rows, 0 to 1 across the texture.
        uv_da: [..., 4] = (du/dX, du/dY, dv/dX, dv/dY) per pixel step; turns on mipmapping.
        boundary: "wrap" or "clamp".
        max_mip_level: highest pyramid level; by default halved as long as both sides are even.

    Returns:
        [..., C].

    Raises:
        ValueError: unknown boundary.
    """
    if boundary not in BOUNDARIES:
        raise ValueError(f"boundary {boundary!r} is not one of {', '.join(BOUNDARIES)}")
    channels = tex.shape[-1]
    uv_Q2 = uv.reshape(-1, 2)
    levels = [tex] if uv_da is None else _pyramid(tex, max_mip_level)
    texels = torch.cat([level.reshape(-1, channels) for level in levels])
    sizes_L2 = torch.tensor([level.shape[:2] for level in levels], device=uv.device)
    if uv_da is None or len(levels) == 1:
        level_Q = torch.zeros(uv_Q2.shape[0], dtype=torch.int64, device=uv.device)
        out = _bilinear(texels, sizes_L2, level_Q, uv_Q2, boundary)
        return out.view(*uv.shape[:-1], channels)
    wanted = _level(uv_da.detach().reshape(-1, 4), tex.shape[0], tex.shape[1], len(levels) - 1)
    fine = wanted.long().clamp(max=len(levels) - 2)
    share = (wanted - fine)[:, None]
    low = _bilinear(texels, sizes_L2, fine, uv_Q2, boundary)
    high = _bilinear(texels, sizes_L2, fine + 1, uv_Q2, boundary)
    return (low + (high - low) * share).view(*uv.shape[:-1], channels)


def _pyramid(tex: Tensor, max_level: int | None) -> list[Tensor]:
    """The texture and its successive 2x2 averages."""
    levels = [tex]
    while max_level is None or len(levels) <= max_level:
        rows, columns, _ = levels[-1].shape
        if rows % 2 or columns % 2:
            break
        levels.append(F.avg_pool2d(levels[-1].permute(2, 0, 1), 2).permute(1, 2, 0))
    return levels


def _level(uv_da: Tensor, rows: int, columns: int, top: int) -> Tensor:
    """Pyramid level [Q] whose texel matches the long axis of the pixel's footprint."""
    du_dx, du_dy, dv_dx, dv_dy = uv_da.unbind(-1)
    uu = (du_dx.square() + du_dy.square()) * columns**2
    vv = (dv_dx.square() + dv_dy.square()) * rows**2
    uv = (du_dx * dv_dx + du_dy * dv_dy) * (rows * columns)
    long_axis_squared = 0.5 * (uu + vv) + torch.sqrt(0.25 * (uu - vv).square() + uv.square())
    return (0.5 * torch.log2(long_axis_squared.clamp_min(1.0))).clamp(max=top)


def _bilinear(
    texels: Tensor, sizes_L2: Tensor, level_Q: Tensor, uv_Q2: Tensor, boundary: str
) -> Tensor:
    """Bilinear lookup [Q, C] in one level of the concatenated pyramid per query."""
    area_L = sizes_L2.prod(-1)
    base = (area_L.cumsum(0) - area_L).index_select(0, level_Q)
    rows, columns = sizes_L2.index_select(0, level_Q).unbind(-1)
    x, y = uv_Q2[:, 0] * columns - 0.5, uv_Q2[:, 1] * rows - 0.5
    x_floor, y_floor = x.detach().floor(), y.detach().floor()
    fx, fy = (x - x_floor)[:, None], (y - y_floor)[:, None]
    j0, j1 = (_inside(x_floor.long() + k, columns, boundary) for k in (0, 1))
    i0, i1 = (_inside(y_floor.long() + k, rows, boundary) for k in (0, 1))
    t00, t01, t10, t11 = (
        texels.index_select(0, base + i * columns + j) for i in (i0, i1) for j in (j0, j1)
    )
    lower, upper = t00 + (t01 - t00) * fx, t10 + (t11 - t10) * fx
    return lower + (upper - lower) * fy


def _inside(index: Tensor, size: Tensor, boundary: str) -> Tensor:
    """Texel index within [0, size)."""
    if boundary == "wrap":
        return torch.remainder(index, size)
    return torch.minimum(index.clamp_min(0), size - 1)
