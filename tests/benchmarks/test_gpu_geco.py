"""The GPU benchmark runs on a CPU at micro size, so that it works where there is a GPU."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import pytest

from benchmarks import gpu_geco
from benchmarks.gpu_geco import STAGES
from benchmarks.random_weights import SPHERE
from geco_core.config.load import to_dict
from geco_core.config.run import model_overrides
from tests.geco_core.checkpoints.published import TINY_VIEWS, tiny_reconstructor


def options(**changes: Any) -> argparse.Namespace:
    given = {"device": "cpu", "system": "instantmesh", "preset": "micro", "repeats": 1}
    return argparse.Namespace(**{**given, "batches": [1, 2], **changes})


def test_both_sides_are_measured_at_micro_size() -> None:
    words = ["sampler.steps=1", "extraction.grid_res=24"]
    result = gpu_geco.run(options(words=words))
    assert [row["batch"] for row in result["ours"]] == [1, 2]
    assert [row["batch"] for row in result["plain"]] == [1]
    for row in (*result["ours"], *result["plain"]):
        stages = sum(row[stage]["p50_s"] for stage in STAGES)
        assert all(row[stage]["p50_s"] > 0 for stage in STAGES)
        assert row["total"]["p50_s"] == pytest.approx(stages, abs=1e-3)
        assert row["assets_per_s"] > 0
        assert row["peak_mb"] > 50
    assert result["best_batch"] in {1, 2}
    base = result["plain"][0]["assets_per_s"]
    assert result["ratio_at_batch_1"] == pytest.approx(
        result["ours"][0]["assets_per_s"] / base, rel=0.02
    )


def test_the_full_preset_gets_random_weights_and_a_sphere() -> None:
    tiny = {"multiview": to_dict(TINY_VIEWS), "reconstructor": to_dict(tiny_reconstructor())}
    words = [*model_overrides(tiny), *SPHERE, "extraction.grid_res=16", "dtype=float32"]
    result = gpu_geco.run(options(system="geco", preset="full", batches=[1], words=words))
    assert tuple(result["words"][: len(SPHERE)]) == SPHERE
    assert result["ours"][0]["extract"]["p50_s"] > 0


def test_what_a_cpu_measures_is_not_recorded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_geco", "--device", "cpu", "--json"])
    with pytest.raises(SystemExit):
        gpu_geco.main()
    assert "only a GPU's numbers" in capsys.readouterr().err
