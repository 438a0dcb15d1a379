"""Small previews of a mesh on a transparent background.

Perspective views with a modest headlight, supersampled.

The light is gentle on purpose: models bake some light into vertex colours, so a full shading pass
would darken twice. The same mesh gives the same PNG bytes on the CPU.

Legend: V views, N vertices, S supersampled side in pixels, P shaded pixels.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from geco_core.cameras import clip_from_world, orbit_pose, projection, world_to_camera
from geco_core.imaging.srgb import linear_to_srgb, srgb_to_linear
from geco_core.mesh.frames import gltf_to_world
from geco_core.mesh.normals import vertex_normals
from geco_core.render.registry import get_rasterizer
from geco_core.types import Mesh

FOV_DEG = 30.0
SUPERSAMPLE = 3
MARGIN = 1.04

# Share of the colour that does not depend on the angle between surface and view.
AMBIENT = 0.62
_GREY = 190

Angles = tuple[float, float]
THREE_QUARTER: Angles = (35.0, 20.0)


def thumbnail_png(mesh: Mesh, *, size: int = 128, angles: Angles = THREE_QUARTER) -> bytes:
    """PNG bytes of one view, `size` x `size` RGBA; see `render_views`."""
    return encode_png(render_views(mesh, [angles], size=size)[0])


def encode_png(rgba: np.ndarray) -> bytes:
    """PNG bytes of uint8 [H, W, 3 or 4], without metadata: equal pixels give equal bytes."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgba)).save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def render_views(
    mesh: Mesh, angles: Sequence[Angles], *, size: int = 128, supersample: int = SUPERSAMPLE
) -> np.ndarray:
    """Draw the mesh from outside, framed by its bounding sphere.

    Args:
        mesh: a checked mesh, glTF frame.
        angles: azimuth and elevation in degrees per view; (0, 0) looks at the front, azimuth turns
            to the object's left (+x of glTF).
        size: side of the square views in pixels.
        supersample: samples per pixel side.

    Returns:
        uint8 [V, size, size, 4]: sRGB with straight alpha, row 0 at the top.
    """
    points_N3 = torch.from_numpy(_framed(mesh.vertices))
    faces_F3 = torch.from_numpy(mesh.faces.astype(np.int32))
    normals_N3 = torch.from_numpy(np.ascontiguousarray(gltf_to_world(vertex_normals(mesh))))
    surface_N = torch.from_numpy(_surface_attributes(mesh))
    distance = MARGIN / math.sin(math.radians(FOV_DEG) / 2)
    camera_to_world_V44 = torch.stack([orbit_pose(az, el, distance) for az, el in angles])
    clip_VN4 = clip_from_world(points_N3, world_to_camera(camera_to_world_V44), projection(FOV_DEG))
    side = size * supersample
    rasterizer = get_rasterizer("auto", "cpu")
    images = []
    for view, pose_44 in enumerate(camera_to_world_V44):
        with torch.no_grad():
            rast, _ = rasterizer.rasterize(clip_VN4[view : view + 1], faces_F3, (side, side))
            attributes = torch.cat([points_N3, normals_N3, surface_N], dim=1)
            sampled, _ = rasterizer.interpolate(attributes, rast, faces_F3)
        mask_SS = rast[0, ..., 3].numpy() > 0
        pixels_P = sampled[0].numpy()[mask_SS]
        color_P3 = _albedo(mesh, pixels_P[:, 6:]) * _headlight(
            pixels_P[:, :6], pose_44[:3, 3].numpy()
        )
        images.append(_downsampled(mask_SS, color_P3, supersample))
    return np.stack(images)


def _framed(vertices_N3: np.ndarray) -> np.ndarray:
    """World-frame vertices with the bounding-box centre at the origin, inside the unit sphere."""
    centre_3 = 0.5 * (vertices_N3.min(axis=0) + vertices_N3.max(axis=0))
    moved_N3 = (vertices_N3 - centre_3).astype(np.float64)
    radius = float(np.linalg.norm(moved_N3, axis=1).max())
    return np.ascontiguousarray(gltf_to_world(moved_N3 / max(radius, 1e-12)), dtype=np.float32)


def _surface_attributes(mesh: Mesh) -> np.ndarray:
    """Per-vertex float32 [N, 2] texture coordinates or [N, 3] linear colours."""
    if mesh.uvs is not None and mesh.texture is not None:
        return mesh.uvs.astype(np.float32)
    colors_N3 = np.full_like(mesh.vertices, _GREY) if mesh.colors is None else mesh.colors
    return srgb_to_linear(colors_N3 / 255.0).astype(np.float32)


def _albedo(mesh: Mesh, attributes_P: np.ndarray) -> np.ndarray:
    """Linear colours [P, 3] from interpolated surface attributes."""
    if mesh.uvs is None or mesh.texture is None:
        return np.clip(attributes_P, 0.0, 1.0)
    height, width = mesh.texture.shape[:2]
    column_P = np.clip(attributes_P[:, 0] * width, 0, width - 1).astype(np.int64)
    row_P = np.clip((1.0 - attributes_P[:, 1]) * height, 0, height - 1).astype(np.int64)
    return srgb_to_linear(mesh.texture[row_P, column_P] / 255.0)


def _headlight(geometry_P6: np.ndarray, eye_3: np.ndarray) -> np.ndarray:
    """Shading factors [P, 1] in [AMBIENT, 1] for a light at the camera; faces are two-sided."""
    x_P, y_P, z_P = (eye_3[axis] - geometry_P6[:, axis] for axis in range(3))
    a_P, b_P, c_P = (geometry_P6[:, axis] for axis in range(3, 6))
    lengths_P = (x_P * x_P + y_P * y_P + z_P * z_P) * (a_P * a_P + b_P * b_P + c_P * c_P)
    cosine_P = np.abs(x_P * a_P + y_P * b_P + z_P * c_P) / np.sqrt(np.maximum(lengths_P, 1e-18))
    return (AMBIENT + (1.0 - AMBIENT) * cosine_P)[:, None]


def _downsampled(mask_SS: np.ndarray, color_P3: np.ndarray, supersample: int) -> np.ndarray:
    """Linear light, box-filtered by coverage, as uint8 sRGB [size, size, 4], straight alpha."""
    premultiplied = np.zeros((*mask_SS.shape, 4), dtype=np.float32)
    premultiplied[mask_SS, :3] = color_P3
    premultiplied[mask_SS, 3] = 1.0
    step = range(supersample)
    boxes = sum(premultiplied[i::supersample, j::supersample] for i in step for j in step)
    boxes = np.asarray(boxes) / np.float32(supersample**2)
    alpha = boxes[..., 3:]
    color = np.divide(boxes[..., :3], alpha, out=np.zeros_like(boxes[..., :3]), where=alpha > 0)
    straight = np.concatenate([linear_to_srgb(np.clip(color, 0.0, 1.0)), alpha], axis=-1)
    return np.rint(straight * 255.0).astype(np.uint8)
