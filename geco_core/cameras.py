"""Cameras: poses on a sphere, encoder cameras, projections and rays.

Follows the conventions of InstantMesh (arXiv 2404.07191) and Zero123++ (arXiv 2310.15110). What
differs: one module computes every pose in float64 and returns float32, so equal angles give equal
matrices wherever they are built.

World frame: right-handed, z up; the front of an object faces +x, so azimuth 0 looks at the front.
Camera frame (OpenGL): x right, y up, z towards the viewer. Angles are degrees; azimuth turns from
+x to +y, elevation is positive above the ground plane.

Legend: V views, N points, R image side in pixels, c2w camera-to-world, w2c world-to-camera.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geco_core.config.models import ViewRigConfig

Angle = float | Tensor


def orbit_pose(azimuth_deg: Angle, elevation_deg: Angle, radius: Angle) -> Tensor:
    """Camera-to-world of cameras on a sphere that look at the origin.

    Args:
        azimuth_deg, elevation_deg: degrees, broadcastable; elevation strictly between -90 and 90.
        radius: distance to the origin in world units.

    Returns:
        c2w float32 [..., 4, 4], on the device of the tensors given: columns right, up, backward,
        position; OpenGL axes.

    Raises:
        ValueError: an elevation at a pole, where "up" is undefined.
    """
    given = (azimuth_deg, elevation_deg, radius)
    device = next((v.device for v in given if isinstance(v, Tensor)), torch.device("cpu"))
    azimuth, elevation, distance = torch.broadcast_tensors(
        *(torch.as_tensor(v, dtype=torch.float64, device=device) for v in given)
    )
    if bool((elevation.abs() >= 90).any()):
        raise ValueError("elevation must lie strictly between -90 and 90 degrees")
    az, el = torch.deg2rad(azimuth), torch.deg2rad(elevation)
    zero = torch.zeros_like(az)
    backward = torch.stack([el.cos() * az.cos(), el.cos() * az.sin(), el.sin()], -1)
    right = torch.stack([-az.sin(), az.cos(), zero], -1)  # normalise(up x backward)
    up = torch.linalg.cross(backward, right)
    top = torch.stack([right, up, backward, backward * distance[..., None]], -1)  # [..., 3, 4]
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*az.shape, 1, 4)
    return torch.cat([top, bottom], -2).float()


def orbit_poses(views: int, elevation_deg: float, radius: float) -> Tensor:
    """c2w [V, 4, 4] of `views` cameras spaced evenly in azimuth, the first at azimuth 0."""
    return orbit_pose(
        torch.arange(views, dtype=torch.float64) * (360.0 / views), elevation_deg, radius
    )


def rig_poses(rig: ViewRigConfig) -> Tensor:
    """c2w [V, 4, 4] of the fixed multi-view rig, in the order of the generated views."""
    return orbit_pose(
        torch.tensor(rig.azimuths_deg, dtype=torch.float64),
        torch.tensor(rig.elevations_deg, dtype=torch.float64),
        rig.radius,
    )


def world_to_camera(c2w: Tensor) -> Tensor:
    """w2c [..., 4, 4]: the inverse of a rigid c2w, computed without a solver."""
    rotation_T = c2w[..., :3, :3].transpose(-1, -2)
    translation = -rotation_T @ c2w[..., :3, 3:]
    w2c = torch.zeros_like(c2w)
    w2c[..., :3, :3] = rotation_T
    w2c[..., :3, 3:] = translation
    w2c[..., 3, 3] = 1
    return w2c


def intrinsics(fov_deg: float) -> Tensor:
    """Pinhole matrix [3, 3] in image-size units: fx = fy = 0.5 / tan(fov / 2), cx = cy = 0.5."""
    focal = 0.5 / math.tan(math.radians(fov_deg) / 2)
    return torch.tensor([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])


def encoder_cameras(c2w: Tensor, fov_deg: float) -> Tensor:
    """The reconstructor's camera vectors.

    Args:
        c2w: [..., 4, 4].
        fov_deg: field of view in degrees.

    Returns:
        [..., 16]: the top three rows of c2w, row-major, then fx, fy, cx, cy in image-size units.
    """
    k = intrinsics(fov_deg).to(c2w)
    lens = torch.stack([k[0, 0], k[1, 1], k[0, 2], k[1, 2]])
    rows = c2w[..., :3, :].flatten(-2)  # [..., 12]
    return torch.cat([rows, lens.expand(*rows.shape[:-1], 4)], -1)


def nerf_cameras(c2w: Tensor, fov_deg: float) -> Tensor:
    """The volume renderer's cameras [..., 25]: row-major c2w (16), row-major intrinsics (9)."""
    lens = intrinsics(fov_deg).to(c2w).flatten()
    return torch.cat([c2w.flatten(-2), lens.expand(*c2w.shape[:-2], 9)], -1)


def projection(fov_deg: float, near: float = 0.1, far: float = 1000.0) -> Tensor:
    """Perspective matrix [4, 4] from camera to clip space.

    y is negated, so row 0 of a render is the image top.
    """
    focal = 1.0 / math.tan(math.radians(fov_deg) / 2)
    matrix = torch.zeros(4, 4)
    matrix[0, 0], matrix[1, 1] = focal, -focal
    matrix[2, 2] = -(far + near) / (far - near)
    matrix[2, 3] = -2.0 * far * near / (far - near)
    matrix[3, 2] = -1.0
    return matrix


def orthographic(half_extent: float, near: float = 0.1, far: float = 1000.0) -> Tensor:
    """Orthographic matrix [4, 4] showing [-half_extent, half_extent] on both axes.

    y is negated, so row 0 of a render is the image top.
    """
    matrix = torch.eye(4)
    matrix[0, 0], matrix[1, 1] = 1.0 / half_extent, -1.0 / half_extent
    matrix[2, 2] = -2.0 / (far - near)
    matrix[2, 3] = -(far + near) / (far - near)
    return matrix


def view_from_world(points: Tensor, w2c: Tensor) -> Tensor:
    """Homogeneous camera coordinates [V, N, 4] of world points [N, 3] under w2c [V, 4, 4]."""
    homogeneous = torch.cat([points, torch.ones_like(points[:, :1])], -1)
    return homogeneous @ w2c.to(points).transpose(-1, -2)


def clip_from_world(points: Tensor, w2c: Tensor, proj: Tensor) -> Tensor:
    """Clip coordinates [V, N, 4] of world points [N, 3].

    `w2c` is [V, 4, 4], `proj` [4, 4] or [V, 4, 4].
    """
    return view_from_world(points, w2c) @ proj.to(points).transpose(-1, -2)


def rays(c2w: Tensor, intrinsic: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """World-space rays through every pixel centre, row-major from the top-left pixel.

    Args:
        c2w: [V, 4, 4].
        intrinsic: [3, 3] or [V, 3, 3] in image-size units; skew allowed.
        resolution: R, pixels per side.

    Returns:
        origins [V, R * R, 3] and unit directions [V, R * R, 3].
    """
    k = intrinsic.to(c2w).expand(c2w.shape[0], 3, 3)
    centres = (torch.arange(resolution, device=c2w.device, dtype=c2w.dtype) + 0.5) / resolution
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    u, v = u.reshape(1, -1), v.reshape(1, -1)  # [1, R * R]
    fx, fy = k[:, 0, 0, None], k[:, 1, 1, None]
    cx, cy, skew = k[:, 0, 2, None], k[:, 1, 2, None], k[:, 0, 1, None]
    y = (v - cy) / fy
    x = (u - cx - skew * y) / fx
    camera = torch.stack([x, -y, -torch.ones_like(x)], -1)  # [V, R * R, 3]
    directions = camera @ c2w[:, :3, :3].transpose(-1, -2)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    return c2w[:, None, :3, 3].expand_as(directions), directions
