"""Rows of numbers as 8-bit whole numbers with one scale per row.

The error is at most half a step, 1/254 of the row's largest value.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 127


def encode_rows(rows_RN: Tensor, scale_dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Steps int8 [R, N] within -127 and 127, and scales [R].

    Args:
        rows_RN: float32, finite, N > 0.
        scale_dtype: float32 or bfloat16, whose range is the same. Its rounding costs less than the
            half step: what would be step 127.25 becomes 127.
    """
    scale_R = (rows_RN.abs().amax(1) / LARGEST).to(scale_dtype)
    divisor_R1 = scale_R.float().clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    steps_RN = (rows_RN / divisor_R1).round().clamp(-LARGEST, LARGEST)
    return steps_RN.to(torch.int8), scale_R


def decode_rows(steps_RN: Tensor, scale_R: Tensor) -> Tensor:
    """The rows, float32 [R, N]."""
    return steps_RN.float() * scale_R.float()[:, None]
