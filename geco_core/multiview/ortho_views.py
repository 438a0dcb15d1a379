"""CRM's six axis-parallel views: their axes, and the camera vectors of the multi-view networks.

View numbers: 0 front, 1 left, 2 down, 3 back, 4 right, 5 top. Two frames are in use, both z up and
right-handed. The *canonical* frame is that of coordinate maps and meshes: the front camera sits at
+y. The *camera* frame, in which the networks were told of cameras, is turned by 180 degrees about
z: there the front camera sits at -y (as azimuth 0 of the orbits of MVDream, arXiv 2308.16512).
Relative poses agree. The window of a view is [-1, 1] on both axes.

Legend: V views, F frames, N pixels per side, c column and r row coordinate in [-1, 1] (c right, r
down).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geco_core.cameras import orbit_pose
from geco_core.config.crm import FrameRigConfig

VIEW_NAMES = ("front", "left", "down", "back", "right", "top")
# The order in which frames are generated and strips are laid out.
FRAME_VIEWS = (1, 2, 3, 4, 5, 0)


@dataclass(frozen=True)
class ViewAxes:
    """Signed canonical axes of one view: (axis 0..2, sign).

    Attributes:
        right: increases with the column.
        down: increases with the row.
        towards: points to the camera; the surface seen is the largest along it.
    """

    right: tuple[int, int]
    down: tuple[int, int]
    towards: tuple[int, int]


# By view number, in the canonical frame.
AXES = (
    ViewAxes(right=(0, -1), down=(2, -1), towards=(1, 1)),
    ViewAxes(right=(1, 1), down=(2, -1), towards=(0, 1)),
    ViewAxes(right=(0, -1), down=(1, -1), towards=(2, -1)),
    ViewAxes(right=(0, 1), down=(2, -1), towards=(1, -1)),
    ViewAxes(right=(1, -1), down=(2, -1), towards=(0, -1)),
    ViewAxes(right=(0, -1), down=(1, 1), towards=(2, 1)),
)
# Right, up and backward of each camera in the camera frame; it sits at its backward axis. Written
# out: at the poles angles do not define them.
_CAMERA_AXES = (
    ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    ((0, -1, 0), (0, 0, 1), (-1, 0, 0)),
    ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
)


def plane_coordinates(view: int, pixels: int) -> Tensor:
    """Canonical coordinates float32 [N, N, 3] of pixel centres; along the view axis they are 0."""
    centres = (torch.arange(pixels) + 0.5) / pixels * 2.0 - 1.0
    row, column = torch.meshgrid(centres, centres, indexing="ij")
    points = torch.zeros(pixels, pixels, 3)
    axes = AXES[view]
    points[..., axes.right[0]] = axes.right[1] * column
    points[..., axes.down[0]] = axes.down[1] * row
    return points


def ortho_pose(view: int) -> Tensor:
    """Camera-to-world float32 [4, 4] in the camera frame, OpenGL axes, at unit distance."""
    right, up, backward = (torch.tensor(a, dtype=torch.float32) for a in _CAMERA_AXES[view])
    pose = torch.eye(4)
    pose[:3] = torch.stack([right, up, backward, backward], dim=1)
    return pose


def frame_cameras(rig: FrameRigConfig) -> Tensor:
    """Camera vectors float32 [F, 16]: row-major camera-to-world; zeros for the reference frame."""
    if rig.kind == "ortho":
        poses = torch.stack([ortho_pose(view) for view in rig.views])
    else:
        azimuth = torch.arange(rig.orbit_views, dtype=torch.float64) * (360.0 / rig.orbit_views)
        poses = orbit_pose(azimuth + rig.azimuth_deg - 90.0, rig.elevation_deg, 1.0)
    vectors = poses.flatten(1)
    return torch.cat([vectors, vectors.new_zeros(int(rig.reference), 16)])
