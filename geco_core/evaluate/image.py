"""Image metrics on tensors in [0, 1]: PSNR, SSIM, overlap of silhouettes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio per batch row, in dB.

    Args:
        images: [B, ...] in [0, 1].
        reference: same shape.

    Returns:
        [B]; the mean square error is taken over everything but the batch (all views of a row
        together) and floored at 1e-10, so that identical images give 100 dB rather than infinity.
    """
    _check_shapes(images, reference)
    mse_B = (images - reference).square().flatten(1).mean(1)
    return -10.0 * torch.log10(mse_B.clamp(min=1e-10))


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity per image (Wang et al. 2004).

    A Gaussian window of 11 pixels with sigma 1.5, K1 = 0.01, K2 = 0.03, range 1, population
    variances, each channel for itself; only windows that lie inside the image count, as in the
    authors' own program.

    Args:
        images: [B, C, H, W] in [0, 1].
        reference: same shape.

    Returns:
        [B] in [-1, 1]: mean over channels and windows, 1 for equal images.

    Raises:
        ValueError: other shapes, or images smaller than the window.
    """
    _check_shapes(images, reference)
    if images.dim() != 4 or min(images.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs [B, C, H, W] of {SSIM_WINDOW} pixels, got {images.shape}")
    # Variances do not depend on the level, but E[x^2] - E[x]^2 cancels in float32 where the level
    # is high: measured from white, the flat background of renders is exactly 0.
    x, y = images.float() - 1.0, reference.float() - 1.0
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x.square()
    variance_y = _blurred(y * y) - mean_y.square()
    covariance = _blurred(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + 1.0, mean_y + 1.0
    luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).flatten(1).mean(1)


def silhouette_iou(masks: Tensor, reference: Tensor) -> Tensor:
    """Intersection over union of silhouettes, per image.

    Args:
        masks: coverage [B, ...] in [0, 1]; a pixel belongs to the object from one half on.
        reference: same shape.

    Returns:
        [B] in [0, 1]; 1 where both are empty.
    """
    _check_shapes(masks, reference)
    ours, theirs = masks.flatten(1) >= 0.5, reference.flatten(1) >= 0.5
    both = (ours & theirs).sum(1).float()
    either = (ours | theirs).sum(1).float()
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(either))


def _blurred(images: Tensor) -> Tensor:
    """Gaussian means over the windows that lie inside: [B, C, H - 10, W - 10]."""
    channels = images.shape[1]
    offset = torch.arange(SSIM_WINDOW, dtype=images.dtype, device=images.device)
    weight = torch.exp(-0.5 * ((offset - SSIM_WINDOW // 2) / SSIM_SIGMA).square())
    weight = (weight / weight.sum()).expand(channels, 1, 1, -1)
    # Grouped convolution of all channels at once is several times faster than one by one.
    rows = F.conv2d(images, weight, groups=channels)
    return F.conv2d(rows, weight.transpose(-1, -2), groups=channels)


def _check_shapes(images: Tensor, reference: Tensor) -> None:
    if images.shape != reference.shape:
        raise ValueError(f"shapes differ: {tuple(images.shape)} and {tuple(reference.shape)}")
