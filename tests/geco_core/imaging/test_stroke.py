"""The outline: one pixel on the object's edge, growing to both sides, around holes too."""

from __future__ import annotations

import numpy as np
import pytest

from geco_core.imaging.stroke import add_stroke

COLOR = (9, 8, 7)


def ring() -> np.ndarray:
    rgba = np.zeros((15, 15, 4), np.uint8)
    rgba[3:12, 3:12] = (100, 100, 100, 255)
    rgba[7, 7, 3] = 100  # below the threshold: a hole
    return rgba


def drawn(rgba: np.ndarray, thickness: int) -> np.ndarray:
    return (add_stroke(rgba, COLOR, thickness) == (*COLOR, 255)).all(axis=-1)


def test_the_thinnest_line_lies_inside_the_edge_and_around_holes() -> None:
    mask = drawn(ring(), 1)
    assert mask.sum() == 4 * 8 + 4
    assert mask[3, 3]
    assert mask[7, 6]
    assert not mask[7, 7]
    assert not mask[2].any()


def test_thicker_lines_grow_to_both_sides() -> None:
    plain = ring()
    plain[7, 7, 3] = 255
    for thickness in (1, 2, 3):
        column = np.flatnonzero(drawn(plain, thickness)[:, 7])
        assert column[0] == 3 - (thickness - 1)
        assert 3 + thickness - 1 in column
        assert 3 + thickness not in column
    before = plain.copy()
    add_stroke(plain, COLOR, 3)
    assert np.array_equal(plain, before)


@pytest.mark.parametrize("thickness", [0, 4])
def test_other_thicknesses_are_refused(thickness: int) -> None:
    with pytest.raises(ValueError, match="within 1 and 3"):
        add_stroke(ring(), COLOR, thickness)
