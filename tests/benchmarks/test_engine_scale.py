"""The done state of the resume benchmark is one the engine believes in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.engine_scale import WORDS, misses, write_done_state
from benchmarks.manifests import write_manifest
from benchmarks.scale_driver import Timeline, peak_rss_mb
from infra.run_state import read_state, todo_shards
from infra.storage import LocalStorage


def test_every_hundredth_shard_is_left(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", 2050)
    given: dict[str, Any] = {"system": "noop", "shard_size": 10, "out": str(tmp_path / "run")}
    plan, _ = write_done_state(given | {"manifest": str(tmp_path / "m.parquet")}, WORDS)
    store = LocalStorage(tmp_path / "run")
    assert todo_shards(store, plan) == [0, 100, 200]
    assert read_state(store).rows_done == 2020


def test_missed_targets_are_named() -> None:
    whole = {"complete": True, "engine_s": 61.0, "peak_rss_mb": 200.0}
    resume = {"complete": False, "first_shard_s": 3.0, "peak_rss_mb": 301.0}
    assert misses({"whole": whole, "resume_local": resume}) == [
        "whole: engine_s 61.0 of 60.0",
        "resume_local: not complete",
        "resume_local: peak_rss_mb 301.0 of 300.0",
    ]


def test_the_timeline_counts_from_the_start_of_the_process() -> None:
    timeline = Timeline()
    timeline.mark("once")
    first = timeline.first["once"]
    timeline.mark("once")
    timeline.mark_last("last")
    timeline.mark("given", timeline.started_at + 1.5)
    assert 0 < first == timeline.first["once"] <= timeline.first["last"]
    assert timeline.first["given"] == 1.5
    assert peak_rss_mb() > 20
