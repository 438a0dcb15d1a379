"""The example cache: equal bytes however built, batches as a pure function of the step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from geco_core.training.cache import (
    CacheSpec,
    ExampleCache,
    ensure_arrays,
    ensure_cache,
    epoch_rows,
)

SPEC = CacheSpec(
    split="heldout", examples=3, view_size=16, condition_size=16, sdf_points=8, color_points=4
)


def _build(folder: Path, processes: int) -> ExampleCache:
    seen: list[tuple[int, int]] = []
    cache = ensure_cache(folder, SPEC, processes, lambda done, total: seen.append((done, total)))
    assert not seen or seen[-1] == (3, 3)
    return cache


def test_it_builds_once_and_reads_back(tmp_path: Path) -> None:
    cache = _build(tmp_path, 1)
    stamps = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    again = _build(tmp_path, 1)
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == stamps
    arrays, wanted = ensure_arrays(tmp_path, SPEC, 1, lambda *_: None), SPEC.row(2)
    assert arrays.keys() == wanted.keys() == SPEC.arrays().keys()
    for name, (dtype, shape) in SPEC.arrays().items():
        assert (arrays[name].dtype, arrays[name].shape) == (np.dtype(dtype), shape)
        assert np.array_equal(arrays[name][2], wanted[name].astype(dtype)), name
    assert not np.array_equal(arrays["views"][2], arrays["views"][0])
    rows = torch.tensor([2, 0])
    images = again.images("views", rows)
    assert images.shape == (2, 6, 3, 16, 16)
    assert 0.0 <= float(images.min()) < float(images.max()) <= 1.0
    points, values = again.points("sdf", rows, torch.tensor([1, 5]))
    assert points.shape == (2, 2, 3)
    assert values.shape == (2, 2)
    torch.testing.assert_close(cache.images("condition", rows), again.images("condition", rows))


def test_a_cache_of_something_else_is_built_again(tmp_path: Path) -> None:
    _build(tmp_path, 1)
    other = replace(SPEC, examples=1, sdf_points=4)
    arrays = ensure_arrays(tmp_path, other, 1, lambda *_: None)
    assert arrays["sdf_points"].shape == (1, 4, 3)
    assert json.loads((tmp_path / "READY.json").read_text())["examples"] == 1


def test_a_torn_cache_is_built_again(tmp_path: Path) -> None:
    _build(tmp_path, 1)
    whole = np.load(tmp_path / "views.npy")
    (tmp_path / "READY.json").unlink()
    np.save(tmp_path / "views.npy", np.zeros_like(whole))
    _build(tmp_path, 1)
    assert np.array_equal(np.load(tmp_path / "views.npy"), whole)


def test_every_row_comes_once_per_epoch_in_an_order_of_its_own() -> None:
    batches = [epoch_rows(10, 5, step, seed=3) for step in range(4)]
    assert sorted(torch.cat(batches[:2]).tolist()) == list(range(10))
    assert sorted(torch.cat(batches[2:]).tolist()) == list(range(10))
    assert torch.cat(batches[:2]).tolist() != torch.cat(batches[2:]).tolist()
    assert epoch_rows(10, 5, 3, seed=3).tolist() == batches[3].tolist()
