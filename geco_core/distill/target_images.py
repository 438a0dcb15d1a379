"""Renders of targets between what a renderer gives, what is stored and what training compares.

Stored: uint8 with straight alpha, so that any viewer shows them and the mask is in the picture.
Compared: colours over white beside masks, as Stage II renders.

Legend: K renders of side R.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def over_white(renders: np.ndarray) -> tuple[Tensor, Tensor]:
    """Stored renders as training compares them.

    Args:
        renders: uint8 [..., R, R, 4], straight alpha.

    Returns:
        Colours [..., 3, R, R] over white and masks [..., 1, R, R], float32 in [0, 1].
    """
    values = torch.from_numpy(np.ascontiguousarray(renders)).float() / 255.0
    values = values.movedim(-1, -3)
    rgb, mask = values[..., :3, :, :], values[..., 3:, :, :]
    return rgb * mask + (1.0 - mask), mask


def straight_rgba(rgb_K3RR: Tensor, mask_K1RR: Tensor) -> np.ndarray:
    """Images over white and their masks -> uint8 [K, R, R, 4], straight alpha.

    Colour and mask are blended across silhouettes by the same coverage, so the division gives the
    colour of the surface.
    """
    safe = mask_K1RR.clamp(min=1.0 / 255.0)
    rgb = torch.where(mask_K1RR > 0, 1.0 - (1.0 - rgb_K3RR) / safe, torch.ones_like(rgb_K3RR))
    rgba = torch.cat([rgb, mask_K1RR], 1).clamp(0, 1).movedim(1, -1)
    levels = (rgba * 255.0).round().to(torch.uint8).cpu().numpy()
    levels[levels[..., 3] == 0] = (255, 255, 255, 0)
    return levels
