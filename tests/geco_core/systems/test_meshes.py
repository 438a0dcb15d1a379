"""Surfaces become meshes of the glTF frame; failed ones keep their place."""

from __future__ import annotations

import numpy as np
import torch

from geco_core.errors import BadItem, Reason
from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.systems.meshes import meshes_of
from geco_core.types import Mesh


def test_order_frame_colours_and_colour_fields() -> None:
    surface = SurfaceMesh(
        vertices=torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        faces=torch.tensor([[0, 1, 2]]),
        vertex_rgb=torch.tensor([[0.0, 0.5, 1.0], [2.0, -1.0, 0.25], [1.0, 1.0, 1.0]]),
    )
    bad = BadItem("empty", reason=Reason.EMPTY_MESH)
    planes = torch.arange(3.0).view(3, 1, 1, 1, 1)
    asked: list[float] = []

    def color_of(planes_13CHW: torch.Tensor) -> None:
        asked.append(float(planes_13CHW))

    first, second, third = meshes_of([surface, bad, surface], planes, color_of)
    assert second is bad
    assert asked == [0.0, 2.0]
    for mesh in (first, third):
        assert isinstance(mesh, Mesh)
        assert (mesh.vertices.dtype, mesh.faces.dtype) == (np.float32, np.int32)
        # World x (front), y, z (up) are glTF's z, x, y.
        assert mesh.vertices.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
        assert mesh.colors is not None
        assert mesh.colors.tolist() == [[0, 127, 255], [255, 0, 63], [255, 255, 255]]
        assert mesh.color_fn is None
