"""A cache of procedural training examples on disk: trainings share one rendering pass.

The cache is scratch: it is rebuilt from seeds whenever it is missing and never shipped. Arrays are
plain `.npy` files opened as memory maps; a row is written by exactly one process, and `READY.json`
appears last.

Legend: n examples, V views, S view size, P sdf points, Q colour points.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from geco_core.imaging.framing import composite, resize_foreground
from geco_core.shapes.dataset import make_example
from geco_core.shapes.object import Split, object_seed

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CacheSpec:
    """What one cache holds; two caches with equal specs hold equal bytes."""

    split: Split = "train"
    examples: int = 12_000
    view_size: int = 64
    condition_size: int = 64
    render_condition_size: int = 128
    foreground_ratio: float = 0.85
    sdf_points: int = 1024
    color_points: int = 512
    version: int = 1

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """File stem -> (dtype, shape)."""
        n, s, c = self.examples, self.view_size, self.condition_size
        return {
            "condition": ("uint8", (n, c, c, 3)),
            "views": ("uint8", (n, 6, s, s, 3)),
            "sdf_points": ("float16", (n, self.sdf_points, 3)),
            "sdf_values": ("float16", (n, self.sdf_points)),
            "color_points": ("float16", (n, self.color_points, 3)),
            "color_values": ("uint8", (n, self.color_points, 3)),
        }

    def row(self, index: int) -> dict[str, np.ndarray]:
        """One object."""
        example = make_example(
            object_seed(self.split, index),
            view_size=self.view_size,
            condition_size=self.render_condition_size,
            n_sdf=self.sdf_points,
            n_color=self.color_points,
        )
        return {
            "condition": framed_condition(
                example.condition, self.condition_size, self.foreground_ratio
            ),
            "views": np.stack([composite(view, "white") for view in example.views]),
            "sdf_points": example.sdf_points,
            "sdf_values": example.sdf_values,
            "color_points": example.color_points,
            "color_values": np.round(example.color_values * 255.0),
        }


class ExampleCache:
    """Read access to a finished cache; batches come back as float tensors in [0, 1]."""

    def __init__(self, folder: Path, spec: CacheSpec) -> None:
        self.spec = spec
        self._maps = {k: np.load(folder / f"{k}.npy", mmap_mode="r") for k in spec.arrays()}

    def __len__(self) -> int:
        return self.spec.examples

    def images(self, name: str, rows: Tensor) -> Tensor:
        """`condition` -> float [b, 3, C, C]; `views` -> float [b, 6, 3, S, S]; in [0, 1]."""
        pixels = torch.from_numpy(np.stack([self._maps[name][int(i)] for i in rows]))
        return pixels.movedim(-1, -3).float() / 255.0

    def points(self, name: str, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Points [b, p, 3] (world) and values [b, p] or [b, p, 3] of `sdf` or `color` samples.

        `columns` [p] picks the samples.
        """
        picked = columns.numpy()
        points = np.stack([self._maps[f"{name}_points"][int(i)][picked] for i in rows])
        values = np.stack([self._maps[f"{name}_values"][int(i)][picked] for i in rows])
        scale = 255.0 if values.dtype == np.uint8 else 1.0
        return torch.from_numpy(points).float(), torch.from_numpy(values).float() / scale


def epoch_rows(length: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Rows of the batch at `step`, a pure function of it.

    Consecutive slices of a fresh permutation per epoch.
    """
    per_epoch = length // batch_size
    epoch, offset = divmod(step, per_epoch)
    order = torch.randperm(
        length, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    )
    return order[offset * batch_size : (offset + 1) * batch_size]


class Spec(Protocol):
    """What a cache holds: two equal specifications hold equal bytes. A dataclass."""

    @property
    def examples(self) -> int:
        """Number of rows."""
        ...

    def arrays(self) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """File stem -> (dtype, shape)."""
        ...

    def row(self, index: int) -> Mapping[str, np.ndarray]:
        """One row of every array."""
        ...


def ensure_cache(folder: Path, spec: CacheSpec, processes: int, progress: Progress) -> ExampleCache:
    """Open the cache in `folder`, building it first when it is missing or holds something else."""
    ensure_arrays(folder, spec, processes, progress)
    return ExampleCache(folder, spec)


def ensure_arrays(
    folder: Path, spec: Spec, processes: int, progress: Progress
) -> dict[str, np.ndarray]:
    """The arrays of a specification as memory maps, written first where they are not there."""
    ready = folder / "READY.json"
    told = asdict(cast("Any", spec))
    if not ready.is_file() or json.loads(ready.read_text()) != told:
        folder.mkdir(parents=True, exist_ok=True)
        ready.unlink(missing_ok=True)
        for name, (dtype, shape) in spec.arrays().items():
            np.lib.format.open_memmap(
                folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape
            ).flush()
        context = multiprocessing.get_context("spawn")
        bounds = [(lo, min(lo + 100, spec.examples)) for lo in range(0, spec.examples, 100)]
        with context.Pool(processes) as pool:
            done = 0
            for count in pool.imap_unordered(_fill, [(folder, spec, lo, hi) for lo, hi in bounds]):
                done += count
                progress(done, spec.examples)
        temporary = ready.with_suffix(".tmp")
        temporary.write_text(json.dumps(told))
        temporary.replace(ready)
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in spec.arrays()}


def _fill(job: tuple[Path, Spec, int, int]) -> int:
    folder, spec, start, stop = job
    torch.set_num_threads(1)
    maps = {k: np.load(folder / f"{k}.npy", mmap_mode="r+") for k in spec.arrays()}
    for index in range(start, stop):
        for name, value in spec.row(index).items():
            maps[name][index] = value
    for array in maps.values():
        array.flush()
    return stop - start


def framed_condition(rgba: np.ndarray, size: int, ratio: float) -> np.ndarray:
    """An RGBA render framed as `System.prepare` frames images: uint8 [size, size, 3] on white."""
    framed = composite(resize_foreground(rgba, ratio), "white")
    return np.asarray(Image.fromarray(framed).resize((size, size), Image.Resampling.BILINEAR))
