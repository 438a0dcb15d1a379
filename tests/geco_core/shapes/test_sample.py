"""Point samples."""

from __future__ import annotations

import numpy as np
import pytest

from geco_core.shapes.classes import CLASS_NAMES
from geco_core.shapes.object import make_object_of_class
from geco_core.shapes.sample import BOX, HIDDEN_DEPTH, sample_sdf, sample_surface


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_surface_samples_are_visible_and_exact(name: str) -> None:
    made = make_object_of_class(name, 2)
    sampled = sample_surface(made, 300, np.random.default_rng(0))
    assert sampled.points.shape == sampled.colors.shape == sampled.normals.shape == (300, 3)
    assert sampled.points.dtype == sampled.colors.dtype == sampled.normals.dtype == np.float32
    distance = made.sdf(sampled.points)
    assert distance.min() > -3.0 * HIDDEN_DEPTH
    assert distance.max() < 1e-3
    assert np.median(np.abs(distance)) < 5e-4


def test_normals_point_outward() -> None:
    made = make_object_of_class("ball", 1)
    assert (
        len(made.solids) == 1
    )  # two solids meet in creases, where a step along a normal re-enters
    sampled = sample_surface(made, 500, np.random.default_rng(0))
    assert made.sdf(sampled.points + 0.03 * sampled.normals).min() > 0.02
    assert made.sdf(sampled.points - 0.03 * sampled.normals).max() < -0.02


def test_colors_are_those_of_the_nearest_solid() -> None:
    made = make_object_of_class("snowman", 0)
    sampled = sample_surface(made, 400, np.random.default_rng(0))
    base = made.base_color(sampled.points)
    ratio = sampled.colors / base
    agree = (np.ptp(ratio, axis=1) < 1e-3) & (ratio[:, 0] > 0.61) & (ratio[:, 0] < 1.001)
    assert agree.mean() > 0.97


def test_surface_samples_follow_area() -> None:
    made = make_object_of_class("cube", 9)
    sampled = sample_surface(made, 6000, np.random.default_rng(0))
    share = np.array([(np.abs(sampled.normals[:, k]) > 0.99).mean() for k in range(3)])
    area = np.array(
        [made.face_areas[np.abs(made.face_normals[:, k]) > 0.99].sum() for k in range(3)]
    )
    if len(made.solids) == 1:
        np.testing.assert_allclose(share, area / made.face_areas.sum(), atol=0.03)
    assert share.min() > 0.05


@pytest.mark.parametrize("count", [0, 1, 2, 501])
def test_sdf_samples(count: int) -> None:
    made = make_object_of_class("chair", 0)
    points, values = sample_sdf(made, count, np.random.default_rng(0))
    assert points.shape == (count, 3)
    assert values.shape == (count,)
    np.testing.assert_array_equal(values, made.sdf(points) if count else np.zeros(0))


def test_half_of_the_sdf_samples_are_near() -> None:
    made = make_object_of_class("dog", 0)
    points, values = sample_sdf(made, 2000, np.random.default_rng(0))
    near, wide = np.abs(values[:1000]), points[1000:]
    assert 0.02 < near.mean() < 0.06
    assert near.max() < 0.3
    assert -BOX <= wide.min() < -1.0
    assert 1.0 < wide.max() <= BOX
    assert (values < 0).sum() > 200


def test_same_generator_same_samples() -> None:
    made = make_object_of_class("boat", 0)
    first = sample_sdf(made, 64, np.random.default_rng(5))
    second = sample_sdf(made, 64, np.random.default_rng(5))
    np.testing.assert_array_equal(first.points, second.points)
    other = sample_sdf(made, 64, np.random.default_rng(6))
    assert not np.array_equal(first.points, other.points)
