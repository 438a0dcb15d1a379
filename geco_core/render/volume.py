"""Volume rendering of a radiance field along rays.

Stratified and importance samples, then quadrature.

Same function as the renderer of EG3D (arXiv 2112.07945) in the form InstantMesh's stage 1 (arXiv
2404.07191) uses it, down to its quirks, which its weights were trained with: rays that miss the box
borrow their depths from those that hit it, expected depth is not divided by the total weight, and
it is clamped to the extremes of the whole batch. What differs: the uniform numbers are arguments,
and nothing is drawn here except by `draw_uniforms`.

World frame; the field lives in [-1, 1]^3; distances are along unit directions from the ray's
origin.

Legend: B batch, R rays of an object (all its views), K samples of one pass, S = 2 K samples of a
ray.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# points [B, P, 3] -> colour [B, P, 3], raw density [B, P, 1]
Field = Callable[[Tensor], tuple[Tensor, Tensor]]

BOX_HALF = 1.0
DENSITY_SHIFT = 1.0
IMPORTANCE_FLOOR = 0.01
PDF_EPSILON = 1e-5
TRANSMITTANCE_FLOOR = 1e-10
# Raw density outside the box: a third of the lowest float, so that averaging does not overflow.
OUTSIDE_DENSITY = -torch.finfo(torch.float32).max / 3


@dataclass(frozen=True)
class Uniforms:
    """The random numbers of one rendering, all in [0, 1).

    Attributes:
        stratified: [B, R, K]: where in its stratum each coarse sample lies.
        importance: [B, R, K]: where in the coarse weights' distribution each fine sample lies.
    """

    stratified: Tensor
    importance: Tensor


@dataclass(frozen=True)
class VolumeRender:
    """What rays see.

    Attributes:
        rgb: [B, R, 3], on white.
        depth: [B, R, 1], expected distance; not divided by `weight`.
        weight: [B, R, 1], opacity in [0, 1].
    """

    rgb: Tensor
    depth: Tensor
    weight: Tensor


def draw_uniforms(
    batch: int, rays: int, samples_per_ray: int, generator: torch.Generator
) -> Uniforms:
    """Random numbers for `rays` rays per object, drawn on the CPU: the same on every device."""
    shape = (batch, rays, samples_per_ray // 2)
    return Uniforms(torch.rand(shape, generator=generator), torch.rand(shape, generator=generator))


def activate_density(raw: Tensor) -> Tensor:
    """Density per unit length from the network's raw output."""
    return F.softplus(raw - DENSITY_SHIFT)


def box_limits(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Distances [..., 1] at which rays [..., 3] enter and leave the box.

    Rays that miss get the smallest and the largest ENTRY of the rays that hit: their samples lie
    outside the box and count for nothing, but their depths stay within the batch's range. Zeros
    when every ray misses.
    """
    # A direction of exactly 0 divides to a signed infinity, which the comparisons below handle.
    low, high = (-BOX_HALF - origins) / directions, (BOX_HALF - origins) / directions
    near = torch.minimum(low, high).amax(-1, keepdim=True)
    far = torch.maximum(low, high).amin(-1, keepdim=True)
    hit = near < far
    if not bool(hit.any()):
        return torch.zeros_like(near), torch.zeros_like(far)
    entries = near[hit]
    return torch.where(hit, near, entries.min()), torch.where(hit, far, entries.max())


def stratified_depths(near: Tensor, far: Tensor, uniforms: Tensor) -> Tensor:
    """Depths [B, R, K] from limits [B, R, 1].

    The last stratum begins at `far`, so its sample may lie beyond.
    """
    count = uniforms.shape[-1]
    step = (far - near) / (count - 1)
    return near + step * (torch.arange(count, device=near.device) + uniforms)


def importance_depths(depths: Tensor, weights: Tensor, uniforms: Tensor) -> Tensor:
    """Depths drawn from the smoothed coarse weights, without gradient.

    Args:
        depths: [B, R, K] coarse, ascending.
        weights: [B, R, K - 1] of the intervals between them.
        uniforms: [B, R, K'].

    Returns:
        [B, R, K'], unsorted.
    """
    with torch.no_grad():
        flat = weights.flatten(0, 1)[:, None].float()
        smooth = F.avg_pool1d(F.max_pool1d(flat, 2, 1, padding=1), 2, 1)[:, 0] + IMPORTANCE_FLOOR
        middles = (depths[..., :-1] + depths[..., 1:]).flatten(0, 1) / 2
        drawn = invert_cdf(middles, smooth[:, 1:-1], uniforms.flatten(0, 1))
    return drawn.view(uniforms.shape)


def invert_cdf(edges: Tensor, weights: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse-transform samples [N, K] of a piecewise-constant density.

    Args:
        edges: [N, E] ascending, E > M; intervals lie between the first M + 1.
        weights: [N, M], not negative.
        uniforms: [N, K] in [0, 1).
    """
    weights = weights + PDF_EPSILON
    pdf = weights / weights.sum(-1, keepdim=True)
    cdf = F.pad(pdf.cumsum(-1), (1, 0))  # [N, M + 1]
    above = torch.searchsorted(cdf, uniforms.contiguous(), right=True)
    below = (above - 1).clamp(min=0)
    above = above.clamp(max=weights.shape[-1])
    cdf_low, cdf_high = cdf.gather(-1, below), cdf.gather(-1, above)
    width = cdf_high - cdf_low
    width = torch.where(width < PDF_EPSILON, torch.ones_like(width), width)
    low, high = edges.gather(-1, below), edges.gather(-1, above)
    return low + (uniforms - cdf_low) / width * (high - low)


def march(rgb: Tensor, raw_density: Tensor, depths: Tensor) -> tuple[VolumeRender, Tensor]:
    """Quadrature over samples sorted by depth.

    Args:
        rgb: [B, R, S, 3].
        raw_density: [B, R, S].
        depths: [B, R, S], ascending.

    Returns:
        The render, on white, and the weights [B, R, S - 1] of the intervals.
    """
    step = depths[..., 1:] - depths[..., :-1]
    rgb_mid = (rgb[..., :-1, :] + rgb[..., 1:, :]) / 2
    depth_mid = (depths[..., :-1] + depths[..., 1:]) / 2
    density = activate_density((raw_density[..., :-1] + raw_density[..., 1:]) / 2)
    alpha = 1 - torch.exp(-density * step)
    passed = torch.cumprod(1 - alpha + TRANSMITTANCE_FLOOR, -1)
    weights = alpha * F.pad(passed[..., :-1], (1, 0), value=1.0)
    total = weights.sum(-1, keepdim=True)
    rgb = (weights[..., None] * rgb_mid).sum(-2) + 1 - total
    depth = (weights * depth_mid).sum(-1, keepdim=True)
    depth = depth.nan_to_num(nan=float("inf")).clamp(depths.min(), depths.max())
    return VolumeRender(rgb, depth, total), weights


def render_rays(
    field: Field, origins: Tensor, directions: Tensor, uniforms: Uniforms
) -> VolumeRender:
    """Render rays.

    Args:
        field: the radiance field; evaluated on [B, R * K, 3] points twice.
        origins: [B, R, 3].
        directions: [B, R, 3], unit length.
        uniforms: see `draw_uniforms`.

    Returns:
        Colour, depth and opacity of every ray.
    """
    near, far = box_limits(origins, directions)
    coarse = stratified_depths(near, far, uniforms.stratified)
    coarse_rgb, coarse_raw = _evaluate(field, origins, directions, coarse)
    _, weights = march(coarse_rgb, coarse_raw, coarse)
    fine = importance_depths(coarse, weights, uniforms.importance)
    fine_rgb, fine_raw = _evaluate(field, origins, directions, fine)
    depths, order = torch.cat([coarse, fine], -1).sort(-1)
    rgb = torch.cat([coarse_rgb, fine_rgb], -2)
    rgb = rgb.gather(-2, order[..., None].expand_as(rgb))
    raw = torch.cat([coarse_raw, fine_raw], -1).gather(-1, order)
    return march(rgb, raw, depths)[0]


def _evaluate(
    field: Field, origins: Tensor, directions: Tensor, depths: Tensor
) -> tuple[Tensor, Tensor]:
    """Colour [B, R, K, 3] and raw density [B, R, K] at depths [B, R, K].

    Outside the box the colour is 0 and the density that of empty space.
    """
    points = origins[..., None, :] + depths[..., None] * directions[..., None, :]
    rgb, raw = field(points.flatten(1, 2))
    rgb, raw = rgb.view(points.shape), raw.view(depths.shape)
    inside = (points.abs() <= BOX_HALF).all(-1)
    return (
        torch.where(inside[..., None], rgb, torch.zeros_like(rgb)),
        torch.where(inside, raw, torch.full_like(raw, OUTSIDE_DENSITY)),
    )
