"""Targets agree with the renderer that predictions go through, and depend on the row alone."""

from __future__ import annotations

import math

import pytest
import torch

from geco_core.cameras import projection, world_to_camera
from geco_core.fields.crm_frame import canonical_to_world
from geco_core.render.mesh import MeshRender, render_mesh
from geco_core.render.registry import get_rasterizer
from geco_core.shapes.canonical import canonical_points
from geco_core.shapes.object import make_object, object_seed
from geco_core.training.rendered import (
    PointTargets,
    RenderCameras,
    RenderedBatch,
    Renders,
    ShapeRenders,
    camera_poses,
    draw_views,
)

SIZE = 48
CAMERAS = RenderCameras(views=5, background=0.25)
ROWS = torch.tensor([3, 8])
VIEWS = torch.tensor([[0, 2, 4], [1, 0, 3]])


def source() -> ShapeRenders:
    return ShapeRenders("heldout", SIZE, CAMERAS)


def true_mesh(row: int, renders: Renders, b: int) -> MeshRender:
    """The object's own mesh, carried into the model's frame and back as its meshes are."""
    made = make_object(object_seed("heldout", row))
    vertices = canonical_to_world(canonical_points(torch.from_numpy(made.vertices)))
    return render_mesh(
        get_rasterizer("auto", "cpu"),
        vertices,
        torch.from_numpy(made.faces).long(),
        world_to_camera(renders.c2w[b]),
        projection(renders.fov_deg),
        SIZE,
        face_colors=torch.from_numpy(made.face_colors),
        supersample=2,
        antialias=False,
        background=renders.background,
    )


def test_the_true_mesh_in_the_models_frame_renders_as_its_targets() -> None:
    renders = source().renders(ROWS, VIEWS)
    for b, row in enumerate(ROWS.tolist()):
        made = true_mesh(row, renders, b)
        # A sample on a shared edge may fall to either face, and 8 bits round colours.
        assert (made.mask[:, 0] - renders.masks[b]).abs().mean() < 1e-3
        assert (made.rgb - renders.images[b]).abs().mean() < 3e-3
        both = (made.mask[:, 0] > 0) & (renders.masks[b] > 0)
        difference = (made.depth[:, 0] - renders.depths[b])[both].abs()
        assert difference.median() < 1e-4
        assert difference.mean() < 2e-3
        assert both.float().mean() > 0.05


def test_the_same_mesh_at_another_scale_would_not() -> None:
    renders = source().renders(ROWS[:1], VIEWS[:1])
    smaller = ShapeRenders("heldout", SIZE, RenderCameras(views=5, distance=3.15))
    far = smaller.renders(ROWS[:1], VIEWS[:1])
    assert (renders.masks - far.masks).abs().mean() > 5e-3


def test_depth_is_zero_exactly_where_nothing_is_seen() -> None:
    renders = source().renders(ROWS, VIEWS)
    assert torch.equal(renders.depths > 0, renders.masks > 0)
    seen = renders.depths[renders.depths > 0]
    assert seen.min() > CAMERAS.distance - 1
    assert seen.max() < CAMERAS.distance + 1
    background = renders.images.movedim(2, -1)[renders.masks == 0]
    assert torch.equal(background, torch.full_like(background, 0.25))


def test_renders_depend_on_row_and_view_alone() -> None:
    both = source().renders(ROWS, VIEWS)
    alone = source().renders(ROWS[1:], VIEWS[1:, [2]])
    assert torch.equal(alone.images[0, 0], both.images[1, 2])
    assert torch.equal(alone.depths[0, 0], both.depths[1, 2])
    assert torch.equal(alone.c2w[0, 0], both.c2w[1, 2])


def test_cameras_look_at_the_origin_from_the_given_band() -> None:
    cameras = RenderCameras(views=200, elevation_low_deg=-30.0, elevation_high_deg=50.0)
    c2w = camera_poses(11, cameras)
    eyes, back = c2w[:, :3, 3], c2w[:, :3, 2]
    torch.testing.assert_close(eyes, back * 3.0)
    heights = torch.rad2deg(torch.asin(back[:, 2]))
    assert -30.0 <= heights.min() < -20.0
    assert 40.0 < heights.max() <= 50.0
    # Even over the sphere: the band's height, not its angle, is halved in the middle.
    middle = (math.sin(math.radians(-30.0)) + math.sin(math.radians(50.0))) / 2
    assert (back[:, 2] < middle).float().mean() == pytest.approx(0.5, abs=0.1)
    assert not torch.equal(c2w, camera_poses(12, cameras))


def test_the_defaults_are_the_published_numbers() -> None:
    cameras = RenderCameras()
    assert (cameras.views, cameras.distance) == (16, 3.0)
    assert math.radians(cameras.fov_deg) == pytest.approx(0.6911)
    # Objects up to 0.95 of the origin fit into every picture.
    assert 3.0 * math.sin(math.radians(cameras.fov_deg) / 2) > 0.95


@pytest.mark.parametrize("wrong", [{"views": 0}, {"elevation_high_deg": 90.0}])
def test_impossible_cameras_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"views|elevations"):
        RenderCameras(**wrong)


def test_views_are_drawn_without_repetition() -> None:
    drawn = draw_views(50, 4, 6, torch.Generator().manual_seed(0))
    assert drawn.shape == (50, 4)
    assert all(len(set(row)) == 4 for row in drawn.tolist())
    assert set(drawn.flatten().tolist()) == set(range(6))
    with pytest.raises(ValueError, match="7 views"):
        draw_views(1, 7, 6, torch.Generator())


def test_a_batch_moves_with_all_its_tensors() -> None:
    points = PointTargets(*(torch.zeros(1, 2, 3) for _ in range(4)))
    batch = RenderedBatch(torch.zeros(1, 12, 4, 12), source().renders(ROWS, VIEWS), points)
    moved = batch.to("meta")
    tensors = [moved.inputs, *vars(moved.renders).values(), *vars(moved.points).values()]
    assert {t.device.type for t in tensors if isinstance(t, torch.Tensor)} == {"meta"}
    assert moved.renders.background == 0.25
