from __future__ import annotations

import pytest
import torch

from geco_core.render.antialias import antialias
from geco_core.render.raster_torch import TorchRasterizer

QUAD = torch.tensor([[0, 1, 2], [0, 2, 3]])


def rectangle(left, bottom, right, top, z=0.0):
    """Clip positions [1, 4, 4] of a rectangle given in pixels of a 16 x 16 image."""
    corners = [[left, bottom], [right, bottom], [right, top], [left, top]]
    ndc = torch.tensor(corners, dtype=torch.float64) / 8 - 1
    return torch.cat([ndc, ndc.new_full((4, 1), z), torch.ones_like(ndc[:, :1])], -1)[None]


def soft_mask(pos, tri, resolution=(16, 16)):
    rast, _ = TorchRasterizer().rasterize(pos, tri, resolution)
    return antialias((rast[..., 3:] > 0).to(pos.dtype), rast, pos, tri)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.37, 0.5, 0.62, 0.99])
def test_coverage_of_a_rectangle_is_exact_on_straight_edges(shift):
    mask = soft_mask(rectangle(3 + shift, 2.3 + shift, 11.2 + shift, 9 + shift), QUAD)[0, ..., 0]
    torch.testing.assert_close(mask[7].sum(), torch.tensor(8.2, dtype=torch.float64))
    torch.testing.assert_close(mask[:, 8].sum(), torch.tensor(6.7, dtype=torch.float64))
    expected = torch.tensor(1 - shift, dtype=torch.float64)
    torch.testing.assert_close(mask[7, 3], expected)


def test_inner_edges_are_not_blended():
    pos = rectangle(-1, -1, 17, 17)
    rast, _ = TorchRasterizer().rasterize(pos, QUAD, (16, 16))
    ids = rast[..., 3:]
    assert len(ids.unique()) == 2
    assert torch.equal(antialias(ids, rast, pos, QUAD), ids)


def test_borders_between_unconnected_faces_are_blended():
    # The same square, but the two faces do not share vertices, so their common edge is a border.
    pos = rectangle(-1, -1.2, 17, 17)[:, [0, 1, 2, 0, 2, 3]]
    tri = torch.tensor([[0, 1, 2], [3, 4, 5]])
    rast, _ = TorchRasterizer().rasterize(pos, tri, (16, 16))
    assert not torch.equal(antialias(rast[..., 3:], rast, pos, tri), rast[..., 3:])


@pytest.mark.parametrize("swap", [False, True])
def test_the_nearer_surface_decides_the_blend(swap):
    near, far = rectangle(4.3, 4.3, 10.8, 10.8, z=-0.5), rectangle(-2, -2, 18, 18, z=0.5)
    pos = torch.cat([far, near] if swap else [near, far], 1)
    tri = torch.cat([QUAD, QUAD + 4])
    rast, _ = TorchRasterizer().rasterize(pos, tri, (16, 16))
    white = (rast[..., 2:3] < 0).double()
    image = antialias(white, rast, pos, tri)[0, ..., 0]
    torch.testing.assert_close(image[7].sum(), torch.tensor(6.5, dtype=torch.float64))
    torch.testing.assert_close(image[:, 7].sum(), torch.tensor(6.5, dtype=torch.float64))


def test_a_fold_is_a_silhouette():
    # Two faces on the same side of their common edge x = 8.4: seen edge-on from above they overlap.
    pos = rectangle(2.0, -3.0, 8.4, 19.0)
    pos = torch.cat([pos, rectangle(3.0, -3.0, 8.4, 19.0, z=0.3)[:, [0, 3]]], 1)
    front = torch.tensor([[0, 1, 2], [0, 2, 3]])
    back = torch.tensor([[4, 2, 1], [4, 5, 2]])
    mask = soft_mask(pos, torch.cat([front, back]))[0, 8, :, 0]
    torch.testing.assert_close(mask.sum(), torch.tensor(6.4, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["perspective", "orthographic"])
def test_gradients_match_finite_differences(sphere, clip, kind):
    vertices, faces = sphere(1)
    vertices = vertices.double()
    ids = TorchRasterizer().visibility(clip(vertices, kind, 2), faces, (14, 12))
    colors = torch.rand(len(vertices), 2, dtype=torch.float64).requires_grad_()
    vertices.requires_grad_()

    def run(vertices, colors):
        raster = TorchRasterizer(lambda *_: ids)
        pos = clip(vertices, kind, 2)
        rast, _ = raster.rasterize(pos, faces, (14, 12))
        image, _ = raster.interpolate(colors, rast, faces)
        mask = (rast[..., 3:] > 0).double()
        return raster.antialias(torch.cat([image, mask], -1), rast, pos, faces)

    assert torch.autograd.gradcheck(run, (vertices, colors), eps=1e-6, atol=1e-5, fast_mode=True)
    soft = run(vertices, colors)[..., 2]
    assert int(((soft > 0) & (soft < 1)).sum()) > 20
    assert torch.autograd.grad(soft.sum(), vertices)[0].abs().sum() > 1


def test_gradient_agrees_with_the_motion_of_the_silhouette(sphere, clip):
    # Faces are large here; the scheme misses a growing share of the motion as they shrink.
    vertices, faces = sphere(0)
    vertices = vertices.double()
    raster = TorchRasterizer()

    def coverage(scale):
        ids = raster.visibility(clip(vertices * scale), faces, (1024, 1024))
        return float((ids > 0).double().sum()) / 64  # in pixels of a 128 x 128 image

    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    soft_mask(clip(vertices * scale), faces, (128, 128)).sum().backward()
    physical = (coverage(1.02) - coverage(0.98)) / 0.04
    assert scale.grad is not None
    assert float(scale.grad) == pytest.approx(physical, rel=0.06)


def test_saturated_crossings_pass_no_position_gradient():
    # The edge lies exactly beyond the neighbour's centre within the tolerance.
    pos = rectangle(3.0, -2.0, 11.53, 18.0).requires_grad_()
    rast, _ = TorchRasterizer().rasterize(pos, QUAD, (16, 16))
    moved = pos.detach().clone()
    moved[..., 0] -= (
        0.05 / 8
    )  # ids from the old position, edge now 0.02 pixel behind the owner's centre
    moved.requires_grad_()
    color = (rast[..., 3:] > 0).double()
    out = antialias(color, rast.detach(), moved, QUAD)
    out[0, 8, 8:].sum().backward()
    assert moved.grad is not None
    assert not moved.grad[..., 0].any()


def test_no_faces_or_no_silhouette_leave_the_image_alone():
    color = torch.rand(1, 4, 4, 3)
    none = torch.zeros(0, 3, dtype=torch.int64)
    assert torch.equal(antialias(color, torch.zeros(1, 4, 4, 4), torch.zeros(1, 0, 4), none), color)
    pos = rectangle(-4, -4, 20, 20)
    assert bool((soft_mask(pos, QUAD) == 1).all())
