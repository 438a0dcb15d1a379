"""Levels of a coarse-to-fine evaluation and the masks that lead from one to the next.

A level is a sub-grid of every 2**n-th node, with the last node of an axis always in it: resolutions
need not be divisible, the outermost cells of a coarse level are then narrower. Node sets are
nested.

Legend: P nodes, X Y Z cell or node counts of a level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geco_core.surface.grid import RegularGrid, unflatten

_MIN_COARSE_RES = 32


@dataclass(frozen=True)
class Level:
    """A sub-grid of every `stride`-th node; the last node of an axis always belongs to it."""

    grid: RegularGrid
    stride: int

    @property
    def cells(self) -> tuple[int, int, int]:
        """Cells along x, y, z."""
        rx, ry, rz = (-(-r // self.stride) for r in self.grid.res)
        return rx, ry, rz

    @property
    def nodes(self) -> tuple[int, int, int]:
        """Nodes along x, y, z."""
        x, y, z = self.cells
        return x + 1, y + 1, z + 1

    def to_grid(self, nodes_P: Tensor) -> Tensor:
        """Flat indices of this level's nodes as flat indices of the finest grid (order is kept)."""
        if self.stride == 1:
            return nodes_P
        steps = (
            (axis_P * self.stride).clamp_(max=r)
            for axis_P, r in zip(unflatten(nodes_P, self.nodes), self.grid.res, strict=True)
        )
        i, j, k = steps
        _, ny, nz = self.grid.node_shape
        return (i * ny + j) * nz + k

    def embed(self, coarse_XYZ: Tensor) -> Tensor:
        """A node mask of the next coarser level as a node mask of this one."""
        fine = torch.zeros(self.nodes, dtype=torch.bool, device=coarse_XYZ.device)
        x, y, z = (
            (2 * torch.arange(n, device=coarse_XYZ.device)).clamp_(max=last)
            for n, last in zip(coarse_XYZ.shape, self.cells, strict=True)
        )
        fine[x[:, None, None], y[None, :, None], z] = coarse_XYZ
        return fine


def level_strides(res: int, coarse_factor: int) -> list[int]:
    """Node strides from the coarsest level down to 1.

    The first is the largest power of two that keeps enough coarse cells.
    """
    enough = max(_MIN_COARSE_RES, res / max(coarse_factor, 1))
    strides = [1]
    while res / (2 * strides[-1]) >= enough:
        strides.append(2 * strides[-1])
    return strides[::-1]


def dilate_cells(mask_XYZ: Tensor, cells: int) -> Tensor:
    """The mask widened by `cells` on every side, diagonals included."""
    for axis in range(3):
        for _ in range(cells):
            size = mask_XYZ.shape[axis]
            wider = mask_XYZ.clone()
            wider.narrow(axis, 1, size - 1).logical_or_(mask_XYZ.narrow(axis, 0, size - 1))
            wider.narrow(axis, 0, size - 1).logical_or_(mask_XYZ.narrow(axis, 1, size - 1))
            mask_XYZ = wider
    return mask_XYZ


def child_cells(parents_XYZ: Tensor, cells: tuple[int, int, int]) -> Tensor:
    """Mask of the next finer level's cells under a mask of parents.

    Odd levels drop the outermost child.
    """
    mask = parents_XYZ
    for axis in (2, 1, 0):
        mask = mask.repeat_interleave(2, dim=axis).narrow(axis, 0, cells[axis])
    return mask


def corner_nodes(cells_XYZ: Tensor) -> Tensor:
    """Bool [X+1, Y+1, Z+1]: nodes at a corner of at least one cell of the mask."""
    mask = cells_XYZ
    for axis in (2, 1, 0):
        size = mask.shape[axis]
        shape = [*mask.shape]
        shape[axis] = size + 1
        wider = torch.zeros(shape, dtype=torch.bool, device=mask.device)
        wider.narrow(axis, 0, size).copy_(mask)
        wider.narrow(axis, 1, size).logical_or_(mask)
        mask = wider
    return mask
