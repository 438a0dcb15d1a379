"""Albedo renders of a mesh on white: the images that image metrics compare.

No light: both meshes show their base colours, so that a score does not depend on a shading model.
Textures are looked up bilinearly with wrapping; a mesh without colours is mid-grey. Supersampled
and averaged in sRGB values, as 8-bit renders of other programs are compared.

Legend: V views, R resolution, S supersampled side, N vertices, F faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geco_core.cameras import clip_from_world
from geco_core.evaluate.protocol import Protocol
from geco_core.render.protocol import Rasterizer
from geco_core.render.texture import sample_texture
from geco_core.types import Mesh

_GREY = 0.5


@dataclass(frozen=True)
class Renders:
    """Images of one mesh.

    Attributes:
        rgb: [V, 3, R, R] in [0, 1], white background, row 0 at the top.
        mask: [V, 1, R, R], covered share of each pixel; None where it is not known.
    """

    rgb: Tensor
    mask: Tensor | None


@torch.no_grad()
def render_albedo(
    mesh: Mesh, vertices_N3: np.ndarray, protocol: Protocol, rasterizer: Rasterizer
) -> Renders:
    """Render a mesh from the cameras of a protocol, on the CPU.

    Args:
        mesh: faces and colours.
        vertices_N3: its vertices in the normalised world frame, in the place of its own.
        protocol: cameras and resolution.
        rasterizer: from `geco_core.render.get_rasterizer`.
    """
    points = torch.from_numpy(np.ascontiguousarray(vertices_N3, dtype=np.float32))
    faces = torch.from_numpy(np.ascontiguousarray(mesh.faces, dtype=np.int32))
    surface = torch.from_numpy(_surface(mesh))
    texture = _texture(mesh)
    w2c, proj = protocol.cameras()
    side = protocol.resolution * protocol.supersample
    images, masks = [], []
    for view in range(protocol.views):  # one at a time bounds the memory
        clip = clip_from_world(points, w2c[view : view + 1], proj)
        rast = rasterizer.rasterize(clip, faces, (side, side)).rast
        values, _ = rasterizer.interpolate(surface, rast, faces)
        hard = (rast[..., 3] > 0).to(values.dtype)[..., None]  # [1, S, S, 1]
        color = values if texture is None else sample_texture(texture, values)
        rgb = color * hard + (1.0 - hard)
        both = torch.cat([rgb, hard], -1).permute(0, 3, 1, 2)
        both = F.avg_pool2d(both, protocol.supersample)
        images.append(both[:, :3].clamp(0, 1))
        masks.append(both[:, 3:])
    return Renders(torch.cat(images), torch.cat(masks))


def _surface(mesh: Mesh) -> np.ndarray:
    """What is interpolated: float32 [N, 2] texture coordinates, else [N, 3] colours in [0, 1]."""
    if mesh.uvs is not None and mesh.texture is not None:
        # Texture rows run downward from the top, v upward from the bottom.
        return np.ascontiguousarray(mesh.uvs * [1.0, -1.0] + [0.0, 1.0], dtype=np.float32)
    if mesh.colors is None:
        return np.full((len(mesh.vertices), 3), _GREY, dtype=np.float32)
    return np.ascontiguousarray(mesh.colors / 255.0, dtype=np.float32)


def _texture(mesh: Mesh) -> Tensor | None:
    if mesh.uvs is None or mesh.texture is None:
        return None
    return torch.from_numpy(np.asarray(mesh.texture, dtype=np.float32) / 255.0)
