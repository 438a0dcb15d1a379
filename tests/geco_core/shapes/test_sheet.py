"""Contact sheets."""

from __future__ import annotations

import numpy as np
import pytest

from geco_core.shapes.sheet import class_sheet, grid


def test_grid_places_row_by_row() -> None:
    pictures = [np.full((4, 6, 3), value) for value in (0.0, 0.2, 0.4)]
    sheet = grid(pictures, 2, gap=1)
    assert sheet.shape == (9, 13, 3)
    assert sheet.dtype == np.uint8
    assert [int(sheet[0, 0, 0]), int(sheet[0, 7, 0]), int(sheet[5, 0, 0])] == [0, 51, 102]
    assert (sheet[5:, 7:] == 255).all()
    assert (sheet[4] == 204).all()


def test_grid_refuses_mixed_sizes() -> None:
    with pytest.raises(ValueError, match="all of one size"):
        grid([np.zeros((4, 4, 3)), np.zeros((5, 4, 3))], 2)


def test_class_sheet_has_a_row_per_class() -> None:
    sheet = class_sheet(names=("car", "mug"), variants=1, size=24)
    assert sheet.shape == (2 * 26 - 2, 7 * 26 - 2, 3)
    assert sheet.min() < 60
