"""The random-feature distance is a distance, ranks structure, and passes gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from geco_core.evaluate.perceptual import RandomFeatures
from geco_core.shapes.dataset import make_example
from geco_core.shapes.object import object_seed


def picture() -> torch.Tensor:
    example = make_example(object_seed("heldout", 3), n_sdf=2, n_color=1)
    rgba = torch.from_numpy(example.condition).float() / 255
    rgb = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
    return F.interpolate(rgb.permute(2, 0, 1)[None], size=64)


def test_it_is_zero_for_equal_images_symmetric_and_reproducible() -> None:
    a, b = picture(), torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    distance = RandomFeatures()
    assert float(distance(a, a)) == 0.0
    torch.testing.assert_close(distance(a, b), distance(b, a))
    assert torch.equal(distance(a, b), RandomFeatures()(a, b))
    assert not torch.equal(distance(a, b), RandomFeatures(seed=1)(a, b))


def test_blur_and_shift_are_further_away_the_stronger_they_are() -> None:
    a, distance = picture(), RandomFeatures()
    blurred = [float(distance(F.avg_pool2d(a, k, 1, k // 2), a)) for k in (3, 5, 9)]
    shifted = [float(distance(a.roll(k, -1), a)) for k in (1, 3, 8)]
    assert blurred == sorted(blurred)
    assert shifted == sorted(shifted)


def test_gradients_lead_to_the_target() -> None:
    target, distance = picture(), RandomFeatures()
    image = torch.full_like(target, 0.5).requires_grad_()
    start = float(distance(image, target).detach())
    for _ in range(20):
        (gradient,) = torch.autograd.grad(distance(image, target).sum(), image)
        with torch.no_grad():
            image -= 0.05 * gradient / gradient.abs().mean().clamp(min=1e-9) * 0.2
    assert float(distance(image, target).detach()) < 0.8 * start
