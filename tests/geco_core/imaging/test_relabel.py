"""Re-labelled frames: every choice of front is a rotation that keeps the conventions."""

from __future__ import annotations

import numpy as np
import pytest

from geco_core.imaging.relabel import (
    AXIS_TURNS,
    SOURCES,
    blend,
    relabel_ccms,
    relabel_views,
    training_frames,
)
from geco_core.multiview.ortho_views import AXES, plane_coordinates

SIZE = 9


def coordinate_maps() -> np.ndarray:
    """Maps of a cube's six faces: in-plane coordinates and +-1 along the view, 8 bit over 254."""
    maps = np.stack([plane_coordinates(view, SIZE).numpy() for view in range(6)])
    for view, axes in enumerate(AXES):
        maps[view, ..., axes.towards[0]] = axes.towards[1]
    return np.round((maps + 1.0) * 127.0).astype(np.uint8)


@pytest.mark.parametrize("front", range(6))
def test_relabelled_maps_are_maps_again(front: int) -> None:
    maps = coordinate_maps()
    assert np.array_equal(relabel_ccms(maps, front), maps)  # the cube looks the same


@pytest.mark.parametrize("front", range(6))
def test_a_relabelling_is_a_rotation_and_the_front_is_the_chosen_view(front: int) -> None:
    matrix = np.zeros((3, 3))
    for new, (old, sign) in enumerate(AXIS_TURNS[front]):
        matrix[new, old] = sign
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    assert SOURCES[front][0] == front
    assert sorted(SOURCES[front]) == list(range(6))


def test_the_front_keeps_its_picture() -> None:
    views = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 4)).astype(np.uint8)
    for front in range(6):
        assert np.array_equal(relabel_views(views, front)[0], views[front])


def test_negated_levels_wrap() -> None:
    maps = np.zeros((6, 1, 1, 3), np.uint8)
    maps[..., 0] = 255
    turned = relabel_ccms(maps, 3)[0, 0, 0]  # x and y negated
    assert turned.tolist() == [255, 254, 0]


def test_training_frames_share_one_background() -> None:
    views = np.zeros((6, 10, 10, 4), np.uint8)
    views[:, 3:7, 3:7] = (200, 100, 50, 255)
    maps = np.full((6, 10, 10, 3), 127, np.uint8)
    frames = training_frames(views, maps, 1, order=(1, 2), ratio=0.9, background=30.5)
    assert frames.pixels.shape == frames.ccms.shape == (2, 10, 10, 3)
    assert frames.pixels[0, 0, 0].tolist() == frames.ccms[1, 0, 0].tolist() == [30, 30, 30]
    assert frames.pixels[0, 4, 4].tolist() == [200, 100, 50]
    assert frames.ccms[0, 4, 4].tolist() == [127, 127, 127]  # positions are not scaled
    assert np.array_equal(frames.condition, frames.pixels[0])


def test_blending_truncates() -> None:
    half = np.array([[[100, 0, 255, 128]]], np.uint8)
    expected = [int(v * 128 / 255 + 10.0 * 127 / 255) for v in (100, 0, 255)]
    assert blend(half, 10.0)[0, 0].tolist() == expected
