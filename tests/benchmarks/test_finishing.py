"""The finishing benchmark times every step of the real process, and notices an overrun."""

from __future__ import annotations

import pytest

from benchmarks import finishing
from benchmarks.finishing import measure_limits, measure_steps, object_mesh, tetrahedra
from geco_core.config.finish import FinishConfig


def test_every_step_is_timed() -> None:
    settings = FinishConfig(face_budget=200, texture_size=64, lods=(0.5,))
    found = measure_steps(2, grid=24, settings=settings)
    assert found["meshes"] == 2
    assert found["faces_finished"][1] <= 200
    for name in ("simplify", "unwrap", "bake", "write", "levels", "qc", "finish", "with process"):
        spread = found["seconds"][name]
        assert 0 < spread["p50"] <= spread["p95"] <= spread["max"]
    steps = found["processor_seconds"]
    assert steps["unwrap"]["p50"] < steps["finish"]["p50"]
    assert "compress" not in steps


@pytest.mark.slow
def test_meshes_end_within_their_limit_one_way_or_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases = {"tetrahedra": lambda: tetrahedra(20_000)}
    found = measure_limits(8.0, cases)
    ends = {row["mesh"]: row["end"] for row in found["rows"]}
    assert ends["hangs"].startswith("no texture: finishing took longer")
    assert ends["asks for all memory"].startswith("no texture: ")
    assert found["held"], found["rows"]
    assert found["longest_overrun_s"] == max(row["overrun_s"] for row in found["rows"])
    monkeypatch.setattr(finishing, "ALLOWED_OVERRUN_S", -1.0)
    assert not measure_limits(8.0, {})["held"]


def test_objects_bring_a_field_of_the_published_size() -> None:
    mesh = object_mesh(1, grid=24)
    assert mesh.color_fn is not None
    assert mesh.color_fn(mesh.vertices[:5]).shape == (5, 3)
