"""Occupancy of closed, overlapping, open, inside-out and flat meshes."""

from __future__ import annotations

import numpy as np
import pytest

from geco_core.evaluate.occupancy import grid_around, occupancy
from tests.geco_core.evaluate.meshes import box, joined, sphere


def volume(vertices: np.ndarray, faces: np.ndarray, cells: int = 48) -> float:
    low_high = np.array([vertices.min(axis=0), vertices.max(axis=0)])
    grid = grid_around([low_high], 1.0 / cells, 3 * cells)
    return float(occupancy(vertices, faces, grid).sum()) * grid.cell**3


def test_a_box_on_cell_borders_and_a_sphere() -> None:
    vertices, faces = box((0.5, 0.25, 0.75))
    grid = grid_around([np.array([[-0.5] * 3, [0.5] * 3])], 1 / 16, 64)
    inside = occupancy(vertices, faces, grid)
    steps = (np.arange(grid.cells) + 0.5) * grid.cell + grid.low[0]
    x, y, z = np.meshgrid(steps, steps, steps, indexing="ij")
    expected = (abs(x) < 0.25) & (abs(y) < 0.125) & (abs(z) < 0.375)
    assert np.array_equal(inside, expected)
    assert volume(*sphere()) == pytest.approx(np.pi / 6, rel=0.01)


def test_overlapping_parts_count_once() -> None:
    both = joined(box((0.5, 0.5, 0.5)), box((0.5, 0.5, 0.5), (0.25, 0, 0)))
    assert volume(*both) == pytest.approx(0.75 * 0.5 * 0.5, rel=0.05)


def test_faces_turned_the_wrong_way_change_nothing() -> None:
    vertices, faces = sphere()
    closed = volume(vertices, faces)
    assert volume(vertices, faces[:, ::-1]) == pytest.approx(closed, rel=1e-3)
    mixed = faces.copy()
    mixed[::3] = mixed[::3, ::-1]
    assert volume(vertices, mixed) == pytest.approx(closed, rel=0.02)


def test_a_hole_is_outvoted_by_the_other_axes() -> None:
    vertices, faces = sphere()
    middle = vertices[faces].mean(axis=1)
    open_faces = faces[~((middle[:, 2] > 0.3) & (np.hypot(middle[:, 0], middle[:, 1]) < 0.3))]
    assert len(open_faces) < len(faces)
    assert volume(vertices, open_faces) == pytest.approx(volume(vertices, faces), rel=0.05)


def test_sheets_have_no_volume() -> None:
    square = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
    sheet = np.array([[0, 1, 2], [0, 2, 3]])
    assert volume(square, sheet) == 0.0
    assert volume(square, np.concatenate([sheet, sheet[:, ::-1]])) == 0.0


def test_a_grid_covers_its_boxes_and_stays_within_its_limit() -> None:
    boxes = [np.array([[-0.5] * 3, [0.5] * 3]), np.array([[0.0] * 3, [9.0, 0.1, 0.1]])]
    grid = grid_around(boxes, 1 / 64, 100)
    assert grid.cells == 100
    for box_23 in boxes:
        assert (box_23[0] >= grid.low).all()
        assert (box_23[1] <= np.array(grid.low) + grid.cells * grid.cell).all()
    assert grid_around(boxes[:1], 1 / 64, 100).cells == 66
