"""The comparison of the full-size benchmark, at a size that takes seconds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import full_chain
from benchmarks.full_chain import differences, misses, run_side, sized, summary
from benchmarks.plain_chain import plain_views
from geco_core.config.models import SamplerConfig
from geco_core.imaging.framing import condition_pixels
from geco_core.multiview.generate import generate_views
from geco_core.multiview.zero123plus import Zero123Plus
from tests.support.tiny_models import TINY_VIEWS


def saved(folder: Path, side: str) -> Path:
    """The mesh of one side at micro size, as the benchmark's children write it."""
    options = argparse.Namespace(
        side=side, reconstructor="micro", grid=32, seed=0, mesh=folder / f"{side}.npz"
    )
    full_chain.child(options)
    return options.mesh


def test_both_sides_make_the_same_mesh(tmp_path: Path) -> None:
    found = differences(saved(tmp_path, "ours"), saved(tmp_path, "plain"))
    assert found["same_faces"]
    assert found["faces"] > 2000
    assert max(found["largest_difference"].values()) <= 1e-5


def test_a_difference_is_seen(tmp_path: Path) -> None:
    path = saved(tmp_path, "ours")
    arrays = dict(np.load(path))
    np.savez(tmp_path / "moved.npz", **{**arrays, "vertices": arrays["vertices"] + 1e-3})
    np.savez(tmp_path / "turned.npz", **{**arrays, "faces": arrays["faces"][:, ::-1]})
    moved = differences(path, tmp_path / "moved.npz")
    assert moved["largest_difference"]["vertices"] == pytest.approx(1e-3, rel=0.1)
    assert not differences(path, tmp_path / "turned.npz")["same_faces"]


def test_every_stage_is_measured() -> None:
    stages, mesh = run_side("ours", sized("micro", 32), seed=0)
    assert list(stages.rows) == ["build", "reconstruct", "extract"]
    assert len(mesh.faces) > 2000


def test_ratios_and_missed_targets() -> None:
    def run(seconds: float, peak_mb: float) -> dict[str, Any]:
        row = {"seconds": seconds, "cpu_s": seconds / 2, "peak_mb": peak_mb}
        first = {"seconds": 9.0, "cpu_s": 8.0, "peak_mb": 500.0}
        return {"stages": {"reconstruct": first, "extract": row}}

    table = summary([{"ours": run(2.0, 400.0), "plain": run(10.0, 1000.0)}])
    assert (table["extract_ratio"], table["peak_share"]) == (5.0, 0.5)
    mesh = {"same_faces": True, "largest_difference": {"vertices": 2e-5}}
    assert misses({**table, "mesh": mesh}) == [
        "extract_ratio 5.0 of 8.0",
        "peak_share 0.5 of 0.25",
        "vertices differ by 2.0e-05",
    ]


@pytest.mark.parametrize(
    "sampler",
    [
        SamplerConfig(kind="one_step", steps=1, guidance_scale=1.0, reference_t=0),
        SamplerConfig(kind="one_step", steps=1, guidance_scale=2.0, reference_t=7),
        SamplerConfig(kind="ddim", steps=3, guidance_scale=4.0),
    ],
)
def test_the_plain_loop_makes_our_views(sampler: SamplerConfig) -> None:
    torch.manual_seed(0)
    model = Zero123Plus(TINY_VIEWS).eval()
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    with torch.inference_mode():
        pixels = condition_pixels([image], model.config)
        expected = generate_views(model, pixels, [5], sampler)
        found = plain_views(model, image, 5, sampler)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
