"""Sheets of pictures: where each lies, and its levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from geco_core.training.sheets import save_sheet


def test_rows_and_columns_lie_in_order(tmp_path: Path) -> None:
    levels = torch.arange(6.0).reshape(2, 3, 1, 1, 1).expand(2, 3, 3, 4, 5) / 255.0
    images = levels.clone()
    images[1, 2, 0] = 1.0  # red, in the last picture
    save_sheet(images, tmp_path / "sheet.png")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert pixels.shape == (8, 15, 3)
    assert pixels[::4, ::5, 1].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert pixels[7, 14].tolist() == [255, 5, 5]
    assert pixels[3, 4].tolist() == [0, 0, 0]


def test_values_are_clamped_and_rounded(tmp_path: Path) -> None:
    images = torch.tensor([-1.0, 0.5019, 2.0]).reshape(1, 3, 1, 1, 1).expand(1, 3, 3, 1, 1)
    save_sheet(images, tmp_path / "sheet.png")
    assert np.asarray(Image.open(tmp_path / "sheet.png"))[0, :, 0].tolist() == [0, 128, 255]
