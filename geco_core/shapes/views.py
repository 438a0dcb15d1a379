"""Pictures of procedural objects: condition view, the fixed six-view rig, six axis-parallel views.

Only ids are needed to paint flat-shaded faces, so this module asks the visibility backend of
`geco_core.render` directly and paints in NumPy; the pictures equal those of
`geco_core.render.render_mesh` with face colours and without antialiasing, at a fraction of its
time. Every picture is rendered at twice its size and averaged.

Axis-parallel views follow CRM (arXiv 2403.05034): front, back, left, right, top, bottom, each
looking at the origin from outside; a canonical coordinate map holds the world position of the
surface as colour. World frame as in `geco_core.cameras`; the object's left is +y.

Legend: V views, S pixels per side, R = 2 S, F faces, N vertices. Row 0 of every picture is its top.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from geco_core import cameras
from geco_core.config.models import ViewRigConfig
from geco_core.render.registry import fastest_visibility
from geco_core.shapes.object import ShapeObject

CONDITION_RADIUS = 4.0
CONDITION_FOV_DEG = 30.0
ORTHO_HALF_EXTENT = 1.05
ORTHO_NAMES = ("front", "back", "left", "right", "top", "bottom")
SUPERSAMPLE = 2
# (camera z axis = direction from the origin to the camera, camera y axis = image up). Top and
# bottom are the limits of raising or lowering the front camera.
_ORTHO_AXES = {
    "front": ((1, 0, 0), (0, 0, 1)),
    "back": ((-1, 0, 0), (0, 0, 1)),
    "left": ((0, 1, 0), (0, 0, 1)),
    "right": ((0, -1, 0), (0, 0, 1)),
    "top": ((0, 0, 1), (-1, 0, 0)),
    "bottom": ((0, 0, -1), (1, 0, 0)),
}


def ortho_poses() -> torch.Tensor:
    """Camera-to-world float32 [6, 4, 4] of the axis-parallel views, at distance 2.

    In the order of `ORTHO_NAMES`.
    """
    poses = torch.eye(4).repeat(6, 1, 1)
    for pose, name in zip(poses, ORTHO_NAMES, strict=True):
        back, up = (torch.tensor(axis, dtype=torch.float32) for axis in _ORTHO_AXES[name])
        pose[:3, :3] = torch.stack([torch.linalg.cross(up, back), up, back], dim=1)
        pose[:3, 3] = 2.0 * back
    return poses


def condition_view(made: ShapeObject, elevation_deg: float, size: int) -> np.ndarray:
    """The object from azimuth 0, field of view 30 degrees, radius 4.

    RGBA uint8 [S, S, 4], straight alpha.
    """
    pose = cameras.orbit_pose(0.0, elevation_deg, CONDITION_RADIUS)[None]
    ids = _visible(made, pose, cameras.projection(CONDITION_FOV_DEG), size)
    return _paint(made, ids)[0]


def rig_views(made: ShapeObject, rig: ViewRigConfig, size: int) -> np.ndarray:
    """The object from the cameras of the rig, in its order.

    RGBA uint8 [V, S, S, 4], straight alpha.
    """
    ids = _visible(made, cameras.rig_poses(rig), cameras.projection(rig.fov_deg), size)
    return _paint(made, ids)


def orbit_views(made: ShapeObject, c2w: torch.Tensor, fov_deg: float, size: int) -> np.ndarray:
    """RGBA uint8 [V, S, S, 4], straight alpha, from any camera-to-world poses [V, 4, 4]."""
    return _paint(made, _visible(made, c2w, cameras.projection(fov_deg), size))


def orbit_surface(
    made: ShapeObject, c2w: torch.Tensor, fov_deg: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """`orbit_views` and what it saw how far away.

    Returns:
        RGBA uint8 [V, S, S, 4], straight alpha, and depths float32 [V, S, S]: the mean distance
        along the camera's axis, in world units, of a pixel's covered samples; 0 where none is.
    """
    ids_VRR = _visible(made, c2w, cameras.projection(fov_deg), size)
    return _paint(made, ids_VRR), _depths(made, ids_VRR, c2w.numpy(), fov_deg)


def ortho_views(made: ShapeObject, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The six axis-parallel views, showing [-1.05, 1.05] on both axes.

    Returns:
        RGBA uint8 [6, S, S, 4], straight alpha, and coordinate maps float32 [6, S, S, 3]: the
        world position p of the visible surface as (p / 1.05 + 1) / 2, over a background of 1.0.
    """
    poses = ortho_poses()
    ids_VRR = _visible(made, poses, cameras.orthographic(ORTHO_HALF_EXTENT), size)
    return _paint(made, ids_VRR), _coordinate_maps(made, ids_VRR, poses.numpy())


def over_white(rgba: np.ndarray) -> np.ndarray:
    """RGB float32 [..., 3] in [0, 1] of straight-alpha uint8 pictures [..., 4] over white."""
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    return rgba[..., :3].astype(np.float32) / 255.0 * alpha + (1.0 - alpha)


def _visible(made: ShapeObject, c2w: torch.Tensor, proj: torch.Tensor, size: int) -> np.ndarray:
    """Face index + 1 or 0, int64 [V, R, R]."""
    side = SUPERSAMPLE * size
    clip_VN4 = cameras.clip_from_world(
        torch.from_numpy(made.vertices), cameras.world_to_camera(c2w), proj
    )
    return fastest_visibility()(clip_VN4, torch.from_numpy(made.faces), (side, side)).numpy()


def _paint(made: ShapeObject, ids_VRR: np.ndarray) -> np.ndarray:
    """Average the samples of each pixel.

    Transparent pixels are white, so that careless resizing does no harm.
    """
    palette = np.concatenate(
        [np.zeros((1, 4), np.float32), np.ones((len(made.faces), 4), np.float32)]
    )
    palette[1:, :3] = made.face_colors
    sum_VSS4 = _pool(palette[ids_VRR])
    alpha_VSS1 = sum_VSS4[..., 3:]
    color_VSS3 = np.where(alpha_VSS1 > 0.0, sum_VSS4[..., :3] / np.maximum(alpha_VSS1, 1e-6), 1.0)
    rgba_VSS4 = np.concatenate([color_VSS3, alpha_VSS1], axis=-1)
    return np.floor(rgba_VSS4 * 255.0 + 0.5).astype(np.uint8)


def _coordinate_maps(made: ShapeObject, ids_VRR: np.ndarray, c2w_V44: np.ndarray) -> np.ndarray:
    """Intersect each pixel's parallel ray with the plane of its visible face."""
    side = ids_VRR.shape[-1]
    centres = ((np.arange(side) + 0.5) / side * 2.0 - 1.0) * ORTHO_HALF_EXTENT
    view, row, column = np.nonzero(ids_VRR)
    face = ids_VRR[view, row, column] - 1
    right, up, back = (c2w_V44[view, :3, k] for k in range(3))
    start_P3 = right * centres[column, None] - up * centres[row, None]
    normal_P3 = made.face_normals[face]
    corner_P3 = made.vertices[made.faces[face, 0]]
    facing_P = (normal_P3 * back).sum(axis=1)
    # A face seen edge-on has no well-defined depth; its corner is within a pixel of the answer.
    facing_P = np.where(np.abs(facing_P) < 1e-3, np.inf, facing_P)
    depth_P = (normal_P3 * (corner_P3 - start_P3)).sum(axis=1) / facing_P
    position_P3 = np.clip(start_P3 + depth_P[:, None] * back, -ORTHO_HALF_EXTENT, ORTHO_HALF_EXTENT)
    maps = np.ones((*ids_VRR.shape, 3), dtype=np.float32)
    maps[view, row, column] = (position_P3 / ORTHO_HALF_EXTENT + 1.0) * 0.5
    return _pool(maps)


def _depths(
    made: ShapeObject, ids_VRR: np.ndarray, c2w_V44: np.ndarray, fov_deg: float
) -> np.ndarray:
    """Intersect each pixel's ray, one unit long along the axis, with the plane of its face."""
    side, lens = ids_VRR.shape[-1], math.tan(math.radians(fov_deg) / 2)
    slopes = (((np.arange(side) + 0.5) / side * 2.0 - 1.0) * lens).astype(np.float32)
    right_V3, up_V3, back_V3, eye_V3 = (c2w_V44[:, :3, k] for k in range(4))
    # Distance along the axis of every vertex, and along the normal of every face's plane.
    reach_VN = (eye_V3 * back_V3).sum(1)[:, None] - _dots(back_V3, made.vertices)
    reach_VF3 = reach_VN[:, made.faces]
    corner_F3 = made.vertices[made.faces[:, 0]]
    plane_VF = (corner_F3 * made.face_normals).sum(axis=1) - _dots(eye_V3, made.face_normals)
    axes_3V3 = (right_V3, up_V3, back_V3)
    along_3VF = np.stack([_dots(axis_V3, made.face_normals) for axis_V3 in axes_3V3])
    view, row, column = np.nonzero(ids_VRR)
    face = ids_VRR[view, row, column] - 1
    right_P, up_P, back_P = along_3VF[:, view, face]
    facing_P = right_P * slopes[column] - up_P * slopes[row] - back_P
    # A face seen edge-on has no well-defined depth; its corners bound it.
    facing_P = np.where(np.abs(facing_P) < 1e-6, np.float32(1e-6), facing_P)
    near_VF, far_VF = reach_VF3.min(axis=2), reach_VF3.max(axis=2)
    depth_P = np.clip(plane_VF[view, face] / facing_P, near_VF[view, face], far_VF[view, face])
    depths = np.zeros(ids_VRR.shape, dtype=np.float32)
    depths[view, row, column] = depth_P
    covered = _pool((ids_VRR > 0).astype(np.float32)[..., None])[..., 0]
    return _pool(depths[..., None])[..., 0] / np.maximum(covered, 1e-6)


def _dots(a_V3: np.ndarray, b_N3: np.ndarray) -> np.ndarray:
    """Every scalar product [V, N]; unlike those of a matrix product, none depends on the others."""
    return np.einsum("vk,nk->vn", a_V3, b_N3)


def _pool(images: np.ndarray) -> np.ndarray:
    """Mean over the 2 x 2 samples of each pixel: [V, R, R, C] -> [V, S, S, C]."""
    rows = images[:, 0::2] + images[:, 1::2]
    return (rows[:, :, 0::2] + rows[:, :, 1::2]) * np.float32(0.25)
