"""What the two diffusion stages make of training conditions: the inputs a reconstructor will meet.

Legend: n rows, S pixels per side.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geco_core.diffusion.noise import ItemNoise
from geco_core.multiview.crm import CrmDiffusion, CrmFrames
from geco_core.training.cache import Progress
from geco_core.training.crm_examples import CrmExamples
from geco_core.training.stages import in_parts


@torch.no_grad()
def sample_examples(
    model: CrmDiffusion, examples: CrmExamples, count: int, folder: Path, progress: Progress
) -> CrmFrames:
    """Run both stages on the conditions of the first `count` rows; the row is the seed.

    See `in_parts` for `folder`.
    """

    def make(rows: Tensor) -> np.ndarray:
        frames = model.generate(examples.conditions(rows), ItemNoise(rows.tolist()))
        return torch.stack([frames.views, frames.ccms], dim=1).numpy()

    both = torch.from_numpy(in_parts(folder, count, make, progress))  # [n, 2, 6, S, S, 3]
    return CrmFrames(both[:, 0].contiguous(), both[:, 1].contiguous())
