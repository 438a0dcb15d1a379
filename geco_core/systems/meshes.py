"""Surfaces on a device to meshes on the host, all copies of a batch on their way at once.

Legend: N vertices, F faces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geco_core.errors import BadItem
from geco_core.mesh.frames import world_to_gltf
from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.systems.host_copies import HostCopies
from geco_core.types import Generated, Mesh

ColorFn = Callable[[np.ndarray], np.ndarray]


def meshes_of(
    surfaces: Iterable[SurfaceMesh | BadItem],
    planes_B3CHW: Tensor,
    color_of: Callable[[Tensor], ColorFn | None],
) -> list[Generated]:
    """Meshes in the glTF frame with vertex colours, in order.

    Args:
        surfaces: one per row of planes, in the world frame, each taken when it is made.
        planes_B3CHW: of the batch.
        color_of: the colour field of one object's planes [1, 3, C, H, W]; None has none.

    Returns:
        A mesh per row; the `BadItem` of a failed one in its place.
    """
    copies = HostCopies(planes_B3CHW.device)
    found = [
        surface
        if isinstance(surface, BadItem)
        else _OnItsWay.of(surface, copies, color_of(planes_13CHW))
        for surface, planes_13CHW in zip(surfaces, planes_B3CHW.split(1), strict=True)
    ]
    copies.wait()
    return [s.mesh() if isinstance(s, _OnItsWay) else s for s in found]


@dataclass(frozen=True)
class _OnItsWay:
    """A surface whose copy to the host may not be complete yet."""

    vertices: Tensor  # float32 [N, 3], world
    faces: Tensor  # int32 [F, 3]
    colors: Tensor  # uint8 [N, 3]
    color_fn: ColorFn | None

    @classmethod
    def of(cls, surface: SurfaceMesh, copies: HostCopies, color_fn: ColorFn | None) -> _OnItsWay:
        return cls(
            copies.copy(surface.vertices.float()),
            copies.copy(surface.faces.to(torch.int32)),
            copies.copy(surface.vertex_rgb.clamp(0, 1).mul(255).to(torch.uint8)),
            color_fn,
        )

    def mesh(self) -> Mesh:
        return Mesh(
            vertices=world_to_gltf(self.vertices.numpy()).astype(np.float32),
            faces=self.faces.numpy(),
            colors=self.colors.numpy(),
            color_fn=self.color_fn,
        )
