"""True views made a little like generated ones: whoever is trained on them will read those.

Legend: B objects, F views, S pixels per side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def degrade_views(
    views_BF3SS: Tensor, share: float, noise: float, generator: torch.Generator
) -> Tensor:
    """Views of which a share of the objects is blurred a little and made noisy, in [0, 1]."""
    out = views_BF3SS.clone()
    for i in range(len(out)):
        if torch.rand((), generator=generator) < share:
            blurred = F.avg_pool2d(F.pad(out[i], (1, 1, 1, 1), mode="replicate"), 3, stride=1)
            mix = torch.rand((), generator=generator)
            level = noise * torch.rand((), generator=generator)
            grain = torch.randn(out[i].shape, generator=generator)
            out[i] = (out[i].lerp(blurred, mix) + level * grain).clamp(0, 1)
    return out
