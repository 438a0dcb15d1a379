"""Triangle grids: closed, outward, the sizes they promise."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from geco_core.shapes.templates import (
    cube_grid,
    revolve,
    segments_for,
    sphere_profile,
    unit_sphere,
    wrapped_quads,
)


def edges(faces: np.ndarray) -> Counter[tuple[int, int]]:
    return Counter((int(f[k]), int(f[(k + 1) % 3])) for f in faces for k in range(3))


@pytest.mark.parametrize(
    "faces", [unit_sphere(12)[1], wrapped_quads(8, 6)], ids=["sphere", "torus"]
)
def test_every_edge_is_met_once_in_each_direction(faces: np.ndarray) -> None:
    count = edges(faces)
    assert set(count.values()) == {1}
    assert all((b, a) in count for a, b in count)


def test_sphere() -> None:
    vertices, faces = unit_sphere(16)
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 1.0)
    assert len(faces) == 2 * 16 * 7
    assert len(sphere_profile(16)) == 9


def test_revolve_puts_the_poles_last() -> None:
    vertices, faces = revolve(np.array([(0.0, -1.0), (0.5, 0.2), (0.0, 2.0)]), 8)
    assert vertices.shape == (10, 3)
    assert len(faces) == 16
    np.testing.assert_allclose(vertices[-2:], [[0, 0, -1], [0, 0, 2]])


@pytest.mark.parametrize("cells", [1, 3])
def test_cube_has_the_area_and_volume_of_a_cube(cells: int) -> None:
    vertices, faces = cube_grid(cells)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    assert len(faces) == 12 * cells**2
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2 == pytest.approx(24.0)
    assert (a * np.cross(b, c)).sum() / 6 == pytest.approx(8.0)


def test_segments_grow_and_are_multiples_of_four() -> None:
    counts = [segments_for(radius) for radius in (0.05, 0.2, 0.4, 1.0)]
    assert counts == sorted(set(counts))
    assert all(count % 4 == 0 for count in counts)
