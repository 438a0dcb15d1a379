"""Cameras: facts that hold for any correct implementation of the stated conventions."""

from __future__ import annotations

import pytest
import torch

from geco_core import cameras
from geco_core.config.models import ViewRigConfig


def test_azimuth_zero_looks_at_the_front() -> None:
    c2w = cameras.orbit_pose(0.0, 0.0, 2.0)
    torch.testing.assert_close(c2w[:3, 3], torch.tensor([2.0, 0.0, 0.0]))
    torch.testing.assert_close(c2w[:3, 0], torch.tensor([0.0, 1.0, 0.0]))  # right is +y
    torch.testing.assert_close(c2w[:3, 1], torch.tensor([0.0, 0.0, 1.0]))  # up is +z


@pytest.mark.gpu
def test_poses_are_where_the_angles_are() -> None:
    c2w = cameras.orbit_pose(torch.arange(3.0, device="cuda"), 10.0, 2.0)
    assert c2w.device.type == "cuda"
    torch.testing.assert_close(c2w.cpu(), cameras.orbit_pose(torch.arange(3.0), 10.0, 2.0))


def test_poses_are_proper_rotations_looking_at_the_origin() -> None:
    c2w = cameras.rig_poses(ViewRigConfig())
    rotation, position = c2w[:, :3, :3], c2w[:, :3, 3]
    eye = torch.eye(3).expand(6, 3, 3)
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), eye)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(6))
    torch.testing.assert_close(rotation[..., 2] * 4.0, position)


def test_world_to_camera_inverts() -> None:
    c2w = cameras.orbit_poses(5, -30.0, 3.0)
    product = cameras.world_to_camera(c2w) @ c2w
    torch.testing.assert_close(product, torch.eye(4).expand(5, 4, 4), atol=1e-6, rtol=0)


def test_poles_are_refused() -> None:
    with pytest.raises(ValueError, match="elevation"):
        cameras.orbit_pose(0.0, 90.0, 1.0)


def test_encoder_camera_is_pose_then_lens() -> None:
    c2w = cameras.orbit_poses(2, 20.0, 4.0)
    vector = cameras.encoder_cameras(c2w, 30.0)
    torch.testing.assert_close(vector[:, :12].view(2, 3, 4), c2w[:, :3])
    expected = torch.tensor([1.866025, 1.866025, 0.5, 0.5])
    torch.testing.assert_close(vector[1, 12:], expected)


def test_up_in_the_world_is_up_in_the_image() -> None:
    w2c = cameras.world_to_camera(cameras.orbit_pose(0.0, 0.0, 4.0)[None])
    points = torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.5, 0.0]])
    for proj in (cameras.projection(30.0), cameras.orthographic(1.0)):
        clip = cameras.clip_from_world(points, w2c, proj)[0]
        ndc = clip[:, :3] / clip[:, 3:]
        assert ndc[0, 1] < -0.1  # +z of the world: towards row 0
        assert ndc[1, 0] > 0.1  # +y of the world: to the right
        assert ndc[:, 2].abs().max() < 1


def test_a_ray_through_a_pixel_projects_back_to_it() -> None:
    resolution, fov = 8, 40.0
    c2w = cameras.orbit_poses(3, 25.0, 3.0)
    origins, directions = cameras.rays(c2w, cameras.intrinsics(fov), resolution)
    w2c, proj = cameras.world_to_camera(c2w), cameras.projection(fov)
    centres = (torch.arange(resolution) + 0.5) / resolution * 2 - 1
    expected = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1).view(-1, 2)
    for view in range(3):
        points = origins[view] + 2.7 * directions[view]
        clip = cameras.clip_from_world(points, w2c[view : view + 1], proj)[0]
        torch.testing.assert_close(clip[:, :2] / clip[:, 3:], expected, atol=1e-5, rtol=0)


def test_skewed_rays_follow_the_matrix() -> None:
    lens = cameras.intrinsics(30.0)
    lens[0, 1] = 0.3
    c2w = torch.eye(4)[None]
    _, directions = cameras.rays(c2w, lens, 4)
    image = directions[0] * torch.tensor([1.0, -1.0, -1.0])
    pixel = (image / image[:, 2:]) @ lens.T
    torch.testing.assert_close(pixel[5, :2], torch.tensor([0.375, 0.375]))
