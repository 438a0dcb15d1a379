"""Extra input channels that say where in the tile of views a pixel lies.

For micro models; off in Zero123++.

Legend: V = rows x columns views, h w one cell, H = rows h, W = columns w.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cell_coordinates(height: int, width: int, *, like: Tensor) -> Tensor:
    """Coordinates x (right) and y (down) of pixel centres of one cell in [-1, 1], [2, h, w]."""
    x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * (2.0 / width) - 1.0
    y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * (2.0 / height) - 1.0
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])


def tile_planes(rows: int, columns: int, height: int, width: int, *, like: Tensor) -> Tensor:
    """Cell coordinates repeated into every cell and a one-hot view index, [2 + V, H, W]."""
    views = rows * columns
    coordinates = cell_coordinates(height, width, like=like).repeat(1, rows, columns)
    one_hot = torch.eye(views, device=like.device, dtype=like.dtype).reshape(views, rows, columns)
    return torch.cat(
        [coordinates, one_hot.repeat_interleave(height, 1).repeat_interleave(width, 2)]
    )


def reference_planes(views: int, height: int, width: int, *, like: Tensor) -> Tensor:
    """The same channels [2 + V, h, w] for the condition image: coordinates, no view index."""
    coordinates = cell_coordinates(height, width, like=like)
    return torch.cat([coordinates, coordinates.new_zeros(views, height, width)])
