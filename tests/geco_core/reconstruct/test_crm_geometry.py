"""CRM's geometry: cheap paths give what the full path gives; failures stay with their object."""

from __future__ import annotations

import torch

from geco_core.config.models import ExtractionConfig
from geco_core.errors import BadItem, Reason
from geco_core.reconstruct.crm_geometry import deformation_offsets
from geco_core.reconstruct.extraction import SurfaceMesh
from tests.geco_core.reconstruct.crm_models import random_planes, tiny_crm


def volume(vertices: torch.Tensor, faces: torch.Tensor) -> float:
    a, b, c = vertices[faces].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum().detach() / 6)


def gradients(model, planes, weights_on):
    planes = planes.clone().requires_grad_()
    model.zero_grad()
    shape = model.geometry(planes, True, weights_on=weights_on)
    loss = sum((v.square() * torch.arange(1.0, 4.0)).sum() for v in shape.vertices)
    (loss + 3 * shape.surface_reg).backward()
    return [planes.grad] + [p.grad for p in model.decoder.parameters() if p.grad is not None]


def test_surface_only_training_has_the_same_mesh_and_gradients() -> None:
    model, planes = tiny_crm(), random_planes()
    everywhere, near = (model.geometry(planes, True, weights_on=on) for on in ("all", "surface"))
    for a, b in zip(everywhere.vertices, near.vertices, strict=True):
        assert len(a) > 100
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    for a, b in zip(everywhere.faces, near.faces, strict=True):
        assert torch.equal(a, b)
    torch.testing.assert_close(everywhere.surface_reg, near.surface_reg)
    assert everywhere.empty.tolist() == near.empty.tolist() == [False, False]
    pairs = list(
        zip(gradients(model, planes, "all"), gradients(model, planes, "surface"), strict=True)
    )
    assert len(pairs) == 1 + 6 + 4  # planes; geometry and weight heads
    for a, b in pairs:
        scale = float(a.abs().max())
        assert scale > 0
        torch.testing.assert_close(a, b, atol=1e-4 * scale, rtol=1e-3)


def test_inference_equals_the_full_path() -> None:
    model, planes = tiny_crm(), random_planes()
    full = model.geometry(planes, False)
    for index, mesh in enumerate(model.extract(planes)):
        assert isinstance(mesh, SurfaceMesh)
        assert torch.equal(mesh.faces, full.faces[index])
        torch.testing.assert_close(mesh.vertices, full.vertices[index], atol=1e-5, rtol=0)


def test_coarse_to_fine_finds_what_the_whole_grid_holds() -> None:
    model, planes = tiny_crm(), random_planes(1) * 0.2
    exact, sparse = (
        model.extract(planes, ExtractionConfig(grid_res=80, exact=on))[0] for on in (True, False)
    )
    assert isinstance(exact, SurfaceMesh)
    assert isinstance(sparse, SurfaceMesh)
    assert torch.equal(exact.faces, sparse.faces)
    torch.testing.assert_close(exact.vertices, sparse.vertices, atol=1e-5, rtol=0)


def test_the_ball_of_an_untrained_field_has_outward_faces() -> None:
    model = tiny_crm()
    with torch.no_grad():
        model.decoder.geometry_head.last.weight.zero_()
        model.decoder.geometry_head.last.bias.zero_()
    (mesh,) = model.extract(random_planes(1), ExtractionConfig(grid_res=32))
    assert isinstance(mesh, SurfaceMesh)
    assert abs(volume(mesh.vertices, mesh.faces) - 4 / 3 * torch.pi * 0.5**3) < 0.03
    trained = model.geometry(random_planes(1), True, grid_res=16)
    assert volume(trained.vertices[0], trained.faces[0]) > 0


def test_a_bump_towards_crms_front_is_at_our_front() -> None:
    model = tiny_crm()
    planes = torch.zeros(1, 3, 8, 16, 16)
    with torch.no_grad():
        for parameter in model.decoder.geometry_head.parameters():
            parameter.zero_()
        for layer in (0, 2):  # pass channel 0 through
            model.decoder.geometry_head[layer].weight[0, 0] = 1.0
        model.decoder.geometry_head[4].weight[0, 0] = 1.0
    planes[:, 0, 0, 11:, 6:10] = 0.4  # xy: rows run along y
    (mesh,) = model.extract(planes, ExtractionConfig(grid_res=32))
    assert isinstance(mesh, SurfaceMesh)
    farthest = mesh.vertices[mesh.vertices.norm(dim=1).argmax()]
    assert farthest[0] > 0.55
    assert farthest[1].abs() < 0.35


def test_colours_are_read_at_the_vertices() -> None:
    model, planes = tiny_crm(), random_planes(1)
    (mesh,) = model.extract(planes)
    assert isinstance(mesh, SurfaceMesh)
    x, y, z = mesh.vertices.unbind(1)
    rgb = model.decoder.rgb(planes, torch.stack([-y, x, z], 1)[None])[0].clamp(0, 1)
    torch.testing.assert_close(mesh.vertex_rgb, rgb, atol=1e-5, rtol=0)


def test_a_failed_object_does_not_fail_the_others() -> None:
    model, planes = tiny_crm(), random_planes()
    results = model.extract(torch.cat([planes, planes[:1] * float("nan")]))
    assert isinstance(results[0], SurfaceMesh)
    assert isinstance(results[2], BadItem)
    assert results[2].reason is Reason.NON_FINITE
    for shift in (100.0, -100.0):
        with torch.no_grad():
            model.decoder.geometry_head.last.bias[0] = shift
        empty = model.extract(planes)
        assert [m.reason for m in empty if isinstance(m, BadItem)] == [Reason.EMPTY_MESH] * 2


def test_an_empty_training_shape_is_reported_and_keeps_its_gradient() -> None:
    model, planes = tiny_crm(), random_planes()
    with torch.no_grad():
        model.decoder.geometry_head.last.bias[0] = -100.0
    for on in ("all", "surface"):
        shape = model.geometry(planes, True, weights_on=on)
        assert shape.empty.tolist() == [True, True]
        assert [len(v) for v in shape.vertices] == [0, 0]
        total = sum(v.sum() for v in shape.vertices) + shape.surface_reg + shape.weight_reg
        assert float(total.detach()) >= 0
        total.backward()


def test_nodes_move_a_quarter_of_a_published_cell_at_most() -> None:
    moved = deformation_offsets(torch.tensor([-50.0, 0.0, 50.0]), 80)
    torch.testing.assert_close(moved, torch.tensor([-1 / 160, 0.0, 1 / 160]))
