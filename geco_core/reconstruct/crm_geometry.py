"""CRM's meshes: the differentiable training path and the sparse inference path.

Same function as CRM's decoding (arXiv 2403.05034, section 3.3). What differs: inference searches
the field coarse to fine and evaluates deformation and weight heads at surface nodes and cubes
alone, which leaves the mesh as it is; training may do the same; an empty surface is reported, where
the original fails; vertices come out in the world frame with outward faces.

CRM's field is positive inside and goes to FlexiCubes unchanged, see
`geco_core.fields.crm_decoder`: the faces that FlexiCubes gives wind inwards and are reversed here,
as CRM's exporters do.

Legend: B batch, C plane channels, N grid nodes, U nodes of surface cubes, S cubes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from geco_core.config.crm_reconstructor import CrmReconstructorConfig
from geco_core.config.models import ExtractionConfig
from geco_core.errors import BadItem
from geco_core.fields.crm_decoder import CrmDecoder
from geco_core.fields.crm_frame import canonical_to_world
from geco_core.reconstruct.extraction import FieldOnGrid, SurfaceMesh, extract_objects
from geco_core.reconstruct.grid_heads import (
    WEIGHT_SCALE,
    WeightsOn,
    cube_weights,
    dense_values,
    with_signs_of,
)
from geco_core.surface.cells import SurfaceCells, select_cells
from geco_core.surface.extract import extract_nodes
from geco_core.surface.grid import RegularGrid
from geco_core.surface.sparse import SurfaceNodes

_REFERENCE_SCALE = 0.95


@dataclass(frozen=True)
class CrmGeometry:
    """Differentiable meshes of a batch and their regularisers.

    Attributes:
        vertices: B tensors float32 [N_b, 3], world.
        faces: B tensors int64 [F_b, 3], counter-clockwise seen from outside.
        surface_reg: scalar, mean FlexiCubes deviation over the batch (CRM's flex_surf_loss).
        weight_reg: scalar, mean squared raw weight after the head's gain (CRM's flex_weight_loss).
        empty: bool [B], whose field changes sign nowhere on the grid.
    """

    vertices: list[Tensor]
    faces: list[Tensor]
    surface_reg: Tensor
    weight_reg: Tensor
    empty: Tensor


def deformation_offsets(raw: Tensor, grid_res: int, mesh_scale: float = _REFERENCE_SCALE) -> Tensor:
    """Canonical displacements [..., 3] of grid nodes from raw deformations [..., 3].

    At most half of 1 / grid_res on each axis, a quarter of a cell of the published grid.
    """
    return torch.tanh(raw) * (0.5 * mesh_scale / _REFERENCE_SCALE / grid_res)


def to_world(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """World vertices [N, 3] and outward faces [F, 3] of what FlexiCubes gives for CRM's field."""
    return canonical_to_world(vertices), faces.flip(1)


def geometry(
    decoder: CrmDecoder,
    planes: Tensor,
    config: CrmReconstructorConfig,
    *,
    training: bool,
    grid_res: int | None = None,
    weights_on: WeightsOn = "all",
    chunk_points: int = 65536,
) -> CrmGeometry:
    """Differentiable meshes of a batch.

    Args:
        decoder: the point heads.
        planes: [B, 3, C, S, S].
        config: of the model.
        training: four triangles per quad and gradients to gamma, else two.
        grid_res: cubes per axis; the configuration's when None.
        weights_on: "all" evaluates every head at every node and cube with gradients, as published;
            "surface" finds the surface without gradients and evaluates the heads there. Meshes and
            their gradients are equal; `weight_reg` then averages over surface cubes.
        chunk_points: nodes per network call of a pass without gradients.
    """
    grid = RegularGrid.cubic(grid_res or config.grid_res, config.grid_scale)
    known = None
    if weights_on == "surface":
        with torch.no_grad():
            known = dense_values(decoder.field, planes, grid, chunk_points)
    samples = [
        _sample(
            decoder,
            planes[b : b + 1],
            grid,
            None if known is None else known[b],
            mesh_scale=config.mesh_scale,
            training=training,
        )
        for b in range(len(planes))
    ]
    deviations = torch.cat([sample.deviation for sample in samples])
    weights = torch.cat([sample.weights for sample in samples])
    empty = [not len(sample.faces) for sample in samples]
    meshes = [to_world(sample.vertices, sample.faces) for sample in samples]
    return CrmGeometry(
        vertices=[vertices for vertices, _ in meshes],
        faces=[faces for _, faces in meshes],
        surface_reg=deviations.mean() if len(deviations) else deviations.sum(),
        weight_reg=weights.square().mean() if len(weights) else weights.sum(),
        empty=torch.tensor(empty, device=planes.device),
    )


@dataclass(frozen=True)
class _Sample:
    vertices: Tensor  # canonical
    faces: Tensor  # inwards
    deviation: Tensor
    weights: Tensor  # [S, 21] raw, of all or of the surface cubes


def _sample(
    decoder: CrmDecoder,
    planes: Tensor,
    grid: RegularGrid,
    known: Tensor | None,
    *,
    mesh_scale: float,
    training: bool,
) -> _Sample:
    """One sample: heads evaluated everywhere, or near the surface of the field `known` [N]."""
    if known is None:
        index = torch.arange(grid.num_nodes, device=planes.device)
        cubes = torch.arange(grid.num_cubes, device=planes.device)
        corners = grid.corners(cubes)
    else:
        dense = select_cells(known, grid, grid.res)
        cubes = dense.cubes
        index, corners = dense.corners.unique(return_inverse=True)
    points = grid.points(index)
    features = decoder.features(planes, points[None])[0]  # [U, C]
    field, raw = decoder.geometry_of(features, points)
    weights = (
        cube_weights(decoder, features, corners) if len(corners) else features.new_zeros(0, 21)
    )
    if known is None:
        cells = select_cells(field, grid, grid.res)
        near = weights[cells.cubes]
    else:
        field = with_signs_of(field, known[index])
        cells, near = SurfaceCells(grid.res, cubes, corners), weights
    vertices, faces, deviation = extract_nodes(
        SurfaceNodes(grid, index, field, cells),
        lambda _: deformation_offsets(raw, grid.res[0], mesh_scale),
        lambda _, __: near,
        weight_scale=WEIGHT_SCALE,
        training=training,
    )
    return _Sample(vertices, faces, deviation, weights)


def extract_each(
    decoder: CrmDecoder,
    planes: Tensor,
    config: CrmReconstructorConfig,
    extraction: ExtractionConfig,
) -> Iterator[SurfaceMesh | BadItem]:
    """Coloured meshes (world frame) of planes [B, 3, C, S, S]; see `extract_objects`."""

    def offsets(features: Tensor, points: Tensor) -> Tensor:
        _, raw = decoder.geometry_of(features, points)
        return deformation_offsets(raw, extraction.grid_res, config.mesh_scale)

    field = FieldOnGrid(
        grid=RegularGrid.cubic(extraction.grid_res, config.grid_scale),
        decoder=decoder,
        values=decoder.field,
        offsets=offsets,
        to_world=to_world,
        empty_remedy="check that the six views show one object and agree with their coordinate"
        " maps",
    )
    return extract_objects(field, planes, extraction)
