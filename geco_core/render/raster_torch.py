"""The rasterizer in torch: barycentrics, screen derivatives, interpolation, gradients by autograd.

Drop-in for nvdiffrast's `rasterize` and `interpolate` (Laine et al. 2020), written independently
from its documented behaviour: row 0 of every image is NDC y = -1; a pixel holds (u, v, z/w,
triangle index + 1); an attribute is u a0 + v a1 + (1 - u - v) a2; no face is culled by its
orientation; gradients reach positions through u and v (and their screen derivatives) and never
through z/w or the choice of the triangle.

Limits: a triangle with any vertex at w <= 0 is dropped whole (no near-plane clipping), so cameras
belong outside the object; one mesh per call; one depth layer. All work is plain torch, on whichever
device the positions are.

Shapes: V views, N vertices, F faces, C attributes, P covered pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geco_core.render.antialias import antialias as _antialias
from geco_core.render.protocol import RasterOutput, VisibilityFn
from geco_core.render.texture import sample_texture
from geco_core.render.visibility import visible_triangles


class TorchRasterizer:
    """Differentiable rasterizer in torch; `geco_core.render.protocol` has the contract.

    Args:
        visibility: finds the nearest triangle per pixel; replaced by an equal but faster one where
            there is one.
    """

    def __init__(self, visibility: VisibilityFn = visible_triangles) -> None:
        self.visibility = visibility

    def rasterize(
        self,
        pos_clip: Tensor,
        tri: Tensor,
        resolution: tuple[int, int],
        *,
        derivatives: bool = False,
    ) -> RasterOutput:
        """See `Rasterizer.rasterize`."""
        tri = tri.long()
        ids_VHW = self.visibility(pos_clip, tri, resolution)
        return barycentrics(pos_clip, tri, ids_VHW, derivatives=derivatives)

    def interpolate(
        self,
        attr: Tensor,
        rast: Tensor,
        tri: Tensor,
        rast_db: Tensor | None = None,
        diff_attrs: str | list[int] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """See `Rasterizer.interpolate`."""
        return interpolate(attr, rast, tri, rast_db, diff_attrs)

    def antialias(self, color: Tensor, rast: Tensor, pos_clip: Tensor, tri: Tensor) -> Tensor:
        """See `Rasterizer.antialias`."""
        return _antialias(color, rast, pos_clip, tri)

    def texture(
        self,
        tex: Tensor,
        uv: Tensor,
        uv_da: Tensor | None = None,
        *,
        boundary: str = "wrap",
        max_mip_level: int | None = None,
    ) -> Tensor:
        """See `Rasterizer.texture`."""
        return sample_texture(tex, uv, uv_da, boundary=boundary, max_mip_level=max_mip_level)


def barycentrics(
    pos_clip: Tensor, tri: Tensor, ids_VHW: Tensor, *, derivatives: bool = False
) -> RasterOutput:
    """Perspective-correct barycentrics of the given triangles at the pixel centres.

    The three homogeneous edge functions of the vertices seen from the pixel are proportional to the
    barycentrics (Olano and Greer 1997), whatever w is, so perspective and orthographic cameras are
    one case.

    Args:
        pos_clip: [V, N, 4]; its dtype is that of the result.
        tri: [F, 3] int64.
        ids_VHW: triangle index + 1 per pixel, 0 for background.
        derivatives: also return (du/dX, du/dY, dv/dX, dv/dY) per pixel step.

    Returns:
        rast [V, H, W, 4] and, if asked for, rast_db [V, H, W, 4]; zeros on background.
    """
    views, height, width = ids_VHW.shape
    flat_ids = ids_VHW.reshape(-1)
    pixel = flat_ids.nonzero()[:, 0]
    face = flat_ids.index_select(0, pixel) - 1
    column, line = pixel % width, (pixel // width) % height
    view = pixel // (height * width)
    x_P = (2 * column + 1).to(pos_clip.dtype) / width - 1
    y_P = (2 * line + 1).to(pos_clip.dtype) / height - 1
    corner_3P = tri.t().index_select(1, face) + view * pos_clip.shape[1]
    corner_3P4 = pos_clip.reshape(-1, 4).index_select(0, corner_3P.reshape(-1)).view(3, -1, 4)
    x, y, z, w = corner_3P4.unbind(-1)
    px, py = (x - x_P * w).unbind(0), (y - y_P * w).unbind(0)
    area = [px[i] * py[j] - py[i] * px[j] for i, j in ((1, 2), (2, 0), (0, 1))]
    total = area[0] + area[1] + area[2]
    # Flat to working precision: u and v come out 0.
    total = torch.where(total == 0, 1.0, total)
    u, v = area[0] / total, area[1] / total
    with torch.no_grad():
        u_in, v_in = u.clamp(0, 1), v.clamp(0, 1)
        shrink = (u_in + v_in).clamp_min(1)
        u_in, v_in = u_in / shrink, v_in / shrink
        b2 = 1 - u_in - v_in
        depth = (u_in * z[0] + v_in * z[1] + b2 * z[2]) / (u_in * w[0] + v_in * w[1] + b2 * w[2])
        # The value is clamped against rounding; the gradient is that of the unclamped value.
        fix_u, fix_v = u_in - u, v_in - v
    values = torch.stack([u + fix_u, v + fix_v, depth.clamp(-1, 1), (face + 1).to(depth.dtype)], -1)
    rast = _scatter(values, pixel, (views, height, width, 4))
    if not derivatives:
        return RasterOutput(rast, None)
    slopes = _slopes(px, py, w, (u, v), total, (2 / width, 2 / height))
    return RasterOutput(rast, _scatter(slopes, pixel, (views, height, width, 4)))


def _slopes(
    px: tuple[Tensor, ...],
    py: tuple[Tensor, ...],
    w: Tensor,
    uv: tuple[Tensor, Tensor],
    total: Tensor,
    step: tuple[float, float],
) -> Tensor:
    """(du/dX, du/dY, dv/dX, dv/dY) per pixel step, [P, 4], by the quotient rule."""
    pairs = ((1, 2), (2, 0), (0, 1))
    area_x = [py[i] * w[j] - w[i] * py[j] for i, j in pairs]
    area_y = [w[i] * px[j] - px[i] * w[j] for i, j in pairs]
    sum_x, sum_y = sum(area_x[1:], area_x[0]), sum(area_y[1:], area_y[0])
    columns = []
    for k in range(2):
        columns.append((area_x[k] - uv[k] * sum_x) / total * step[0])
        columns.append((area_y[k] - uv[k] * sum_y) / total * step[1])
    return torch.stack(columns, -1)


def interpolate(
    attr: Tensor,
    rast: Tensor,
    tri: Tensor,
    rast_db: Tensor | None = None,
    diff_attrs: str | list[int] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Vertex attributes at the pixels, and their screen derivatives.

    Args:
        attr: [N, C] shared by all views, or [V, N, C].
        rast: [V, H, W, 4] from `rasterize`.
        tri: [F, 3].
        rast_db: [V, H, W, 4] from `rasterize(..., derivatives=True)`; needed with `diff_attrs`.
        diff_attrs: "all" or attribute numbers whose derivatives are wanted.

    Returns:
        [V, H, W, C], zero on background, and [V, H, W, 2D] = (dA/dX, dA/dY) per selected attribute
        and pixel step, or None.

    Raises:
        ValueError: `diff_attrs` without `rast_db`.
    """
    views, height, width, _ = rast.shape
    flat = rast.reshape(-1, 4)
    ids = flat[:, 3].detach()
    pixel = ids.nonzero()[:, 0]
    face = ids.index_select(0, pixel).long() - 1
    corner_3P = tri.long().t().index_select(1, face)
    if attr.dim() == 3 and attr.shape[0] > 1:
        corner_3P = corner_3P + pixel // (height * width) * attr.shape[1]
    channels = attr.shape[-1]
    a0, a1, a2 = (
        attr.reshape(-1, channels).index_select(0, corner_3P.reshape(-1)).view(3, -1, channels)
    )
    u, v = flat[:, :2].index_select(0, pixel).split(1, dim=-1)
    from_2, to_1 = a0 - a2, a1 - a2
    values = a2 + u * from_2 + v * to_1
    out = _scatter(values, pixel, (views, height, width, channels))
    if diff_attrs is None:
        return out, None
    if rast_db is None:
        raise ValueError("diff_attrs needs rast_db; rasterize with derivatives=True")
    chosen = list(range(channels)) if diff_attrs == "all" else [int(i) for i in diff_attrs]
    slope = rast_db.reshape(-1, 4).index_select(0, pixel)
    du, dv = slope[:, None, :2], slope[:, None, 2:]
    out_da = du * from_2[:, chosen, None] + dv * to_1[:, chosen, None]
    return out, _scatter(out_da.flatten(1), pixel, (views, height, width, 2 * len(chosen)))


def _scatter(values: Tensor, pixel: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Put [P, C] rows at flat pixel numbers of a zero image."""
    image = values.new_zeros(shape[0] * shape[1] * shape[2], shape[3])
    return image.index_copy_(0, pixel, values).view(shape)
