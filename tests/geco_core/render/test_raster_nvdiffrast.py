from __future__ import annotations

import sys
import types

import pytest
import torch

from geco_core.render import get_rasterizer
from geco_core.render.raster_nvdiffrast import NvdiffrastRasterizer
from geco_core.render.raster_torch import TorchRasterizer


@pytest.fixture
def stand_in(monkeypatch):
    """nvdiffrast replaced by the torch rasterizer behind nvdiffrast's own signatures and checks."""
    ours = TorchRasterizer()

    def strict(*tensors):
        for t in tensors:
            assert t.is_contiguous()
            assert t.dtype in (torch.float32, torch.int32)

    def rasterize(context, pos, tri, resolution, grad_db=True):
        strict(pos, tri)
        assert context == "context on cpu"
        assert tri.dtype == torch.int32
        return tuple(ours.rasterize(pos, tri, resolution, derivatives=True))

    def interpolate(attr, rast, tri, rast_db=None, diff_attrs=None):
        strict(attr, tri)
        assert attr.dim() == 3
        out, out_da = ours.interpolate(attr, rast, tri, rast_db, diff_attrs)
        return out, torch.zeros(0) if out_da is None else out_da

    def antialias(color, rast, pos, tri):
        strict(color, pos, tri)
        return ours.antialias(color, rast, pos, tri)

    def texture(tex, uv, uv_da=None, filter_mode="auto", boundary_mode="wrap", max_mip_level=None):
        assert tex.dim() == 4
        assert filter_mode == ("linear" if uv_da is None else "linear-mipmap-linear")
        return ours.texture(tex[0], uv, uv_da, boundary=boundary_mode, max_mip_level=max_mip_level)

    module = types.ModuleType("nvdiffrast.torch")
    module.__dict__.update(
        RasterizeCudaContext=lambda device: f"context on {device}",
        rasterize=rasterize,
        interpolate=interpolate,
        antialias=antialias,
        texture=texture,
    )
    monkeypatch.setitem(sys.modules, "nvdiffrast", types.ModuleType("nvdiffrast"))
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", module)
    return NvdiffrastRasterizer("cpu")


def test_arguments_and_results_follow_the_interface(stand_in, sphere, clip):
    vertices, faces = sphere(2)
    pos, torch_only = clip(vertices), TorchRasterizer()
    for derivatives in (False, True):
        theirs = stand_in.rasterize(pos, faces, (24, 24), derivatives=derivatives)
        ours = torch_only.rasterize(pos, faces, (24, 24), derivatives=derivatives)
        torch.testing.assert_close(theirs, ours)
    rast, rast_db = ours
    assert stand_in.interpolate(vertices.double(), rast, faces)[1] is None
    torch.testing.assert_close(
        stand_in.interpolate(vertices, rast, faces, rast_db, "all"),
        torch_only.interpolate(vertices, rast, faces, rast_db, "all"),
    )
    color = torch.rand(3, 3, 24, 24).permute(0, 2, 3, 1)
    torch.testing.assert_close(
        stand_in.antialias(color, rast, pos, faces), torch_only.antialias(color, rast, pos, faces)
    )
    tex, uv_da = torch.rand(8, 8, 3), 0.1 * torch.randn(3, 24, 24, 4)
    for da in (None, uv_da):
        torch.testing.assert_close(
            stand_in.texture(tex, rast[..., :2], da, boundary="clamp"),
            torch_only.texture(tex, rast[..., :2], da, boundary="clamp"),
        )


def test_empty_mesh_does_not_reach_the_kernels(stand_in):
    pos, tri = torch.zeros(2, 0, 4), torch.zeros(0, 3, dtype=torch.int64)
    rast, rast_db = stand_in.rasterize(pos, tri, (4, 5))
    assert rast.shape == (2, 4, 5, 4)
    assert rast_db is None
    assert stand_in.interpolate(torch.zeros(0, 3), rast, tri)[0].shape == (2, 4, 5, 3)
    for chosen, count in (("all", 3), ([1], 1)):
        _, slopes = stand_in.interpolate(torch.zeros(0, 3), rast, tri, rast, chosen)
        assert slopes.shape == (2, 4, 5, 2 * count)
    color = torch.rand(2, 4, 5, 1)
    assert stand_in.antialias(color, rast, pos, tri) is color


@pytest.mark.gpu
def test_real_nvdiffrast_agrees_on_images(sphere, clip):
    pytest.importorskip("nvdiffrast")
    vertices, faces = sphere(2)
    vertices, faces, pos = vertices.cuda(), faces.cuda(), clip(vertices).cuda()
    images = []
    for name in ("torch", "nvdiffrast"):
        rasterizer = get_rasterizer(name, "cuda")
        rast, _ = rasterizer.rasterize(pos, faces, (128, 128))
        world, _ = rasterizer.interpolate(vertices, rast, faces)
        mask = (rast[..., 3:] > 0).float()
        images.append(rasterizer.antialias(torch.cat([world, mask], -1), rast, pos, faces))
    # nvdiffrast snaps vertices to 1/16 pixel before the visibility test.
    assert float((images[0] - images[1]).abs().mean()) < 2e-3
