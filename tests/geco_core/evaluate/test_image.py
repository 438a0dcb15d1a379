"""SSIM against its formula written out window by window, and silhouettes by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geco_core.evaluate.image import psnr, silhouette_iou, ssim


def by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al.'s formula in float64, one window after the other, of one channel."""
    line = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2
    found = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            x, y = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            cov = (window * (x - mx) * (y - my)).sum()
            c1, c2 = 1e-4, 9e-4
            found.append(
                (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
            )
    return float(np.mean(found))


def test_ssim_is_the_mean_of_its_windows() -> None:
    generator = np.random.default_rng(0)
    a = generator.random((3, 16, 19))
    b = np.clip(a + 0.2 * generator.normal(size=a.shape), 0, 1)
    a[:, :8] = b[:, :8] = 1.0  # a white half, as renders have
    expected = np.mean([by_hand(x, y) for x, y in zip(a, b, strict=True)])
    ours = ssim(torch.from_numpy(a)[None].float(), torch.from_numpy(b)[None].float())
    assert float(ours) == pytest.approx(expected, abs=2e-5)


def test_ssim_of_flat_images_is_the_luminance_term() -> None:
    a, b = torch.full((1, 1, 12, 12), 0.25), torch.full((1, 1, 12, 12), 0.75)
    expected = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)
    assert float(ssim(a, b)) == pytest.approx(expected, abs=1e-4)  # float32
    assert ssim(a, a).tolist() == pytest.approx([1.0], abs=1e-6)


def test_ssim_is_symmetric_and_per_image(generator: torch.Generator) -> None:
    a, b = torch.rand((2, 2, 3, 20, 20), generator=generator)
    torch.testing.assert_close(ssim(a, b), ssim(b, a))
    torch.testing.assert_close(ssim(a, b)[1:], ssim(a[1:], b[1:]))


def test_ssim_refuses_images_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))
    with pytest.raises(ValueError, match="shapes differ"):
        ssim(torch.zeros(1, 3, 12, 12), torch.zeros(1, 3, 12, 13))


def test_psnr_by_hand() -> None:
    assert float(psnr(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.1))) == pytest.approx(20)


def test_silhouettes_by_hand() -> None:
    a = torch.tensor([[0.6, 0.5, 0.0, 0.49], [0.0, 0.0, 0.0, 0.0]]).view(2, 1, 2, 2)
    b = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]).view(2, 1, 2, 2)
    assert silhouette_iou(a, b).tolist() == pytest.approx([1 / 4, 1.0])
