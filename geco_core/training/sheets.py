"""Sheets of pictures that evaluations leave beside their numbers."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def save_sheet(images_RC3SS: Tensor, path: Path) -> None:
    """Write R rows of C pictures in [0, 1], side by side, as a PNG."""
    rows = [torch.cat(list(row), dim=-1) for row in images_RC3SS]
    pixels = torch.cat(rows, dim=-2).clamp(0, 1).mul(255).round().byte()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
