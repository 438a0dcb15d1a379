"""What the two diffusion stages make of training conditions: the inputs a reconstructor will meet.

Legend: n rows, S pixels per side.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from geco_core.diffusion.noise import ItemNoise
from geco_core.multiview.crm import CrmDiffusion, CrmFrames
from geco_core.training.cache import Progress
from geco_core.training.crm_examples import CrmExamples

CHUNK = 64


@torch.no_grad()
def sample_examples(
    model: CrmDiffusion, examples: CrmExamples, count: int, folder: Path, progress: Progress
) -> CrmFrames:
    """Run both stages on the conditions of the first `count` rows; the row is the seed.

    Parts of 64 rows stay in `folder`, so that an interrupted call goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[np.ndarray] = []
    for start in range(0, count, CHUNK):
        path = folder / f"part-{start:06d}.npy"
        rows = torch.arange(start, min(start + CHUNK, count))
        if not path.is_file():
            frames = model.generate(examples.conditions(rows), ItemNoise(rows.tolist()))
            temporary = path.with_suffix(".tmp.npy")
            np.save(temporary, torch.stack([frames.views, frames.ccms], dim=1).numpy())
            temporary.replace(path)
        parts.append(np.load(path))
        progress(int(rows[-1]) + 1, count)
    both = torch.from_numpy(np.concatenate(parts))  # [n, 2, 6, S, S, 3]
    return CrmFrames(both[:, 0].contiguous(), both[:, 1].contiguous())
