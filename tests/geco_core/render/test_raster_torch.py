from __future__ import annotations

import pytest
import torch

from geco_core.render.raster_torch import TorchRasterizer, interpolate

KINDS = ["perspective", "orthographic"]


def frozen(ids):
    """Rasterizer whose choice of triangles does not follow the positions."""
    return TorchRasterizer(lambda *_: ids)


def test_output_holds_barycentrics_depth_and_id(sphere, clip):
    vertices, faces = sphere(2)
    rast, rast_db = TorchRasterizer().rasterize(clip(vertices), faces, (40, 56))
    assert rast.shape == (3, 40, 56, 4)
    assert rast_db is None
    covered = rast[..., 3] > 0
    assert 0.1 < covered.float().mean() < 0.9
    assert not rast[~covered].any()
    u, v, z, _ = rast[covered].unbind(-1)
    assert bool((u >= 0).all() and (v >= 0).all() and (u + v <= 1 + 1e-6).all())
    assert bool((z.abs() < 1).all())


@pytest.mark.parametrize("kind", KINDS)
def test_interpolated_position_projects_back_to_the_pixel_centre(sphere, clip, cameras, kind):
    vertices, faces = sphere(2)
    vertices = vertices.double()
    pos = clip(vertices, kind)
    raster = TorchRasterizer()
    rast, _ = raster.rasterize(pos, faces, (32, 48))
    world, _ = raster.interpolate(vertices, rast, faces)
    w2c, proj = (t.double() for t in cameras(kind))
    homogeneous = torch.cat([world, torch.ones_like(world[..., :1])], -1)
    back = torch.einsum("vij,vhwj->vhwi", proj @ w2c, homogeneous)
    x = (2 * torch.arange(48, dtype=torch.float64) + 1) / 48 - 1
    y = (2 * torch.arange(32, dtype=torch.float64) + 1) / 32 - 1
    covered = rast[..., 3] > 0
    ndc = back[..., :3] / back[..., 3:]
    torch.testing.assert_close(ndc[..., 0][covered], x.expand(3, 32, 48)[covered])
    torch.testing.assert_close(ndc[..., 1][covered], y[:, None].expand(3, 32, 48)[covered])
    torch.testing.assert_close(ndc[..., 2][covered], rast[..., 2][covered])


def test_row_zero_is_the_lowest_ndc_y_and_column_zero_the_lowest_x():
    pos = torch.tensor([[[-1.0, -1, 0, 1], [0, -1, 0, 1], [-1, 0, 0, 1]]])
    rast, _ = TorchRasterizer().rasterize(pos, torch.tensor([[0, 1, 2]]), (8, 8))
    rows, columns = rast[0, ..., 3].nonzero().unbind(-1)
    assert int(rows.max()) < 4
    assert int(columns.max()) < 4


def test_u_v_weigh_the_first_two_vertices():
    pos = torch.tensor([[[-1.0, -1, 0, 1], [1, -1, 0, 1], [-1, 1, 0, 1]]])
    rast, _ = TorchRasterizer().rasterize(pos, torch.tensor([[0, 1, 2]]), (4, 4))
    # Centre of pixel (row 0, column 1): x = -0.25, y = -0.75.
    torch.testing.assert_close(rast[0, 0, 1], torch.tensor([0.5, 0.375, 0.0, 1.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_barycentrics_match_finite_differences(sphere, clip, kind):
    vertices, faces = sphere(1)
    pos = clip(vertices.double(), kind, views=2)
    ids = TorchRasterizer().visibility(pos, faces, (9, 11))
    pos.requires_grad_()

    def run(pos):
        rast, rast_db = frozen(ids).rasterize(pos, faces, (9, 11), derivatives=True)
        assert rast_db is not None
        return rast[..., :2], rast_db

    assert torch.autograd.gradcheck(run, (pos,), eps=1e-6, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_an_image_reach_vertices_and_attributes(sphere, clip, kind):
    vertices, faces = sphere(1)
    vertices = vertices.double()
    ids = TorchRasterizer().visibility(clip(vertices, kind, 2), faces, (10, 10))
    colors = torch.rand(len(vertices), 3, dtype=torch.float64).requires_grad_()
    vertices.requires_grad_()

    def run(vertices, colors):
        raster = frozen(ids)
        rast, _ = raster.rasterize(clip(vertices, kind, 2), faces, (10, 10))
        return raster.interpolate(colors, rast, faces)[0]

    assert torch.autograd.gradcheck(run, (vertices, colors), eps=1e-6, atol=1e-5, fast_mode=True)


def test_depth_passes_no_gradient(sphere, clip):
    vertices, faces = sphere(1)
    pos = clip(vertices).requires_grad_()
    rast, _ = TorchRasterizer().rasterize(pos, faces, (16, 16))
    rast[..., 2].sum().backward()
    assert pos.grad is not None
    assert not pos.grad.any()


def test_screen_derivatives_match_neighbouring_pixels(clip):
    # One large slanted triangle in perspective, so that neighbours lie on the same plane.
    vertices = torch.tensor([[0.0, -1.2, -1.0], [0.8, 1.3, -0.9], [-0.5, 0.1, 1.2]]).double()
    tri = torch.tensor([[0, 1, 2]])
    raster = TorchRasterizer()
    rast, rast_db = raster.rasterize(clip(vertices, views=1), tri, (201, 201), derivatives=True)
    image, slope = raster.interpolate(vertices, rast, tri, rast_db, "all")
    assert slope is not None
    slope = slope.view(1, 201, 201, 3, 2)
    inside = (rast[0, 1:-1, 1:-1, 3] * rast[0, 1:-1, 2:, 3] * rast[0, 1:-1, :-2, 3]) > 0
    inside &= (rast[0, 2:, 1:-1, 3] * rast[0, :-2, 1:-1, 3]) > 0
    assert int(inside.sum()) > 1000
    across = (image[0, 1:-1, 2:] - image[0, 1:-1, :-2]) / 2
    along = (image[0, 2:, 1:-1] - image[0, :-2, 1:-1]) / 2
    torch.testing.assert_close(
        slope[0, 1:-1, 1:-1, :, 0][inside], across[inside], rtol=1e-3, atol=1e-6
    )
    torch.testing.assert_close(
        slope[0, 1:-1, 1:-1, :, 1][inside], along[inside], rtol=1e-3, atol=1e-6
    )


def test_selected_derivatives_are_columns_of_all(sphere, clip):
    vertices, faces = sphere(1)
    raster = TorchRasterizer()
    rast, rast_db = raster.rasterize(clip(vertices), faces, (16, 16), derivatives=True)
    _, every = raster.interpolate(vertices, rast, faces, rast_db, "all")
    _, some = raster.interpolate(vertices, rast, faces, rast_db, [2, 0])
    assert every is not None
    assert some is not None
    torch.testing.assert_close(some, every[..., [4, 5, 0, 1]])
    with pytest.raises(ValueError, match="rast_db"):
        raster.interpolate(vertices, rast, faces, None, "all")


def test_attributes_per_view_equal_shared_ones_where_they_agree(sphere, clip):
    vertices, faces = sphere(2)
    rast, _ = TorchRasterizer().rasterize(clip(vertices), faces, (24, 24))
    shared, _ = interpolate(vertices, rast, faces)
    torch.testing.assert_close(interpolate(vertices.expand(3, -1, -1), rast, faces)[0], shared)
    scaled = vertices * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    torch.testing.assert_close(interpolate(scaled, rast, faces)[0][2], shared[2] * 3)


def test_view_batch_equals_single_views(sphere, clip):
    vertices, faces = sphere(2)
    pos = clip(vertices)
    whole, _ = TorchRasterizer().rasterize(pos, faces, (24, 24))
    for k in range(3):
        one, _ = TorchRasterizer().rasterize(pos[k : k + 1], faces, (24, 24))
        torch.testing.assert_close(whole[k], one[0])


def test_empty_mesh_gives_zeros():
    pos, tri = torch.zeros(2, 0, 4), torch.zeros(0, 3, dtype=torch.int64)
    raster = TorchRasterizer()
    rast, rast_db = raster.rasterize(pos, tri, (4, 5), derivatives=True)
    assert rast_db is not None
    assert rast.shape == rast_db.shape == (2, 4, 5, 4)
    assert not rast.any()
    assert not raster.interpolate(torch.zeros(0, 3), rast, tri)[0].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_result_has_the_dtype_of_the_positions(sphere, clip, dtype, index):
    vertices, faces = sphere(1)
    rast, rast_db = TorchRasterizer().rasterize(
        clip(vertices.to(dtype)), faces.to(index), (8, 8), derivatives=True
    )
    assert rast_db is not None
    assert rast.dtype == rast_db.dtype == dtype


@pytest.mark.gpu
def test_cuda_equals_cpu(sphere, clip):
    vertices, faces = sphere(3)
    raster = TorchRasterizer()
    here, _ = raster.rasterize(clip(vertices), faces, (64, 64))
    there, _ = raster.rasterize(clip(vertices).cuda(), faces.cuda(), (64, 64))
    same = here[..., 3] == there[..., 3].cpu()
    assert same.float().mean() > 0.999
    torch.testing.assert_close(there.cpu()[same], here[same], rtol=1e-3, atol=1e-4)
