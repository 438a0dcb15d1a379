"""Stages of a recipe: run once, and in parts where they make arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geco_core.errors import Fatal
from geco_core.training.cache import Progress

PART_ROWS = 64


def check_stage(stage: str, stages: Sequence[str]) -> None:
    """Raise `Fatal` for a name that is none of the recipe's stages."""
    if stage not in stages:
        raise Fatal(f"unknown training stage {stage!r}", remedy=f"one of {', '.join(stages)}")


def save_stage(path: Path, result: Mapping[str, Tensor]) -> None:
    """Write what a stage made; the file appears whole, and says that the stage is finished."""
    temporary = path.with_suffix(".tmp")
    torch.save(dict(result), temporary)
    temporary.replace(path)


def in_parts(
    folder: Path, count: int, make: Callable[[Tensor], np.ndarray], progress: Progress
) -> np.ndarray:
    """`make` of the rows 0 to `count`, 64 at a time, one after the other.

    Parts stay in `folder`, so that an interrupted call goes on.

    Args:
        folder: made where it is missing.
        count: of rows.
        make: rows int64 [b] -> array [b, ...].
        progress: told of rows done and to do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[np.ndarray] = []
    for start in range(0, count, PART_ROWS):
        rows = torch.arange(start, min(start + PART_ROWS, count))
        path = folder / f"part-{start:06d}.npy"
        if not path.is_file():
            temporary = path.with_suffix(".tmp.npy")
            np.save(temporary, make(rows))
            temporary.replace(path)
        parts.append(np.load(path))
        progress(start + len(rows), count)
    return np.concatenate(parts)
