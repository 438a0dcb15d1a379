"""Images of a mesh: colour, mask, depth, normals and positions for a batch of views.

Conventions of InstantMesh's geometry renderer (Xu et al. 2024; FlexiCubes rendering code path):
world-space attributes are interpolated, colour is evaluated at the surface point of every covered
pixel and is not antialiased, the mask and the normals are. Differs in that colour may also come
from vertices or faces, that colour can be antialiased, and that images can be supersampled.

Limits are those of the rasterizer (`geco_core.render.raster_torch`): cameras outside the object,
one depth layer.

Shapes: V views, N vertices, F faces, H = W = resolution, P covered pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from geco_core.cameras import clip_from_world
from geco_core.render.protocol import Rasterizer


@dataclass(frozen=True)
class MeshRender:
    """Images of one mesh from V views; row 0 is the image top, given a projection that negates y.

    Attributes:
        rgb: [V, 3, H, W] in [0, 1].
        mask: [V, 1, H, W] in [0, 1], fraction of the pixel covered.
        depth: [V, 1, H, W], distance along the viewing axis in world units (positive), 0 off the
            surface.
        normal: [V, 3, H, W], unit world-space normal n stored as (n + 1) / 2, 0 off the surface.
        position: [V, 3, H, W], world-space surface point, 0 off the surface.
        face_id: [V, H, W] int64, face index + 1, or 0 for background.
    """

    rgb: Tensor
    mask: Tensor
    depth: Tensor
    normal: Tensor
    position: Tensor
    face_id: Tensor


def render_mesh(
    rasterizer: Rasterizer,
    vertices: Tensor,
    faces: Tensor,
    w2c: Tensor,
    proj: Tensor,
    resolution: int,
    *,
    vertex_colors: Tensor | None = None,
    face_colors: Tensor | None = None,
    color_fn: Callable[[Tensor], Tensor] | None = None,
    supersample: int = 1,
    antialias: bool = True,
    antialias_color: bool = False,
    background: float = 1.0,
) -> MeshRender:
    """Render a mesh from several cameras.

    Args:
        rasterizer: from `geco_core.render.get_rasterizer`.
        vertices: world positions [N, 3]; gradients reach them through all images.
        faces: vertex indices [F, 3]; F = 0 gives background images.
        w2c: world-to-camera, OpenGL axes (x right, y up, z to the viewer), [V, 4, 4].
        proj: clip from camera [4, 4] with y negated (`geco_core.cameras.projection` or
            `orthographic`).
        resolution: image side in pixels.
        vertex_colors: [N, 3] in [0, 1]. At most one source of colour; with none the surface is
            mid-grey.
        face_colors: [F, 3] in [0, 1].
        color_fn: world points [P, 3] -> colours [P, 3] in [0, 1].
        supersample: render at this multiple of the resolution and average.
        antialias: antialias mask and normals across silhouettes.
        antialias_color: antialias the colour as well.
        background: grey level behind the surface.

    Raises:
        ValueError: more than one source of colour.
    """
    if sum(c is not None for c in (vertex_colors, face_colors, color_fn)) > 1:
        raise ValueError("give one of vertex_colors, face_colors, color_fn")
    side = resolution * supersample
    # Half precision would move vertices by pixels, whatever autocast the caller is under.
    with torch.autocast(vertices.device.type, enabled=False):
        pos_clip = clip_from_world(vertices, w2c, proj)
    rast = rasterizer.rasterize(pos_clip, faces, (side, side)).rast
    attributes = [vertices, vertex_normals(vertices, faces)]
    if vertex_colors is not None:
        attributes.append(vertex_colors.to(vertices.dtype))
    image, _ = rasterizer.interpolate(torch.cat(attributes, -1), rast, faces)
    position, normal = image[..., :3], image[..., 3:6]
    face_id = rast[..., 3].detach().long()
    hard = (face_id > 0).to(image.dtype)[..., None]
    mask = hard
    if vertex_colors is not None:
        rgb = image[..., 6:] + background * (1 - hard)
    else:
        rgb = _surface_colors(position, face_id, face_colors, color_fn, background)
    if antialias:
        soft = rasterizer.antialias(torch.cat([hard, normal], -1), rast, pos_clip, faces)
        mask, normal = soft[..., :1], soft[..., 1:]
    if antialias_color:
        rgb = rasterizer.antialias(rgb, rast, pos_clip, faces)
    normal = (F.normalize(normal, dim=-1) + 1) * 0.5 * hard
    depth = _depth(position, face_id, w2c)
    return _finish(rgb.clamp(0, 1), mask, depth, normal, position, face_id, supersample)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted unit vertex normals [N, 3]; (0, 0, 1) where they vanish."""
    corner_3F = faces.long().t()
    p0, p1, p2 = vertices.index_select(0, corner_3F.reshape(-1)).view(3, -1, 3)
    normal_F3 = torch.linalg.cross(p1 - p0, p2 - p0)
    total = torch.zeros_like(vertices).index_add(0, corner_3F.reshape(-1), normal_F3.repeat(3, 1))
    up = total.new_tensor([0.0, 0.0, 1.0])
    total = torch.where((total * total).sum(-1, keepdim=True) > 1e-20, total, up)
    return F.normalize(total, dim=-1)


def _depth(position: Tensor, face_id: Tensor, w2c: Tensor) -> Tensor:
    """Distance along the viewing axis [V, H, W, 1] of covered pixels, 0 elsewhere."""
    pixel = face_id.reshape(-1).nonzero()[:, 0]
    x, y, z = position.reshape(-1, 3).index_select(0, pixel).unbind(-1)
    view = pixel // face_id[0].numel()
    a, b, c, d = w2c.to(position)[:, 2].index_select(0, view).unbind(-1)
    depth = position.new_zeros(face_id.numel())
    return depth.index_copy_(0, pixel, -(a * x + b * y + c * z + d)).view(*face_id.shape, 1)


def _surface_colors(
    position: Tensor,
    face_id: Tensor,
    face_colors: Tensor | None,
    color_fn: Callable[[Tensor], Tensor] | None,
    background: float,
) -> Tensor:
    """Colour [V, H, W, 3] of covered pixels over the background."""
    flat_id = face_id.reshape(-1)
    pixel = flat_id.nonzero()[:, 0]
    canvas = position.new_full((flat_id.shape[0], 3), background)
    if face_colors is not None:
        color = face_colors.index_select(0, flat_id.index_select(0, pixel) - 1)
    elif color_fn is not None and pixel.numel():
        color = color_fn(position.reshape(-1, 3).index_select(0, pixel))
    else:
        color = canvas.new_full((pixel.shape[0], 3), 0.5)
    return canvas.index_copy_(0, pixel, color.to(canvas.dtype)).view(position.shape)


def _finish(
    rgb: Tensor,
    mask: Tensor,
    depth: Tensor,
    normal: Tensor,
    position: Tensor,
    face_id: Tensor,
    factor: int,
) -> MeshRender:
    """Average the samples of each pixel; depth and position over the covered ones only."""
    images = [x.permute(0, 3, 1, 2) for x in (rgb, mask, depth, normal, position)]
    if factor == 1:
        return MeshRender(*images, face_id=face_id)
    covered = F.avg_pool2d((face_id > 0).to(rgb.dtype)[:, None], factor)
    rgb, mask, depth, normal, position = (F.avg_pool2d(x, factor) for x in images)
    share = covered.clamp_min(1e-6)
    middle = factor // 2
    return MeshRender(
        rgb=rgb,
        mask=mask,
        depth=depth / share,
        normal=normal,
        position=position / share,
        face_id=face_id[:, middle::factor, middle::factor],
    )
