"""The six views: rigid cameras, the two frames, agreement of cameras and axes."""

from __future__ import annotations

import pytest
import torch

from geco_core.cameras import orbit_pose
from geco_core.config.crm import FrameRigConfig
from geco_core.multiview.ortho_views import (
    AXES,
    FRAME_VIEWS,
    VIEW_NAMES,
    frame_cameras,
    ortho_pose,
    plane_coordinates,
)

# Half a turn about z: from the camera frame to the canonical one.
HALF_TURN = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))


@pytest.mark.parametrize("view", range(6))
def test_a_camera_is_rigid_and_looks_at_the_origin(view: int) -> None:
    pose = ortho_pose(view)
    rotation = pose[:3, :3]
    assert torch.equal(rotation @ rotation.T, torch.eye(3))
    assert float(torch.linalg.det(rotation)) == 1.0
    assert torch.equal(pose[:3, 3], pose[:3, 2])
    assert pose[3].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("view", range(6))
def test_axes_are_those_of_the_camera_half_a_turn_away(view: int) -> None:
    right, up, backward = (HALF_TURN @ ortho_pose(view)[:3, :3]).T
    axes = AXES[view]
    for (axis, sign), direction in (
        (axes.right, right),
        (axes.down, -up),
        (axes.towards, backward),
    ):
        expected = torch.zeros(3)
        expected[axis] = sign
        assert torch.equal(direction, expected), VIEW_NAMES[view]


def test_level_views_are_on_the_orbit() -> None:
    for view, azimuth in ((0, 0.0), (1, -90.0), (3, 180.0), (4, 90.0)):
        expected = orbit_pose(azimuth - 90.0, 0.0, 1.0)
        torch.testing.assert_close(ortho_pose(view), expected, rtol=0, atol=1e-6)


def test_coordinates_grow_along_the_axes() -> None:
    points = plane_coordinates(VIEW_NAMES.index("down"), 4)
    assert points.shape == (4, 4, 3)
    assert points[0, 0].tolist() == [0.75, 0.75, 0.0]  # x = -c, y = -r
    assert points[0, 3].tolist() == [-0.75, 0.75, 0.0]


def test_frames_of_a_rig() -> None:
    assert FrameRigConfig().views == FRAME_VIEWS
    vectors = frame_cameras(FrameRigConfig(views=(3, 0), reference=True))
    assert vectors.shape == (3, 16)
    assert torch.equal(vectors[0], ortho_pose(3).flatten())
    assert vectors[2].abs().max() == 0
    orbit = FrameRigConfig(kind="orbit", orbit_views=4, elevation_deg=5.0)
    assert frame_cameras(orbit).shape == (4, 16)
    assert (orbit.generated, orbit.frames) == (4, 4)
    with pytest.raises(ValueError, match=r"\[6\]"):
        FrameRigConfig(views=(1, 6))
