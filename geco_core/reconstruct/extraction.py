"""From triplanes to coloured meshes for inference, one object after the other, whatever the field.

What every reconstructor on a FlexiCubes grid does alike: refuse what is not finite, search the
field coarse to fine, evaluate the heads at the surface alone, report an empty surface, colour the
vertices. A reconstructor tells the rest in a `FieldOnGrid`.

Legend: B batch, C plane channels, U nodes of surface cubes, P points, F features of a point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from geco_core.config.models import ExtractionConfig
from geco_core.errors import BadItem, Reason
from geco_core.fields.decoders import CubeHead
from geco_core.reconstruct.grid_heads import WEIGHT_SCALE, FieldFn, cube_weights
from geco_core.surface.extract import extract_surface
from geco_core.surface.grid import RegularGrid


@dataclass(frozen=True)
class SurfaceMesh:
    """An extracted surface in the world frame, on the model's device.

    Attributes:
        vertices: float32 [N, 3].
        faces: int64 [F, 3], counter-clockwise seen from outside.
        vertex_rgb: float32 [N, 3] in [0, 1].
    """

    vertices: Tensor
    faces: Tensor
    vertex_rgb: Tensor


class PointHeads(CubeHead, Protocol):
    """The heads that every decoder has."""

    def features(self, planes: Tensor, points: Tensor) -> Tensor:
        """[B, P, F] of points [B, P, 3] in planes [B, 3, C, h, w]."""
        ...

    def rgb(self, planes: Tensor, points: Tensor) -> Tensor:
        """Colour [B, P, 3] of points [B, P, 3], about [0, 1]."""
        ...


@dataclass(frozen=True)
class FieldOnGrid:
    """What extraction has to know of a reconstructor. Points are in the grid's frame.

    Attributes:
        grid: where to look for the surface.
        decoder: the point heads.
        values: of the field; which sign is inside decides which way the faces wind.
        offsets: features [U, F] and points [U, 3] of grid nodes to their displacements [U, 3].
        to_world: vertices and faces to those of the world frame, faces outward.
        empty_remedy: what to check when no surface is found.
    """

    grid: RegularGrid
    decoder: PointHeads
    values: FieldFn
    offsets: Callable[[Tensor, Tensor], Tensor]
    to_world: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    empty_remedy: str


@torch.no_grad()
def extract_objects(
    field: FieldOnGrid, planes: Tensor, config: ExtractionConfig
) -> Iterator[SurfaceMesh | BadItem]:
    """Coloured meshes (world frame) of planes [B, 3, C, h, w], each given when it is made.

    On a GPU the host waits once for the batch, to learn which planes are finite, and then for the
    counts of what is found (how many nodes to evaluate, how many vertices) alone.

    Returns:
        One result per object: a mesh, or a `BadItem` (`non_finite`, `empty_mesh`) in its place.
    """
    finite_B = planes.isfinite().flatten(1).all(1).tolist()
    for planes_13Chw, finite in zip(planes.split(1), finite_B, strict=True):
        if finite:
            yield _extract_one(field, planes_13Chw, config)
        else:
            yield BadItem(
                "the reconstructor produced non-finite triplanes",
                reason=Reason.NON_FINITE,
                remedy="check the weights and the precision",
                stage="reconstruct",
            )


def _extract_one(
    field: FieldOnGrid, planes: Tensor, config: ExtractionConfig
) -> SurfaceMesh | BadItem:
    # The offset and weight callbacks see the same points: sample their features once.
    memo: dict[str, Tensor] = {}

    def features(points: Tensor) -> Tensor:
        if "features" not in memo:
            memo["features"] = field.decoder.features(planes, points[None])[0]
        return memo["features"]

    vertices, faces = extract_surface(
        lambda points: field.values(planes, points[None])[0],
        lambda points: field.offsets(features(points), points),
        lambda points, corners: cube_weights(field.decoder, features(points), corners),
        field.grid,
        config,
        weight_scale=WEIGHT_SCALE,
        device=planes.device,
    )
    if not len(faces):
        return BadItem(
            "no surface crosses the extraction grid",
            reason=Reason.EMPTY_MESH,
            remedy=field.empty_remedy,
            stage="extract",
        )
    rgb = vertex_colours(field.decoder.rgb, planes, vertices, config.chunk_points)
    return SurfaceMesh(*field.to_world(vertices, faces), rgb)


def vertex_colours(
    rgb: Callable[[Tensor, Tensor], Tensor], planes: Tensor, vertices: Tensor, chunk_points: int
) -> Tensor:
    """Colours [N, 3] in [0, 1] of one object's vertices [N, 3], given in the frame of `rgb`.

    Args:
        rgb: planes [1, 3, C, h, w] and points [1, P, 3] to colours [1, P, 3].
        planes: of the object.
        vertices: where to look.
        chunk_points: most points per call.
    """
    chunks = vertices[None].split(chunk_points, 1)
    return torch.cat([rgb(planes, chunk)[0] for chunk in chunks]).clamp(0, 1)
