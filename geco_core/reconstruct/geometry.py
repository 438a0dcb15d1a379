"""From triplanes to meshes: the differentiable training path and the sparse inference path.

Same function as InstantMesh's geometry prediction (arXiv 2404.07191, section 3.2, with the
empty-shape repair of GET3D, arXiv 2209.11163). What differs: the training path can evaluate the
network with gradients at surface cubes alone, which leaves the mesh and its gradients as they are;
inference never evaluates the deformation and weight heads elsewhere, and reports an empty surface
instead of inventing one.

World frame; SDF < 0 is inside; nodes and cubes are numbered as in `geco_core.surface.grid`.

Legend: B batch, C plane channels, N grid nodes, U nodes of surface cubes, S cubes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from geco_core.config.models import ExtractionConfig
from geco_core.errors import BadItem
from geco_core.fields.decoders import MeshDecoder
from geco_core.reconstruct.extraction import FieldOnGrid, SurfaceMesh, extract_objects
from geco_core.reconstruct.grid_heads import (
    WEIGHT_SCALE,
    FieldFn,
    WeightsOn,
    cube_weights,
    dense_values,
    with_signs_of,
)
from geco_core.reconstruct.regularise import (
    grid_edges,
    one_signed,
    repair_empty,
    sdf_entropy,
    surface_edges,
)
from geco_core.surface.cells import SurfaceCells, select_cells
from geco_core.surface.extract import extract_nodes
from geco_core.surface.grid import RegularGrid
from geco_core.surface.sparse import SurfaceNodes


@dataclass(frozen=True)
class Geometry:
    """Differentiable meshes of a batch and their regularisers.

    Attributes:
        vertices: B tensors float32 [N_b, 3], world.
        faces: B tensors int64 [F_b, 3].
        surface_reg: scalar, mean FlexiCubes deviation over the batch.
        weight_reg: scalar, mean squared raw weight (after the head's gain).
        sdf_reg: [B], mean |SDF| of samples that had to be repaired, else 0.
        sdf_entropy: scalar, see `sdf_entropy`, averaged over the samples.
        repaired: bool [B].
    """

    vertices: list[Tensor]
    faces: list[Tensor]
    surface_reg: Tensor
    weight_reg: Tensor
    sdf_reg: Tensor
    sdf_entropy: Tensor
    repaired: Tensor


def deformation_offsets(decoder: MeshDecoder, features: Tensor, grid_res: int) -> Tensor:
    """World displacements [..., 3] of grid nodes with features [..., 3C].

    At most a quarter of 1 / grid_res on each axis.
    """
    return torch.tanh(decoder.deformation_of(features)) / (grid_res * 4)


def dense_sdf(decoder: MeshDecoder, planes: Tensor, grid: RegularGrid, chunk_points: int) -> Tensor:
    """SDF [B, N] at every grid node of planes [B, 3, C, h, w]."""
    return dense_values(_sdf_of(decoder), planes, grid, chunk_points)


def geometry(
    decoder: MeshDecoder,
    planes: Tensor,
    grid: RegularGrid,
    *,
    training: bool,
    weights_on: WeightsOn = "all",
    chunk_points: int = 65536,
) -> Geometry:
    """Differentiable meshes of a batch.

    Args:
        decoder: the point heads.
        planes: [B, 3, C, h, w].
        grid: the extraction grid.
        training: four triangles per quad and gradients to gamma, else two.
        weights_on: "all" evaluates every head at every node and cube with gradients, as published;
            "surface" finds the surface without gradients and evaluates the heads there. Meshes and
            their gradients are equal; `weight_reg` then averages over surface cubes, and `sdf_reg`
            carries no gradient.
        chunk_points: nodes per network call of a pass without gradients.
    """
    everywhere = weights_on == "all"
    with torch.set_grad_enabled(torch.is_grad_enabled() and everywhere):
        sdf = dense_sdf(decoder, planes, grid, grid.num_nodes if everywhere else chunk_points)
    broken = one_signed(sdf.detach(), grid)
    sdf_reg = sdf.abs().mean(1) * broken
    sdf = repair_empty(sdf, broken, grid)
    solve = _whole_sample if everywhere else _surface_sample
    samples = [
        solve(decoder, planes[b : b + 1], grid, sdf[b], repaired=bool(broken[b]), training=training)
        for b in range(len(planes))
    ]
    deviations = torch.cat([sample.deviation for sample in samples])
    return Geometry(
        vertices=[sample.vertices for sample in samples],
        faces=[sample.faces for sample in samples],
        surface_reg=deviations.mean() if len(deviations) else deviations.sum(),
        weight_reg=torch.cat([sample.weights for sample in samples]).square().mean(),
        sdf_reg=sdf_reg,
        sdf_entropy=sdf_entropy(torch.cat([sample.edge_ends for sample in samples])),
        repaired=broken,
    )


@dataclass(frozen=True)
class _Sample:
    vertices: Tensor
    faces: Tensor
    deviation: Tensor
    weights: Tensor  # [S, 21] raw, of all or of the surface cubes
    edge_ends: Tensor  # [E, 2] SDF at the ends of grid edges, each edge once


def _whole_sample(
    decoder: MeshDecoder,
    planes: Tensor,
    grid: RegularGrid,
    sdf: Tensor,
    *,
    repaired: bool,
    training: bool,
) -> _Sample:
    """One sample with every head evaluated at every node and cube."""
    features = decoder.features(planes, grid.points(device=planes.device)[None])[0]  # [N, 3C]
    offsets = deformation_offsets(decoder, features, grid.res[0])
    corners = grid.corners(torch.arange(grid.num_cubes, device=planes.device))
    weights = cube_weights(decoder, features, corners)
    cells = select_cells(sdf, grid, grid.res)
    nodes = SurfaceNodes(grid, torch.arange(grid.num_nodes, device=planes.device), sdf, cells)
    vertices, faces, deviation = extract_nodes(
        nodes,
        lambda _: offsets.detach() if repaired else offsets,
        lambda _, __: weights[cells.cubes],
        weight_scale=WEIGHT_SCALE,
        training=training,
    )
    return _Sample(
        vertices, faces, deviation, weights, sdf[grid_edges(grid.node_shape, planes.device)]
    )


def _surface_sample(
    decoder: MeshDecoder,
    planes: Tensor,
    grid: RegularGrid,
    sdf: Tensor,
    *,
    repaired: bool,
    training: bool,
) -> _Sample:
    """One sample with the heads evaluated, with gradients, at the known surface alone."""
    dense = select_cells(sdf, grid, grid.res)
    index, corners = dense.corners.unique(return_inverse=True)
    points = grid.points(index)
    features = decoder.features(planes, points[None])[0]  # [U, 3C]
    values = sdf[index] if repaired else decoder.sdf_of(features, points)[..., 0]
    values = with_signs_of(values, sdf[index])
    offsets = deformation_offsets(decoder, features, grid.res[0])
    weights = cube_weights(decoder, features, corners)
    nodes = SurfaceNodes(grid, index, values, SurfaceCells(grid.res, dense.cubes, corners))
    vertices, faces, deviation = extract_nodes(
        nodes,
        lambda _: offsets.detach() if repaired else offsets,
        lambda _, __: weights,
        weight_scale=WEIGHT_SCALE,
        training=training,
    )
    return _Sample(vertices, faces, deviation, weights, values[surface_edges(grid, index)])


def extract(
    decoder: MeshDecoder, planes: Tensor, grid_scale: float, config: ExtractionConfig
) -> list[SurfaceMesh | BadItem]:
    """Coloured meshes of a batch for inference, one object after the other.

    Args:
        decoder: the point heads.
        planes: [B, 3, C, h, w].
        grid_scale: world edge length of the grid.
        config: resolution and how the SDF is searched.

    Returns:
        One result per object: a mesh, or a `BadItem` (`non_finite`, `empty_mesh`) in its place.
    """
    return list(extract_each(decoder, planes, grid_scale, config))


def extract_each(
    decoder: MeshDecoder, planes: Tensor, grid_scale: float, config: ExtractionConfig
) -> Iterator[SurfaceMesh | BadItem]:
    """`extract`, giving each object when it is made; see `extract_objects`."""
    field = FieldOnGrid(
        grid=RegularGrid.cubic(config.grid_res, grid_scale),
        decoder=decoder,
        values=_sdf_of(decoder),
        offsets=lambda features, _: deformation_offsets(decoder, features, config.grid_res),
        to_world=lambda vertices, faces: (vertices, faces),
        empty_remedy="check that the image shows one object in front of a plain background",
    )
    return extract_objects(field, planes, config)


def _sdf_of(decoder: MeshDecoder) -> FieldFn:
    return lambda planes, points: decoder.sdf(planes, points)[..., 0]
