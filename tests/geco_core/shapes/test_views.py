"""Pictures: shapes, agreement with the general renderer, coordinate maps against distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geco_core import cameras
from geco_core.config.models import ViewRigConfig
from geco_core.render import get_rasterizer
from geco_core.render.mesh import render_mesh
from geco_core.shapes.classes import CLASS_NAMES
from geco_core.shapes.object import ShapeObject, make_object_of_class
from geco_core.shapes.views import (
    ORTHO_HALF_EXTENT,
    ORTHO_NAMES,
    condition_view,
    orbit_surface,
    orbit_views,
    ortho_poses,
    ortho_views,
    over_white,
    rig_views,
)

RIG = ViewRigConfig()


@pytest.fixture(scope="module")
def car() -> ShapeObject:
    return make_object_of_class("car", 0)


def test_shapes_and_types(car: ShapeObject) -> None:
    condition, views = condition_view(car, 10.0, 96), rig_views(car, RIG, 48)
    assert condition.shape == (96, 96, 4)
    assert views.shape == (6, 48, 48, 4)
    assert condition.dtype == views.dtype == np.uint8


def test_equal_to_the_general_renderer(car: ShapeObject) -> None:
    render = render_mesh(
        get_rasterizer("torch"),
        torch.from_numpy(car.vertices),
        torch.from_numpy(car.faces),
        cameras.world_to_camera(cameras.rig_poses(RIG)),
        cameras.projection(RIG.fov_deg),
        64,
        face_colors=torch.from_numpy(car.face_colors),
        supersample=2,
        antialias=False,
    )
    ours = over_white(rig_views(car, RIG, 64))
    difference = np.abs(ours - render.rgb.permute(0, 2, 3, 1).numpy())
    # Straight alpha in eight bits rounds twice.
    assert np.quantile(difference, 0.999) < 0.006
    alpha = rig_views(car, RIG, 64)[..., 3]
    np.testing.assert_allclose(alpha / 255.0, render.mask[:, 0].numpy(), atol=0.003)


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_object_is_whole_and_visible(name: str) -> None:
    made = make_object_of_class(name, 1)
    for picture in (condition_view(made, 25.0, 64), *rig_views(made, RIG, 64)):
        alpha = picture[..., 3]
        assert alpha[[0, -1]].max() == alpha[:, [0, -1]].max() == 0
        assert 0.02 < (alpha > 127).mean() < 0.85


def test_transparent_pixels_are_white(car: ShapeObject) -> None:
    picture = condition_view(car, 0.0, 64)
    assert (picture[picture[..., 3] == 0][:, :3] == 255).all()


def test_condition_looks_at_the_front(car: ShapeObject) -> None:
    """The headlights are yellow and at +x: azimuth 0 shows them and azimuth 180 does not."""

    def yellow(azimuth: float) -> int:
        pose = cameras.orbit_pose(azimuth, 0.0, 4.0)[None]
        rgb = over_white(orbit_views(car, pose, 30.0, 64)[0])
        return int(((rgb[..., :2].min(-1) > 0.5) & (rgb[..., 2] < 0.2)).sum())

    assert yellow(0.0) > 10 * max(yellow(180.0), 1)
    np.testing.assert_array_equal(
        condition_view(car, 0.0, 64),
        orbit_views(car, cameras.orbit_pose(0.0, 0.0, 4.0)[None], 30.0, 64)[0],
    )


def test_elevation_matters(car: ShapeObject) -> None:
    assert not np.array_equal(condition_view(car, -5.0, 64), condition_view(car, 25.0, 64))


def test_ortho_poses_are_rotations_looking_at_the_origin() -> None:
    poses = ortho_poses()
    rotation = poses[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(6, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(6))
    torch.testing.assert_close(poses[:, :3, 3], 2.0 * poses[:, :3, 2])
    torch.testing.assert_close(poses[0, :3, :3], cameras.orbit_pose(0.0, 0.0, 2.0)[:3, :3])
    torch.testing.assert_close(poses[2, :3, :3], cameras.orbit_pose(90.0, 0.0, 2.0)[:3, :3])
    nearly_top = cameras.orbit_pose(0.0, 89.99, 2.0)[:3, :3]
    torch.testing.assert_close(poses[4, :3, :3], nearly_top, atol=1e-3, rtol=0)
    assert ORTHO_NAMES[4] == "top"


@pytest.mark.parametrize("name", ["ball", "house", "mug", "robot"])
def test_coordinate_maps_lie_on_the_surface(name: str) -> None:
    made = make_object_of_class(name, 4)
    rgba, maps = ortho_views(made, 48)
    assert rgba.shape == (6, 48, 48, 4)
    assert maps.shape == (6, 48, 48, 3)
    assert maps.dtype == np.float32
    assert (maps[rgba[..., 3] == 0] == 1.0).all()
    assert maps.min() >= 0.0
    assert maps.max() <= 1.0
    points = (maps[rgba[..., 3] == 255] * 2.0 - 1.0) * ORTHO_HALF_EXTENT
    # Pixels that mix two surfaces float between them; all others lie on the object.
    assert np.quantile(np.abs(made.sdf(points)), 0.9) < 0.02


def test_coordinate_maps_agree_with_the_camera(car: ShapeObject) -> None:
    rgba, maps = ortho_views(car, 64)
    front = (maps[0] * 2.0 - 1.0) * ORTHO_HALF_EXTENT
    row, column = np.nonzero(rgba[0, ..., 3] == 255)
    centre = ((np.arange(64) + 0.5) / 32.0 - 1.0) * ORTHO_HALF_EXTENT
    # Seen from +x the image's right is +y and its top +z.
    np.testing.assert_allclose(front[row, column, 1], centre[column], atol=1e-4)
    np.testing.assert_allclose(front[row, column, 2], -centre[row], atol=1e-4)
    assert np.median(front[row, column, 0]) > 0.2


def test_depths_lie_on_the_surface_that_is_seen(car: ShapeObject) -> None:
    pose = cameras.orbit_pose(torch.tensor([20.0, 200.0]), torch.tensor([10.0, -30.0]), 3.0)
    rgba, depths = orbit_surface(car, pose, 40.0, 48)
    assert np.array_equal(rgba, orbit_views(car, pose, 40.0, 48))
    assert np.array_equal(depths > 0, rgba[..., 3] > 0)
    origins, directions = cameras.rays(pose, cameras.intrinsics(40.0), 48)
    along = -(directions * pose[:, None, :3, 2]).sum(-1, keepdim=True)
    points = (origins + directions / along * torch.from_numpy(depths).flatten(1)[..., None]).numpy()
    whole = rgba[..., 3].reshape(2, -1) == 255
    distances = np.abs(car.sdf(points[whole]))
    # A pixel's mean over two faces lies off both; faces are chords of round solids.
    assert np.median(distances) < 3e-3
    assert np.quantile(distances, 0.9) < 2e-2
