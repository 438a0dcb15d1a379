"""A manifest full of poison ends by itself, every poison item under its own reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.manifests import write_manifest
from benchmarks.poison import parse, run_once


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_poison_of_every_kind_costs_itself_only(tmp_path: Path) -> None:
    options = parse(["--items", "300", "--permille", "15", "--output", "mesh"])
    write_manifest(tmp_path / "manifest.parquet", options.items)
    seen = run_once(options, tmp_path, "poison")
    assert seen["wrong_examples"] == []
    assert sum(seen["reasons"].values()) == seen["counts"]["failed"] > 20
    assert set(seen["reasons"]) >= {"crashed", "timed_out", "out_of_memory", "generation_failed"}
    assert seen["deaths"] >= seen["reasons"]["timed_out"]
