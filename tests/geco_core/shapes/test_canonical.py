"""CRM's views of procedural objects: every pixel's coordinates are where its place says."""

from __future__ import annotations

import numpy as np
import torch

from geco_core.multiview.ortho_views import AXES, plane_coordinates
from geco_core.shapes.canonical import (
    BACKGROUND,
    MESH_SCALE,
    canonical_points,
    canonical_views,
)
from geco_core.shapes.object import make_object
from geco_core.shapes.sample import sample_surface
from geco_core.shapes.views import ortho_views

SIZE = 48


def made() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rgba, maps = ortho_views(make_object(11), SIZE)
    views, ccms = canonical_views(rgba, maps)
    return views, ccms, torch.from_numpy(rgba[[0, 3, 5, 1, 2, 4], ..., 3])


def test_coordinates_agree_with_the_pixels_axes() -> None:
    _, ccms, alpha = made()
    for view, axes in enumerate(AXES):
        points = (ccms[view] * 2 - 1) * MESH_SCALE  # [3, S, S]
        solid = alpha[view] == 255
        expected = plane_coordinates(view, SIZE)
        for axis in (axes.right[0], axes.down[0]):
            error = (points[axis] - expected[..., axis])[solid].abs()
            assert error.max() < 0.02, (view, axis)


def test_a_view_sees_the_side_of_its_camera() -> None:
    _, ccms, alpha = made()
    for near, far in ((0, 3), (1, 4), (5, 2)):
        axis, sign = AXES[near].towards
        assert sign == 1
        means = [float(ccms[v, axis][alpha[v] == 255].mean()) for v in (near, far)]
        assert means[0] > means[1] + 0.05


def test_background_is_grey_and_silhouettes_do_not_bleed() -> None:
    views, ccms, alpha = made()
    empty = alpha == 0
    for images in (views, ccms):
        assert torch.allclose(images.movedim(1, -1)[empty], torch.tensor(BACKGROUND))
    edge = (alpha > 0) & (alpha < 255)
    assert edge.any()
    reach = ccms.movedim(1, -1)[alpha == 255]
    low, high = reach.amin(0) - 0.06, reach.amax(0) + 0.06
    found = ccms.movedim(1, -1)[edge]
    grey = (found == BACKGROUND).all(-1)
    assert bool((((found >= low) & (found <= high)).all(-1) | grey).all())


def test_surface_points_lie_on_the_maps() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    points = canonical_points(torch.from_numpy(sample_surface(make_object(11), 400, rng).points))
    _, ccms, alpha = made()
    surface = (ccms.movedim(1, -1)[alpha == 255] * 2 - 1) * MESH_SCALE
    nearest = torch.cdist(points, surface).amin(1)
    assert nearest.median() < 0.04
