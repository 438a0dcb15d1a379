"""Image metrics on tensors in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio per batch row, in dB.

    Args:
        images: [B, ...] in [0, 1].
        reference: same shape.

    Returns:
        [B]; the mean square error is taken over everything but the batch (all views of a row
        together) and floored at 1e-10, so that identical images give 100 dB rather than infinity.
    """
    if images.shape != reference.shape:
        raise ValueError(f"shapes differ: {tuple(images.shape)} and {tuple(reference.shape)}")
    mse_B = (images - reference).square().flatten(1).mean(1)
    return -10.0 * torch.log10(mse_B.clamp(min=1e-10))
