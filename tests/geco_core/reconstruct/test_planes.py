"""Images and cameras to planes: order of views, precision."""

from __future__ import annotations

import torch


def test_the_order_of_views_does_not_matter(tiny) -> None:
    images, cameras = torch.rand(1, 4, 3, 32, 32), torch.randn(1, 4, 16)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        torch.nn.init.normal_(tiny.encoder.model.layers[0].adaLN_modulation[1].weight, std=0.2)
        planes = tiny.forward_planes(images, cameras)
        permuted = tiny.forward_planes(images[:, order], cameras[:, order])
        mismatched = tiny.forward_planes(images[:, order], cameras)
    torch.testing.assert_close(planes, permuted, atol=1e-5, rtol=1e-4)
    assert (planes - mismatched).abs().max() > 1e-4


def test_bfloat16_autocast_stays_close(tiny) -> None:
    images, cameras = torch.rand(1, 3, 3, 32, 32), torch.randn(1, 3, 16)
    with torch.no_grad():
        exact = tiny.forward_planes(images, cameras)
        with torch.autocast("cpu", torch.bfloat16):
            fast = tiny.forward_planes(images, cameras)
    assert (fast.float() - exact).norm() < 0.05 * exact.norm()
