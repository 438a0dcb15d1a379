"""InstantNeRF: rendering of crops, meshes, the start of stage 2."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from geco_core import cameras
from geco_core.errors import BadItem, Reason
from geco_core.reconstruct.extraction import SurfaceMesh
from geco_core.reconstruct.instantmesh import InstantMesh
from geco_core.reconstruct.instantnerf import Crop, InstantNeRF, start_mesh_from_nerf
from geco_core.render.volume import Uniforms


@pytest.fixture
def nerf(tiny_config) -> InstantNeRF:
    torch.manual_seed(1)
    return InstantNeRF(dataclasses.replace(tiny_config, kind="nerf")).eval()


def test_published_parameter_count(tiny_config) -> None:
    config = dataclasses.replace(tiny_config.__class__(), kind="nerf")
    with torch.device("meta"):
        state = InstantNeRF(config).state_dict()
    assert len(state) == 495
    assert sum(value.numel() for value in state.values()) == 378_477_332


def test_a_crop_is_a_window_of_the_image(nerf, planes) -> None:
    lens = cameras.nerf_cameras(cameras.orbit_poses(2, 20.0, 4.0), 30.0).expand(2, 2, 25)
    generator = torch.Generator().manual_seed(0)
    uniforms = nerf.draw(lens, 36, generator)
    window = (slice(None), slice(None), slice(1, 4), slice(2, 6))

    def crop_of(part: torch.Tensor) -> torch.Tensor:
        return part.view(2, 2, 6, 6, 8)[window].reshape(2, -1, 8)

    cropped = Uniforms(crop_of(uniforms.stratified), crop_of(uniforms.importance))
    with torch.no_grad():
        whole = nerf.render(planes, lens, 6, uniforms)
        part = nerf.render(planes, lens, 6, cropped, Crop(1, 2, 3, 4))
    assert whole.rgb.shape == (2, 2, 3, 6, 6)
    torch.testing.assert_close(part.rgb, whole.rgb[..., 1:4, 2:6], atol=1e-5, rtol=0)
    torch.testing.assert_close(part.weight, whole.weight[..., 1:4, 2:6], atol=1e-5, rtol=0)
    assert whole.rgb.std() > 1e-3


def test_gradients_reach_the_planes(nerf, planes) -> None:
    lens = cameras.nerf_cameras(cameras.orbit_poses(1, 20.0, 4.0), 30.0).expand(2, 1, 25)
    planes.requires_grad_()
    uniforms = nerf.draw(lens, 16, torch.Generator().manual_seed(0))
    nerf.render(planes, lens, 4, uniforms).rgb.sum().backward()
    assert planes.grad is not None
    assert (planes.grad.abs().amax((1, 2, 3, 4)) > 0).all()


def test_mesh_vertices_lie_on_the_level(nerf, planes) -> None:
    with torch.no_grad():
        density = torch.nn.functional.softplus(nerf.raw_density_grid(planes, 16) - 1)
        level = float(density[0].median())
        meshes = nerf.extract(planes, 16, level)
        assert isinstance(meshes[0], SurfaceMesh)
        assert float(meshes[0].vertices.abs().max()) <= 1
        raw = nerf.decoder(planes[:1], meshes[0].vertices[None])[1]
    found = torch.nn.functional.softplus(raw - 1)
    spread = float(density[0].max() - density[0].min())
    assert float((found - level).abs().median()) < 0.1 * spread


def test_no_surface_is_an_answer(nerf, planes) -> None:
    empty = nerf.extract(planes, 8, 1e6)
    assert [m.reason for m in empty if isinstance(m, BadItem)] == [Reason.EMPTY_MESH] * 2
    broken = nerf.extract(planes * float("nan"), 8, 1.0)
    assert isinstance(broken[0], BadItem)
    assert broken[0].reason is Reason.NON_FINITE


def test_stage_two_starts_at_the_density_level(nerf, planes) -> None:
    mesh = InstantMesh(dataclasses.replace(nerf.config, kind="mesh"))
    mesh.decoder.sphere_radius, mesh.decoder.sdf_scale = 0.0, 1.0
    start_mesh_from_nerf(mesh, nerf)
    points = torch.rand(2, 40, 3) * 2 - 1
    rgb, raw = nerf.decoder(planes, points)
    torch.testing.assert_close(mesh.decoder.sdf(planes, points), 10.0 - raw)
    torch.testing.assert_close(mesh.decoder.rgb(planes, points), rgb)
    torch.testing.assert_close(mesh.transformer.pos_embed, nerf.transformer.pos_embed)
