from __future__ import annotations

from pathlib import Path

from tests.workflows.report.runs import write_run
from workflows.report.survey import survey_run


def test_sampled_rows_are_where_the_survey_says(tmp_path: Path) -> None:
    storage = write_run(tmp_path / "run", done=6, failed=2, shard_size=4)
    survey = survey_run(storage, assets=3)
    assert [(ref.shard, ref.offset, ref.manifest_row) for ref in survey.sample] == [
        (0, 0, 0),
        (0, 2, 2),
        (1, 1, 5),
    ]


def test_totals(tmp_path: Path) -> None:
    storage = write_run(tmp_path / "run", done=6, failed=2, shard_size=4)
    survey = survey_run(storage, assets=0)
    assert survey.sample == []
    assert survey.state.counts == {"done": 6, "failed": 2, "skipped": 1}
    assert survey.workers == 2
    assert survey.finished_at == "2026-01-01T00:03:00Z"
    assert {(group.reason, group.status): group.count for group in survey.reasons} == {
        ("image_too_small", "failed"): 1,
        ("corrupt_image", "failed"): 1,
        ("duplicate_id", "skipped"): 1,
    }
    stages = {stage.stage: stage for stage in survey.stages}
    assert list(stages) == ["prepare", "multiview", "reconstruct", "extract", "finish"]
    assert stages["prepare"].items == 8
    assert abs(stages["multiview"].p50 - 2.25) < 1e-5
    assert survey.faces_p50 == survey.faces_p95 == 1520
    assert survey.watertight_share == 1.0
