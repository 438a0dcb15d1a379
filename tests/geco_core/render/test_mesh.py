from __future__ import annotations

import pytest
import torch

from geco_core.render import render_mesh, vertex_normals
from geco_core.render.raster_torch import TorchRasterizer

KINDS = ["perspective", "orthographic"]
RASTER = TorchRasterizer()


@pytest.mark.parametrize("kind", KINDS)
def test_row_zero_is_the_image_top_and_nothing_is_mirrored(sphere, cameras, kind):
    # Seen from +x with z up, +y lies to the right.
    vertices, faces = sphere(3)
    colors = (vertices > 0).float()  # red: front half, green: y > 0, blue: z > 0
    out = render_mesh(RASTER, vertices, faces, *cameras(kind, 1), 64, vertex_colors=colors)
    rgb = out.rgb[0]
    middle = rgb[:, 32, 32]
    assert float(middle[0]) > 0.9
    assert float(rgb[2, 14, 32]) > 0.9  # upper half: z > 0
    assert float(rgb[2, 50, 32]) < 0.1
    assert float(rgb[1, 32, 46]) > 0.9  # right half: y > 0
    assert float(rgb[1, 32, 18]) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_agree_with_the_projection_of_their_positions(sphere, cameras, kind):
    vertices, faces = sphere(2)
    w2c, proj = cameras(kind)
    out = render_mesh(RASTER, vertices, faces, w2c, proj, 32)
    homogeneous = torch.cat([out.position, torch.ones_like(out.mask)], 1)
    back = torch.einsum("vij,vjhw->vihw", proj @ w2c, homogeneous)
    line = (2 * torch.arange(32) + 1) / 32 - 1
    inside = out.face_id > 0
    y, x = torch.meshgrid(line, line, indexing="ij")
    torch.testing.assert_close(
        (back[:, 0] / back[:, 3])[inside], x.expand(3, 32, 32)[inside], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        (back[:, 1] / back[:, 3])[inside], y.expand(3, 32, 32)[inside], atol=1e-5, rtol=0
    )


def test_depth_is_the_distance_along_the_axis(sphere, cameras):
    vertices, faces = sphere(3)
    w2c, proj = cameras("perspective", 2)
    out = render_mesh(RASTER, vertices, faces, w2c, proj, 48)
    inside = (out.face_id > 0)[:, None]
    assert float(out.depth[inside].min()) == pytest.approx(3.0, abs=0.1)
    assert float(out.depth[inside].max()) < 4.1
    assert not out.depth[~inside].any()
    centre = -w2c[:, :3, :3].transpose(1, 2) @ w2c[:, :3, 3:]
    axis = -w2c[:, 2, :3]
    along = torch.einsum("vchw,vc->vhw", out.position - centre[..., None], axis)
    torch.testing.assert_close(along[:, None][inside], out.depth[inside])


def test_normals_point_outward_in_world_space(sphere, cameras):
    vertices, faces = sphere(3)
    out = render_mesh(RASTER, vertices, faces, *cameras(), 48)
    inside = (out.face_id > 0)[:, None].expand(-1, 3, -1, -1)
    normal = out.normal * 2 - 1
    lengths = normal.norm(dim=1)[out.face_id > 0]
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    assert not out.normal[~inside].any()
    along = (normal * torch.nn.functional.normalize(out.position, dim=1)).sum(1)
    assert float(along[out.face_id > 0].mean()) > 0.95


def test_unused_vertices_have_the_upward_normal():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, 2], [5, 5, 5]])
    normals = vertex_normals(vertices, torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(normals[:3], torch.tensor([[0.0, -1, 0]]).expand(3, 3))
    torch.testing.assert_close(normals[3], torch.tensor([0.0, 0, 1]))


def test_sources_of_colour_agree(sphere, cameras):
    vertices, faces = sphere(2)
    w2c, proj = cameras()
    red = torch.tensor([0.8, 0.2, 0.1])
    by_vertex = render_mesh(
        RASTER, vertices, faces, w2c, proj, 24, vertex_colors=red.expand(len(vertices), 3)
    )
    by_face = render_mesh(
        RASTER, vertices, faces, w2c, proj, 24, face_colors=red.expand(len(faces), 3)
    )
    by_point = render_mesh(RASTER, vertices, faces, w2c, proj, 24, color_fn=red.expand_as)
    torch.testing.assert_close(by_vertex.rgb, by_face.rgb)
    torch.testing.assert_close(by_face.rgb, by_point.rgb)
    with pytest.raises(ValueError, match="one of"):
        render_mesh(
            RASTER, vertices, faces, w2c, proj, 24, face_colors=red.expand(len(faces), 3),
            color_fn=lambda p: p,
        )  # fmt: skip


def test_colour_function_sees_the_surface_points(sphere, cameras):
    vertices, faces = sphere(2)
    seen = []

    def paint(points):
        seen.append(points)
        return (points * 0.3 + 0.5).clamp(0, 1)

    out = render_mesh(RASTER, vertices, faces, *cameras(), 24, color_fn=paint)
    inside = out.face_id > 0
    assert [len(p) for p in seen] == [int(inside.sum())]
    painted = (out.position * 0.3 + 0.5).clamp(0, 1)
    torch.testing.assert_close(
        out.rgb[inside[:, None].expand_as(out.rgb)], painted[inside[:, None].expand_as(painted)]
    )


def test_face_colours_follow_the_ids(sphere, cameras):
    vertices, faces = sphere(1)
    colors = torch.rand(len(faces), 3)
    out = render_mesh(RASTER, vertices, faces, *cameras(), 24, face_colors=colors, background=0.25)
    expected = torch.cat([torch.full((1, 3), 0.25), colors])[out.face_id]
    torch.testing.assert_close(out.rgb, expected.permute(0, 3, 1, 2))


@pytest.mark.parametrize("background", [0.0, 0.3, 1.0])
def test_background_and_hard_mask(sphere, cameras, background):
    vertices, faces = sphere(2)
    colors = torch.rand(len(vertices), 3)
    out = render_mesh(
        RASTER, vertices, faces, *cameras(), 24, vertex_colors=colors, background=background,
        antialias=False,
    )  # fmt: skip
    assert torch.equal(out.mask[:, 0], (out.face_id > 0).float())
    outside = (out.face_id == 0)[:, None].expand_as(out.rgb)
    assert bool((out.rgb[outside] == background).all())


def test_antialiasing_softens_mask_and_optionally_colour(sphere, cameras):
    vertices, faces = sphere(2)
    args = (RASTER, vertices, faces, *cameras(), 48)
    colors = torch.zeros(len(vertices), 3)
    hard = render_mesh(*args, vertex_colors=colors, antialias=False)
    soft = render_mesh(*args, vertex_colors=colors)
    both = render_mesh(*args, vertex_colors=colors, antialias_color=True)
    assert torch.equal(soft.rgb, hard.rgb)
    partial = (soft.mask > 0) & (soft.mask < 1)
    assert int(partial.sum()) > 100
    torch.testing.assert_close(both.rgb[:, :1], 1 - soft.mask)


def test_supersampling_approaches_the_true_coverage(sphere, cameras):
    vertices, faces = sphere(2)
    args = (RASTER, vertices, faces, *cameras())
    out = render_mesh(*args, 24, supersample=4, antialias=False)
    fine = render_mesh(*args, 96, antialias=False)
    torch.testing.assert_close(out.mask, torch.nn.functional.avg_pool2d(fine.mask, 4))
    assert out.rgb.shape == (3, 3, 24, 24)
    assert out.face_id.shape == (3, 24, 24)
    touched = out.mask > 0
    assert float(out.depth[touched].min()) > 2.8
    # A partly covered pixel keeps the depth of its covered part.
    partial = touched & (out.mask < 0.9)
    assert int(partial.sum()) > 20
    assert float(out.depth[partial].min()) > 3.0


def test_empty_mesh_is_background(cameras):
    out = render_mesh(
        RASTER, torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64), *cameras(), 16,
        color_fn=lambda p: p, background=0.7, supersample=2,
    )  # fmt: skip
    torch.testing.assert_close(out.rgb, torch.full((3, 3, 16, 16), 0.7))
    for image in (out.mask, out.depth, out.normal, out.position, out.face_id):
        assert not image.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("supersample", [1, 2])
def test_gradients_match_finite_differences(sphere, cameras, clip, kind, supersample):
    vertices, faces = sphere(1)
    vertices = vertices.double()
    side = 12 * supersample
    ids = RASTER.visibility(clip(vertices, kind, 2), faces, (side, side))
    frozen = TorchRasterizer(lambda *_: ids)
    colors = (0.2 + 0.6 * torch.rand(len(vertices), 3, dtype=torch.float64)).requires_grad_()
    vertices.requires_grad_()

    def run(vertices, colors):
        out = render_mesh(
            frozen, vertices, faces, *cameras(kind, 2), 12, vertex_colors=colors,
            supersample=supersample, antialias_color=True,
        )  # fmt: skip
        return out.rgb, out.mask, out.depth, out.normal, out.position

    assert torch.autograd.gradcheck(run, (vertices, colors), eps=1e-6, atol=1e-5, fast_mode=True)


def test_double_precision_goes_through(sphere, cameras):
    vertices, faces = sphere(1)
    out = render_mesh(
        RASTER, vertices.double(), faces.int(), *cameras(), 16, color_fn=torch.sigmoid
    )
    for image in (out.rgb, out.mask, out.depth, out.normal, out.position):
        assert image.dtype == torch.float64
    assert out.face_id.dtype == torch.int64
