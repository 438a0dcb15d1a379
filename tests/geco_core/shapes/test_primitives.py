"""Meshes against signed distances, for every primitive, placed askew."""

from __future__ import annotations

import numpy as np
import pytest

from geco_core.shapes.parts import (
    box,
    capsule,
    cone,
    cylinder,
    ellipsoid,
    frame,
    frustum,
    prism,
    torus,
    turn_about,
)
from geco_core.shapes.primitives import Ellipsoid, Primitive

TURN = turn_about("x", 25.0) @ turn_about("z", 40.0)
HULL = [(-0.6, -0.3), (0.3, -0.3), (0.8, 0.0), (0.3, 0.3), (-0.6, 0.3)]
SOLIDS: dict[str, Primitive] = {
    "box": box((0.1, 0.2, -0.1), (0.5, 0.3, 0.4), turn=TURN),
    "rounded box": box((0.1, 0.2, -0.1), (0.5, 0.3, 0.4), rounding=0.12, turn=TURN),
    "ellipsoid": ellipsoid((0.1, 0.0, 0.2), (0.7, 0.4, 0.3), turn=TURN),
    "cylinder": cylinder((0.1, 0.0, 0.2), 0.4, 0.9, axis=(0.3, 1.0, 0.2)),
    "cone": cone((0.1, 0.0, 0.2), 0.5, 1.1, axis=(0.3, -1.0, 0.2)),
    "frustum": frustum((0.1, 0.0, 0.2), 0.6, 0.2, 0.8, axis=(1.0, 0.1, 0.2)),
    "torus": torus((0.1, 0.0, 0.2), 0.6, 0.2, axis=(1.0, 0.1, 0.7)),
    "capsule": capsule((-0.4, 0.1, 0.0), (0.5, 0.3, 0.2), 0.25),
    "prism": prism((0.0, 0.1, 0.1), HULL, 0.4, plane="xz", turn=TURN),
}
EACH = pytest.mark.parametrize("solid", SOLIDS.values(), ids=SOLIDS.keys())


def corners_of(solid: Primitive) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    vertices, faces = solid.mesh()
    return vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]


def winding(points: np.ndarray, solid: Primitive) -> np.ndarray:
    """Winding number [P] of a closed mesh (van Oosterom and Strackee): 1 inside, 0 outside."""
    a, b, c = (corner[None] - points[:, None] for corner in corners_of(solid))
    la, lb, lc = (np.linalg.norm(side, axis=-1) for side in (a, b, c))
    top = np.einsum("pfi,pfi->pf", a, np.cross(b, c))
    ab, bc, ca = ((x * y).sum(-1) for x, y in ((a, b), (b, c), (c, a)))
    return np.arctan2(top, la * lb * lc + ab * lc + bc * la + ca * lb).sum(1) / (2.0 * np.pi)


@EACH
def test_vertices_lie_on_the_exact_surface(solid: Primitive) -> None:
    vertices, _ = solid.mesh()
    assert np.abs(solid.sdf(vertices)).max() < 1e-9


@EACH
def test_faces_sag_little(solid: Primitive) -> None:
    middle = sum(corners_of(solid)) / 3.0
    assert np.abs(solid.sdf(middle)).max() < 0.03


@EACH
def test_mesh_is_closed_and_faces_outward(solid: Primitive) -> None:
    a, b, c = corners_of(solid)
    area_vectors = np.cross(b - a, c - a)
    assert np.linalg.norm(area_vectors, axis=1).min() > 1e-6
    assert np.abs(area_vectors.sum(axis=0)).max() < 1e-9
    assert (a * np.cross(b, c)).sum() / 6.0 > 0.05


@EACH
def test_sign_agrees_with_the_mesh(solid: Primitive) -> None:
    points = np.random.default_rng(0).uniform(-1.0, 1.0, (400, 3))
    distance = solid.sdf(points)
    clear = np.abs(distance) > 0.03
    assert (distance[clear] < 0).sum() > 5
    np.testing.assert_array_equal(winding(points, solid)[clear] > 0.5, distance[clear] < 0)


@EACH
def test_gradient_has_unit_length(solid: Primitive) -> None:
    generator = np.random.default_rng(1)
    if isinstance(solid, Ellipsoid):
        # The ellipsoid's distance is true to first order at the surface only.
        points = solid.mesh()[0] + generator.normal(0.0, 0.004, solid.mesh()[0].shape)
    else:
        points = generator.uniform(-1.2, 1.2, (500, 3))
    step = 1e-5
    gradient = np.stack(
        [(solid.sdf(points + d) - solid.sdf(points - d)) / (2 * step) for d in np.eye(3) * step], 1
    )
    length = np.linalg.norm(gradient, axis=1)
    # A point whose two probes straddle the medial axis shows a shorter gradient.
    assert np.mean(np.abs(length - 1.0) < (0.06 if isinstance(solid, Ellipsoid) else 1e-3)) > 0.99
    assert length.max() < 1.06


@pytest.mark.parametrize("name", ["box", "cylinder", "capsule", "cone", "prism", "rounded box"])
def test_distance_to_a_far_point_is_the_distance_to_the_mesh(name: str) -> None:
    solid = SOLIDS[name]
    a, b, c = corners_of(solid)
    u, v = np.meshgrid(np.linspace(0, 1, 25), np.linspace(0, 1, 25))
    u, v = u.ravel()[:, None, None], v.ravel()[:, None, None]
    cloud = (a + u * ((1 - v) * (b - a) + v * (c - a))).reshape(-1, 3)
    points = np.random.default_rng(2).uniform(-2.0, 2.0, (60, 3))
    points = points[solid.sdf(points) > 0.1]
    nearest = np.linalg.norm(points[:, None] - cloud[None], axis=-1).min(axis=1)
    np.testing.assert_allclose(solid.sdf(points), nearest, atol=0.03)


@EACH
def test_scaling_scales_distances(solid: Primitive) -> None:
    points = np.random.default_rng(3).uniform(-1.0, 1.0, (100, 3))
    centre = np.array([0.3, -0.2, 0.1])
    small = solid.scaled(0.37, centre)
    np.testing.assert_allclose(
        small.sdf(0.37 * (points - centre)), 0.37 * solid.sdf(points), atol=1e-12
    )
    np.testing.assert_allclose(
        small.mesh()[0].mean(0), 0.37 * (solid.mesh()[0].mean(0) - centre), atol=0.02
    )


@EACH
def test_keeps_float32(solid: Primitive) -> None:
    points = np.random.default_rng(4).uniform(-1.0, 1.0, (50, 3))
    single = solid.sdf(points.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, solid.sdf(points), atol=2e-5)


def test_ellipsoid_centre_is_finite() -> None:
    value = SOLIDS["ellipsoid"].sdf(np.array([[0.1, 0.0, 0.2]]))
    np.testing.assert_allclose(value, [-0.3])


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, -1, 0), (0, 0, -1), (0.2, 0.5, -0.7)])
def test_frame_is_a_rotation_onto_the_axis(axis: tuple[float, float, float]) -> None:
    rotation = frame(axis)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0)
    np.testing.assert_allclose(rotation[:, 2], np.array(axis) / np.linalg.norm(axis))
