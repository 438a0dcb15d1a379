"""Regular grids by arithmetic: nodes, cubes and their corners are numbered, never stored.

Same numbering and the same coordinates as the published FlexiCubes grid (x-major; fractions rounded
to five decimals before centring, which the trained weights saw), without its arrays of all nodes
and cubes.

Legend: P points or nodes, S cubes, N all nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from geco_core.surface.tables import tables_on

_DECIMALS = 5


@dataclass(frozen=True)
class RegularGrid:
    """An axis-aligned grid centred at the origin.

    Node (i, j, k) has the flat index (i * (ry + 1) + j) * (rz + 1) + k; cube (i, j, k) has (i * ry
    + j) * rz + k and spans the nodes (i..i+1, j..j+1, k..k+1).

    Attributes:
        res: cubes along x, y, z.
        scale: edge length of the whole grid; nodes lie in [-scale / 2, scale / 2] on each axis.
    """

    res: tuple[int, int, int]
    scale: float = 1.0

    def __post_init__(self) -> None:
        if len(self.res) != 3 or min(self.res) < 1:
            raise ValueError(f"a grid needs three positive resolutions, got {self.res}")

    @classmethod
    def cubic(cls, res: int, scale: float = 1.0) -> RegularGrid:
        """A grid with the same resolution on every axis."""
        return cls((res, res, res), scale)

    @property
    def node_shape(self) -> tuple[int, int, int]:
        """Nodes along x, y, z."""
        rx, ry, rz = self.res
        return rx + 1, ry + 1, rz + 1

    @property
    def num_nodes(self) -> int:
        """Number of grid nodes."""
        nx, ny, nz = self.node_shape
        return nx * ny * nz

    @property
    def num_cubes(self) -> int:
        """Number of cubes."""
        rx, ry, rz = self.res
        return rx * ry * rz

    def axis(self, axis: int, device: torch.device | str = "cpu") -> Tensor:
        """Float32 [res[axis] + 1] node coordinates along one axis."""
        steps = torch.arange(self.res[axis] + 1, device=device, dtype=torch.float32)
        return (torch.round(steps / self.res[axis], decimals=_DECIMALS) - 0.5) * self.scale

    def points(
        self, nodes_P: Tensor | None = None, *, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Coordinates of nodes.

        Args:
            nodes_P: int64 [P] flat node indices; all nodes when None.
            device: where the result lives when `nodes_P` is None.

        Returns:
            Float32 [P, 3] in [-scale / 2, scale / 2].
        """
        if nodes_P is None:
            axes = torch.meshgrid(*(self.axis(a, device) for a in range(3)), indexing="ij")
            return torch.stack([a.reshape(-1) for a in axes], dim=-1)
        x, y, z = unflatten(nodes_P, self.node_shape)
        device = nodes_P.device
        columns = [self.axis(a, device)[i] for a, i in enumerate((x, y, z))]
        return torch.stack(columns, dim=-1)

    def corner_steps(self, device: torch.device | str = "cpu") -> Tensor:
        """Int64 [8]: what to add to a cube's first node to reach each corner."""
        _, ny, nz = self.node_shape
        offsets_83 = tables_on(torch.device(device)).corner_offsets
        return (offsets_83[:, 0] * ny + offsets_83[:, 1]) * nz + offsets_83[:, 2]

    def corners(self, cubes_S: Tensor) -> Tensor:
        """Int64 [S, 8] flat node indices of the corners of cubes [S]."""
        _, ny, nz = self.node_shape
        i, j, k = unflatten(cubes_S, self.res)
        first_S = (i * ny + j) * nz + k
        return first_S[:, None] + self.corner_steps(cubes_S.device)


def unflatten(index_P: Tensor, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates [P], [P], [P] of flat x-major indices into a volume of `shape`."""
    _, ny, nz = shape
    rest = torch.div(index_P, nz, rounding_mode="floor")
    k = index_P - rest * nz
    i = torch.div(rest, ny, rounding_mode="floor")
    return i, rest - i * ny, k


def within(position_S3: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Bool [...]: coordinates [..., 3] of cells that a volume of `shape` has."""
    known = (position_S3 >= 0).all(dim=-1)
    for axis, size in enumerate(shape):
        known = known & (position_S3[..., axis] < size)
    return known


@cache
def constant(values: tuple[tuple[int, ...], ...], device: torch.device) -> Tensor:
    """A small int64 table on `device`, copied there once: a copy makes the host wait."""
    with torch.inference_mode(mode=False):  # it outlives the mode it is first asked for in
        return torch.tensor(values, device=device)
