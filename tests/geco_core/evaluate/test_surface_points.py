"""Sampled points lie on the surface, spread by area, and depend on nothing but mesh and seed."""

from __future__ import annotations

import numpy as np
import pytest

from geco_core.evaluate.surface_points import sample_surface
from tests.geco_core.evaluate.meshes import box, joined


def test_points_lie_on_the_box_and_every_side_gets_its_share() -> None:
    vertices, faces = box((1.0, 2.0, 4.0))
    points = sample_surface(vertices, faces, 14_000, seed=0)
    off = np.abs(points) / [0.5, 1.0, 2.0]
    np.testing.assert_allclose(off.max(axis=1), 1.0, atol=1e-12)
    side = off.argmax(axis=1)
    shares = np.bincount(side, minlength=3) / len(points)
    assert shares.tolist() == pytest.approx([8 / 14, 4 / 14, 2 / 14], abs=1e-3)


def test_points_are_uniform_inside_a_triangle() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    points = sample_surface(vertices, np.array([[0, 1, 2]]), 20_000, seed=3)
    assert points.mean(axis=0).tolist() == pytest.approx([1 / 3, 1 / 3, 0], abs=5e-3)
    corner = (points[:, 0] + points[:, 1] < 0.5).mean()
    assert corner == pytest.approx(0.25, abs=0.01)


def test_same_seed_same_points_and_another_seed_others() -> None:
    mesh = box()
    assert np.array_equal(sample_surface(*mesh, 50, 1), sample_surface(*mesh, 50, 1))
    assert not np.array_equal(sample_surface(*mesh, 50, 1), sample_surface(*mesh, 50, 2))


def test_faces_without_area_get_no_points() -> None:
    vertices, faces = joined(box(), (np.full((3, 3), 9.0), np.array([[0, 1, 2]])))
    assert sample_surface(vertices, faces, 500, 0).max() <= 0.5


def test_refusals() -> None:
    with pytest.raises(ValueError, match="area 0"):
        sample_surface(np.zeros((3, 3)), np.array([[0, 1, 2]]), 5, 0)
    with pytest.raises(ValueError, match="positive"):
        sample_surface(*box(), 0, 0)
