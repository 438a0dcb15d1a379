"""The tile of views: splitting, merging and resizing.

Views are row-major in the tile: view i sits in row i // columns, column i % columns (Zero123++).

Legend: B batch, C channels, V = rows x columns views, h w one cell, H = rows h, W = columns w.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def split_views(tile_BCHW: Tensor, rows: int, columns: int) -> Tensor:
    """[B, C, H, W] -> [B, V, C, h, w]."""
    batch, channels, height, width = tile_BCHW.shape
    h, w = height // rows, width // columns
    cells = tile_BCHW.reshape(batch, channels, rows, h, columns, w).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(batch, rows * columns, channels, h, w)


def merge_views(views_BVChw: Tensor, rows: int, columns: int) -> Tensor:
    """[B, V, C, h, w] -> [B, C, H, W]. Inverse of `split_views`."""
    batch, _, channels, h, w = views_BVChw.shape
    cells = views_BVChw.reshape(batch, rows, columns, channels, h, w).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(batch, channels, rows * h, columns * w)


def resize_views(views_BVChw: Tensor, size: int) -> Tensor:
    """What InstantMesh feeds its encoder: [B, V, C, size, size] in [0, 1].

    Bicubic with antialiasing, then clamped; views of that size already are only clamped.
    """
    if views_BVChw.shape[-2:] == (size, size):
        return views_BVChw.clamp(0.0, 1.0)
    batch, views = views_BVChw.shape[:2]
    flat = views_BVChw.flatten(0, 1)
    resized = F.interpolate(flat, (size, size), mode="bicubic", align_corners=False, antialias=True)
    return resized.clamp(0.0, 1.0).unflatten(0, (batch, views))
