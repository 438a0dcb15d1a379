"""The loop under both reconstructors, on a ball known in closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from geco_core.config.models import ExtractionConfig
from geco_core.errors import BadItem, Reason
from geco_core.reconstruct.extraction import (
    FieldOnGrid,
    SurfaceMesh,
    extract_objects,
    vertex_colours,
)
from geco_core.surface.grid import RegularGrid

RADIUS = 0.6
CONFIG = ExtractionConfig(grid_res=16, exact=True, chunk_points=300)


class Ball:
    """Features are the points, colours their positions; the planes hold the radius."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def features(self, planes: Tensor, points: Tensor) -> Tensor:
        self.asked.append("features")
        return points

    def weights(self, corner_features: Tensor) -> Tensor:
        self.asked.append("weights")
        return torch.zeros(len(corner_features), 21)

    def rgb(self, planes: Tensor, points: Tensor) -> Tensor:
        self.asked.append("rgb")
        return points

    def field(self) -> FieldOnGrid:
        return FieldOnGrid(
            grid=RegularGrid.cubic(CONFIG.grid_res, 2.0),
            decoder=self,
            values=lambda planes, points: points.norm(dim=-1) - planes[:, :1, 0, 0, 0],
            offsets=lambda features, points: torch.zeros_like(points),
            to_world=lambda vertices, faces: (vertices, faces),
            empty_remedy="look again",
        )


def planes(*radii: float) -> Tensor:
    return torch.tensor(radii).view(-1, 1, 1, 1, 1).expand(-1, 3, 1, 1, 1).contiguous()


def mesh_of(field: FieldOnGrid) -> SurfaceMesh:
    (mesh,) = extract_objects(field, planes(RADIUS), CONFIG)
    assert isinstance(mesh, SurfaceMesh)
    return mesh


def test_the_surface_is_where_the_field_says() -> None:
    mesh = mesh_of(Ball().field())
    assert len(mesh.faces) > 100
    torch.testing.assert_close(
        mesh.vertices.norm(dim=1), torch.full((len(mesh.vertices),), RADIUS), atol=0.02, rtol=0
    )


def test_features_are_sampled_once_and_colours_in_chunks() -> None:
    ball = Ball()
    mesh = mesh_of(ball.field())
    assert ball.asked.count("features") == 1
    assert ball.asked.count("rgb") == -(-len(mesh.vertices) // CONFIG.chunk_points) > 1


def test_nodes_move_by_their_offsets() -> None:
    field = Ball().field()
    moved = mesh_of(replace(field, offsets=lambda _, points: points * 0 + 0.125))
    torch.testing.assert_close(moved.vertices, mesh_of(field).vertices + 0.125)


def test_colours_are_read_before_the_mesh_leaves_the_grids_frame() -> None:
    field = Ball().field()
    away = replace(field, to_world=lambda vertices, faces: (vertices + 10.0, faces.flip(1)))
    here, there = mesh_of(field), mesh_of(away)
    assert torch.equal(there.vertices, here.vertices + 10.0)
    assert torch.equal(there.faces, here.faces.flip(1))
    assert torch.equal(there.vertex_rgb, here.vertices.clamp(0, 1))


def test_a_failed_object_keeps_its_place() -> None:
    results = list(extract_objects(Ball().field(), planes(0.5, float("nan"), 9.0, 0.5), CONFIG))
    assert [isinstance(r, SurfaceMesh) for r in results] == [True, False, False, True]
    broken, empty = (r for r in results if isinstance(r, BadItem))
    assert (broken.reason, broken.stage) == (Reason.NON_FINITE, "reconstruct")
    assert (empty.reason, empty.stage) == (Reason.EMPTY_MESH, "extract")
    assert empty.remedy == "look again"


def test_an_object_is_made_when_it_is_asked_for() -> None:
    ball = Ball()
    results = extract_objects(ball.field(), planes(0.5, 0.5), CONFIG)
    assert ball.asked == []
    next(results)
    seen = len(ball.asked)
    next(results)
    assert len(ball.asked) == 2 * seen


def test_nothing_keeps_a_gradient() -> None:
    given = planes(RADIUS).requires_grad_()
    (mesh,) = extract_objects(Ball().field(), given, CONFIG)
    assert isinstance(mesh, SurfaceMesh)
    assert not mesh.vertices.requires_grad


@pytest.mark.parametrize("chunk_points", [1, 3, 100])
def test_colours_do_not_depend_on_chunks(chunk_points: int) -> None:
    vertices = torch.linspace(-0.5, 1.5, 21).view(7, 3)
    colours = vertex_colours(Ball().rgb, planes(RADIUS), vertices, chunk_points)
    assert torch.equal(colours, vertices.clamp(0, 1))
