"""Volume rendering: fields with known answers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geco_core.render.volume import (
    box_limits,
    draw_uniforms,
    invert_cdf,
    march,
    render_rays,
    stratified_depths,
)


def constant_field(density: float, rgb: tuple[float, float, float]):
    raw = math.log(math.expm1(density)) + 1  # softplus(raw - 1) = density

    def field(points: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tensor(rgb).expand(points.shape), torch.full((*points.shape[:2], 1), raw)

    return field


def test_homogeneous_box_absorbs_exponentially() -> None:
    generator = torch.Generator().manual_seed(0)
    origins = torch.tensor([[[3.0, 0.1, 0.2]]])
    directions = torch.tensor([[[-1.0, 0.0, 0.0]]])
    seen = render_rays(
        constant_field(0.7, (1.0, 0.0, 0.0)),
        origins,
        directions,
        draw_uniforms(1, 1, 256, generator),
    )
    opacity = 1 - math.exp(-0.7 * 2)
    assert abs(float(seen.weight) - opacity) < 0.01
    expected = torch.tensor([1.0, 1 - opacity, 1 - opacity])  # red over white
    torch.testing.assert_close(seen.rgb[0, 0], expected, atol=0.01, rtol=0)


def test_rays_that_miss_are_white_and_borrow_depths() -> None:
    origins = torch.tensor([[[3.0, 0.0, 0.0], [4.0, 0.0, 0.0], [3.0, 5.0, 0.0]]])
    directions = torch.tensor([[-1.0, 0.0, 0.0]]).expand(1, 3, 3)
    near, far = box_limits(origins, directions)
    torch.testing.assert_close(near[0, :, 0], torch.tensor([2.0, 3.0, 2.0]))
    torch.testing.assert_close(far[0, :, 0], torch.tensor([4.0, 5.0, 3.0]))
    uniforms = draw_uniforms(1, 3, 16, torch.Generator().manual_seed(0))
    seen = render_rays(constant_field(50.0, (0.0, 0.0, 0.0)), origins, directions, uniforms)
    torch.testing.assert_close(seen.rgb[0, 2], torch.ones(3))
    assert float(seen.weight[0, 2]) == 0.0
    assert float(seen.weight[0, 0]) > 0.99


def test_all_rays_missing_is_harmless() -> None:
    origins = torch.tensor([[[3.0, 5.0, 0.0]]])
    directions = torch.tensor([[[-1.0, 0.0, 0.0]]])
    uniforms = draw_uniforms(1, 1, 8, torch.Generator().manual_seed(0))
    seen = render_rays(constant_field(50.0, (0.0, 0.0, 0.0)), origins, directions, uniforms)
    torch.testing.assert_close(seen.rgb, torch.ones(1, 1, 3))
    assert seen.depth.isfinite().all()


def test_strata_are_ordered_and_the_last_starts_at_far() -> None:
    near, far = torch.tensor([[[1.0]]]), torch.tensor([[[4.0]]])
    low = stratified_depths(near, far, torch.zeros(1, 1, 4))
    torch.testing.assert_close(low[0, 0], torch.tensor([1.0, 2.0, 3.0, 4.0]))
    high = stratified_depths(near, far, torch.full((1, 1, 4), 0.999))
    assert (high[0, 0] > low[0, 0]).all()
    assert float(high[0, 0, 3]) > 4.0


def test_samples_follow_the_weights() -> None:
    edges = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    uniforms = ((torch.arange(1000) + 0.5) / 1000)[None]
    drawn = invert_cdf(edges, torch.tensor([[0.0, 3.0, 1.0]]), uniforms)
    assert (drawn[:, 1:] >= drawn[:, :-1]).all()
    share = ((drawn > 1) & (drawn < 2)).float().mean()
    assert abs(float(share) - 0.75) < 0.01


def test_march_is_differentiable_and_opaque_front_hides_back() -> None:
    depths = torch.linspace(1, 2, 5).view(1, 1, 5)
    raw = torch.tensor([[[60.0, 60.0, 0.0, 0.0, 60.0]]], requires_grad=True)
    rgb = torch.zeros(1, 1, 5, 3)
    rgb[..., :2, 1] = 1.0
    rgb.requires_grad_()
    seen, weights = march(rgb, raw, depths)
    assert float(weights[..., 0].detach()) > 0.999
    torch.testing.assert_close(seen.rgb[0, 0], torch.tensor([0.0, 1.0, 0.0]), atol=1e-3, rtol=0)
    seen.rgb.sum().backward()
    assert raw.grad is not None
    assert rgb.grad is not None
    assert float(rgb.grad[..., 0, 1]) > 0.4
