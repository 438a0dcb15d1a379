"""Image and geometry metrics against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from geco_core.evaluate.geometry import chamfer_distance, volume_iou
from geco_core.evaluate.image import psnr


def test_psnr_takes_all_views_of_a_row_together() -> None:
    reference = torch.zeros(2, 6, 3, 4, 4)
    images = reference.clone()
    images[0] += 0.1
    images[1, :3] += 0.2
    assert psnr(images, reference).tolist() == pytest.approx([20.0, 16.9897], abs=1e-3)


def test_identical_images_have_a_finite_psnr() -> None:
    assert float(psnr(torch.ones(1, 3), torch.ones(1, 3))) == pytest.approx(100.0)


def test_psnr_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        psnr(torch.zeros(1, 3), torch.zeros(1, 4))


def test_iou_by_hand() -> None:
    inside = torch.tensor([[True, True, False, False], [False] * 4, [False] * 4])
    reference = torch.tensor([[True, False, True, False], [False] * 4, [True] * 4])
    assert volume_iou(inside, reference).tolist() == pytest.approx([1 / 3, 1.0, 0.0])


def test_chamfer_by_hand() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    reference = torch.tensor([[0.0, 0, 0.5]])
    expected = 0.5 * ((0.5 + 1.25**0.5) / 2 + 0.5)
    assert float(chamfer_distance(points, reference)) == pytest.approx(expected)
